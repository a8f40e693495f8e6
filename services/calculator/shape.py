"""The day: rates by the hour, replicas that carry them, and what those cost a month (calculator.md D 10)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from services.calculator.types import HOURS_A_MONTH, Workload

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


def _level(now: Sequence[float], more: float) -> float:
    """The height to which ``more`` fills the valleys between the rates."""
    ordered = sorted(now)
    for count in range(1, len(ordered) + 1):
        level = (sum(ordered[:count]) + more) / count
        if count == len(ordered) or level <= ordered[count]:
            return level
    return ordered[-1]


def replicas(
    hourly: Sequence[float],
    capacity_rpm: float,
    *,
    headroom: float,
    least: int,
    step: int = 1,
    autoscale: bool = False,
) -> tuple[int, ...] | None:
    """Replicas by the hour: in whole machines of ``step``, at least ``least`` machines; None: no number carries it.

    Without ``autoscale`` the fleet of the busiest hour stands all day.
    """
    if capacity_rpm <= 0:
        return None
    carried = capacity_rpm * step / (1 + headroom)
    counted = hourly if autoscale else (max(hourly),)
    needed = [step * max(least, math.ceil(rate / carried - _DUST)) for rate in counted]
    return tuple(needed) if autoscale else tuple(needed) * len(hourly)


def replica_hours(counts: Sequence[int], cold_start_min: float = 0.0) -> float:
    """Replica hours of a month. A replica is paid for from its start, ``cold_start_min`` before the hour it is for."""
    if counts[0] == max(counts) == min(counts):
        return counts[0] * HOURS_A_MONTH
    early = sum(max(0, after - before) for before, after in zip(counts, [*counts[1:], counts[0]], strict=True))
    return (sum(counts) + early * cold_start_min / 60) * HOURS_A_MONTH / len(counts)
