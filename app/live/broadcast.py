"""One run's frames, read once from the engine and handed to every viewer.

A `Feed` follows one run and keeps a mirror of it. A `Viewer` has a short queue; one who cannot keep up loses the queue
and gets a snapshot from where he was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

import orjson
from starlette.websockets import WebSocket

from app.live.run_state import Have, Mirror
from app.live.tickets import Ticket

log = logging.getLogger(__name__)

QUEUE_FRAMES = 64  # about three seconds of frames
BACKOFF_S = (0.2, 0.5, 1.0, 2.0)
TROUBLE = "The engine is not answering. The board goes on by itself when it is back."

Frames = Callable[[str], AsyncGenerator[bytes, None]]  # run id → the engine's frames, one JSON text each


def frame_text(frame: dict[str, Any]) -> str:
    """A frame as it is sent."""
    return orjson.dumps(frame).decode()


_TROUBLE = frame_text({"type": "trouble", "sentence": TROUBLE})
_PING = frame_text({"type": "ping"})


class Viewer:
    """One browser's end: a bounded queue of frame texts with the cursors that hold after each."""

    def __init__(self, websocket: WebSocket, ticket: Ticket, have: Have) -> None:
        self.websocket = websocket
        self.ticket = ticket
        self.have = have
        self.behind = False  # the next thing to send is a snapshot
        self._queue: asyncio.Queue[tuple[str, Have | None]] = asyncio.Queue(QUEUE_FRAMES)

    @property
    def waiting(self) -> int:
        """Frames not sent yet."""
        return self._queue.qsize()

    def give(self, text: str, after: Have | None = None) -> None:
        """Queue a frame. A full queue is emptied; the viewer then gets a snapshot instead."""
        if self._queue.full():
            self.catch_up()
        if after is not None and self.behind:
            return  # the snapshot to come will hold it
        self._queue.put_nowait((text, after))

    def catch_up(self) -> None:
        """Forget what is queued and send a snapshot next."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self.behind = True
        self._queue.put_nowait(("", None))

    async def send_forever(self, mirror: Mirror) -> None:
        """Send queued frames until the socket closes."""
        while True:
            text, after = await self._queue.get()
            if self.behind and mirror.known:
                self.behind = False
                self.have, before = mirror.cursors(), self.have
                await self.websocket.send_text(mirror.snapshot(before))
                if not mirror.live:
                    await self.websocket.send_text(frame_text({"type": "end", "seq": mirror.seq}))
            if text:
                await self.websocket.send_text(text)
                if after is not None:
                    self.have = after


class Feed:
    """One run's frames, read once from the engine for all of its viewers."""

    def __init__(self, frames: Frames, run_id: str) -> None:
        self.mirror = Mirror()
        self.viewers: set[Viewer] = set()
        self.in_trouble = False
        self._frames = frames
        self._run_id = run_id
        self._task: asyncio.Task[None] | None = None

    def join(self, viewer: Viewer) -> None:
        """Add a viewer; he gets a snapshot at once when one is known, else with the engine's first frame."""
        self.viewers.add(viewer)
        if self.mirror.known and self.running:
            viewer.catch_up()
        if self.in_trouble:
            viewer.give(_TROUBLE)
        self.follow()

    @property
    def running(self) -> bool:
        """True while the engine's stream is being followed."""
        return self._task is not None and not self._task.done()

    def follow(self) -> None:
        """Follow the engine's stream unless that is being done already."""
        if not self.running:
            self._task = asyncio.create_task(self._follow(), name=f"board feed {self._run_id}")

    def close(self) -> None:
        """Stop following."""
        if self._task:
            self._task.cancel()

    async def _follow(self) -> None:
        failures = 0
        while True:
            cut_short = True
            try:
                async with contextlib.aclosing(self._frames(self._run_id)) as frames:
                    async for line in frames:
                        failures = 0
                        if self._take(line):
                            return
                # The engine lets go of a watcher that was too slow: no trouble, come back for a snapshot.
                cut_short = False
            except Exception as error:  # whatever a broken stream or frame raises, the viewers must not be left alone
                log.info("The stream of run %s broke: %s", self._run_id, type(error).__name__)
            # Told once; after that a sign of life is enough to keep browsers from looking for a better connection.
            if cut_short:
                self._tell_all(_PING if self.in_trouble else _TROUBLE)
                self.in_trouble = True
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1

    def _take(self, line: bytes) -> bool:
        """Take one frame in and hand it on; True when it was the last one."""
        frame = orjson.loads(line)
        self.in_trouble = False
        self.mirror.apply(frame)
        kind = frame.get("type")
        if kind == "snapshot":
            for viewer in self.viewers:
                viewer.catch_up()
        elif kind == "delta":
            text, after = self.mirror.line(frame, line), self.mirror.cursors()
            for viewer in self.viewers:
                viewer.give(text, after)
        else:
            self._tell_all(line.decode())
        return bool(kind == "end")

    def _tell_all(self, text: str) -> None:
        for viewer in self.viewers:
            viewer.give(text)
