"""Whether a file can cost more than its budget, by our own reckoning: what a client says of it is never believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.pricing.cost import money

CONFIRMED = "over_budget"  # in what is kept of an estimate: the person has agreed to more than the budget
ASK = "Resume to send it all the same, with a larger budget if you like, or cancel."


def above(estimate: Mapping[str, Any] | None, budget_nanousd: int | None) -> str | None:
    """The sentence, without its end, when the most that it can cost is above the budget, or the least where nothing
    bounds it; None when it is not, or when nothing is known."""
    most, least = ((estimate or {}).get(name) for name in ("cost_high", "cost_low"))
    if budget_nanousd is None:
        return None
    if isinstance(most, int) and most > budget_nanousd:
        return f"This can cost up to {money(most)}, which is above the budget of {money(budget_nanousd)}"
    if most is None and isinstance(least, int) and least > budget_nanousd:
        return f"This costs at least {money(least)}, which is above the budget of {money(budget_nanousd)}"
    return None


def kept(estimate: Mapping[str, Any] | None, *, confirmed: bool) -> dict[str, Any] | None:
    """An estimate as a batch keeps it, with the person's word on its budget."""
    told = {} if estimate is None else {name: value for name, value in estimate.items() if name != CONFIRMED}
    return (told | {CONFIRMED: True} if confirmed else told) or None


def confirmed(estimate: Mapping[str, Any] | None) -> bool:
    """Whether the person has agreed to more than the budget."""
    return bool((estimate or {}).get(CONFIRMED))
