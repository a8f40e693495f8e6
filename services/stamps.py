"""When bytes arrived: an aiohttp connector whose connections note the monotonic clock as each read comes in.

A coroutine that waits for data runs only after the event loop has got round to it, which at many streams is
milliseconds later. The stamp is therefore taken in the transport's own callback, before HTTP parsing and before any
coroutine wakes, and the reader looks up which bytes came with which read.
"""

from __future__ import annotations

import functools
import ssl
from collections import deque
from time import perf_counter_ns

import aiohttp
import certifi
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler


class StampedHandler(ResponseHandler):
    """aiohttp's client protocol, which also remembers when each read arrived.

    ``marks`` holds (body bytes received so far, perf_counter_ns) per read of the current response body.
    """

    def __init__(self, loop: object) -> None:
        super().__init__(loop)  # type: ignore[arg-type]  # aiohttp types the loop narrowly; uvloop's is one too
        self.marks: deque[tuple[int, int]] = deque()
        self.last_ns = 0
        self.headers_ns = 0

    def data_received(self, data: bytes) -> None:
        now = perf_counter_ns()
        if data:
            self.last_ns = now
        before = self._payload
        super().data_received(data)
        payload = self._payload
        if payload is not before and payload is not None:
            self.headers_ns = now
            self.marks.clear()
        elif payload is None:
            payload = before
        if payload is not None:
            self.marks.append((payload.total_bytes, now))


def tls_context() -> ssl.SSLContext:
    """The system's trust store together with certifi's, so that a bare container can still check certificates."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def stamped_connector(resolver: AbstractResolver | None, *, keepalive_s: float) -> aiohttp.TCPConnector:
    """A connector without a limit on connections whose protocol stamps arrivals. Must be made inside the loop."""
    connector = aiohttp.TCPConnector(
        limit=0,
        resolver=resolver,
        use_dns_cache=False,
        ssl=tls_context(),
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
