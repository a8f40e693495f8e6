"""The 50 ms tick of the engine: frames for boards, deadlines for calls, garbage collected between them."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable
from time import perf_counter_ns

from services.engine.live import LiveCall, LiveRun

log = logging.getLogger(__name__)
TICK_S = 0.05
PING_EVERY = 100  # ticks
DEADLINE_EVERY = 2
COLLECT_YOUNG_EVERY = 10
COLLECT_FULL_IDLE = 200


class Ticker:
    """Calls every live run's `tick` 20 times a second and ends calls whose deadline has passed."""

    def __init__(self, runs: Callable[[], Iterable[LiveRun]], calls: Callable[[], Iterable[LiveCall]]) -> None:
        self._runs = runs
        self._calls = calls
        self._task: asyncio.Task[None] | None = None
        self._count = 0
        self._idle = 0

    def start(self) -> None:
        """Begin ticking on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._forever(), name="ticker")

    async def close(self) -> None:
        """Stop ticking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._count += 1
            try:
                self._tick()
            except Exception:
                log.exception("a tick failed")

    def _tick(self) -> None:
        busy = False
        for run in list(self._runs()):
            busy = True
            run.tick()
            if self._count % PING_EVERY == 0:
                run.ping()
        if self._count % DEADLINE_EVERY == 0:
            enforce(self._calls(), perf_counter_ns())
        self._collect(busy)

    def _collect(self, busy: bool) -> None:
        """Automatic collection is off in the engine: a full one stands every stream still for tens of ms."""
        if busy:
            self._idle = 0
            if self._count % COLLECT_YOUNG_EVERY == 0:
                gc.collect(0)
            return
        self._idle += 1
        if self._idle == COLLECT_FULL_IDLE:
            gc.collect()


def enforce(calls: Iterable[LiveCall], now: int) -> None:
    """End every call whose content deadline has passed at ``now`` (perf_counter_ns)."""
    for call in list(calls):
        due = call.progress.overdue(now)
        if due is not None and call.progress.abort is None and call.task is not None:
            call.progress.abort = due
            call.task.cancel()
