"""The pages' process without anybody there: what uvicorn does on a timer is done when it is needed.

It looks ten times a second whether it is to end, and writes the date that answers carry.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.server import ServerState


class DatedWhenAsked(ServerState):
    """uvicorn's state, whose headers carry the time at which they are asked for."""

    def __init__(self, server: uvicorn.Server) -> None:
        self._server = server
        super().__init__()

    def __getattribute__(self, name: str) -> Any:
        if name != "default_headers":
            return super().__getattribute__(name)
        config = self._server.config
        date = [(b"date", formatdate(time.time(), usegmt=True).encode())] if config.date_header else []
        return date + config.encoded_headers


class StillServer(uvicorn.Server):
    """uvicorn's server, which waits to be told to end instead of looking."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state = DatedWhenAsked(self)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving: asyncio.Event | None = None

    async def main_loop(self) -> None:
        """Serve until `handle_exit`."""
        self._leaving, self._loop = asyncio.Event(), asyncio.get_running_loop()
        while not self.should_exit:
            await self._leaving.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to end, in the main thread."""
        super().handle_exit(sig, frame)
        if self._loop is not None and self._leaving is not None:
            self._loop.call_soon_threadsafe(self._leaving.set)
