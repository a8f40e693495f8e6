"""A client on bare sockets, for tests that look at bytes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from services.types import Wire
from tests.fake.server import PATHS, Core

PATH: dict[Wire, str] = {wire: path for path, wire in PATHS.items()}


def body_of(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "stream": True, "stream_options": {"include_usage": True}} | more


async def raw(server: Core, wire: Wire, model: str, *headers: str) -> bytes:
    """Everything the server sends for one request, byte for byte, until it closes (we ask it to)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    body = json.dumps(body_of(model)).encode()
    extra = "".join(f"{h}\r\n" for h in headers)
    writer.write(
        f"POST {PATH[wire]} HTTP/1.1\r\nconnection: close\r\n{extra}content-length: {len(body)}\r\n\r\n".encode()
    )
    writer.write(body)
    received = b""
    try:
        async with asyncio.timeout(5):
            while data := await reader.read(65536):
                received += data
    finally:
        writer.close()
    return received


def unchunked(response: bytes) -> tuple[bytes, bool]:
    """(body, whether its last chunk was there)."""
    data, body = response.partition(b"\r\n\r\n")[2], b""
    while data:
        size, _, data = data.partition(b"\r\n")
        n = int(size, 16)
        if n == 0:
            return body, True
        body += data[:n]
        data = data[n + 2 :]
    return body, False
