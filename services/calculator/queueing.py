"""A replica at a rate of requests: how many run at once, what they wait, the most it carries, and what a day takes.

The equations and their sources are in lines.py. An infinite high end of a range means that the slow case is past its
capacity: the queue grows without end.

Open system, one case at a time. With ρ = λ·extra, the share of time that prefills take from decoding,

    running = λ·(T_p + (o-1)·T_d(running)/(1-ρ))          Little's law, solved for ``running``
    wait    = (c² + s²)·ρ·T_p/(2(1-ρ)) + step under way + wait for a slot

The first term is Kingman's, which for Poisson arrivals (c² = 1) of equal prompts (s² = 0) is M/D/1's. The wait for one
of S slots is Sakasegawa's (1977) for G/G/S: (c² + s²)/2 · u^(√(2(S+1)) - 1) / (S(1-u)) · service.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from services.calculator.roofline import Case, Load, bound, cases, lengths, load, most, ordered, static_load
from services.calculator.types import HOURS_A_MONTH, Objectives, Point, Range, Serving, Spread, Workload

P95 = 0.95

_Z95 = NormalDist().inv_cdf(P95)

_HALVINGS = 10  # of the search for a batch


@dataclass(frozen=True, slots=True)
class Steady:
    """``batch``: running requests, of the middle case. ``utilisation``: of the rate at which the replica is full."""

    batch: float
    overloaded: bool
    point: Point
    wait_s: Range
    utilisation: Range


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Estimates in closed form; simulation.py plays the queue out."""

    ttft_p50_s: Range
    ttft_p95_s: Range
    ttlt_p50_s: Range
    ttlt_p95_s: Range


@lru_cache(maxsize=32768)
def at(
    serving: Serving,
    rpm: float,
    input_tokens: float,
    output_tokens: float,
    cached: float = 0,
    *,
    burstiness: float = 1.0,
) -> Steady:
    """One replica at ``rpm``; ``burstiness``: c² of the times between requests. Raises ValueError when the model does
    not fit (``roofline.most`` is 0)."""
    three = lines(serving, input_tokens, output_tokens, cached)
    if three is None:
        raise ValueError(f"{serving.llm.name} does not fit on {serving.tp} × {serving.gpu.name}.")
    rate = rpm / 60
    traffic = Traffic(input_tokens, output_tokens, cached, burstiness)
    states = [state(line, rate, traffic) for line in three]
    mid = states[1]
    full = math.isinf(mid.running)
    carried = sorted(min(rate, line.full) for line in three)
    size = lengths(serving, input_tokens, output_tokens, cached)
    load_now = load(cases(serving)[1], size, three[1].slots if full else mid.running)
    return Steady(
        batch=mid.running,
        overloaded=full,
        point=Point(
            batch=mid.running,
            prefill_s=ordered([line.alone for line in three]),
            step_s=ordered([state_of_line.step for state_of_line in states]),
            ttft_s=ordered([state_of_line.ttft for state_of_line in states]),
            tpot_s=ordered([state_of_line.tpot for state_of_line in states]),
            e2e_s=ordered([state_of_line.e2e(size.output) for state_of_line in states]),
            output_tok_s=Range(*(rate * size.output for rate in carried)),
            rpm=Range(*(rate * 60 for rate in carried)),
            bound=bound(serving, size, load_now),
        ),
        wait_s=ordered([state_of_line.wait for state_of_line in states]),
        utilisation=ordered([rate / line.full for line in three]),
    )


def mean(spread: Spread) -> float:
    """Mean of a lognormal number of tokens."""
    return spread.median * math.exp(spread.sigma**2 / 2)


def traffic_of(inputs: Spread, outputs: Spread, cached_share: float = 0.0, burstiness: float = 1.0) -> Traffic:
    """Means and squared coefficients of variation of a workload's lengths."""
    return Traffic(
        round(mean(inputs), 1),
        round(mean(outputs), 1),
        round(cached_share * mean(inputs), 1),
        burstiness,
        math.expm1(inputs.sigma**2),
        math.expm1(outputs.sigma**2),
    )


def _four(line: Line, now: State, traffic: Traffic, inputs: Spread, outputs: Spread) -> tuple[float, ...]:
    """p50 and p95 of TTFT, p50 and p95 of TTLT in one case. Parts that vary apart from one another add in squares."""
    if now.running == math.inf:
        return (math.inf,) * 4
    busy = min(1.0, now.running) * now.under_way
    tail = now.queue / now.waits if now.waits > 0 else 0.0  # of an exponential wait, given that there is one
    queue50 = tail * math.log(max(1.0, now.waits / 0.5))
    queue95 = tail * math.log(max(1.0, now.waits / (1 - P95)))
    longer = now.extra * max(0.0, inputs.median * math.exp(_Z95 * inputs.sigma) / traffic.input - 1)
    ttft50 = now.request + queue50 + busy / 2 + now.first
    ttft95 = ttft50 + math.hypot(queue95 - queue50, busy * 0.45, longer)
    decode = max(0.0, outputs.median - 1) * now.tpot
    if line.static:  # all wait for the longest
        return ttft50, ttft95, ttft50 + now.under_way - now.first, ttft95 + now.under_way - now.first
    # The number running swings as Poisson's does; half of the swing stays over a whole answer.
    crowd = now.running + _Z95 / 2 * math.sqrt(now.running * max(1.0, traffic.arrivals))
    slower = line.step_at(min(crowd, float(line.slots))) / now.step
    spread = outputs.median * math.expm1(_Z95 * outputs.sigma) * now.tpot
    more = slower * (decode + spread) - decode
    return ttft50, ttft95, ttft50 + decode, ttft50 + decode + math.hypot(ttft95 - ttft50, more)


def quantiles(
    serving: Serving,
    rpm: float,
    input_tokens: Spread,
    output_tokens: Spread,
    cached_share: float = 0.0,
    burstiness: float = 1.0,
) -> Quantiles | None:
    """TTFT and TTLT at p50 and p95 by closed form; None when the model does not fit."""
    traffic = traffic_of(input_tokens, output_tokens, cached_share, burstiness)
    three = lines(serving, traffic.input, traffic.output, traffic.cached, output_tokens.sigma)
    if three is None:
        return None
    quantiles_of_line = [
        _four(line, state(line, rpm / 60, traffic), traffic, input_tokens, output_tokens) for line in three
    ]
    return Quantiles(*(ordered([quantiles[k] for quantiles in quantiles_of_line]) for k in range(4)))


def capacity_rpm(serving: Serving, workload: Workload, objectives: Objectives, cached_share: float = 0.0) -> Range:
    """The largest rate of one replica at which the objectives hold at p95; 0 if at none."""
    return _capacity(
        serving,
        workload.input_tokens,
        workload.output_tokens,
        cached_share,
        workload.burstiness,
        objectives.ttft_s,
        objectives.ttlt_s,
    )


@lru_cache(maxsize=8192)
def _capacity(
    serving: Serving,
    inputs: Spread,
    outputs: Spread,
    cached_share: float,
    burstiness: float,
    ttft_s: float | None,
    ttlt_s: float | None,
) -> Range:
    traffic = traffic_of(inputs, outputs, cached_share, burstiness)
    three = lines(serving, traffic.input, traffic.output, traffic.cached, outputs.sigma)
    if three is None:
        return Range(0.0, 0.0, 0.0)

    def holds(line: Line, rate: float, running: float) -> bool:
        now = state_with(line, rate, running, traffic)
        _, ttft, _, ttlt = _four(line, now, traffic, inputs, outputs)
        return (ttft_s is None or ttft <= ttft_s) and (ttlt_s is None or ttlt <= ttlt_s)

    if ttft_s is None and ttlt_s is None:
        return ordered([line.full * 60 for line in three])
    return ordered([_largest(line, holds) * 60 for line in three])


def _largest(line: Line, holds: Callable[[Line, float, float], bool]) -> float:
    """The largest rate, up to the full one, at which ``holds`` still does: searched over the batch, whose rate is
    known without solving for it."""
    low, high = 0.0, float(line.slots)
    if not holds(line, line.full * 1e-6, 1e-6):
        return 0.0
    best = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2 if low or high < 4 else math.sqrt(high)
        rate = line.rate(*line.place(middle)) if middle >= 1 else middle * line.rate(0, 0.0)
        if rate < line.full and holds(line, rate, middle):
            low, best = middle, rate
        else:
            high = middle
    return best


def largest_output(
    serving: Serving,
    rpm: float,
    input_tokens: Spread,
    output_tokens: Spread,
    ttlt_s: float,
    cached_share: float = 0.0,
    burstiness: float = 1.0,
) -> int | None:
    """Tokens of the longest answer that is finished within ``ttlt_s`` at p95, under this load (middle case); None: not
    even the first token is, or the model does not fit, or the replica is overloaded."""
    traffic = traffic_of(input_tokens, output_tokens, cached_share, burstiness)
    three = lines(serving, traffic.input, traffic.output, traffic.cached, output_tokens.sigma)
    if three is None:
        return None
    now = state(three[1], rpm / 60, traffic)
    ttft = _four(three[1], now, traffic, input_tokens, output_tokens)[1]
    if math.isinf(ttft) or ttft > ttlt_s:
        return None
    return 1 + int((ttlt_s - ttft) / now.tpot)


HOURS = 24

_DUST = 1e-9  # a rate that fills a replica to the last digit needs no second one


def weights(workload: Workload) -> tuple[float, ...]:
    """The shape with mean 1."""
    mean = sum(workload.shape) / len(workload.shape)
    return tuple(weight / mean for weight in workload.shape)


def rates(workload: Workload) -> tuple[float, ...]:
    """Requests a minute in each hour of the day."""
    return tuple(workload.rpm * weight for weight in weights(workload))


def peak(workload: Workload) -> float:
    """The busiest hour as a multiple of the mean."""
    return max(weights(workload))


def requests_a_month(workload: Workload) -> float:
    """Requests in a month of 730 hours."""
    return workload.rpm * 60 * HOURS_A_MONTH


@lru_cache(maxsize=256)
def sized_rates(workload: Workload) -> tuple[float, ...]:
    """The rates a fleet has to carry at once: requests that may wait up to a day are moved out of the busiest hours.

    The hours with least to do take them first, so that the busiest hour carries no less than the mean of the day.
    """
    hourly = rates(workload)
    if workload.batch_share <= 0:
        return hourly
    now = [rate * (1 - workload.batch_share) for rate in hourly]
    level = _level(now, sum(hourly) - sum(now))
    return tuple(max(rate, level) for rate in now)


def _level(now: Sequence[float], added: float) -> float:
    """The height to which ``added`` fills the valleys between the rates."""
    ordered = sorted(now)
    for count in range(1, len(ordered) + 1):
        level = (sum(ordered[:count]) + added) / count
        if count == len(ordered) or level <= ordered[count]:
            return level
    return ordered[-1]


def replicas(
    hourly: Sequence[float],
    capacity_rpm: float,
    *,
    headroom: float,
    fewest: int,
    step: int = 1,
    autoscale: bool = False,
) -> tuple[int, ...] | None:
    """Replicas by the hour: in whole machines of ``step``, at least ``fewest`` machines; None: no number carries it.

    Without ``autoscale`` the fleet of the busiest hour stands all day.
    """
    if capacity_rpm <= 0:
        return None
    carried = capacity_rpm * step / (1 + headroom)
    counted = hourly if autoscale else (max(hourly),)
    needed = [step * max(fewest, math.ceil(rate / carried - _DUST)) for rate in counted]
    return tuple(needed) if autoscale else tuple(needed) * len(hourly)


def replica_hours(counts: Sequence[int], cold_start_min: float = 0.0) -> float:
    """Replica hours of a month. A replica is paid for from its start, ``cold_start_min`` before the hour it is for."""
    if counts[0] == max(counts) == min(counts):
        return counts[0] * HOURS_A_MONTH
    early = sum(max(0, later - earlier) for earlier, later in zip(counts, [*counts[1:], counts[0]], strict=True))
    return (sum(counts) + early * cold_start_min / 60) * HOURS_A_MONTH / len(counts)


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
        place = min(bisect_right(self.batches, running) - 1, last - 1)
        return place, min(1.0, (running - self.batches[place]) / (self.batches[place + 1] - self.batches[place]))

    def step_at(self, running: float) -> float:
        place, fraction = self.place(running)
        return _between(self.steps, place, fraction)

    def needs(self, rate: float, place: int, fraction: float = 0.0) -> float:
        """Requests that run at once when the steps are those of this place on the grid."""
        if self.static:
            return rate * _between(self.spans, place, fraction)
        idle = 1 - rate * _between(self.extras, place, fraction)
        if idle <= 0:
            return math.inf
        return rate * (
            _between(self.firsts, place, fraction) + (self.output - 1) * _between(self.steps, place, fraction) / idle
        )

    def rate(self, place: int, fraction: float) -> float:
        """Requests a second that keep this place on the grid busy: the inverse of ``running``."""
        running = _between(self.batches, place, fraction)
        if self.static:
            return running / _between(self.spans, place, fraction)
        return _carried(
            self.output,
            running,
            _between(self.steps, place, fraction),
            _between(self.firsts, place, fraction),
            _between(self.extras, place, fraction),
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
        left_end, right_end = 0.0, 1.0
        width = grid[high] - grid[low]
        over = self.needs(rate, low) - grid[low]
        under = self.needs(rate, low, 1.0) - grid[high]
        for _ in range(4):  # regula falsi: the needs are nearly linear between right_end points
            fraction = left_end + (right_end - left_end) * over / (over - under) if over > under else 1.0
            gap = self.needs(rate, low, fraction) - (grid[low] + fraction * width)
            if abs(gap) < 1e-6 * grid[high]:
                break
            left_end, right_end, over, under = (
                (fraction, right_end, gap, under) if gap > 0 else (left_end, fraction, over, gap)
            )
        return self.needs(rate, low, fraction)


def _between(values: tuple[float, ...], place: int, fraction: float) -> float:
    return values[place] + fraction * (values[place + 1] - values[place]) if fraction else values[place]


def _grid(slots: int) -> list[int]:
    grid, batch = [1], 1
    while batch < slots:
        batch = min(slots, batch * 2)
        grid.append(batch)
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
    place, fraction = line.place(running)
    step, first = _between(line.steps, place, fraction), _between(line.firsts, place, fraction)
    use = rate / line.full
    slot_waits = use ** (math.sqrt(2 * (line.slots + 1)) - 1)
    # A slot is free again after slots/full seconds; the slots share that time.
    queue = ADMITTED * (traffic.arrivals + traffic.outputs) / 2 * slot_waits / ((1 - use) * line.full)
    if line.static:
        span = _between(line.spans, place, fraction) - line.request
        return State(running, queue, slot_waits, span, first, 0.0, step, step, line.request)
    extra = _between(line.extras, place, fraction)
    # Where prefill takes all the time (answers of one token, at capacity) the wait is long, not negative.
    stolen = min(rate * extra, MOST_STOLEN)
    queue += (traffic.arrivals + traffic.inputs) * stolen * first / (2 * (1 - stolen))
    waits = 1 - (1 - stolen) * (1 - slot_waits)
    return State(running, queue, waits, step, first, extra, step, step / (1 - stolen), line.request)
