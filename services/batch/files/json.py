"""JSON records: parsed fast, refused in words for what would silently be changed, and an array as a stream of items.

orjson parses; what it lets pass (double keys, whole numbers beyond 64 bits, which it turns into floats) is noticed by
counting, and only such a line is parsed again by the standard library, which is ten times slower.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NoReturn

import orjson

from services.batch.files.errors import MAX_RECORD_BYTES, LineFault, Refused, excerpt, plural
from services.types import Json

MAX_DEPTH = 64

MAX_DIGITS = 300  # of a whole number; more than a double can hold is no figure of anybody's

_MAX_KEYS_SHOWN = 3


# At least one match for every key; a text with “":” in it gives more, and costs the slow way.
_COLON = re.compile(rb'"[ \t\r\n]*:')


_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)

_HINTS = (
    (re.compile(r"^\s*\{\s*'|[{,]\s*'[^']*'\s*:"), "JSON wants double quotes, not single ones"),
    (re.compile(r",\s*[}\]]"), "take the comma before the closing bracket away"),
    (re.compile(r"[:\[,]\s*(?:True|False|None)\b"), "JSON writes true, false, null"),
)

_KINDS = {str: "a text", int: "a number", float: "a number", bool: "true or false", list: "a list", type(None): "null"}


class _Doubtful(Exception):
    """The fast way cannot tell."""


def decoded(raw: bytes, encoding: Literal["utf-8", "cp1252"] = "utf-8") -> str:
    """The text of a line. Raises LineFault "not_utf8" that names the byte, from 1 in the line."""
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise not_text(raw, error.start, encoding) from None


def not_text(raw: bytes, start: int, encoding: str) -> LineFault:
    """What is said of a byte that is not of the encoding. ``field`` stays empty; code "not_utf8" where the line may be
    Windows-1252, "not_text" where it cannot be, "not_cp1252" where it was to be read as that."""
    byte, location = raw[start], f"byte {start + 1}"
    near = excerpt(raw[max(0, start - 20) : start + 20].decode("cp1252", "replace").strip(), 60)
    if encoding == "cp1252":
        text = f"0x{byte:02X} is no letter of Windows-1252 either. Save the file as UTF-8."
        return LineFault("not_cp1252", text, found=near, position=location)
    try:
        raw.decode("cp1252")
        text = f"not UTF-8 (0x{byte:02X}). Looks like Windows-1252: convert the file, or press “Read as Windows-1252”."
    except UnicodeDecodeError:
        text = f"not UTF-8 (0x{byte:02X}). Save the file as UTF-8."
        return LineFault("not_text", text, found=near, position=location)
    return LineFault("not_utf8", text, found=near, position=location)


def parse(raw: bytes, encoding: Literal["utf-8", "cp1252"] = "utf-8", *, brief: bool = False) -> Json:
    """The object in one line. Raises LineFault for anything else; ``brief``: without looking for the words."""
    if len(raw) > MAX_RECORD_BYTES:
        raise too_long()
    if encoding != "utf-8":
        raw = decoded(raw, encoding).encode()
    try:
        value: Json = orjson.loads(raw)
        if type(value) is not dict:
            raise not_object(value)
        if _count(value, 1) != len(_COLON.findall(raw)):
            value = _slow(raw)
        if rb"\u0000" in raw:
            _no_nul(value)
        return value
    except (orjson.JSONDecodeError, _Doubtful) as error:
        if brief and isinstance(error, orjson.JSONDecodeError):
            decoded(raw)
            raise LineFault("not_json", "not JSON.") from None
        value = _slow(raw)
        if type(value) is not dict:
            raise not_object(value) from None
        _no_nul(value)
        return value


def too_long() -> LineFault:
    """A record beyond the limit."""
    return LineFault(
        "too_long",
        f"longer than {MAX_RECORD_BYTES:,} bytes, more than any service takes in one request. Shorten or split it.",
    )


def not_object(value: object) -> LineFault:
    """JSON, but no record."""
    kind = _KINDS.get(type(value), "something else")
    text = f"this is {kind}, not an object. Each line has to be one {{…}} with named values."
    return LineFault("not_object", text, found=excerpt(value))


def _count(value: Json | list[Any], depth: int) -> int:
    """How many keys there are in it. Raises for what is too deep, and `_Doubtful` for a number that was changed."""
    if depth > MAX_DEPTH:
        raise _deep()
    if type(value) is dict:
        n, inside = len(value), list(value.values())
    else:
        n, inside = 0, value  # type: ignore[assignment]  # a list
    for item in inside:
        kind = type(item)
        if kind is dict or kind is list:
            n += _count(item, depth + 1)
        elif kind is float and not -(2.0**63) < item < 2.0**63:
            raise _Doubtful
    return n


def _deep() -> LineFault:
    return LineFault("too_deep", f"nested deeper than {MAX_DEPTH} levels. Flatten it, or write the inside as a text.")


def _no_nul(value: object) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise nul(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            _no_nul(key)
            _no_nul(item)
    elif isinstance(value, list):
        for item in value:
            _no_nul(item)


def nul(text: str) -> LineFault:
    """A text with U+0000, which no database and few servers keep."""
    pos = text.index("\0")
    return LineFault(
        "nul", "there is a NUL character (U+0000) in it. Take it out.", found=excerpt(text[max(0, pos - 20) :])
    )


def _slow(raw: bytes) -> Any:
    """The same by the standard library, which tells what is wrong. Raises LineFault; never RecursionError."""
    text = decoded(raw).rstrip("\r\n")
    if "\0" in text:
        raise nul(text)
    _shallow(raw)
    try:
        value = json.loads(
            text, object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_bounded_int, parse_float=_fraction
        )
    except json.JSONDecodeError as error:
        raise _malformed(text, error) from None
    _storable(value)
    return value


def _shallow(raw: bytes) -> None:
    depth = 0
    for token in _TOKEN.finditer(raw):
        first = token[0][0]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _deep()
        elif first in b"]}":
            depth -= 1


def _pairs(pairs: list[tuple[str, Any]]) -> Json:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    counts = Counter(name for name, _ in pairs)
    twice = [name for name, n in counts.items() if n > 1][:_MAX_KEYS_SHOWN]
    keys_shown = ", ".join(f"'{excerpt(name, 40)}'" for name in twice)
    raise LineFault(
        "duplicate_key",
        f"key {keys_shown} stands twice in one object; only one value could be sent. Take one away.",
        field=excerpt(twice[0], 40),
        found=excerpt([value for name, value in pairs if name == twice[0]]),
    )


def _constant(name: str) -> NoReturn:
    raise LineFault(
        "not_a_number", f"{name} is not JSON, and servers refuse it. Write null or a text in its place.", found=name
    )


def _bounded_int(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise LineFault(
            "number",
            f"a whole number of {plural(len(digits.lstrip('-')), 'digit')}. Write it as a text in quotes.",
            found=excerpt(digits),
        )
    return int(digits)


def _fraction(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise LineFault(
            "number",
            f"{excerpt(digits, 30)} is too large a number. Write it as a text in quotes.",
            found=excerpt(digits),
        )
    return value


def _storable(value: object) -> None:
    if isinstance(value, str):
        no_surrogate(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            no_surrogate(key)
            _storable(item)
    elif isinstance(value, list):
        for item in value:
            _storable(item)


def no_surrogate(text: str) -> None:
    r"""Raises LineFault for half a character (``\ud800``), which cannot be sent as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise LineFault(
            "surrogate",
            f"a lone surrogate (\\u{ord(text[error.start]):04x}) is half a character and cannot be sent. Take it out.",
            found=excerpt(text[max(0, error.start - 20) :]),
        ) from None


def _malformed(text: str, error: json.JSONDecodeError) -> LineFault:
    reason = error.msg[0].lower() + error.msg[1:]
    if error.msg == "Extra data":
        reason = "there is more behind the end of the object; each line holds one"
    elif error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip()):
        reason = "it ends in the middle. A record is one line: was it cut, or spread over several?"
    for pattern, hint in _HINTS:
        if pattern.search(text[:2000]):
            reason = f"{reason}; {hint}"
            break
    near = excerpt(text[max(0, error.pos - 20) :].strip())
    end = "" if reason.endswith(("?", ".")) else "."
    location = f"near “{excerpt(near, 40)}”: " if near else ""
    return LineFault("not_json", f"not JSON, {location}{reason}{end}", found=near, position=f"column {error.pos + 1}")


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
        depth, offset = 0, 0
        while True:
            match = _NEXT.search(self.buffer, self.pos + offset)
            if match is None:
                offset = len(self.buffer) - self.pos
                self.read()
                continue
            mark, start = match[0], match.start() - self.pos
            offset = start + 1
            if mark == b'"':
                offset = self.string(start)
            elif mark in b"[{":
                depth += 1
            elif mark == b",":
                if depth == 0:
                    yield self.item(start)
                    offset = 0
            elif depth == 0:
                if mark != b"]" or not self.listed:
                    raise self.lost(start)
                yield self.item(start)
                return
            else:
                depth -= 1
                if depth == 0 and not self.listed:
                    line, raw = self.line, self.buffer[self.pos : self.pos + offset]
                    self.drop(offset)
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
        while (match := _STRING.match(self.buffer, self.pos + start)) is None:
            self.read()
        return match.end() - self.pos

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
        unread = self.buffer[self.pos :]
        parts, missing = [unread], max(1, len(unread))
        while missing > 0 and (chunk := next(self.chunks, None)) is not None:
            parts.append(chunk)
            missing -= len(chunk)
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
            subject = "The JSON array is" if self.listed else "The last JSON object is"
            raise Refused(
                "not_json",
                f"{subject} never closed: the file ends inside the record that begins on line {self.line}. It was cut "
                "short, or a bracket or quote is missing; upload it again or correct it.",
                line=self.line,
            )

    def lost(self, offset: int, reason: str = "") -> Refused:
        """What is said where the structure cannot be followed."""
        self.drop(offset)
        beginning = excerpt(self.buffer[self.pos : self.pos + 200].decode("utf-8", "replace"))
        reason = reason or f"“{beginning[:1]}” is not expected here"
        return Refused(
            "not_json", f"Line {self.line}: not JSON: {reason}. Correct it.", line=self.line, found=beginning
        )
