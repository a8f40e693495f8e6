"""A replica at a rate of requests: how many run at once (Little's law), what they wait, and the most it carries.

The equations and their sources are in lines.py. An infinite high end of a range means that the slow case is past its
capacity: the queue grows without end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from services.calculator.lines import Line, State, Traffic, lines, state, state_with
from services.calculator.roofline import bound, ordered
from services.calculator.steps import cases, lengths, load
from services.calculator.types import Objectives, Point, Range, Serving, Spread, Workload

__all__ = [
    "Quantiles", "Steady", "Traffic", "at", "capacity_rpm", "largest_output", "lines", "mean", "quantiles", "state",
    "traffic_of",
]  # fmt: skip

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
            step_s=ordered([one.step for one in states]),
            ttft_s=ordered([one.ttft for one in states]),
            tpot_s=ordered([one.tpot for one in states]),
            e2e_s=ordered([one.e2e(size.output) for one in states]),
            output_tok_s=Range(*(one * size.output for one in carried)),
            rpm=Range(*(one * 60 for one in carried)),
            bound=bound(serving, size, load_now),
        ),
        wait_s=ordered([one.wait for one in states]),
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
    each = [_four(line, state(line, rpm / 60, traffic), traffic, input_tokens, output_tokens) for line in three]
    return Quantiles(*(ordered([one[k] for one in each]) for k in range(4)))


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
