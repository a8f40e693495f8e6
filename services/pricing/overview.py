"""The prices in use, one line for each deployment, and what changed since calls were made.

Pricing old calls anew is a view: nothing here is written, and what a call cost stays what it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from db.history import PriceUse
from db.models import DeploymentRow
from services.aws.bedrock_ids import US_REGIONS
from services.formatting import safe_cell
from services.pricing import cost as pricing_cost
from services.pricing import price as pricing_price
from services.pricing.price import BATCH, RATE_NAMES, Price, PriceTier, context_of
from services.providers import KINDS
from services.types import Deployment, Usage

SOURCE_OF_OURS = "own price"


@dataclass(frozen=True, slots=True)
class PriceLine:
    """One deployment with today's price. ``missing``: what to do when there is none; "" when there is one.

    ``batch`` is the price of the same call in the service's batch API, None where no list has one. ``nanousd`` is what
    its ``n`` recorded calls cost.
    """

    deployment: Deployment
    price: Price | None
    batch: Price | None
    missing: str = ""
    n: int = 0
    nanousd: int = 0

    @property
    def tier(self) -> str:
        """The service tier that calls ask for, in a word."""
        return pricing_cost.tier_asked(self.deployment) or "standard"


def lines(deployments: Sequence[Deployment], uses: Sequence[PriceUse], now: datetime) -> list[PriceLine]:
    """A line for every deployment that is switched on or was ever called."""
    called: dict[str, tuple[int, int]] = {}
    for use in uses:
        n, nanousd = called.get(use.deployment_id, (0, 0))
        called[use.deployment_id] = (n + use.n, nanousd + use.nanousd)
    return [line(d, now, *called.get(d.id, (0, 0))) for d in deployments if d.enabled or d.id in called]


def together(live: Sequence[Deployment] | None, rows: Sequence[DeploymentRow]) -> list[Deployment]:
    """Every deployment: those of the engine as they are now, and those that are only in the records, switched off.

    Without the engine (``live`` None) the records say as well which are switched on.

    ``rows``: `db.run_queries.deployment_rows`. A row whose declaration this version cannot read is left out.
    """
    live_ids = {d.id for d in live or ()}
    recorded = [deployment_of(row) for row in rows if row.id not in live_ids]
    return [*(live or ()), *(replace(d, enabled=d.enabled and live is None) for d in recorded if d is not None)]


def deployment_of(row: DeploymentRow) -> Deployment | None:
    """The deployment of a row, with its colour; None for one that this version cannot read."""
    try:
        d = Deployment.from_json(row.spec or {})
        pricing_cost.check_price(d.price)
    except (KeyError, TypeError, ValueError):
        return None
    return replace(d, color_slot=row.color_slot, enabled=row.enabled and not row.archived)


def line(d: Deployment, now: datetime, n: int = 0, nanousd: int = 0) -> PriceLine:
    """The line of one deployment."""
    price = pricing_cost.price_of(d, now)
    batch = pricing_cost.price_of(d, now, batch=True)
    in_batch = batch if batch is not None and batch.context.get("processing") == BATCH["processing"] else None
    return PriceLine(d, price, in_batch, "" if price else what_to_do(d), n, nanousd)


def what_to_do(d: Deployment) -> str:
    """Why a deployment has no price, and how to give it one."""
    ref = d.price
    own = "give it a price of its own on the Deployments page"
    if ref.instance is not None:
        in_region = f" in {d.region}" if d.region and d.region not in US_REGIONS else ""
        return f"The file of instance prices does not know {ref.instance}{in_region}: {own}, per hour."
    if ref.provider is None:
        return f"It names no price: {own}."
    context = context_of(d).listed
    if context:
        words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sorted(context.items()))
        return f"No list has a price of this model for {words}: {own}, or take that setting away."
    name = ref.model or d.model
    if name.startswith("arn:"):
        return f"The lists cannot tell which model this ARN stands for: name it in the price, or {own}."
    in_region = f" in {d.region}" if d.region else ""
    return f"No list names {name}{in_region} exactly, and a similar model's price is never taken: {own}."


def source_words(price: Price) -> str:
    """Where a price is from, in the reader's words."""
    return SOURCE_OF_OURS if price.source == "deployment" else price.source


def pair(rates: Mapping[str, str] | None) -> str:
    """ "$3 / $15": input and output per 1M tokens; "" where they are not known."""
    if not rates or not {"input", "output"} <= set(rates):
        return ""
    return f"{dollars(rates['input'])} / {dollars(rates['output'])}"


def dollars(amount: str) -> str:
    """A price as it is listed, without needless zeros: "$0.0375", "$3", "$2.50"."""
    units, _, decimals = format(pricing_cost.decimal_amount(amount), "f").partition(".")
    decimals = decimals.rstrip("0")
    return f"${int(units):,}" + (f".{decimals:0<2}" if decimals else "")


def short(price: Price | None) -> str:
    """A whole price in a few words: "$3 / $15", "$1.41 an hour", "free", "no price"."""
    if price is None:
        return "no price"
    if price.per_hour is not None:
        return "free" if pricing_cost.decimal_amount(price.per_hour) == 0 else f"{dollars(price.per_hour)} an hour"
    return pair(price.rates) or "no price"


def machines(price: Price | None) -> str:
    """ "2 × ml.g5.12xlarge": what an hourly price is for; "" when it is not told."""
    if price is None or price.per_hour is None or (price.instance is None and price.count == 1):
        return ""
    return f"{price.count} × {price.instance or 'unit'}"


def tier_words(tiers: Sequence[PriceTier]) -> str:
    """The tiers by length: "above 200,000 tokens $6 / $22.50"."""
    return "; ".join(f"above {tier.above:,} tokens {pair(tier.rates) or 'not known'}" for tier in tiers)


def export_row(item: PriceLine) -> dict[str, Any]:
    """The line as it is exported: amounts as they are listed, empty where nothing is known."""
    price, d = item.price, item.deployment
    rates = (price.rates if price else None) or {}
    kind = KINDS.get(d.kind)
    row = {
        "deployment": d.name,
        "id": d.id,
        "kind": kind.title if kind else d.kind,
        "model": d.model,
        "region": d.region or "",
        "service_tier": item.tier,
        "source": source_words(price) if price else "no price",
        "source_date": price.date if price else "",
        "listed_as": (price.model or "") if price else "",
        **{f"{name}_usd_per_1m": rates.get(name, "") for name in RATE_NAMES},
        "usd_per_hour": (price.per_hour or "") if price else "",
        "instance": (price.instance or "") if price else "",
        "count": price.count if price and price.per_hour else "",
        "tiers": tier_words(price.tiers) if price else "",
        "batch_input_usd_per_1m": _rate(item.batch, "input"),
        "batch_output_usd_per_1m": _rate(item.batch, "output"),
        "calls": item.n,
        "spent_usd": format(item.nanousd / 10**9, ".9f"),
        "what_to_do": item.missing,
    }
    return {name: safe_cell(value) for name, value in row.items()}


def _rate(price: Price | None, name: str) -> str:
    return "" if price is None else (price.rates or {}).get(name, "")


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
    deployments: Mapping[str, Deployment], uses: Sequence[PriceUse], bounds: Sequence[int], now: datetime
) -> list[Change]:
    """What changed, newest last use first. ``bounds``: those that ``uses`` were asked with."""
    groups: dict[tuple[str, Any], list[PriceUse]] = {}
    for use in uses:
        if use.deployment_id in deployments:
            charged: Any = "damaged" if pricing_price.damaged(_row(use.price)) else _what_is_charged(stored(use.price))
            groups.setdefault((use.deployment_id, charged), []).append(use)
    changed = [_change(deployments[of], group, bounds, now) for (of, _), group in groups.items()]
    return sorted((change for change in changed if change is not None), key=lambda change: change.last, reverse=True)


def _change(d: Deployment, uses: Sequence[PriceUse], bounds: Sequence[int], now: datetime) -> Change | None:
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
        deployment=d,
        was=was,
        now=today,
        n=n,
        first=min(use.first for use in uses),
        last=max(use.last for use in uses),
        nanousd=sum(use.nanousd for use in uses) if paid else None,
        today_nanousd=_priced_anew(uses, today, bounds) if by_token and today is not None else None,
        inexact=any(use.n_inexact for use in uses),
        damaged=damaged,
    )


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


def _priced_anew(uses: Sequence[PriceUse], price: Price, bounds: Sequence[int]) -> int | None:
    """The cost of the tokens of those calls. Each band is charged at the rates of the lengths in it."""
    total = 0
    for use in uses:
        if not any(use.counts.values()):
            continue
        rates = price.rates_for(bounds[use.band - 1] + 1 if use.band else 0)
        usage = Usage(source="provider", **cast(dict[str, Any], use.counts))
        cost = pricing_cost.cost(usage, replace(price, rates=rates, tiers=()), complete=True)
        if cost.state != "exact" or cost.nanousd is None:
            return None
        total += cost.nanousd
    return total
