"""What a service's prompt cache did for the calls of a run: times cold and warm, tokens, money, and when it pays.

Formulas (shared/calculator.md, 11 and 12), with the write price w and the read price r as multiples of the plain input
price: caching costs less than none when the share of hits is above (w − 1) / (w − r); with reuse at random moments λ
times a minute and a lifetime of T minutes that every hit renews, that share is 1 − e^(−λT); of a burst of n calls the
first one writes and the others read, which is w + (n − 1) r against n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from services import cache_minimums
from services.deployments import config
from services.pricing import cost
from services.pricing import price as pricing_price
from services.runs import cache_state, compare, view
from services.types import CacheMode, Deployment, Usage

Row = Mapping[str, Any]
MAX_BURST = 1000


def break_even_hits(write: Decimal, read: Decimal) -> Decimal | None:
    """The share of hits (0 to 1) above which caching is cheaper than none; None where it never is."""
    if read >= 1:
        return None
    if write <= 1:
        return Decimal(0)
    return (write - 1) / (write - read)


def break_even_gap_min(hits: Decimal, lifetime_min: float) -> float | None:
    """Minutes between two uses, on average and at random, up to which ``hits`` is reached; None for no bound."""
    if hits <= 0:
        return None
    return lifetime_min / -math.log1p(-float(hits))


def burst_that_pays(write: Decimal, read: Decimal) -> int | None:
    """The smallest number of calls in a row that cost less with the cache than without; None where none does."""
    if read >= 1:
        return None
    return next((n for n in range(1, MAX_BURST) if write + (n - 1) * read < n), None)


@dataclass(frozen=True, slots=True)
class Prices:
    """What writing and reading cost as multiples of the plain input price, and what follows from it."""

    write: Decimal
    read: Decimal
    hits: Decimal | None
    gap_min: float | None
    burst: int | None
    lifetime_min: int | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What one deployment's calls show. Times in ms, of succeeded calls stamped in time; money in nano-dollars.

    ``calls`` are the last attempts that ended. ``with_cache`` and ``without`` are sums over the calls whose cost is
    exact (``priced`` of them); both None where none is. ``cost_words`` says why then: "free", "no price", …
    """

    deployment: Deployment
    modes: tuple[CacheMode | None, ...]
    calls: tuple[Row, ...]
    cold: tuple[float, ...]
    warm: tuple[float, ...]
    with_cache: int | None
    without: int | None
    priced: int
    cost_words: str
    prices: Prices | None

    @property
    def succeeded(self) -> list[Row]:
        """The calls that count."""
        return [row for row in self.calls if row["state"] == "succeeded"]

    @property
    def reported(self) -> bool:
        """Whether the service said of any call how much it read from its cache."""
        return any(cache_state.state(row) for row in self.succeeded)

    def count(self, state: str | None) -> int:
        """How many of the calls that count were cold, warm, or (None) not reported."""
        return sum(cache_state.state(row) == state for row in self.succeeded)

    @property
    def difference(self) -> compare.Difference:
        """Median cold minus median warm, with its 95 % interval, in ms."""
        return compare.difference(self.cold, self.warm)

    def total(self, *names: str) -> int:
        """Tokens of these counts over the calls that count; what is not reported counts for nothing here."""
        return sum(row.get(name) or 0 for row in self.succeeded for name in names)

    @property
    def prompt_tokens(self) -> int | None:
        """Input tokens of one call: the median; None when unknown."""
        known = [float(n) for row in self.succeeded if (n := view.input_tokens(row)) is not None]
        middle = compare.median_interval(known).median
        return None if middle is None else round(middle)


def measured(calls: Sequence[Row]) -> list[Measured]:
    """One result for each deployment of a run, over all of its columns, in the order of the columns."""
    ended: dict[str, list[Row]] = {}
    for row in view.last_attempts(calls):
        if row["state"] != "running":
            ended.setdefault(str(row["deployment_id"]), []).append(row)
    return [_of(rows) for rows in ended.values()]


def _of(rows: Sequence[Row]) -> Measured:
    deployment = config.from_json(rows[0]["deployment"])
    modes = tuple(dict.fromkeys(cast("CacheMode | None", row.get("cache_mode")) for row in rows))
    timed = [row for row in rows if row["state"] == "succeeded" and not row.get("lag_marked")]
    money = [(row, other) for row in rows if (other := cost_without(row)) is not None]
    succeeded = [row for row in rows if row["state"] == "succeeded"]
    return Measured(
        deployment, modes, tuple(rows), _times(timed, "cold"), _times(timed, "warm"),
        sum(row["cost_nanousd"] for row, _ in money) if money else None,
        sum(other for _, other in money) if money else None,
        len(money), view.cost_words((succeeded or rows)[-1])[1], prices_of(succeeded, deployment, modes),
    )  # fmt: skip


def _times(rows: Sequence[Row], state: str) -> tuple[float, ...]:
    return tuple(
        float(row["ttft_ms"]) for row in rows if cache_state.state(row) == state and row.get("ttft_ms") is not None
    )


def cost_without(row: Row) -> int | None:
    """What a call would have cost without a cache: the same counts, all input at the plain input price of the row
    stored with it. None unless its own cost is exact."""
    if row.get("cost_state") != "exact" or not row.get("price"):
        return None
    usage = Usage(
        uncached_input=view.input_tokens(row), reasoning_output=row.get("reasoning_output"),
        answer_output=row.get("answer_output"), source="provider",
    )  # fmt: skip
    return cost.cost(usage, pricing_price.read(row["price"]), complete=True).nanousd


def prices_of(rows: Sequence[Row], deployment: Deployment, modes: Sequence[CacheMode | None]) -> Prices | None:
    """Writing and reading by the price row stored with the last call; None where it is not priced by the token."""
    rates = _rates(rows[-1]) if rows else {}
    plain = Decimal(rates.get("input", "0"))
    mode: CacheMode | None = next((mode for mode in modes if mode != "off"), "off")
    name = "cache_write_1h" if mode == "1h" else "cache_write_5m"
    if plain <= 0 or "cache_read" not in rates or name not in rates:
        return None
    write, read = Decimal(rates[name]) / plain, Decimal(rates["cache_read"]) / plain
    hits, minutes = break_even_hits(write, read), cache_minimums.lifetime_min(deployment, mode)
    gap = break_even_gap_min(hits, minutes) if hits is not None and minutes else None
    return Prices(write, read, hits, gap, burst_that_pays(write, read), minutes)


def _rates(row: Row) -> Mapping[str, str]:
    price = pricing_price.read(row.get("price"))
    return {} if price is None or price.rates is None else price.rates_for(view.input_tokens(row) or 0)
