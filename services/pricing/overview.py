"""The prices in use, one line for each deployment: what a call costs today, where that is from, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from db.call_stats import PriceUse
from services.deployments import config
from services.pricing import cost
from services.pricing.context import BATCH, context_of
from services.pricing.price import RATE_NAMES, Price, PriceTier
from services.providers import KINDS
from services.providers.bedrock_ids import US_REGIONS
from services.runs.export import safe_cell
from services.types import Deployment

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
        return cost.tier_asked(self.deployment) or "standard"


def lines(known: Sequence[Deployment], uses: Sequence[PriceUse], now: datetime) -> list[PriceLine]:
    """A line for every deployment that is switched on or was ever called."""
    called: dict[str, tuple[int, int]] = {}
    for use in uses:
        n, nanousd = called.get(use.deployment_id, (0, 0))
        called[use.deployment_id] = (n + use.n, nanousd + use.nanousd)
    return [line(d, now, *called.get(d.id, (0, 0))) for d in known if d.enabled or d.id in called]


def together(live: Sequence[Deployment] | None, rows: Sequence[Mapping[str, Any]]) -> list[Deployment]:
    """Every deployment: those of the engine as they are now, and those that are only in the records, switched off.

    Without the engine (``live`` None) the records say as well which are switched on.

    ``rows``: `db.run_queries.deployment_rows`. A row whose declaration this version cannot read is left out.
    """
    here = {d.id for d in live or ()}
    recorded = [deployment_of(row) for row in rows if row["id"] not in here]
    return [*(live or ()), *(replace(d, enabled=d.enabled and live is None) for d in recorded if d is not None)]


def deployment_of(row: Mapping[str, Any]) -> Deployment | None:
    """The deployment of a row, with its colour; None for one that this version cannot read."""
    try:
        d = config.from_json(row["spec"] or {})
        cost.check_price(d.price)
    except (KeyError, TypeError, ValueError):
        return None
    return replace(d, color_slot=row["color_slot"], enabled=row["enabled"] and not row["archived"])


def line(d: Deployment, now: datetime, n: int = 0, nanousd: int = 0) -> PriceLine:
    """The line of one deployment."""
    price = cost.price_of(d, now)
    batch = cost.price_of(d, now, batch=True)
    in_batch = batch if batch is not None and batch.context.get("processing") == BATCH["processing"] else None
    return PriceLine(d, price, in_batch, "" if price else what_to_do(d), n, nanousd)


def what_to_do(d: Deployment) -> str:
    """Why a deployment has no price, and how to give it one."""
    ref = d.price
    own = "give it a price of its own on the Deployments page"
    if ref.instance is not None:
        where = f" in {d.region}" if d.region and d.region not in US_REGIONS else ""
        return f"The file of instance prices does not know {ref.instance}{where}: {own}, per hour."
    if ref.provider is None:
        return f"It names no price: {own}."
    context = context_of(d).listed
    if context:
        words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sorted(context.items()))
        return f"No list has a price of this model for {words}: {own}, or take that setting away."
    name = ref.model or d.model
    if name.startswith("arn:"):
        return f"The lists cannot tell which model this ARN stands for: name it in the price, or {own}."
    where = f" in {d.region}" if d.region else ""
    return f"No list names {name}{where} exactly, and a similar model's price is never taken: {own}."


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
    whole, _, part = format(cost.decimal_amount(amount), "f").partition(".")
    part = part.rstrip("0")
    return f"${int(whole):,}" + (f".{part:0<2}" if part else "")


def short(price: Price | None) -> str:
    """A whole price in a few words: "$3 / $15", "$1.41 an hour", "free", "no price"."""
    if price is None:
        return "no price"
    if price.per_hour is not None:
        return "free" if cost.decimal_amount(price.per_hour) == 0 else f"{dollars(price.per_hour)} an hour"
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
        "deployment": d.name, "id": d.id, "kind": kind.title if kind else d.kind, "model": d.model,
        "region": d.region or "", "service_tier": item.tier, "source": source_words(price) if price else "no price",
        "source_date": price.date if price else "", "listed_as": (price.model or "") if price else "",
        **{f"{name}_usd_per_1m": rates.get(name, "") for name in RATE_NAMES},
        "usd_per_hour": (price.per_hour or "") if price else "",
        "instance": (price.instance or "") if price else "",
        "count": price.count if price and price.per_hour else "",
        "tiers": tier_words(price.tiers) if price else "",
        "batch_input_usd_per_1m": _rate(item.batch, "input"), "batch_output_usd_per_1m": _rate(item.batch, "output"),
        "calls": item.n, "spent_usd": format(item.nanousd / 10**9, ".9f"), "what_to_do": item.missing,
    }  # fmt: skip
    return {name: safe_cell(value) for name, value in row.items()}


def _rate(price: Price | None, name: str) -> str:
    return "" if price is None else (price.rates or {}).get(name, "")
