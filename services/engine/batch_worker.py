"""The worker process of batches that the engine starts while there is a batch to send."""

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
from pathlib import Path
from typing import Any

from sqlalchemy import Engine as SqlEngine

from db import batches
from services import paths
from services.security.keys import scrub

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0

IDLE_S = 30.0  # it stays for so long after the last batch: the next one need not wait for it to load

BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)

STEADY_S = 60.0  # a life that lasted so long was a good one

END_WITHIN_S = 8.0

STILL_S = 60.0  # where nobody but us takes a batch in

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
            await self._rest(LOOK_EVERY_S if self.needed or self._process is not None or self._others else STILL_S)
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
