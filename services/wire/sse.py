"""Server-sent events, decoded incrementally from bytes cut anywhere.

Follows the WHATWG event-stream grammar, and is wider than it in three places where model servers are known to break
it: a missing blank line between two complete JSON events, a last event without a blank line, and an ``error:`` field.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

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
