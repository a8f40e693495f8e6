"""Monthly cost against requests a minute, and where two lines cross.

Token-priced lines rise in proportion. An hour-priced one is a staircase of machines, drawn with the rate at which its
smallest fleet is full: a crossing that the flat line of that fleet has only beyond that rate is no break-even.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from services.calculator import queueing
from services.calculator.types import Answer, Crossing, Option, Range, Workload

POINTS = 61
FEW = 25  # points, where only a crossing is asked for
BISECTIONS = 24  # to a millionth of a step of the grid


@dataclass(frozen=True, slots=True)
class RuleOfThumb:
    """The seed's rule, with what it held for: US dollars an hour of one unit and per 1,000,000 tokens."""

    low_rpm: float
    high_rpm: float
    rpm: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Curves:
    """``usd``: by option id, one range a rate of ``rpm``; None past what it can do. ``full_at``: by option id."""

    rpm: tuple[float, ...]
    usd: Mapping[str, tuple[Range | None, ...]]
    full_at: Mapping[str, float | None]
    crossings: tuple[Crossing, ...]
    rule_of_thumb: RuleOfThumb


def break_even_rpm(usd_per_hour: float, usd_per_request: float) -> float | None:
    """Requests a minute from which an hour at that price costs less than its requests; None: requests are free."""
    return usd_per_hour / (60 * usd_per_request) if usd_per_request > 0 else None


def request_usd(input_tokens: float, output_tokens: float, input_mtok: float, output_mtok: float) -> float:
    """US dollars of a request at prices per 1,000,000 tokens."""
    return (input_tokens * input_mtok + output_tokens * output_mtok) / 1e6


def rule_of_thumb() -> RuleOfThumb:
    """ "Provisioned pays above 40 to 50 requests a minute": Claude 2.1 ($8 in, $24 out), one unit at $63 an hour with a
    month of commitment, 2,000 tokens in, 300 out (AWS's prices of early 2024)."""
    rpm = break_even_rpm(63.0, request_usd(2000, 300, 8.0, 24.0))
    assert rpm is not None
    sentence = (
        "The rule of thumb “provisioned pays above 40–50 requests a minute” held for Claude 2.1 at 2,000 tokens in, "
        f"300 out: a unit at $63 an hour against $8 in and $24 out per 1M tokens breaks even at {rpm:.1f} a minute."
    )
    return RuleOfThumb(40.0, 50.0, rpm, sentence)


def cost_at(option: Option, rpm: float, workload: Workload) -> Range | None:
    """US dollars a month of an option at another mean rate of the same shape; None: it has no price, or is full."""
    mid = mid_at(option, rpm, workload)
    if mid is None or option.monthly_usd is None:
        return None
    if not hourly(option):
        factor = rpm / workload.rpm
        return Range(option.monthly_usd.low * factor, mid, option.monthly_usd.high * factor)
    if option.capacity_rpm is None or option.replicas is None:
        return option.monthly_usd
    low, high = option.capacity_rpm.low, option.capacity_rpm.high
    slow = _staircase(option, rpm, workload, low) if low > 0 else mid
    return Range(_staircase(option, rpm, workload, high), mid, slow)


def mid_at(option: Option, rpm: float, workload: Workload) -> float | None:
    """The middle of `cost_at`."""
    if option.monthly_usd is None:
        return None
    if hourly(option) and option.capacity_rpm is not None and option.replicas is not None:
        return _staircase(option, rpm, workload, option.capacity_rpm.mid)
    if option.full_at_rpm is not None and rpm > option.full_at_rpm:
        return None
    return option.monthly_usd.mid * (1.0 if hourly(option) else rpm / workload.rpm)


def _staircase(option: Option, rpm: float, workload: Workload, capacity: float) -> float:
    """The fleet grows with the rate in whole machines; at its own rate it costs what the option does."""
    assert option.replicas is not None and option.monthly_usd is not None
    scale, step = rpm / workload.rpm, option.replicas_a_machine
    autoscale = min(option.replicas) != max(option.replicas)
    rates = queueing.sized_rates(workload)
    counts = queueing.replicas(
        [rate * scale for rate in (rates if autoscale else (max(rates),))],
        capacity,
        headroom=option.headroom,
        fewest=max(1, option.least_replicas // step),
        step=step,
        autoscale=autoscale,
    )
    if counts is None:
        return math.inf
    return option.monthly_usd.mid * queueing.replica_hours(counts) / queueing.replica_hours(option.replicas)


def hourly(option: Option) -> bool:
    """Whether it costs by the hour."""
    return option.hourly_usd is not None


def full_at(option: Option, workload: Workload) -> float | None:
    """The mean rate at which the smallest fleet is full, its headroom kept; None: no limit is known."""
    if not hourly(option) or option.capacity_rpm is None or option.replicas is None:
        return option.full_at_rpm
    carried = option.least_replicas * option.capacity_rpm.mid / (1 + option.headroom)
    return workload.rpm * carried / max(queueing.sized_rates(workload))


def crossing(first: Option, second: Option, workload: Workload, grid: Sequence[float] | None = None) -> Crossing:
    """Where the two cost the same. Tokens against hours: where tokens reach the cost of the smallest fleet, which is
    ``beyond`` when that fleet is full before (larger ones cost and carry in proportion, so they do not pay either).
    Else the first rate of the grid at which their order turns, by bisection."""
    if hourly(first) != hourly(second):
        return _to_the_fleet(first, second, workload)
    rates = grid or grid_of((first, second), workload, FEW)

    def difference(rpm: float) -> float | None:
        first_usd, second_usd = mid_at(first, rpm, workload), mid_at(second, rpm, workload)
        return None if first_usd is None or second_usd is None else first_usd - second_usd

    for low, high in pairwise(rates):
        start, end = difference(low), difference(high)
        if start is not None and end is not None and start * end < 0:
            for _ in range(BISECTIONS):
                middle = math.sqrt(low * high)
                gap = difference(middle)
                low, high = (middle, high) if gap is not None and (gap < 0) == (start < 0) else (low, middle)
            return Crossing(first.id, second.id, high, False)
    return Crossing(first.id, second.id, None, False)


def _to_the_fleet(first: Option, second: Option, workload: Workload) -> Crossing:
    hours, tokens = (first, second) if hourly(first) else (second, first)
    flat, full = mid_at(hours, workload.rpm * 1e-6, workload), full_at(hours, workload)
    if flat is None or tokens.monthly_usd is None or tokens.monthly_usd.mid <= 0:
        return Crossing(first.id, second.id, None, False)
    rate = flat * workload.rpm / tokens.monthly_usd.mid
    if tokens.full_at_rpm is not None and rate > tokens.full_at_rpm:
        return Crossing(first.id, second.id, None, False)
    return Crossing(first.id, second.id, rate, full is not None and rate > full)


def grid_of(options: Sequence[Option], workload: Workload, points: int = POINTS) -> tuple[float, ...]:
    """Rates on a logarithmic scale: from 1 (or a hundredth of the workload's) to ten times the largest of interest."""
    full = [limit for option in options if (limit := full_at(option, workload)) is not None and math.isfinite(limit)]
    low = min(1.0, workload.rpm / 100)
    high = max([100.0, workload.rpm * 10, *(2 * limit for limit in full)])
    return tuple(low * (high / low) ** (step / (points - 1)) for step in range(points))


def curves(answer: Answer, ids: Sequence[str]) -> Curves:
    """The lines of the options asked for; those without a price or that cannot be are left out."""
    priced = [
        option
        for option in answer.options
        if option.id in ids and option.monthly_usd is not None and not option.infeasible
    ]
    grid = grid_of(priced, answer.workload)
    usd = {option.id: tuple(cost_at(option, rpm, answer.workload) for rpm in grid) for option in priced}
    limits = {option.id: full_at(option, answer.workload) for option in priced}
    pairs = tuple(crossing(cheaper, dearer, answer.workload, grid) for cheaper, dearer in combinations(priced, 2))
    return Curves(grid, usd, limits, pairs, rule_of_thumb())


def number(rpm: float) -> str:
    """A rate in words: two digits below 10, whole above."""
    return f"{rpm:.2g}" if rpm < 9.95 else f"{rpm:,.0f}"


__all__ = ["Curves", "RuleOfThumb", "break_even_rpm", "cost_at", "crossing", "curves", "full_at", "number"]
