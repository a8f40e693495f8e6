"""One JSON array as a stream of its items: the bytes of each, and the line where it begins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from services.batch.files.errors import MAX_RECORD_BYTES, Refused, shown

# Possessive, so that a text of millions of escapes keeps no way back.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NEXT = re.compile(rb'["\[\]{},]')
_BLANK = re.compile(rb"[ \t\r\n]*+")
_SPACE = b" \t\r\n"


def items(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """(line, bytes) of each item of the array, or of each object where objects follow each other without one
    (pretty-printed records). What is inside an item is not looked at. Raises `Refused` where the structure is lost."""
    return _Splitter(chunks).items()


class _Splitter:
    """Offsets are from ``pos``, where the part that is not yet done with begins; reading on keeps them right."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = iter(chunks)
        self.buffer = b""
        self.pos = 0
        self.line = 1  # at pos
        self.listed = False

    def items(self) -> Iterator[tuple[int, bytes]]:
        """Every item in turn."""
        self.listed = self.peek() == b"["
        if not self.listed:
            while self.peek():
                yield from self.block()
            return
        self.drop(1)
        if self.peek() == b"]":
            self.drop(1)
        else:
            yield from self.block()
        if self.peek():
            raise self.lost(0, "there is more behind the end of the array")

    def block(self) -> Iterator[tuple[int, bytes]]:
        """The items of an array up to its end, or one object: one pass over the marks of as much as is there."""
        depth, at = 0, 0
        while True:
            found = _NEXT.search(self.buffer, self.pos + at)
            if found is None:
                at = len(self.buffer) - self.pos
                self.read()
                continue
            mark, start = found[0], found.start() - self.pos
            at = start + 1
            if mark == b'"':
                at = self.string(start)
            elif mark in b"[{":
                depth += 1
            elif mark == b",":
                if depth == 0:
                    yield self.item(start)
                    at = 0
            elif depth == 0:
                if mark != b"]" or not self.listed:
                    raise self.lost(start)
                yield self.item(start)
                return
            else:
                depth -= 1
                if depth == 0 and not self.listed:
                    line, raw = self.line, self.buffer[self.pos : self.pos + at]
                    self.drop(at)
                    yield line, raw
                    return

    def item(self, end: int) -> tuple[int, bytes]:
        """The item that a comma or the array's end closes; both are passed."""
        line, raw = self.line, self.buffer[self.pos : self.pos + end].rstrip(_SPACE)
        if not raw or not self.listed:
            raise self.lost(end)
        self.drop(end + 1)
        self.peek()
        return line, raw

    def string(self, start: int) -> int:
        """Where a string ends."""
        while (found := _STRING.match(self.buffer, self.pos + start)) is None:
            self.read()
        return found.end() - self.pos

    def drop(self, n: int) -> None:
        """Be done with ``n`` bytes, counting the lines that end in them (no item ends between \\r and \\n)."""
        start, end, count = self.pos, self.pos + n, self.buffer.count
        self.line += count(b"\n", start, end) + count(b"\r", start, end) - count(b"\r\n", start, end)
        self.pos = end

    def peek(self) -> bytes:
        """The next byte that is no space, where ``pos`` is then; empty at the end."""
        while True:
            blank = _BLANK.match(self.buffer, self.pos)
            assert blank is not None
            # A \r at the end may be half of \r\n: it is counted when the next byte is known.
            if blank.end() < len(self.buffer):
                self.drop(blank.end() - self.pos)
                return self.buffer[self.pos : self.pos + 1]
            if not self.more():
                self.drop(blank.end() - self.pos)
                return b""

    def more(self) -> bool:
        """Put as much again behind what is there, so that looking again costs no more than twice in all."""
        rest = self.buffer[self.pos :]
        parts, wanted = [rest], max(1, len(rest))
        while wanted > 0 and (chunk := next(self.chunks, None)) is not None:
            parts.append(chunk)
            wanted -= len(chunk)
        if len(parts) == 1:
            return False
        self.buffer, self.pos = b"".join(parts), 0
        return True

    def read(self) -> None:
        """More, inside a record. Raises `Refused` where there is none, or where a record has no end."""
        if len(self.buffer) - self.pos > MAX_RECORD_BYTES:
            raise Refused(
                "too_long",
                f"Line {self.line}: a record begins here that is longer than {MAX_RECORD_BYTES:,} bytes, or its end is "
                "missing. Look at its quotes and brackets.",
                line=self.line,
            )
        if not self.more():
            what = "The JSON array is" if self.listed else "The last JSON object is"
            raise Refused(
                "not_json",
                f"{what} never closed: the file ends inside the record that begins on line {self.line}. It was cut "
                "short, or a bracket or quote is missing; upload it again or correct it.",
                line=self.line,
            )

    def lost(self, at: int, said: str = "") -> Refused:
        """What is said where the structure cannot be followed."""
        self.drop(at)
        found = shown(self.buffer[self.pos : self.pos + 200].decode("utf-8", "replace"))
        said = said or f"“{found[:1]}” is not expected here"
        return Refused("not_json", f"Line {self.line}: not JSON: {said}. Correct it.", line=self.line, found=found)
