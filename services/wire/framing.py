"""How events lie in the bytes of a response: server-sent events, AWS event-stream frames, or one inside the other.

Every framing is fed bytes cut anywhere and returns `ServerEvent`s, so that a decoder never knows how they came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from services.types import Framing, Json
from services.wire.sse import MAX_LINE_BYTES, ServerEvent, SSEDecoder, StreamTooLarge

# What the Content-Type of a streamed answer may begin with, and what the request asks for.
CONTENT_TYPES: Mapping[Framing, tuple[str, ...]] = {
    "sse": ("text/event-stream",),
    "eventstream": ("application/vnd.amazon.eventstream",),
    "sagemaker": ("application/vnd.amazon.eventstream",),
}


class FramingError(ValueError):
    """The bytes do not follow their framing. The message is the rest of a sentence; ``events`` were whole before it."""

    def __init__(self, message: str, events: Sequence[ServerEvent] = ()) -> None:
        super().__init__(message)
        self.events = list(events)


class Framer(Protocol):
    """Bytes in, events out. Chunk borders never matter."""

    @property
    def keepalives(self) -> int:
        """Comment lines so far."""
        ...

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Events completed by ``chunk``. Raises `StreamTooLarge` or `FramingError`."""
        ...

    def flush(self) -> list[ServerEvent]:
        """What was whole but not closed when the stream ended."""
        ...


class EventStreamFramer:
    """AWS event-stream frames (``vnd.amazon.eventstream``), parsed and checked by botocore's own buffer.

    An event becomes ``ServerEvent(its :event-type, payload)``. An exception or error message becomes an event named
    "exception" whose data is ``{"type": …, "message": …, …}``, whatever the service put into it. A frame that the end
    of the stream cut in two is dropped: the stream was cut, the service did not send a bad frame.
    """

    def __init__(self) -> None:
        from botocore.eventstream import EventStreamBuffer  # half a second to import: only who speaks to AWS pays it

        self.keepalives = 0
        self._buffer = EventStreamBuffer()

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Events completed by ``chunk``. Raises `FramingError` for a frame whose checksum or lengths are wrong."""
        self._buffer.add_data(chunk)
        events: list[ServerEvent] = []
        try:
            for message in self._buffer:
                events.append(self._event(message))
        except Exception as error:  # botocore's parser errors share no base class with struct's and Unicode's
            raise FramingError(f"a frame of the event stream is damaged ({type(error).__name__})", events) from error
        return events

    def flush(self) -> list[ServerEvent]:
        """Nothing: a frame is whole or it is not there."""
        return []

    def _event(self, message: Any) -> ServerEvent:
        headers = message.headers
        kind = headers.get(":message-type", "event")
        if kind == "event":
            return ServerEvent(str(headers.get(":event-type", "")), message.payload)
        event: Json = {"type": str(headers.get(":exception-type") or headers.get(":error-code") or kind)}
        if headers.get(":error-message"):
            event["message"] = str(headers[":error-message"])
        return ServerEvent("exception", orjson.dumps({**_object(message.payload), **event}))


_SSE_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


class SageMakerFramer:
    """What a container wrote, taken out of the ``PayloadPart`` frames that SageMaker cut it into.

    The borders of the parts mean nothing: they fall inside lines and inside characters. The inner bytes are server-sent
    events or JSON lines; the first character tells which.
    """

    def __init__(self) -> None:
        self._frames = EventStreamFramer()
        self._inner: SSEDecoder | JsonLines | None = None
        self._start = b""

    @property
    def keepalives(self) -> int:
        """Comment lines of the inner stream."""
        return 0 if self._inner is None else self._inner.keepalives

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Inner events completed by ``chunk``; an exception frame is passed on as it is."""
        try:
            return self._unpacked(self._frames.feed(chunk))
        except FramingError as error:
            raise FramingError(str(error), self._unpacked(error.events)) from error

    def _unpacked(self, frames: Sequence[ServerEvent]) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        for frame in frames:
            if frame.name == "PayloadPart":
                events += self._part(frame.data)
            elif frame.name == "exception":
                events.append(frame)
        return events

    def flush(self) -> list[ServerEvent]:
        """The last inner event, when the container did not close it."""
        return [] if self._inner is None else self._inner.flush()

    def _part(self, data: bytes) -> list[ServerEvent]:
        if self._inner is None:
            self._start += data
            begins = self._start.removeprefix(b"\xef\xbb\xbf").lstrip()
            if not begins:
                return []
            if begins[:1] not in b"{[" and not any(f.startswith(begins[: len(f)]) for f in _SSE_FIELDS):
                raise FramingError("what the endpoint's container wrote is neither server-sent events nor JSON lines")
            self._inner = JsonLines() if begins[:1] in b"{[" else SSEDecoder()
            data, self._start = self._start, b""
        return self._inner.feed(data)


class JsonLines:
    """One JSON object a line, without names."""

    def __init__(self) -> None:
        self.keepalives = 0
        self._tail = bytearray()

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Lines completed by ``chunk``. Raises `StreamTooLarge` for a line above 1 MB."""
        self._tail += chunk
        *lines, partial = bytes(self._tail).split(b"\n")
        self._tail = bytearray(partial)
        if len(partial) > MAX_LINE_BYTES:
            raise StreamTooLarge(f"The service sent a single line of more than {MAX_LINE_BYTES:,} bytes.")
        return [ServerEvent("", line) for raw in lines if (line := raw.removeprefix(b"\xef\xbb\xbf").strip())]

    def flush(self) -> list[ServerEvent]:
        """The last line, if it is whole JSON."""
        line = bytes(self._tail).strip()
        self._tail.clear()
        return [ServerEvent("", line)] if line and _object(line) else []


FRAMERS: Mapping[Framing, Callable[[], Framer]] = {
    "sse": SSEDecoder,
    "eventstream": EventStreamFramer,
    "sagemaker": SageMakerFramer,
}


def _object(data: bytes) -> Json:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
