"""What would have to be true for each other option to be the one chosen: a price, a rate, a use, a latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.calculator import breakeven
from services.calculator.status import INFEASIBLE, LATENCY_UNKNOWN, MEETS, MISSES, standing, unknown
from services.calculator.types import Objectives, Option, Workload


def told(
    chosen: Option | None, options: Sequence[Option], workload: Workload, objectives: Objectives
) -> tuple[Option, ...]:
    """The options, each but the chosen one with what would make it win (one that says so itself keeps its words)."""
    return tuple(
        one
        if one.would_win is not None or (chosen is not None and one.id == chosen.id)
        else replace(one, would_win=condition(one, chosen, workload, objectives))
        for one in options
    )


def condition(option: Option, chosen: Option | None, workload: Workload, objectives: Objectives) -> str | None:
    """In words; None where nothing a person could change would do."""
    place = standing(option, objectives)
    if place == INFEASIBLE:
        return None
    needs: list[str] = []
    if place == MISSES:
        needs += _limits(option, objectives)
    if place == LATENCY_UNKNOWN:
        needs.append(f"its {' and '.join(unknown(option, objectives))} measured within the limit")
    if chosen is not None and chosen.monthly_usd is not None:
        money = _money(option, chosen, workload)
        if money is None and place == MEETS:
            return None
        needs += [money] if money is not None else []
    return " and ".join(needs) or None


def _limits(option: Option, objectives: Objectives) -> list[str]:
    found: list[str] = []
    for name, limit, time in (
        ("first token", objectives.ttft_s, option.ttft_p95_s),
        ("last token", objectives.ttlt_s, option.ttlt_p95_s),
    ):
        if limit is not None and time is not None and time.mid > limit:
            short = f", or answers of at most {option.largest_output:,} tokens" if option.largest_output else ""
            found.append(f"a limit of {time.mid:.2g} s for the {name}{short if name == 'last token' else ''}")
    if found:
        return found
    return ["the need it misses dropped (" + "; ".join(miss.rstrip(".") for miss in option.misses) + ")"]


def _money(option: Option, chosen: Option, workload: Workload) -> str | None:
    assert chosen.monthly_usd is not None
    target = chosen.monthly_usd.mid
    if option.monthly_usd is None:
        return f"a quote of at most ${target:,.0f} a month"
    usd = option.monthly_usd.mid
    if usd <= target or usd <= 0:
        return None
    if option.hourly_usd is not None:
        price = f"${option.hourly_usd * target / usd:,.4g} an hour instead of ${option.hourly_usd:,.4g}"
    else:
        price = f"token prices {1 - target / usd:.0%} lower"
    if breakeven.hourly(option) == breakeven.hourly(chosen):
        return price
    rate = breakeven.crossing(option, chosen, workload)
    if rate is None or rate.rpm is None or rate.beyond:
        return price
    side = "below" if option.hourly_usd is None else "above"
    return f"{price}, or {side} {breakeven.number(rate.rpm)} requests/min"
