"""Keeps the rollups up to date without getting in the way of what is being measured."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial

from sqlmodel import Session

from db import rollups
from db.writer import WriteFailed, Writer

log = logging.getLogger(__name__)
IDLE_BATCH, IDLE_EVERY_S = rollups.FEW, 1.0
# Adding up takes the interpreter's lock for milliseconds: while calls are being stamped it is done in crumbs, rarely
# where little waits, and at most 80 calls a second. What waits is not missing anywhere (readers take it from the
# calls), but forty people at work for an hour would leave tens of thousands for every reader.
BUSY_BATCH, BUSY_EVERY_S, BEHIND_EVERY_S = 20, 5.0, 0.25
STILL_S = 600.0  # whoever ends a call wakes us; this is for what nobody thought of


class Rolling:
    """Adds ended calls to the rollups for ever.

    ``elsewhere`` tells whether calls may end in another process, where nobody can `wake` us: then it looks by itself.
    """

    def __init__(
        self, writer: Writer, busy: Callable[[], bool], elsewhere: Callable[[], bool] = lambda: True,
        rolled: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._writer = writer
        self._busy = busy
        self._elsewhere = elsewhere
        self._rolled = rolled
        self._woken = asyncio.Event()
        self.added = 0  # since this engine started

    def wake(self) -> None:
        """A call has ended, or a batch has begun."""
        self._woken.set()

    async def run(self) -> None:
        """Never returns; what cannot be written is tried again."""
        while True:
            busy = self._busy()
            self._woken.clear()
            try:
                added = await self.once(BUSY_BATCH if busy else IDLE_BATCH)
                failed = False
            except WriteFailed:
                added, failed = 0, True
            except Exception:
                log.exception("calls could not be rolled up")
                added, failed = 0, True
            pause = pause_s(added, busy=busy)
            if added or failed or busy or self._busy() or self._elsewhere():
                await asyncio.sleep(pause)
            elif not self._woken.is_set():
                await self._rest()

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STILL_S):
                await self._woken.wait()
        await asyncio.sleep(IDLE_EVERY_S)  # columns end together

    async def once(self, limit: int) -> int:
        """Add up to ``limit`` calls; returns how many there were."""
        added = await self._writer.write(partial(_fold, limit))
        self.added += added
        if added:
            self._rolled()
        return added


def pause_s(added: int, *, busy: bool) -> float:
    """Seconds until the next turn, after one that added so many calls."""
    if busy:
        return BEHIND_EVERY_S if added == BUSY_BATCH else BUSY_EVERY_S
    return 0.0 if added == IDLE_BATCH else IDLE_EVERY_S


def _fold(limit: int, session: Session) -> int:
    return rollups.fold(session=session, limit=limit)
