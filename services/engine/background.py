"""The engine's housework: its heartbeat, the calls that dead engines left, rollups, and what is forgotten in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from sqlmodel import Session

from db import rollups, runs
from db.writer import WriteFailed, Writer
from services.calls.calls import Calls
from services.deployments.registry import Registry
from services.processes import logs

log = logging.getLogger(__name__)

HEARTBEAT_S = 10.0

ALONE_S = 60.0  # more, while nobody looks

STALE_OWNER_S = 45.0

FORGET_EVERY_S = 3600.0

FORGET_AT_ONCE = 500  # calls in one transaction: the writer has others waiting

PAUSE_S = 0.05


class Upkeep:
    """Keeps one engine's house for as long as it lives."""

    def __init__(self, writer: Writer, registry: Registry, calls: Calls, *, owner_id: str, single_owner: bool) -> None:
        self._writer = writer
        self._registry = registry
        self._calls = calls
        self._owner_id = owner_id
        self._single_owner = single_owner
        self._woken = asyncio.Event()
        self.log_folder: Path | None = None
        self.batching: Callable[[], bool] = lambda: True

    async def run(self) -> None:
        """Never returns; what cannot be written is tried again."""
        while True:
            try:
                await self._writer.write(lambda session: runs.heartbeat(session=session, owner_id=self._owner_id))
                await self.mark_lost()
                await self._calls.write_again()
                if self.log_folder is not None:
                    await asyncio.to_thread(logs.cut_back, self.log_folder)
            except Exception:
                log.exception("the engine's upkeep could not be written")
            await asyncio.sleep(HEARTBEAT_S)
            if not self._watched():
                self._woken.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ALONE_S):
                        await self._woken.wait()

    def wake(self) -> None:
        """A batch has begun, or the end of a call could not be written."""
        self._woken.set()

    def _watched(self) -> bool:
        """Whether anybody looks at our heart or we at another's: another engine's, or a worker's with a batch."""
        return not self._single_owner or self.batching() or self._calls.any_unwritten

    async def keep_forgetting(self) -> None:
        """Never returns. Apart from `run`: forgetting a year must not stop the heart."""
        while True:
            try:
                await self.forget_texts()
                await self.forget_calls()
            except Exception:
                log.exception("what is older than the privacy settings allow could not be forgotten")
            await asyncio.sleep(FORGET_EVERY_S)

    async def mark_lost(self) -> list[str]:
        """Take over the calls of engines that are dead; their ids."""
        lost = await self._writer.write(
            lambda session: runs.mark_lost(
                session=session, owner_id=self._owner_id, stale_after_s=STALE_OWNER_S, single_owner=self._single_owner
            )
        )
        if lost:
            self._calls.on_end()
        return lost

    async def forget_texts(self) -> int:
        """Forget the texts of runs older than `[privacy] text_days`; returns of how many runs."""
        days = self._registry.config.text_days
        if days is None:
            return 0
        cutoff = datetime.now(UTC) - timedelta(days=days)
        return await self._writer.write(lambda session: runs.forget_texts(session=session, older_than=cutoff))

    async def forget_calls(self) -> int:
        """Forget calls older than `[privacy] call_days`, part by part until none is left; returns how many.

        The rollups keep their figures. Days with a call that is not rolled up yet wait for the next time.
        """
        days = self._registry.config.call_days
        if days is None:
            return 0
        cutoff, forgotten = datetime.now(UTC) - timedelta(days=days), 0
        while True:
            n_forgotten = await self._writer.write(
                lambda session: runs.forget_calls(session=session, older_than=cutoff, limit=FORGET_AT_ONCE)
            )
            forgotten += n_forgotten
            if n_forgotten < FORGET_AT_ONCE:
                return forgotten
            await asyncio.sleep(PAUSE_S)


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
        self,
        writer: Writer,
        busy: Callable[[], bool],
        elsewhere: Callable[[], bool] = lambda: True,
        rolled: Callable[[], None] = lambda: None,
    ) -> None:
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
