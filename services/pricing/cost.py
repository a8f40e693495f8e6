"""What a call costs, from a price that was looked up before the call and is stored with it, and at the plain price.

`cost` needs nothing but that row (`services.pricing.price.Price`), so a call of last year is costed from its own row
and never re-priced. All arithmetic is `Decimal`, results are integer nano-dollars (1 $ = 10⁹).

The lists are data on this machine: genai-prices' own (offline; `UpdatePrices` is never started), and a dated copy of
LiteLLM's (`services.pricing.sources`). Their matching is broader than a bill may be, so a match is accepted only when
the model is named exactly, or by a dated name of it; everything else has no price.

Plain means: every input token at the input rate, whether it was read from a cache, written to one or neither; output at
the output rate; and the standard price where the call was made in a batch or in the flex tier. Other tiers stay as they
are: what "priority" costs more is no saving that was missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Literal

from services.aws import instances
from services.formatting import money
from services.pricing.price import RATE_NAMES, Price, PriceTier, completed, context_of, tier_asked
from services.types import Deployment, PriceRef, Usage

if TYPE_CHECKING:
    from services.pricing.sources import ListedPrice

__all__ = [
    "DISCOUNTED_TIERS",
    "DRIVERS",
    "MARKS",
    "MOST_DOLLARS",
    "MOST_INSTANCES",
    "NANO_PER_RATE",
    "RATE_NAMES",
    "WORDS",
    "Cost",
    "CostState",
    "Price",
    "PriceTier",
    "check_price",
    "cost",
    "decimal_amount",
    "is_discounted",
    "mark_of",
    "money",
    "plain_nanousd",
    "price_of",
    "tier_asked",
    "words_of",
]


DISCOUNTED_TIERS = frozenset({"flex", "batch"})


def is_discounted(price: Price | None) -> bool:
    """Whether the price is one of waiting (a batch, the flex tier), so that its plain price is another row."""
    if price is None:
        return False
    context = price.context
    return context.get("processing") == "batch" or context.get("service_tier") in DISCOUNTED_TIERS


def plain_nanousd(usage: Usage, price: Price | None, standard: Price | None = None) -> int | None:
    """The plain cost of a call in nano-dollars, from its counts and the price it was charged at.

    ``standard``: the standard price of the same deployment at that time; it is used, and needed, where `is_discounted`.
    None where the plain price or the counts are not known, where the hour is paid and not the call, and where the
    charged price leaves out a kind of token that the call has: the two would not be of the same tokens. Counts that the
    service did not state are missing in the plain cost just as they are in the cost.
    """
    if price is None or price.per_hour is not None:
        return None
    plain = standard if is_discounted(price) else price
    if plain is None or plain.per_hour is not None:
        return None
    counts = {name: getattr(usage, name) for name in DRIVERS}
    stated = {name: count for name, count in counts.items() if count is not None}
    charged, rates = price.rates_for(usage.input_total or 0), plain.rates_for(usage.input_total or 0)
    if not stated or "input" not in rates or "output" not in rates:
        return None
    if any(count and DRIVERS[name] not in charged for name, count in stated.items()):
        return None
    total = 0
    for side, tokens in (("input", usage.input_total or 0), ("output", usage.output_total or 0)):
        total += int((tokens * Decimal(rates[side]) * NANO_PER_RATE).to_integral_value(rounding=ROUND_HALF_UP))
    return total


CostState = Literal["exact", "lower_bound", "estimated", "by_the_hour", "free", "no_price", "unknown_usage"]


# Driver of a cost (a field of `Usage`) → the rate it is charged at.
DRIVERS: Mapping[str, str] = {
    "uncached_input": "input",
    "cache_read": "cache_read",
    "cache_write_5m": "cache_write_5m",
    "cache_write_1h": "cache_write_1h",
    "reasoning_output": "output",
    "answer_output": "output",
}


MOST_INSTANCES = 10_000

MOST_DOLLARS = 1_000_000  # for a million tokens or an hour: more is a slip of the finger, and would not fit the records


# nano-dollars per token = ($ per 1M tokens) × 10⁹ / 10⁶
NANO_PER_RATE = Decimal(1000)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call cost, in integer nano-dollars; ``drivers`` (keys of `DRIVERS`) sum to ``nanousd``.

    ``exact``: the service's own final counts. ``estimated``: complete, with counts of ours (``~``). ``lower_bound``: at
    least this was billed, because the stream ended early or a count is missing (``≥``). ``free``: nothing is charged.
    ``by_the_hour``: the deployment costs by the hour, not by the call. ``no_price``: no price is known, which is not 0.
    ``unknown_usage``: a price is known, the counts are not. ``nanousd`` is None in the last three.
    ``high_nanousd`` is the most it can have cost; None when that is not known.
    """

    state: CostState
    nanousd: int | None = None
    high_nanousd: int | None = None
    drivers: dict[str, int] = field(default_factory=dict)


MARKS: Mapping[str, str] = {"lower_bound": "≥", "estimated": "~"}

WORDS: Mapping[CostState, str] = {
    "by_the_hour": "by the hour",
    "free": "free",
    "no_price": "no price",
    "unknown_usage": "unknown",
}


def decimal_amount(text: str) -> Decimal:
    """A price written by a person. Raises ValueError in words unless it is a finite number of at least 0."""
    try:
        value = Decimal(str(text).strip())
    except InvalidOperation:
        raise ValueError(f"a price must be a number of US dollars, not {text!r}") from None
    if not value.is_finite() or value < 0:
        raise ValueError(f"a price must be 0 or more US dollars, not {text!r}")
    if value > MOST_DOLLARS or (value and value.adjusted() < -12):
        raise ValueError(f"a price must be at most {MOST_DOLLARS:,} US dollars and no smaller than a picodollar")
    return value


def check_price(ref: PriceRef) -> None:
    """Raises ValueError in words when a price reference cannot be used as it is written."""
    if ref.override is not None:
        unknown = sorted(set(ref.override) - set(RATE_NAMES))
        if unknown:
            raise ValueError(f"the price has no field {unknown[0]!r}; it can have {', '.join(RATE_NAMES)}")
        for needed in ("input", "output"):
            if needed not in ref.override:
                raise ValueError(f"the price needs {needed!r}, in US dollars per 1,000,000 tokens")
        for value in ref.override.values():
            decimal_amount(value)
    if isinstance(ref.count, bool) or not isinstance(ref.count, int) or not 1 <= ref.count <= MOST_INSTANCES:
        raise ValueError(f"the price is for a number of instances or units that is not from 1 to {MOST_INSTANCES:,}")
    if ref.per_hour is not None and decimal_amount(ref.per_hour) * ref.count > MOST_DOLLARS:
        raise ValueError(f"the price comes to more than {MOST_DOLLARS:,} US dollars an hour")
    if ref.instance is not None and not ref.instance.strip():
        raise ValueError('the price names no instance type, for example instance = "ml.g5.xlarge"')
    if ref.model is not None and ref.provider is None:
        raise ValueError('the price names a model without its provider, for example provider = "openai"')


def price_of(deployment: Deployment, moment: datetime, *, batch: bool = False, tier: str | None = None) -> Price | None:
    """The price of one call of ``deployment`` that starts at ``moment`` (UTC when naive); None = no known price.

    Only ``deployment.price`` decides: a server of one's own that calls its model "claude-haiku-5-5" has no API price
    unless its price reference says so. In this order: the user's own rates, an hourly price, the hourly price of an
    instance type, the price lists. ``batch``: of a job of a batch API. ``tier``: the service tier that really served
    the call, in the service's word; None = the one that its settings ask for (`services.pricing.price`). Rates of
    one's own and prices by the hour are the same in every tier, and the former are not those of a batch.

    Raises ValueError for a reference that `check_price` refuses.
    """
    ref = deployment.price
    check_price(ref)
    day = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).date().isoformat()
    if ref.override is not None:
        rates = completed({name: decimal_amount(value) for name, value in ref.override.items()})
        return None if batch else Price("deployment", day, rates=_texts(rates))
    if ref.per_hour is not None:
        return Price("deployment", day, per_hour=_hourly(decimal_amount(ref.per_hour), ref.count), count=ref.count)
    if ref.instance is not None:
        return _of_instance(ref.instance, ref.count, deployment.region)
    if ref.provider is None:
        return None
    # Here because the lists take half a second to import, and pages need only `money`.
    from services.pricing.sources import listed

    context = context_of(deployment, batch=batch, tier=tier)
    entry = listed(ref.provider, ref.model or deployment.model, moment, context.listed, deployment.region)
    return None if entry is None else _from_list(entry, context.noted_tier)


def _of_instance(name: str, count: int, region: str | None) -> Price | None:
    entry = instances.price(name, region)
    if entry is None:
        return None
    per_hour = _hourly(entry.usd_per_hour, count)
    context = {"region": entry.region}
    return Price(entry.source, entry.date, per_hour=per_hour, context=context, instance=name, count=count)


def _hourly(usd: Decimal, count: int) -> str:
    return format(usd * count, "f")


def _from_list(entry: ListedPrice, noted_tier: Mapping[str, str]) -> Price:
    tiers = tuple(PriceTier(above, _texts(rates)) for above, rates in entry.tiers)
    context = {**entry.context, **noted_tier}
    return Price(entry.source, entry.as_of, entry.model, _texts(entry.rates), tiers, context=context)


def _texts(rates: Mapping[str, Decimal]) -> dict[str, str]:
    return {name: format(value, "f") for name, value in rates.items()}


def cost(usage: Usage, price: Price | None, *, complete: bool, max_output_tokens: int | None = None) -> Cost:
    """Cost of a call from its counts and its stored price (docs/metrics.md, "Counts and cost").

    ``complete``: the call ended with its wire's own terminal signal. Otherwise the service may have gone on and billed
    more, so the result is a lower bound; with ``max_output_tokens`` its upper end is ``high_nanousd``. Tokens at a rate
    that the price leaves out make it a lower bound too.
    """
    if price is None:
        return Cost("no_price")
    if price.per_hour is not None:
        return Cost("free", 0, 0) if Decimal(price.per_hour) == 0 else Cost("by_the_hour")
    counts = {name: getattr(usage, name) for name in DRIVERS}
    stated = {name: count for name, count in counts.items() if count is not None}
    if not stated:
        return Cost("unknown_usage")
    rates = price.rates_for(usage.input_total or 0)
    if not rates:
        return Cost("no_price")
    drivers = {name: _nano(count, rates[DRIVERS[name]]) for name, count in stated.items() if DRIVERS[name] in rates}
    unpriced = any(count for name, count in stated.items() if DRIVERS[name] not in rates)
    total = sum(drivers.values())
    both_sides = usage.input_total is not None and usage.output_total is not None
    if not complete or not both_sides or unpriced or usage.source == "partial":
        high = None
        if usage.input_total is not None and max_output_tokens is not None and not unpriced:
            seen = usage.output_total or 0
            high = total + _nano(max(max_output_tokens - seen, 0), rates["output"])
        return Cost("lower_bound", total, high, drivers)
    if usage.source == "provider":
        return Cost("exact", total, total, drivers)
    return Cost("estimated", total, None, drivers)


def _nano(count: int, rate: str) -> int:
    return int((count * Decimal(rate) * NANO_PER_RATE).to_integral_value(rounding=ROUND_HALF_UP))


def mark_of(value: Cost) -> str:
    """ "≥" for a lower bound, "~" for an estimate, else nothing."""
    return MARKS.get(value.state, "")


def words_of(value: Cost, *, marked: bool = True) -> str:
    """A cost in the words of a column: "$0.0544", "≥ $0.00091", "free", "no price", "unknown", "by the hour"."""
    return WORDS.get(value.state) or money(value.nanousd, mark_of(value) if marked else "")
