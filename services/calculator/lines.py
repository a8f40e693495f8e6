"""A serving at given lengths as three lines (fast, middle, slow): its loads over the batch, solved for a rate.

Open system, one case at a time. With ρ = λ·extra, the share of time that prefills take from decoding,

    running = λ·(T_p + (o-1)·T_d(running)/(1-ρ))          Little's law, solved for ``running``
    wait    = (c² + s²)·ρ·T_p/(2(1-ρ)) + step under way + wait for a slot

The first term is Kingman's, which for Poisson arrivals (c² = 1) of equal prompts (s² = 0) is M/D/1's. The wait for one
of S slots is Sakasegawa's (1977) for G/G/S: (c² + s²)/2 · u^(√(2(S+1)) - 1) / (S(1-u)) · service.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from services.calculator.roofline import most
from services.calculator.steps import Case, Load, cases, lengths, load, static_load
from services.calculator.types import Serving

# The formula's slots are for sequences at their full length and service as slow as with all slots taken. The simulation
# (Llama-8B on A10G and H100, at 0.8 and 0.95 of the full rate) waits about a third of that: vLLM admits by what a
# sequence holds now, and a replica that is not full is faster.
ADMITTED = 1 / 3


@dataclass(frozen=True, slots=True)
class Traffic:
    """Means of the lengths, and how they and the arrivals spread: ``arrivals`` is c², ``inputs`` s² of the prompts,
    ``outputs`` s² of the answers (squared coefficients of variation)."""

    input: float
    output: float
    cached: float
    arrivals: float = 1.0
    inputs: float = 0.0
    outputs: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """One case at one rate, in seconds; infinite past its capacity. ``waits``: the chance of having to wait for a
    prefill or a slot, ``queue``: that wait on average, without the step under way."""

    running: float
    queue: float
    waits: float
    under_way: float  # the step, or static batch, that an arrival finds
    first: float
    extra: float
    step: float
    tpot: float
    request: float

    @property
    def wait(self) -> float:
        """Mean seconds before the prefill starts."""
        return self.queue + min(1.0, self.running) * self.under_way / 2

    @property
    def ttft(self) -> float:
        return self.request + self.wait + self.first

    def e2e(self, output: float) -> float:
        """Seconds to the last of ``output`` tokens."""
        return self.ttft + (output - 1) * self.tpot if output > 1 else self.ttft


@dataclass(frozen=True, slots=True)
class Line:
    """One case: at each batch of a grid up to ``slots``, the step, the prefill and what the prefill adds."""

    output: float
    slots: int
    static: bool
    batches: tuple[float, ...]
    steps: tuple[float, ...]
    firsts: tuple[float, ...]
    extras: tuple[float, ...]
    spans: tuple[float, ...]  # of a static batch from start to end
    alone: float  # a prefill on an empty replica
    request: float
    full: float  # requests a second at ``slots``

    def place(self, running: float) -> tuple[int, float]:
        """The grid point below a batch, and how far it is to the next one."""
        last = len(self.batches) - 1
        if running <= 1 or not last:
            return 0, 0.0
        at = min(bisect_right(self.batches, running) - 1, last - 1)
        return at, min(1.0, (running - self.batches[at]) / (self.batches[at + 1] - self.batches[at]))

    def step_at(self, running: float) -> float:
        at, part = self.place(running)
        return _between(self.steps, at, part)

    def needs(self, rate: float, at: int, part: float = 0.0) -> float:
        """Requests that run at once when the steps are those of this place on the grid."""
        if self.static:
            return rate * _between(self.spans, at, part)
        left = 1 - rate * _between(self.extras, at, part)
        if left <= 0:
            return math.inf
        return rate * (_between(self.firsts, at, part) + (self.output - 1) * _between(self.steps, at, part) / left)

    def rate(self, at: int, part: float) -> float:
        """Requests a second that keep this place on the grid busy: the inverse of ``running``."""
        running = _between(self.batches, at, part)
        if self.static:
            return running / _between(self.spans, at, part)
        return _carried(
            self.output,
            running,
            _between(self.steps, at, part),
            _between(self.firsts, at, part),
            _between(self.extras, at, part),
        )

    def running(self, rate: float) -> float:
        """Little's law solved for the batch; infinite past capacity."""
        if rate >= self.full:
            return math.inf
        grid = self.batches
        if (need := self.needs(rate, 0)) <= grid[0]:
            return need
        low, high = 0, len(grid) - 1
        while high - low > 1:  # the last point that needs more than it has
            middle = (low + high) // 2
            low, high = (middle, high) if self.needs(rate, middle) > grid[middle] else (low, middle)
        if high == low:
            return float(self.slots)
        one, two = 0.0, 1.0
        width = grid[high] - grid[low]
        over = self.needs(rate, low) - grid[low]
        under = self.needs(rate, low, 1.0) - grid[high]
        for _ in range(4):  # regula falsi: the needs are nearly linear between two points
            part = one + (two - one) * over / (over - under) if over > under else 1.0
            gap = self.needs(rate, low, part) - (grid[low] + part * width)
            if abs(gap) < 1e-6 * grid[high]:
                break
            one, two, over, under = (part, two, gap, under) if gap > 0 else (one, part, over, gap)
        return self.needs(rate, low, part)


def _between(values: tuple[float, ...], at: int, part: float) -> float:
    return values[at] + part * (values[at + 1] - values[at]) if part else values[at]


def _grid(slots: int) -> list[int]:
    grid, at = [1], 1
    while at < slots:
        at = min(slots, at * 2)
        grid.append(at)
    return grid


def _carried(output: float, running: float, step: float, first: float, extra: float) -> float:
    """Requests a second with ``running`` at once: λ·(T_p + (o-1)·T_d/(1-λ·extra)) = B, a quadratic in λ."""
    linear = first + (output - 1) * step + running * extra
    return 2 * running / (linear + math.sqrt(max(0.0, linear * linear - 4 * first * extra * running)))


@lru_cache(maxsize=8192)
def lines(
    serving: Serving, input_tokens: float, output_tokens: float, cached: float = 0, spread: float = 0.0
) -> tuple[Line, Line, Line] | None:
    """The three cases, fast first; None when not one sequence fits. ``spread``: sigma of the answers' logarithm, which
    only static batches feel (all wait for the longest)."""
    slots = most(serving, input_tokens, output_tokens)
    if slots < 1:
        return None
    size = lengths(serving, input_tokens, output_tokens, cached)
    static = not serving.continuous
    grid = _grid(slots)

    def one(case: Case, batch: int) -> Load:
        if not static:
            return load(case, size, batch)
        longest = size.output * math.exp(spread * NormalDist().inv_cdf(batch / (batch + 1)) - spread * spread / 2)
        return static_load(case, size, batch, longest)

    def line(case: Case) -> Line:
        loads = [one(case, batch) for batch in grid]
        return Line(
            output=size.output,
            slots=slots,
            static=static,
            batches=tuple(float(batch) for batch in grid),
            steps=tuple(item.step for item in loads),
            firsts=tuple(item.first for item in loads),
            extras=tuple(item.extra for item in loads),
            spans=tuple(item.e2e for item in loads),
            alone=loads[0].prefill,
            request=case.request_s,
            full=slots / loads[-1].e2e if static else _carried(size.output, slots, *_three(loads[-1])),
        )

    low, mid, high = (line(case) for case in cases(serving))
    return low, mid, high


def _three(item: Load) -> tuple[float, float, float]:
    return item.step, item.first, item.extra


def state(line: Line, rate: float, traffic: Traffic) -> State:
    """One case at ``rate`` requests a second."""
    return state_with(line, rate, line.running(rate), traffic)


MOST_STOLEN = 0.995  # share of the time that prefill takes from decoding


def state_with(line: Line, rate: float, running: float, traffic: Traffic) -> State:
    """The same where the batch that goes with the rate is known."""
    if running == math.inf:
        inf = math.inf
        last = line.steps[-1]
        return State(inf, inf, 1.0, inf, inf, inf, last, inf, line.request)
    at, part = line.place(running)
    step, first = _between(line.steps, at, part), _between(line.firsts, at, part)
    use = rate / line.full
    slot_waits = use ** (math.sqrt(2 * (line.slots + 1)) - 1)
    # A slot is free again after slots/full seconds; the slots share that time.
    queue = ADMITTED * (traffic.arrivals + traffic.outputs) / 2 * slot_waits / ((1 - use) * line.full)
    if line.static:
        span = _between(line.spans, at, part) - line.request
        return State(running, queue, slot_waits, span, first, 0.0, step, step, line.request)
    extra = _between(line.extras, at, part)
    # Where prefill takes all the time (answers of one token, at capacity) the wait is long, not negative.
    stolen = min(rate * extra, MOST_STOLEN)
    queue += (traffic.arrivals + traffic.inputs) * stolen * first / (2 * (1 - stolen))
    waits = 1 - (1 - stolen) * (1 - slot_waits)
    return State(running, queue, waits, step, first, extra, step, step / (1 - stolen), line.request)
