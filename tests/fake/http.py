"""As much HTTP/1.1 as a fake server needs, on bytes: requests in, heads out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

MAX_BODY = 64_000_000


class BadRequest(ValueError):
    """The client sent something that is not HTTP/1.1 as we know it."""


@dataclass(slots=True)
class Request:
    """One request, read to its end. Header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    json: Any = field(default=None, repr=False)

    def parse(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one when it is none."""
        if self.json is None:
            try:
                self.json = json.loads(self.body or b"{}")
            except ValueError:
                self.json = {}
        return self.json if isinstance(self.json, dict) else {}


class Reader:
    """Collects bytes and gives whole requests; what belongs to the next one waits."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self._head: Request | None = None
        self.wants_continue = False

    def feed(self, data: bytes) -> None:
        """Take bytes from the socket."""
        self.buffer += data

    def next(self) -> Request | None:
        """The next whole request, or None while bytes are missing. Raises `BadRequest`."""
        if self._head is None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self.buffer) > 1_000_000:
                    raise BadRequest("a request head of more than 1 MB")
                return None
            self._head = _head(bytes(self.buffer[:end]))
            del self.buffer[: end + 4]
            self.wants_continue = self._head.headers.get("expect", "").lower() == "100-continue"
        body = self._body(self._head)
        if body is None:
            return None
        request, self._head = self._head, None
        request.body = body
        return request

    def _body(self, head: Request) -> bytes | None:
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            return self._chunks()
        length = int(head.headers.get("content-length") or 0)
        if length > MAX_BODY:
            raise BadRequest("a request body that is too large")
        if len(self.buffer) < length:
            return None
        body = bytes(self.buffer[:length])
        del self.buffer[:length]
        return body

    def _chunks(self) -> bytes | None:
        body, at = bytearray(), 0
        while True:
            end = self.buffer.find(b"\r\n", at)
            if end < 0:
                return None
            size = int(bytes(self.buffer[at:end]).partition(b";")[0] or b"0", 16)
            at = end + 2
            if len(self.buffer) < at + size + 2:
                return None
            if size == 0:
                del self.buffer[: at + 2]
                return bytes(body)
            body += self.buffer[at : at + size]
            at += size + 2


def _head(raw: bytes) -> Request:
    first, *lines = raw.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(f"not a request line: {first[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return Request(words[0], words[1], headers)


def plain_response(status: int, body: bytes, content_type: str = "application/json", *more: tuple[str, str]) -> bytes:
    """A whole response with Content-Length."""
    extra = "".join(f"{name}: {value}\r\n" for name, value in more)
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body
