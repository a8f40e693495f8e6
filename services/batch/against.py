"""Batch against interactive: what the same lines would have cost and taken one by one, from the recorded history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import Engine

from db import batch_past
from services.batch.duration import words as time_words
from services.batch.stats import Summary
from services.pricing.cost import money

Row = Mapping[str, Any]
INTERACTIVE = ("playground", "cli", "load")
CONCURRENCY = 8
FEW = 5


@dataclass(frozen=True, slots=True)
class Against:
    """The card. Money is nano-dollars over the ``n_priced`` lines where both costs are known; times are seconds for all
    ``n`` lines, of ``n_history`` recorded interactive calls whose median is ``median_ms``. None: not known."""

    n: int
    cost_nanousd: int | None
    plain_nanousd: int | None
    n_priced: int
    seconds: float | None
    one_by_one_s: float | None
    at_once_s: float | None
    concurrency: int
    median_ms: float | None
    n_history: int
    route: str

    @property
    def saved_nanousd(self) -> int | None:
        """What was saved; negative where interactive would have been cheaper."""
        if self.cost_nanousd is None or self.plain_nanousd is None:
            return None
        return self.plain_nanousd - self.cost_nanousd

    @property
    def saved_share(self) -> float | None:
        """The same as a share of the interactive cost; None where that is nothing."""
        saved = self.saved_nanousd
        return None if saved is None or not self.plain_nanousd else saved / self.plain_nanousd

    @property
    def cost_sentence(self) -> str:
        """The cost in words."""
        if self.cost_nanousd is None or self.plain_nanousd is None:
            return "What the same lines would have cost interactively is not known: one of the two prices is missing."
        cost, plain = money(self.cost_nanousd), money(self.plain_nanousd)
        some = f" (over the {self.n_priced:,} of {self.n:,} lines where both are known)"
        of = "" if self.n_priced == self.n else some
        saved, share = self.saved_nanousd or 0, self.saved_share
        if not saved:
            own = self.route == "runner"
            same = "they were sent one by one at the ordinary price" if own else "the prices are the same"
            return f"{cost}, and {plain} interactively{of}: {same}."
        much = f" ({abs(share):.0%})" if share else ""
        return f"{cost} instead of {plain}{of}: {money(abs(saved))}{much} {'saved' if saved > 0 else 'more'}."

    @property
    def time_sentence(self) -> str:
        """The time in words."""
        took = "The batch has not ended yet" if self.seconds is None else f"The batch took {time_words(self.seconds)}"
        if self.one_by_one_s is None or self.at_once_s is None or self.median_ms is None:
            n = self.n_history
            few = f"{n or 'no'} interactive {'call is' if n == 1 else 'calls are'}"
            unknown = "how long the lines would have taken interactively is not known"
            return f"{took}; {unknown}: {few} among the latest recorded of this deployment."
        return (
            f"{took}; {self.n:,} calls of {self.median_ms / 1000:,.3g} s (the median of {self.n_history:,} recorded) "
            f"one after the other take {time_words(self.one_by_one_s)}, {self.concurrency} at once "
            f"{time_words(self.at_once_s)} if that slows none of them down."
        )


def against(
    engine: Engine, batch: Row, summary: Summary, *, seconds: float | None = None, concurrency: int = CONCURRENCY
) -> Against:
    """The card of a batch from the sums of its lines (`stats.summary`) and its deployment's interactive history.

    Costs are those recorded with each call: the plain price of the same counts (`services.pricing.plain_price`), never
    a price of today. ``seconds``: how long the batch took (`stats.duration`).
    """
    past = batch_past.recent_calls(engine, [str(batch["deployment_id"])], sources=INTERACTIVE)
    return of_history(past, batch, summary, seconds=seconds, concurrency=concurrency)


def of_history(
    past: Sequence[Row], batch: Row, summary: Summary, *, seconds: float | None, concurrency: int = CONCURRENCY
) -> Against:
    """`against` from interactive calls that were read already."""
    times = [float(row["ttlt_ms"]) for row in past if row.get("ttlt_ms") is not None and not row.get("lag_marked")]
    middle = median(times) if len(times) >= FEW else None
    each = None if middle is None else middle / 1000
    lanes = max(1, min(concurrency, summary.n or 1))
    return Against(
        n=summary.n, cost_nanousd=summary.plained_nanousd, plain_nanousd=summary.plain_nanousd,
        n_priced=summary.n_plain, seconds=seconds, one_by_one_s=None if each is None else each * summary.n,
        at_once_s=None if each is None else each * summary.n / lanes, concurrency=lanes, median_ms=middle,
        n_history=len(times), route=str(batch.get("route") or ""),
    )  # fmt: skip
