"""Places that notices are sent to in tests: a web server and a mail server that keep what they receive."""

from __future__ import annotations

import asyncio
import email
from email.message import Message
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web


class Webhook:
    """A web server on this machine. ``answers``: the status of each request in turn, the last one for the rest."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers) or [200]
        self.received: list[dict[str, Any]] = []
        self.came = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.address = f"json://127.0.0.1:{port}/a-secret-path"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.received.append(orjson.loads(await request.read()))
        self.came.set()
        return web.Response(status=self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


class Mailbox:
    """As much of an SMTP server as a mail needs."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.to: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"mailto://127.0.0.1:{port}/?from=lab@example.org&to=ops@example.org&mode=insecure"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(text: str) -> None:
            writer.write(f"{text}\r\n".encode())
            await writer.drain()

        await say("220 sink ready")
        while line := await reader.readline():
            word = line.split(b" ", 1)[0].strip().upper()
            if word == b"RCPT":
                self.to.append(line.decode().partition("<")[2].partition(">")[0])
            if word == b"DATA":
                await say("354 go on")
                body = (await reader.readuntil(b"\r\n.\r\n")).removesuffix(b".\r\n")
                self.received.append(email.message_from_bytes(body))
            await say("221 bye" if word == b"QUIT" else "250 ok")
            if word == b"QUIT":
                break
        writer.close()
