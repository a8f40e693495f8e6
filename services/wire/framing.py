"""How events lie in the bytes of a response: server-sent events, AWS event-stream frames, or one inside the other.

Every framing is fed bytes cut anywhere and returns `ServerEvent`s, so that a decoder never knows how they came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from services.types import Framing, Json

MAX_LINE_BYTES = 1_000_000
MAX_EVENT_BYTES = 4_000_000
_BOM = b"\xef\xbb\xbf"
_DONE = b"[DONE]"


class StreamTooLarge(ValueError):
    """The service sent a line, an event or a stream larger than we are willing to hold. The message is a sentence."""


class ServerEvent(NamedTuple):
    """One event: its name ("" when unnamed) and its data, as bytes (UTF-8, not yet parsed).

    ``fields`` holds non-standard fields that carried content, such as llama.cpp's former ``error: {…}`` line. A line
    that is bare JSON (a server that forgot ``data:``) is kept under the name "".
    """

    name: str
    data: bytes
    fields: tuple[tuple[str, bytes], ...] = ()


class SSEDecoder:
    """Feed it chunks as they arrive; it returns the events that became complete. Chunk borders never matter."""

    def __init__(self) -> None:
        self.keepalives = 0  # comment lines
        self._tail: list[bytes] = []  # the line that has not ended yet
        self._tail_size = 0
        self._after_cr = False
        self._first_line = True
        self._between = False  # nothing of an event has come yet: the next chunk may be taken whole
        self._name = b""
        self._later_name: bytes | None = None
        self._data: list[bytes] = []
        self._data_size = 0
        self._fields: list[tuple[str, bytes]] = []
        self._out: list[ServerEvent] = []

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Events completed by ``chunk``. Raises `StreamTooLarge` for a line above 1 MB or an event above 4 MB."""
        if self._between and (events := _whole_events(chunk)) is not None:
            return events
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        for line in chunk.splitlines(keepends=True):
            if line.endswith((b"\n", b"\r")):
                self._line(self._whole(line.rstrip(b"\r\n")))
            else:
                self._keep(line)
        self._after_cr = self._after_cr if not chunk else chunk.endswith(b"\r")
        return self._taken()

    def flush(self) -> list[ServerEvent]:
        """The event that was still waiting for its blank line when the stream ended, if its data is whole.

        An event cut in its middle is dropped: the stream was cut, the service did not send bad JSON.
        """
        if self._tail:
            self._line(self._whole(b""))
        if self._fields or _complete(b"\n".join(self._data)):
            self._dispatch()
        return self._taken()

    def _taken(self) -> list[ServerEvent]:
        out, self._out = self._out, []
        self._between = not (
            self._tail or self._data or self._name or self._fields or self._after_cr or self._first_line
        )
        return out

    def _keep(self, piece: bytes) -> None:
        self._tail_size += len(piece)
        if self._tail_size > MAX_LINE_BYTES:
            raise StreamTooLarge(f"The service sent a single line of more than {MAX_LINE_BYTES:,} bytes.")
        self._tail.append(piece)

    def _whole(self, end: bytes) -> bytes:
        self._keep(end)
        line = b"".join(self._tail)
        self._tail.clear()
        self._tail_size = 0
        if self._first_line:
            self._first_line = False
            return line.removeprefix(_BOM)
        return line

    def _line(self, line: bytes) -> None:
        if not line:
            self._dispatch()
            return
        if line.startswith(b":"):
            self.keepalives += 1
            return
        if line.startswith(b"{"):
            self._fields.append(("", line))
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data_line(value)
        elif field == b"event":
            # An event line after data is either a swapped order (legal) or a new event whose blank line is missing.
            if self._data:
                self._later_name = value
            else:
                self._name = value
        elif field == b"error":
            self._fields.append(("error", value))

    def _data_line(self, value: bytes) -> None:
        # Looked at only for the second line of an event, so that a hostile stream cannot make this quadratic.
        if len(self._data) == 1 and _complete(value) and _complete(self._data[0]):
            name = self._later_name
            self._later_name = None
            self._dispatch()
            self._name = name or b""
        self._data_size += len(value) + 1
        if self._data_size > MAX_EVENT_BYTES:
            raise StreamTooLarge(f"The service sent a single event of more than {MAX_EVENT_BYTES:,} bytes.")
        self._data.append(value)

    def _dispatch(self) -> None:
        name = self._name if self._later_name is None else self._later_name
        if name or self._data or self._fields:
            self._out.append(ServerEvent(name.decode("utf-8", "replace"), b"\n".join(self._data), tuple(self._fields)))
        self._name, self._later_name = b"", None
        self._data, self._data_size, self._fields = [], 0, []


def _whole_events(chunk: bytes) -> list[ServerEvent] | None:
    """The events of a chunk that holds only whole ones of the usual form, as nearly all do; None for any other.

    The grammar proper takes several times as long, and this runs for every chunk of every stream.
    """
    if not chunk.endswith(b"\n\n") or b"\r" in chunk or len(chunk) > MAX_LINE_BYTES:
        return None
    events = []
    for block in chunk[:-2].split(b"\n\n"):
        name = ""
        if block.startswith(b"event: "):
            first, _, block = block.partition(b"\n")
            name = first[7:].decode("utf-8", "replace")
        if not block.startswith(b"data: ") or b"\n" in block:
            return None
        events.append(ServerEvent(name, block[6:]))
    return events


def _complete(data: bytes) -> bool:
    """Whether these bytes can only be one whole event: a JSON object, or the chat wire's end marker."""
    stripped = data.strip()
    if stripped == _DONE:
        return True
    if not (stripped.startswith(b"{") and stripped.endswith(b"}")):
        return False
    try:
        orjson.loads(stripped)
    except orjson.JSONDecodeError:
        return False
    return True


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
