"""The engine's housework: its heartbeat, the calls that dead engines left, rollups, what is forgotten in time, and the
process that runs batches, which is started when there is one and started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine as SqlEngine
from sqlmodel import Session

from db import batches, rollups, runs
from db.writer import WriteFailed, Writer
from services import paths
from services.calls.calls import Calls
from services.deployments.registry import Registry
from services.processes import logs
from services.security.keys import scrub

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


LOOK_EVERY_S = 2.0

IDLE_S = 30.0  # it stays for so long after the last batch: the next one need not wait for it to load

BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)

STEADY_S = 60.0  # a life that lasted so long was a good one

END_WITHIN_S = 8.0

UNUSED_S = 60.0  # where nobody but us takes a batch in

OFF = "0"  # LAB_WORKER=0: none is started, because workers run elsewhere


class BatchWorker:
    """Keeps one worker alive while a batch is not over. Without `keep` none is ever started.

    ``other_engines``: other engines work on the same database, and a batch can be taken in without a `wake`.
    """

    def __init__(self, reader: SqlEngine, *, other_engines: bool = True) -> None:
        self._reader = reader
        self._others = other_engines
        self._woken = asyncio.Event()
        self.on_change: Callable[[], None] = lambda: None  # called when `needed` has become another
        self._process: Process | None = None
        self._deaths = 0
        self.said: str | None = None
        self.needed = False  # whether there is a batch to send, as it was seen last

    def wake(self) -> None:
        """There is, or may be, something to do."""
        self._woken.set()

    async def keep(self, data: Path, file: Path) -> None:
        """Never returns; started by the engine's process."""
        elsewhere = os.environ.get("LAB_WORKER") == OFF
        if elsewhere:
            self.said = "This server starts no worker of its own (LAB_WORKER=0): start one with lab worker."
        idle_since = time.monotonic()
        while True:
            try:
                if await self._look():
                    idle_since = time.monotonic()
                    if self._process is None and not elsewhere:
                        await self._live(data, file)
                        continue
            except Exception:
                log.exception("the worker of batches could not be looked after")
            await self._rest(LOOK_EVERY_S if self.needed or self._process is not None or self._others else UNUSED_S)
            if time.monotonic() - idle_since > IDLE_S:
                await self.close()

    async def _live(self, data: Path, file: Path) -> None:
        """One life of the process, until there is nothing to do any more, and the pause after its death."""
        born = time.monotonic()
        self._process = process = await _begin(data, file)
        assert process.stdout is not None
        words = _words(await process.stdout.readline())
        if "worker" in words:
            self.said = None
            log.info("the worker of batches %s is at work", words["worker"])
        ending = asyncio.ensure_future(process.wait())
        idle_since = time.monotonic()
        try:
            while not ending.done():
                await asyncio.wait({ending}, timeout=LOOK_EVERY_S)
                if await self._look():
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since > IDLE_S:
                    await self.close()
                    return
        finally:
            if ending.done():
                self._process = None
        self._deaths = 1 if time.monotonic() - born > STEADY_S else self._deaths + 1
        wait = BACKOFF_S[min(self._deaths, len(BACKOFF_S)) - 1]
        said = words.get("error")
        why = (
            f": {said}" if said else f" (exit code {process.returncode}); its log is in the data directory under logs."
        )
        self.said = scrub(f"The worker of batches ended{why}")
        log.warning("%s Started again in %g s.", self.said, wait)
        await self._rest(wait)

    async def _look(self) -> bool:
        before, self.needed = self.needed, await asyncio.to_thread(self._needed)
        if before is not self.needed:
            self.on_change()
        return self.needed

    def _needed(self) -> bool:
        return any(
            row["n_lines"] and not (row["state"] == "paused" and row["wanted"] == "pause")
            for row in batches.unfinished(self._reader)
        )

    async def _rest(self, seconds: float) -> None:
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)

    async def close(self) -> None:
        """End the process, if there is one; what it had in hand waits for the next."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), END_WITHIN_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _begin(data: Path, file: Path) -> Process:
    command = [
        sys.executable,
        "-m",
        "services.batch.worker",
        "--data",
        str(data),
        "--deployments",
        str(file),
        "--parent-pid",
        str(os.getpid()),
    ]
    log_file = data / "logs" / "worker.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as errors:
        return await asyncio.create_subprocess_exec(
            *command, cwd=paths.ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=errors
        )


def _words(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(json.JSONDecodeError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}
