"""The 50 ms tick of the engine: frames for boards, deadlines for calls, garbage collected between them.

It ticks while there is a run or a call, and not at all while there is none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from time import perf_counter_ns

from services.calls.gc_tuning import Collector
from services.calls.live import LiveCall, LiveRun

log = logging.getLogger(__name__)
TICK_S = 0.05  # one frame of one run
SLICES = 5  # runs take turns within a tick, so that no stamp waits for the frames of all of them
PING_EVERY = 100  # ticks
DEADLINE_EVERY = 2
AFTER_S = 10.0  # without a run or a call: then there is time to collect everything
STILL_S = 600.0


class Ticker:
    """Calls every live run's `tick` 20 times a second and ends calls whose deadline has passed."""

    def __init__(self, runs: Callable[[], Iterable[LiveRun]], calls: Callable[[], Iterable[LiveCall]]) -> None:
        self._runs = runs
        self._calls = calls
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._count = 0
        self._garbage = Collector()

    def start(self) -> None:
        """Begin ticking on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._forever(), name="ticker")

    def wake(self) -> None:
        """A run or a call has begun: tick until there is none any more."""
        self._woken.set()

    async def close(self) -> None:
        """Stop ticking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _forever(self) -> None:
        while True:
            try:
                runs = list(self._runs())
                if not runs and not any(True for _ in self._calls()):
                    await self._rest()
                    continue
                for part in range(min(SLICES, len(runs)) or 1):
                    await asyncio.sleep(TICK_S / (min(SLICES, len(runs)) or 1))
                    for run in runs[part::SLICES]:
                        run.tick()
                self._count += 1
                self._upkeep(runs)
            except Exception:
                log.exception("a tick failed")

    async def _rest(self) -> None:
        """Wait for a run or a call; meanwhile collect what the last ones left, soon and then as it gathers."""
        wait_s = AFTER_S
        while True:
            self._woken.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
                return
            except TimeoutError:
                self._garbage.rest(everything=wait_s == AFTER_S)
                wait_s = STILL_S

    def _upkeep(self, runs: list[LiveRun]) -> None:
        if self._count % PING_EVERY == 0:
            for run in runs:
                run.ping()
        if self._count % DEADLINE_EVERY == 0:
            enforce(self._calls(), perf_counter_ns())
        self._garbage.tick()


def enforce(calls: Iterable[LiveCall], now: int) -> None:
    """End every call whose content deadline has passed at ``now`` (perf_counter_ns)."""
    for call in list(calls):
        due = call.progress.overdue(now)
        if due is not None and call.progress.abort is None and call.task is not None:
            call.progress.abort = due
            call.task.cancel()
