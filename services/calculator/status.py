"""Where an option stands: only one that is known to meet every objective can be a choice."""

from __future__ import annotations

from services.calculator.types import Objectives, Option

MEETS, LATENCY_UNKNOWN, MISSES, PRICE_UNKNOWN, INFEASIBLE = range(5)


def standing(option: Option, objectives: Objectives) -> int:
    """``MEETS`` to ``INFEASIBLE``, best first."""
    if option.infeasible is not None:
        return INFEASIBLE
    if option.monthly_usd is None:
        return PRICE_UNKNOWN
    if option.misses:
        return MISSES
    return LATENCY_UNKNOWN if unknown(option, objectives) else MEETS


def unknown(option: Option, objectives: Objectives) -> tuple[str, ...]:
    """The limits that are set and of which it is not known whether the option holds them."""
    first = objectives.ttft_s is not None and option.ttft_p95_s is None
    last = objectives.ttlt_s is not None and option.ttlt_p95_s is None
    return tuple(name for name, is_so in (("first token", first), ("last token", last)) if is_so)
