"""Concurrency of our own runner: how many lines are sent at once (an AIMD limiter), and the queue of turns.

The limiter reads no clock: every moment is passed in, in seconds. It finds the number in two ways:

* with an objective (the time to last token that 95 % of lines stay under) it is Clipper's AIMD: wider by one lane for
  each round trip that kept the objective, narrower by a tenth for one that did not. Up to the first breach it doubles;
* without one it looks for the knee: wider for as long as the throughput grows with the width, back where only the
  latency grew. Every while it tries a little narrower and a little wider again, because services change.

Throttling halves it, once in a round trip, in both; it then comes back quickly to just under where that was, and from
there lane by lane.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from math import ceil

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0

BELIEVED_S = 8.0  # a service that goes on refusing after waits as short as it asked for is not believed any more


class Turns:
    """The turns of one batch in one worker. Everything runs on the worker's loop."""

    def __init__(self, lanes: Lanes, spacing: Spacing) -> None:
        self.lanes = lanes
        self.spacing = spacing
        self.in_use = 0
        self.closed = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._open_at = 0.0  # nobody is sent before, because the service asked for a pause
        self._pause_s = FIRST_PAUSE_S
        self._shut = asyncio.Event()
        self._free = asyncio.Event()

    async def take(self) -> bool:
        """Wait for a turn; False when there are none any more. Whoever got one gives it back with `release`."""
        if not self.closed and (self.in_use >= self.lanes.limit or self._waiting):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.release()
                raise
        else:
            self.in_use += 1
        if not self.closed:
            await self._until(self.spacing.turn(time.monotonic()))
        while not self.closed and self._open_at > time.monotonic():
            await self._until(self._open_at)
        if self.closed:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give a turn back."""
        self.in_use -= 1
        self.wake()
        if self.closed and not self.in_use:
            self._free.set()

    def wake(self) -> None:
        """Give turns to those who wait, as many as there are."""
        while self._waiting and (self.in_use < self.lanes.limit or self.closed):
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_use += 1
                turn.set_result(None)

    def ended(self, *, began: float, latency_ms: float | None, throttled: bool = False) -> None:
        """Tell the lanes how a line ended that was sent at ``began`` (`time.monotonic`); before its `release`."""
        changed = self.lanes.ended(
            began=began, now=time.monotonic(), latency_ms=latency_ms, in_use=self.in_use, throttled=throttled
        )
        if changed:
            self.wake()
        if latency_ms is not None:
            self._pause_s = FIRST_PAUSE_S

    def pause(self, asked_s: float | None) -> float:
        """Nobody is sent for ``asked_s`` seconds, or for longer each time where the service named none; how long."""
        now = time.monotonic()
        same_burst = self._open_at > now
        if same_burst and not asked_s:  # the other lines of the same moment tell the same
            return self._open_at - now
        own = 0.0
        if not same_burst:
            own, self._pause_s = self._pause_s, min(LONGEST_PAUSE_S, self._pause_s * 2)
        wait = own if not asked_s else max(asked_s, own if own > BELIEVED_S else 0.0)
        self._open_at = max(self._open_at, now + wait)
        return self._open_at - now

    async def sleep(self, seconds: float) -> None:
        """Wait, but not beyond `close`."""
        await self._until(time.monotonic() + seconds)

    def close(self) -> None:
        """No turns any more: everybody who waits is told so."""
        self.closed = True
        self._shut.set()
        self.wake()
        if not self.in_use:
            self._free.set()

    async def all_free(self) -> None:
        """Once it is closed: wait until the last turn is given back."""
        await self._free.wait()

    async def _until(self, moment: float) -> None:
        remaining_s = moment - time.monotonic()
        if remaining_s <= 0 or self.closed:
            return
        try:
            await asyncio.wait_for(self._shut.wait(), remaining_s)
        except TimeoutError:
            return


FIRST = 8

MOST = 1024

LATE_CUT, THROTTLED_CUT = 0.9, 0.5

DOUBLE, FINE = 2.0, 1.25


# Of a widening by a share, how much of that share has to come back as throughput, for widening on.
WORTH = 0.2


STEEP = 0.7  # … and for doubling on

NOTICED = 1.02  # a throughput that differs by less is the same

FORGET = 0.998  # of the best throughput, with each window: services change

NARROWER = 0.9

MARGIN = 1.1

HOLD = 3  # windows between two trials

NEAR_THROTTLING = 0.85

FULL = 0.7  # the share of a window's lines that have to end with all lanes taken: else the lanes are not what limits


@dataclass(slots=True)
class _Window:
    """Ends of lines since ``start``, which is when the first line that began at the present width ended."""

    start: float | None = None
    n: int = 0
    full: int = 0
    latencies: list[float] | None = None


class Lanes:
    """How many lines of one batch one worker sends at once, never more than ``max_limit``. `ended` is called for every
    line that ended."""

    def __init__(self, *, max_limit: int = MOST, objective_ms: float | None = None, first: int = FIRST) -> None:
        self.most = max(1, max_limit)
        self.objective_ms = objective_ms
        self._width = float(min(first, self.most))
        self._changed = 0.0
        self._window = _Window()
        self._doubling = True
        self._throttled_at: float | None = None
        self._baseline: tuple[float, float] | None = None  # width and throughput that this width is compared with
        self._trial: str | None = "wider"
        self._n_flat = 0
        self._narrow_next = True
        self._best = 0.0  # throughput, of late: narrower by small steps must not add up to a loss
        self.why = "starting"

    @property
    def limit(self) -> int:
        """How many lines may be under way now."""
        return max(1, min(self.most, int(self._width + 1e-9)))

    def bound(self, max_limit: int) -> None:
        """Never go above ``max_limit`` from now on."""
        self.most = max(1, max_limit)
        if self._width > self.most:
            self._set(self.most, self._changed, "bounded")

    def ended(
        self, *, began: float, now: float, latency_ms: float | None, in_use: int, throttled: bool = False
    ) -> bool:
        """A line ended at ``now`` that was sent at ``began``, with ``in_use`` lanes taken until then (its own too).

        ``latency_ms``: its time to last token, None when it failed. Returns whether `limit` changed.
        """
        limit_before = self.limit
        if throttled:
            self._throttle(began, now)
            return self.limit != limit_before
        window = self._window
        if window.start is None:
            if began >= self._changed:
                window.start, window.latencies = now, []
            return False
        window.n += 1
        window.full += in_use >= self.limit
        if latency_ms is not None and window.latencies is not None:
            window.latencies.append(latency_ms)
        if window.n >= self._needed() and now - window.start >= self._shortest_window_s():
            self._close(now)
        return self.limit != limit_before

    def _needed(self) -> int:
        """How many ends make a window: a round trip or two where a rough figure will do, more where it must be fine.

        Whole round trips: of a service that takes the same time for each, all lanes end together.
        """
        if self.objective_ms is not None or self._throttled_at is not None:
            min_calls, trips = 10, 1
        else:
            min_calls, trips = (12, 1) if self._doubling else (30, 6)
        return self.limit * max(trips, ceil(min_calls / self.limit))

    def _shortest_window_s(self) -> float:
        return 0.05 if self._doubling else 0.5

    def _throttle(self, began: float, now: float) -> None:
        """Once in a round trip: lines that began before the last cut say nothing about the width after it."""
        if began <= self._changed and self._throttled_at is not None:
            return
        self._throttled_at = self._width
        self._doubling = False
        self._set(self._width * THROTTLED_CUT, now, "throttled")

    def _close(self, now: float) -> None:
        window = self._window
        assert window.start is not None
        if window.full < FULL * window.n:  # too little to do, or a rate limit: nothing can be said about the width
            self._window = _Window(start=now, latencies=[])
            return
        rate = window.n / max(now - window.start, 1e-9)
        latencies = sorted(window.latencies or [])
        if self.objective_ms is not None:
            self._aimd(latencies, now)
        elif self._throttled_at is not None:
            self._set(self._width + self._step(), now, "widening again after throttling")
        else:
            self._knee(rate, now)

    def _aimd(self, latencies: list[float], now: float) -> None:
        assert self.objective_ms is not None
        p95 = latencies[min(len(latencies) - 1, ceil(0.95 * len(latencies)) - 1)] if latencies else None
        if p95 is not None and p95 > self.objective_ms:
            self._doubling = False
            self._set(self._width * LATE_CUT, now, "above the objective")
        elif self._doubling:
            self._set(self._width * DOUBLE, now, "under the objective")
        else:
            self._set(self._width + self._step(), now, "under the objective")

    def _step(self) -> float:
        if self._throttled_at is not None and self._width < NEAR_THROTTLING * self._throttled_at:
            return max(1.0, self._width * (FINE - 1))
        return 1.0

    def _knee(self, rate: float, now: float) -> None:
        self._best = max(rate, self._best * FORGET)
        if self._trial is None:
            self._baseline = (self.limit, rate)
            self._n_flat += 1
            self._window = _Window(start=now, latencies=[])
            if self._n_flat >= HOLD:
                self._try(now)
            return
        if self._baseline is None:  # the first window of all: nothing to compare with
            self._baseline = (self.limit, rate)
            self._widen(now)
            return
        width, rate_before = self._baseline
        grew = rate / max(rate_before, 1e-9)
        if self._trial == "narrower":
            if rate * NOTICED >= self._best:
                self._settle(self._width, (self.limit, rate), now, "as fast with fewer lanes")
                self._narrow(now)
            else:
                self._settle(width, None, now, "fewer lanes were slower")
            return
        share = self.limit / width - 1
        if self._doubling and grew - 1 < STEEP * share:
            # The knee lies between the two widths, about where the throughput says; from there on in fine steps.
            self._doubling, self._baseline = False, None
            self._set(max(width, min(self.limit, width * grew * MARGIN)), now, "near the knee")
        elif grew - 1 >= WORTH * share and self.limit < self.most:
            self._baseline = (self.limit, rate)
            self._widen(now, steep=grew - 1 >= STEEP * share)
        elif grew >= NOTICED:
            self._settle(self._width, (self.limit, rate), now, "no faster beyond")
        else:
            self._settle(width, None, now, "more lanes were no faster")

    def _try(self, now: float) -> None:
        """Leave the width for a window, in turns to the narrower and to the wider side."""
        self._narrow_next = not self._narrow_next
        if self._narrow_next or self.limit >= self.most:
            self._narrow(now)
        else:
            self._widen(now)

    def _narrow(self, now: float) -> None:
        self._n_flat = 0
        if self.limit > 1:
            self._trial = "narrower"
            self._set(min(self.limit - 1, self.limit * NARROWER), now, "trying fewer lanes")

    def _widen(self, now: float, *, steep: bool = False) -> None:
        self._trial = "wider"
        factor = DOUBLE if self._doubling else FINE**2 if steep else FINE
        if self.limit >= self.most:
            self._settle(self._width, self._baseline, now, "as many lanes as are allowed")
            return
        self._set(max(self.limit + 1, self.limit * factor), now, "looking for more throughput")

    def _settle(self, width: float, interval: tuple[float, float] | None, now: float, why: str) -> None:
        self._trial, self._n_flat, self._doubling = None, 0, False
        self._baseline = interval or self._baseline
        self._set(width, now, why)

    def _set(self, width: float, now: float, why: str) -> None:
        self._width = min(max(width, 1.0), float(self.most))
        self._changed = now
        self._window = _Window()
        self.why = why


class Spacing:
    """A rate limit without bursts: at most ``per_minute`` lines begin in any minute, evenly."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap_s = 0.0
        self._next = 0.0
        self.limit(per_minute)

    def limit(self, per_minute: float | None) -> None:
        """Another rate from now on; None for none."""
        self._gap_s = 60.0 / per_minute if per_minute else 0.0

    def turn(self, now: float) -> float:
        """The moment at which the next line may begin; it is taken."""
        start_at = max(now, self._next)
        self._next = start_at + self._gap_s
        return start_at
