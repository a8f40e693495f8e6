"""When bytes arrived: an aiohttp connector whose connections note the monotonic clock as each read comes in.

A coroutine that waits for data runs only after the event loop has got round to it, which at many streams is
milliseconds later. The stamp is therefore taken in the transport's own callback, before HTTP parsing and before any
coroutine wakes, and the bytes are decoded right there.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler

from services.security.outbound import trust

Sink = Callable[[bytes, int], None]


class StampedHandler(ResponseHandler):
    """aiohttp's client protocol, which also remembers when each read arrived.

    Until a reader has attached itself, ``marks`` holds (body bytes received so far, perf_counter_ns) per read. From
    then on every read is handed to it in the callback itself, with its stamp: at many streams the waking of a
    coroutine per read costs more than the reading.
    """

    def __init__(self, loop: object) -> None:
        super().__init__(loop)  # type: ignore[arg-type]  # aiohttp types the loop narrowly; uvloop's is one too
        self.marks: deque[tuple[int, int]] = deque()
        self.last_ns = 0
        self.headers_ns = 0
        self._content: aiohttp.StreamReader | None = None
        self._sink: Sink | None = None
        self._broken: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        if not data:
            # aiohttp's own way to go on parsing what it held back while reading was paused: nothing has arrived.
            super().data_received(data)
            return
        now = self.last_ns = perf_counter_ns()
        content = self._content
        if content is not None:
            super().data_received(data)
            self._hand_over(content, now)
            return
        earlier = self._payload
        super().data_received(data)
        payload = self._payload
        if payload is not earlier and payload is not None:
            self.headers_ns = now
            self.marks.clear()
        elif payload is None:
            payload = earlier
        if payload is not None:
            self.marks.append((payload.total_bytes, now))

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp resumes after every read, paused or not, and each time parses nothing once more.
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._broken is not None:
            self._broken()

    def attach(self, content: aiohttp.StreamReader, sink: Sink, ended: Callable[[], None]) -> None:
        """Hand every further read of ``content`` to ``sink``; call ``ended`` at its end, clean or not.

        What came before is still in ``content``, with its stamps in ``marks``. Call `detach` when done.
        """
        self._content, self._sink, self._broken = content, sink, ended
        content.on_eof(ended)
        if content.exception() is not None or not self.connected:
            ended()

    def detach(self) -> None:
        """Hand over nothing more."""
        self._content = self._sink = self._broken = None

    def _hand_over(self, content: aiohttp.StreamReader, now: int) -> None:
        try:
            while data := content.read_nowait():
                if self._sink is not None:
                    self._sink(data, now)
        except Exception:
            if content.exception() is None:
                raise
            if self._broken is not None:
                self._broken()
        if content.is_eof():
            self.detach()  # the connection may serve another request before the reader has woken


def stamped_connector(resolver: AbstractResolver | None, *, keepalive_s: float) -> aiohttp.TCPConnector:
    """A connector without a limit on connections whose protocol stamps arrivals. Must be made inside the loop."""
    connector = aiohttp.TCPConnector(
        limit=0,
        resolver=resolver,
        use_dns_cache=False,
        ssl=trust(),
        keepalive_timeout=keepalive_s,
        enable_cleanup_closed=False,
    )
    # aiohttp has no public hook for the protocol class; tests/test_reader.py fails if this one moves.
    connector._factory = functools.partial(StampedHandler, loop=connector._loop)  # type: ignore[assignment]  # a subclass
    return connector


def handler_of(response: aiohttp.ClientResponse) -> StampedHandler | None:
    """The stamping protocol under a response; None for a body that was complete before it was looked at."""
    handler = getattr(response.content, "_protocol", None)
    return handler if isinstance(handler, StampedHandler) else None
