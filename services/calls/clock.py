"""The engine's clocks: the 50 ms tick, a beat that tells how late we are ourselves, and garbage collected between.

It ticks while there is a run or a call, and not at all while there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter_ns

from services.calls.live import LiveCall, LiveRun

BEAT_NS = 10_000_000

WORTH_KEEPING_NS = 200_000

TOGETHER_NS = 5_000_000  # one turn of a busy loop: what was stamped this close to a late beat waited as it did


class Heartbeat:
    """Beats every 10 ms while anybody holds it, and remembers each beat that came noticeably late."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._holders = 0
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0
        self._late: deque[tuple[int, int]] = deque(maxlen=20_000)
        self.last_ns = 0

    def hold(self) -> None:
        """Beat from now on, until as many `release` calls as `hold` calls were made."""
        self._holders += 1
        if self._handle is None:
            self._due = perf_counter_ns() + BEAT_NS
            self._handle = self._loop.call_later(BEAT_NS / 1e9, self._beat)

    def release(self) -> None:
        """Give up one `hold`."""
        self._holders -= 1
        if self._holders <= 0 and self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _beat(self) -> None:
        now = perf_counter_ns()
        late = max(0, now - self._due)
        self.last_ns = late
        if late > WORTH_KEEPING_NS:
            self._late.append((now, late))
        self._due = max(now, self._due + BEAT_NS)
        self._handle = self._loop.call_later(max(0.0, (self._due - now) / 1e9), self._beat)

    def lag_ns(self, start: int, end: int, arrivals: Sequence[int]) -> int:
        """How late our stamps of one call may be, in nanoseconds; 0 when every beat was punctual.

        ``arrivals`` are the stamps of its deltas in order. An arrival is as late as the beat that came late together
        with it. What counts is what the figures rest on: the first arrival, the last, and the 95th percentile of all.
        Without arrivals it is the latest beat between ``start`` and ``end``.
        """
        late = [(stamp, by) for stamp, by in self._late if start <= stamp <= end + TOGETHER_NS]
        if not late:
            return 0
        if not arrivals:
            return max(by for _, by in late)
        lags = [0] * len(arrivals)
        for stamp, by in late:
            first = bisect_left(arrivals, stamp - TOGETHER_NS)
            for index in range(first, bisect_right(arrivals, stamp + TOGETHER_NS)):
                lags[index] = max(lags[index], by)
        ordered = sorted(lags)
        return max(lags[0], lags[-1], ordered[int(0.95 * (len(ordered) - 1))])


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
                for slice_no in range(min(SLICES, len(runs)) or 1):
                    await asyncio.sleep(TICK_S / (min(SLICES, len(runs)) or 1))
                    for run in runs[slice_no::SLICES]:
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
        if due is not None:
            call.abort(due)


SWITCH_S = 0.0005  # by default a thread that computes, such as the writer's, may hold the interpreter for 5 ms

YOUNG = 10_000  # objects: collecting them takes about 1 ms

NICENESS = -10


def settle() -> None:
    """Call once when everything is imported: no automatic collections from here on, short turns for threads, and
    before others on the processor where this user may ask for that (root in a container; elsewhere nothing changes).
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    # Only the loop's own thread, and none of the processes it starts. A nice process still waits for the slice of
    # whoever computes at the moment, which is 3 ms and more.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(SWITCH_S)


class Collector:
    """Collects by hand: a few young objects at a time while streams run, everything once nothing does."""

    def tick(self) -> None:
        """Call 20 times a second while anything runs."""
        if gc.get_count()[0] > YOUNG:
            gc.collect(0)

    def rest(self, *, everything: bool) -> None:
        """Call now and then while nothing runs. Not ``everything``: only if much has gathered."""
        if everything or gc.get_count()[0] > YOUNG:
            gc.collect()
