"""What the same calls would cost at today's prices: a view, never an update."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from db.call_stats import PriceUse, price_uses
from services.dashboard.data import Data
from services.pricing import changes, cost

Line = tuple[str, int, int | None, int | None, int | None, str]
COLUMNS = ("deployment_id", "n", "was_nanousd", "today_nanousd", "difference", "reason")
NO_PRICE_THEN, NO_PRICE_TODAY = "had no price by the token", "has no price by the token today"
NOT_READABLE = "has a price row that is not readable"
NOT_COUNTED = "lacks some count of its tokens"


@dataclass(frozen=True, slots=True)
class Repriced:
    """``table``: deployment_id, n, was_nanousd, today_nanousd, difference (None where the two cannot be compared) and
    the ``reason`` why not ("" where they can). One line for each deployment, whatever prices its calls were made at,
    and one more for each reason why some of them cannot be compared. ``was`` and ``today``: the sums of the lines with
    both. ``words`` say what is and is not in them."""

    table: pd.DataFrame
    was: int
    today: int
    words: str


def repriced(data: Data) -> Repriced:
    """The calls of the filter that are still kept, one by one, at the prices of ``data.now``.

    Tokens × today's rates, in the service tier that served the call and as a batch where it was one. Calls whose price
    did not change, and calls of deployments that are declared nowhere any more, stand with what they cost.
    """
    at: tuple[int, ...] = changes.USUAL_BOUNDS
    uses = price_uses(data.engine, at, data.wanted)
    called = {use.deployment_id for use in uses}
    today = [cost.price_of(d, data.now) for d in data.deployments.values() if d.id in called]
    if (wider := changes.bounds(uses, today)) != at:
        at = wider
        uses = price_uses(data.engine, at, data.wanted)
    lines = _lines(data, uses, at)
    table = pd.DataFrame(lines, columns=list(COLUMNS), dtype=object)
    both = [line for line in lines if line[4] is not None]
    was, now = sum(line[2] or 0 for line in both), sum(line[3] or 0 for line in both)
    return Repriced(table, was, now, _words(lines, was, now, data))


def _lines(data: Data, uses: Sequence[PriceUse], at: Sequence[int]) -> list[Line]:
    changed = changes.changes(data.deployments, uses, at, data.now)
    lines: list[Line] = [
        (one.deployment.id, one.n, one.nanousd, one.today_nanousd, one.difference, _reason(one)) for one in changed
    ]
    for deployment_id in dict.fromkeys(use.deployment_id for use in uses):
        mine = [use for use in uses if use.deployment_id == deployment_id]
        of_it = [one for one in changed if one.deployment.id == deployment_id]
        n = sum(use.n_billed for use in mine) - sum(one.n for one in of_it)
        paid = sum(use.nanousd for use in mine) - sum(one.nanousd or 0 for one in of_it)
        if paid:
            lines.append((deployment_id, max(n, 0), paid, paid, 0, ""))
    return sorted(_summed(lines), key=lambda line: (data.slot(line[0]), line[0], line[5]))


def _reason(change: changes.Change) -> str:
    if change.difference is not None:
        return ""
    if change.damaged:
        return NOT_READABLE
    if change.nanousd is None:
        return NO_PRICE_THEN
    by_token = change.now is not None and change.now.rates is not None
    return NOT_COUNTED if by_token else NO_PRICE_TODAY


def _summed(lines: Sequence[Line]) -> list[Line]:
    """One line for each deployment and reason."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line[0], line[5]), []).append(line)
    return [
        (of, sum(one[1] for one in group), _sum(one[2] for one in group), _sum(one[3] for one in group),
         _sum(one[4] for one in group), reason)
        for (of, reason), group in groups.items()
    ]  # fmt: skip


def _sum(amounts: Iterable[int | None]) -> int | None:
    known = [one for one in amounts if one is not None]
    return sum(known) if known else None


def _words(lines: Sequence[Line], was: int, now: int, data: Data) -> str:
    day = data.now.date().isoformat()
    words = f"At the prices of {day} the same tokens cost {cost.money(now)}; they cost {cost.money(was)}."
    without = sum(line[1] for line in lines if line[4] is None)
    if without:
        words += f" {without:,} calls are not in this: they have, or had, no price by the token."
    if data.period.totals["n"] and not lines:
        words = "No call of this range that is still kept has a price by the token."
    return words + " Nothing is changed by looking: every call keeps the price it was made at."
