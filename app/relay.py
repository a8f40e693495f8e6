"""The board's WebSocket route: from one engine stream per live run to any number of browsers (see `app.feed`)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.feed import Feed, Viewer, frame_text
from app.mirror import read_have
from app.tickets import BadTicket, Ticket, board_token, check_token
from services import access, paths

__all__ = ["Relay", "board_token"]

HELLO_S = 10.0
FRAME_LIMIT = 64 * 2**20  # a snapshot of eight columns of very long text
MESSAGE_LIMIT = 2**16
CHECK_S = 60.0
CLOSE_BAD_TOKEN = 4401
CLOSE_BAD_HELLO = 4400

NOT_ALLOWED = "Your role may look at this run, not stop or retry it. Nothing was changed."
EXPIRED = "This page was opened more than twelve hours ago, so nothing was changed. Reload it and try again."
OVER = "Your sign-in has ended, so nothing was changed. Reload this page to sign in again."
NOT_ALLOWED_NOW = "Your role has changed, so nothing was changed. Reload this page to see what you may do now."
NOT_REACHED = "The engine could not be reached, so nothing was changed. Try again in a moment."


class Relay:
    """The WebSocket route of the board. ``socket`` is the engine's Unix socket (default: `services.paths`)."""

    def __init__(self, socket: Path | None = None) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None
        self.feeds: dict[str, Feed] = {}
        self.check_every_s = CHECK_S

    def _engine(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            path = self._socket or paths.socket_path(paths.data_dir())
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(path), limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
                read_bufsize=2**20,
            )
        return self._session

    async def close(self) -> None:
        """Stop every feed and close the connections to the engine."""
        for feed in self.feeds.values():
            feed.close()
        self.feeds.clear()
        if self._session:
            await self._session.close()

    async def frames(self, run_id: str) -> AsyncGenerator[bytes, None]:
        """The engine's frames of a run, one JSON text each; a single end frame when the run is not live."""
        url = f"http://engine/runs/{quote(run_id, safe='')}/stream"
        quiet = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=20)  # pings come every 5 s
        async with self._engine().get(url, timeout=quiet) as response:
            if response.status == 404:
                yield b'{"type":"end","seq":0}'
                return
            response.raise_for_status()
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > FRAME_LIMIT:
                    raise ValueError("a frame has no end")
                for line in lines:
                    if line.strip():
                        yield line

    async def act(self, ticket: Ticket, verb: str, column: int | None) -> str | None:
        """Ask the engine to stop or retry; a sentence when it did not, else None."""
        if not ticket.may_act:
            return NOT_ALLOWED
        if ticket.expires <= time.time():
            return EXPIRED
        headers = {access.PERSON_HEADER: access.person_header(ticket.person), "X-Lab-Role": ticket.role}
        url = f"http://engine/runs/{quote(ticket.run_id, safe='')}/{verb}"
        limit = aiohttp.ClientTimeout(total=10)
        try:
            async with self._engine().post(url, json={"column": column}, headers=headers, timeout=limit) as response:
                if response.ok:
                    return None
                body = await response.json(content_type=None)
                return str(body["error"]) if isinstance(body, dict) and "error" in body else NOT_REACHED
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
            return NOT_REACHED

    async def endpoint(self, websocket: WebSocket) -> None:
        """`/api/board/{run_id}`: the first message is {"token", "have"}; later {"stop": i or "all"}, {"retry": i}."""
        if not same_origin(websocket.headers.get("origin"), websocket.headers.get("host")):
            await websocket.close(4403)
            return
        await websocket.accept()
        run_id = websocket.path_params["run_id"]
        try:
            hello = await asyncio.wait_for(_receive(websocket), HELLO_S)
            ticket = self._holds(check_token(str(hello.get("token", "")), run_id), websocket)
        except BadTicket:
            await websocket.close(CLOSE_BAD_TOKEN)
            return
        except (ValueError, TimeoutError):
            await websocket.close(CLOSE_BAD_HELLO)
            return
        except WebSocketDisconnect:
            return
        viewer = Viewer(websocket, ticket, read_have(hello.get("have")))
        # A finished run is asked to go on before its feed is looked for, else the feed would find nothing live.
        await self._obey(viewer, hello)
        feed = self.feeds.setdefault(run_id, Feed(self.frames, run_id))
        feed.join(viewer)
        sender = asyncio.create_task(_quietly(viewer.send_forever(feed.mirror)))
        guard = asyncio.create_task(_quietly(self._guard(viewer)))
        try:
            while True:
                message = await _receive(websocket)
                await self._obey(viewer, message)
                if "retry" in message:
                    feed.follow()
        except (WebSocketDisconnect, ValueError, RuntimeError):
            pass
        finally:
            sender.cancel()
            guard.cancel()
            feed.viewers.discard(viewer)
            if not feed.viewers and self.feeds.get(run_id) is feed:
                feed.close()
                del self.feeds[run_id]

    def _holds(self, ticket: Ticket, websocket: WebSocket) -> Ticket:
        from app import session  # it brings the database's library, which takes longer than the first answer may

        return session.holds(ticket, websocket.cookies, websocket.headers.get("origin"))

    async def _still_holds(self, viewer: Viewer) -> bool:
        """Whether the viewer may go on as the ticket says; if not, they are told so and the socket is closed."""
        try:
            now = self._holds(viewer.ticket, viewer.websocket)
        except BadTicket:
            old = not viewer.ticket.mark and viewer.ticket.expires <= time.time()
            sentence = EXPIRED if old else OVER
        else:
            if now.role == viewer.ticket.role:
                return True
            sentence = NOT_ALLOWED_NOW
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # they may have left meanwhile
            await viewer.websocket.send_text(frame_text({"type": "notice", "sentence": sentence}))
            await viewer.websocket.close(CLOSE_BAD_TOKEN)
        return False

    async def _guard(self, viewer: Viewer) -> None:
        """A ticket ends with the sign-in and the role that it was made in, also while nobody presses anything."""
        while True:
            await asyncio.sleep(min(self.check_every_s, max(0.0, viewer.ticket.expires - time.time()) + 0.01))
            if not await self._still_holds(viewer):
                return

    async def _obey(self, viewer: Viewer, message: dict[str, Any]) -> None:
        for verb in ("stop", "retry"):
            column = message.get(verb)
            if type(column) is int or (verb == "stop" and column == "all"):
                if not await self._still_holds(viewer):
                    return
                sentence = await self.act(viewer.ticket, verb, column if isinstance(column, int) else None)
                if sentence:
                    viewer.give(frame_text({"type": "notice", "sentence": sentence}))


def same_origin(origin: str | None, host: str | None) -> bool:
    """True when a browser's Origin names the host it is talking to. No Origin is no browser of ours."""
    return bool(origin and host) and urlsplit(origin or "").netloc.lower() == (host or "").lower()


async def _receive(websocket: WebSocket) -> dict[str, Any]:
    text = await websocket.receive_text()
    message = orjson.loads(text) if len(text) <= MESSAGE_LIMIT else None
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await work
