"""Options made by hand, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from services.calculator.types import Option, Range, Way


def flat(value: float) -> Range:
    return Range(value, value, value)


def option(name: str, usd: float | Range | None, **changes: Any) -> Option:
    """An option that meets everything, paid by the token unless it is told an hourly price."""
    monthly = flat(usd) if isinstance(usd, int | float) else usd
    made: dict[str, Any] = {
        "id": name,
        "way": Way.ANTHROPIC,
        "title": name,
        "model": name,
        "cached": False,
        "batched": False,
        "monthly_usd": monthly,
        "per_1000_usd": None,
        "per_mtok_usd": None,
        "ttft_p50_s": flat(0.2),
        "ttft_p95_s": flat(0.5),
        "ttlt_p50_s": flat(1.0),
        "ttlt_p95_s": flat(2.0),
        "timed": "estimated",
        "utilisation": None,
        "replicas": None,
        "full_at_rpm": None,
        "largest_output": None,
        "drivers": {},
        "misses": (),
        "infeasible": None,
        "missing": (),
        "would_win": None,
        "facts": (),
    }
    return Option(**{**made, **changes})


def machine(name: str, usd_per_hour: float, capacity_rpm: float, replicas: int = 1, **changes: Any) -> Option:
    """An hour-priced option with a fleet of one kind of replica."""
    made: dict[str, Any] = {
        "way": Way.EC2,
        "replicas": (replicas,) * 24,
        "hourly_usd": usd_per_hour,
        "capacity_rpm": flat(capacity_rpm),
        "full_at_rpm": capacity_rpm * replicas,
    }
    return option(name, usd_per_hour * 730 * replicas, **{**made, **changes})
