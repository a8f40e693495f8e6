"""What changed since calls were made: their stored price rows against today's prices.

Pricing old calls anew is a view: nothing here is written, and what a call cost stays what it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from db.call_stats import PriceUse
from services.pricing import cost as pricing_cost
from services.pricing import price as pricing_price
from services.pricing.price import RATE_NAMES, Price
from services.types import Deployment, Usage

# Where the known lists change their prices; a stored row that has another tier asks for the sums once more.
USUAL_BOUNDS = (100_000, 128_000, 200_000, 256_000, 272_000, 512_000)


@dataclass(frozen=True, slots=True)
class Change:
    """Calls of one deployment whose stored price is not today's. ``inexact``: some cost is an estimate or a bound.

    ``nanousd`` is what they cost, ``today_nanousd`` what their tokens cost at today's price; None where one of the two
    is not by the token. Without a price then, ``nanousd`` is None. ``n`` leaves out calls that were not billed.
    ``damaged``: the stored row is not readable, so ``was`` is None and ``nanousd`` is the cost as it was recorded.
    """

    deployment: Deployment
    was: Price | None
    now: Price | None
    n: int
    first: datetime
    last: datetime
    nanousd: int | None
    today_nanousd: int | None
    inexact: bool = False
    damaged: bool = False

    @property
    def difference(self) -> int | None:
        """What they would cost more (or less) today, in nano-dollars."""
        if self.nanousd is None or self.today_nanousd is None:
            return None
        return self.today_nanousd - self.nanousd


def bounds(uses: Iterable[PriceUse], today: Iterable[Price | None]) -> tuple[int, ...]:
    """Every number of input tokens at which a stored price or one of today's changes, ascending."""
    prices = [*(stored(use.price) for use in uses), *today]
    return tuple(sorted({*USUAL_BOUNDS, *(tier.above for price in prices if price for tier in price.tiers)}))


def stored(text: str | None) -> Price | None:
    """The price row of a call from its JSON text; None for none, or for one that this version cannot read."""
    return pricing_price.read(_row(text))


def _row(text: str | None) -> object:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text  # no JSON: a row that is there and is not readable


def changes(
    known: Mapping[str, Deployment], uses: Sequence[PriceUse], at: Sequence[int], now: datetime
) -> list[Change]:
    """What changed, newest last use first. ``at``: the bounds that ``uses`` were asked with."""
    groups: dict[tuple[str, Any], list[PriceUse]] = {}
    for use in uses:
        if use.deployment_id in known:
            charged: Any = "damaged" if pricing_price.damaged(_row(use.price)) else _what_is_charged(stored(use.price))
            groups.setdefault((use.deployment_id, charged), []).append(use)
    found = [_change(known[of], group, at, now) for (of, _), group in groups.items()]
    return sorted((one for one in found if one is not None), key=lambda one: one.last, reverse=True)


def _change(d: Deployment, uses: Sequence[PriceUse], at: Sequence[int], now: datetime) -> Change | None:
    was = stored(uses[-1].price)
    today = _today(d, was, now)
    damaged = pricing_price.damaged(_row(uses[-1].price))
    if not damaged and _what_is_charged(was)[:-1] == _what_is_charged(today)[:-1]:
        return None
    n = sum(use.n if was is not None and was.rates is None else use.n_billed for use in uses)
    if not n:
        return None
    by_token = not damaged and (was is None or was.rates is not None) and today is not None and today.rates is not None
    paid = damaged or (was is not None and was.rates is not None)
    return Change(
        deployment=d, was=was, now=today, n=n,
        first=min(use.first for use in uses), last=max(use.last for use in uses),
        nanousd=sum(use.nanousd for use in uses) if paid else None,
        today_nanousd=_priced_anew(uses, today, at) if by_token and today is not None else None,
        inexact=any(use.n_inexact for use in uses), damaged=damaged,
    )  # fmt: skip


def _today(d: Deployment, was: Price | None, now: datetime) -> Price | None:
    """Today's price of calls like those: in the same service tier, as a batch or not."""
    if was is None or was.rates is None:
        return pricing_cost.price_of(d, now)
    paid = was.context.get("service_tier", "standard")
    return pricing_cost.price_of(d, now, batch=was.context.get("processing") == "batch", tier=paid)


def _what_is_charged(price: Price | None) -> tuple[Any, ...]:
    """A price without where it is from: two rows that charge the same are one. The last part is the context."""
    if price is None:
        return (None, (), None, ())
    tiers = tuple((tier.above, _amounts(tier.rates)) for tier in price.tiers)
    per_hour = None if price.per_hour is None else Decimal(price.per_hour)
    paid = tuple(sorted((k, v) for k, v in price.context.items() if k not in ("asked", "served")))
    return (_amounts(price.rates), tiers, per_hour, paid)


def _amounts(rates: Mapping[str, str] | None) -> tuple[Decimal | None, ...] | None:
    if rates is None:
        return None
    return tuple(Decimal(rates[name]) if name in rates else None for name in RATE_NAMES)


def _priced_anew(uses: Sequence[PriceUse], price: Price, at: Sequence[int]) -> int | None:
    """The cost of the tokens of those calls. Each band is charged at the rates of the lengths in it."""
    total = 0
    for use in uses:
        if not any(use.counts.values()):
            continue
        rates = price.rates_for(at[use.band - 1] + 1 if use.band else 0)
        usage = Usage(source="provider", **cast(dict[str, Any], use.counts))
        cost = pricing_cost.cost(usage, replace(price, rates=rates, tiers=()), complete=True)
        if cost.state != "exact" or cost.nanousd is None:
            return None
        total += cost.nanousd
    return total
