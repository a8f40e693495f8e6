"""How late the engine itself is: a 100 Hz beat on its own loop, so that our error is part of every record."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from time import perf_counter_ns

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
            for at in range(first, bisect_right(arrivals, stamp + TOGETHER_NS)):
                lags[at] = max(lags[at], by)
        ordered = sorted(lags)
        return max(lags[0], lags[-1], ordered[int(0.95 * (len(ordered) - 1))])
