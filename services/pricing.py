"""What a call costs, from a price that was looked up before the call and is stored with it.

A `Price` is a self-contained row: the rates of the five drivers in US dollars per 1,000,000 tokens, with the tiers that
apply above a number of input tokens. `cost` needs nothing else, so a call of last year is costed from its own row and
never re-priced. All arithmetic is `Decimal`, results are integer nano-dollars (1 $ = 10⁹).

The list is the data bundled with genai-prices (offline; `UpdatePrices` is never started). Its matching is broader than
a bill may be ("claude-opus-4-8-anything" gets the price of Claude Opus 4.8), so a match is accepted only when the model
is named exactly, or by a dated name of it; everything else has no price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal

from services.domain import Deployment, PriceRef, Usage

if TYPE_CHECKING:
    from services.price_list import ListedPrice

CostState = Literal["exact", "lower_bound", "estimated", "by_the_hour", "free", "no_price", "unknown_usage"]

RATE_NAMES = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
# Driver of a cost (a field of `Usage`) → the rate it is charged at.
DRIVERS: Mapping[str, str] = {
    "uncached_input": "input",
    "cache_read": "cache_read",
    "cache_write_5m": "cache_write_5m",
    "cache_write_1h": "cache_write_1h",
    "reasoning_output": "output",
    "answer_output": "output",
}
NANO = 1_000_000_000
MOST_DOLLARS = 1_000_000  # for a million tokens or an hour: more is a slip of the finger, and would not fit the records
# nano-dollars per token = ($ per 1M tokens) × 10⁹ / 10⁶
NANO_PER_RATE = Decimal(1000)

# Body fields that change what a service charges, and the values that mean the standard price. Any other value is looked
# up as a variant of the list and has no price when the list does not know it.
PRICED_BY_BODY: Mapping[str, frozenset[str]] = {
    "service_tier": frozenset({"auto", "default", "standard", "standard_only"}),
    "speed": frozenset({"standard"}),
    "inference_geo": frozenset({"global"}),
}


@dataclass(frozen=True, slots=True)
class PriceTier:
    """Rates of *all* tokens of a call with more than ``above`` input tokens (cached ones included)."""

    above: int
    rates: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Price:
    """The price row stored with a call. Either ``rates`` (and ``tiers``) or ``per_hour`` is set.

    ``source`` says where it is from ("genai-prices 0.2.3", "deployment"), ``date`` (ISO) how recent that source is: the
    newest price change it knows for a list, the day of the call for a price of our own. ``model`` is the list's name.
    """

    source: str
    date: str
    model: str | None = None
    rates: Mapping[str, str] | None = None
    tiers: tuple[PriceTier, ...] = ()
    per_hour: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON; `from_json` gives it back unchanged."""
        return {
            "source": self.source,
            "date": self.date,
            "model": self.model,
            "rates": None if self.rates is None else dict(self.rates),
            "tiers": [{"above": t.above, "rates": dict(t.rates)} for t in self.tiers],
            "per_hour": self.per_hour,
            "context": dict(self.context),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Price:
        """Inverse of `to_json`. Raises KeyError when ``source`` or ``date`` is missing."""
        rates = row.get("rates")
        return cls(
            source=str(row["source"]),
            date=str(row["date"]),
            model=row.get("model"),
            rates=None if rates is None else dict(rates),
            tiers=tuple(PriceTier(int(t["above"]), dict(t["rates"])) for t in row.get("tiers") or ()),
            per_hour=row.get("per_hour"),
            context=dict(row.get("context") or {}),
        )

    def rates_for(self, input_tokens: int) -> Mapping[str, str]:
        """The rates ($ per 1M tokens) of a call with that many input tokens, cached ones included."""
        rates = self.rates or {}
        for tier in self.tiers:
            if input_tokens > tier.above:
                rates = tier.rates
        return rates


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


MARKS: Mapping[CostState, str] = {"lower_bound": "≥", "estimated": "~"}
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
    if ref.per_hour is not None:
        decimal_amount(ref.per_hour)
    if ref.count < 1:
        raise ValueError("the price is for fewer than 1 instance or unit")
    if ref.model is not None and ref.provider is None:
        raise ValueError('the price names a model without its provider, for example provider = "openai"')


def tier_asked(deployment: Deployment) -> str | None:
    """The service tier that a deployment's calls ask for by its settings; None: the service's own default."""
    asked = deployment.extra_body.get("service_tier")
    if deployment.aws is not None and deployment.aws.service_tier:
        return deployment.aws.service_tier
    return asked if isinstance(asked, str) else None


def price_of(deployment: Deployment, at: datetime) -> Price | None:
    """The price of one call of ``deployment`` that starts ``at`` (aware, or UTC when naive); None = no known price.

    Only ``deployment.price`` decides: a server of one's own that calls its model "claude-haiku-5-5" has no API price
    unless its price reference says so. Raises ValueError for a reference that `check_price` refuses.
    """
    ref = deployment.price
    check_price(ref)
    day = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).date().isoformat()
    if ref.override is not None:
        return Price("deployment", day, rates=_all_rates({k: decimal_amount(v) for k, v in ref.override.items()}))
    if ref.per_hour is not None:
        return Price("deployment", day, per_hour=str(decimal_amount(ref.per_hour)))
    if ref.provider is None:
        return None
    # Here because the list takes half a second to import, and pages need only `money`.
    from services.price_list import listed

    found = listed(ref.provider, ref.model or deployment.model, at, body_context(deployment.extra_body))
    return None if found is None else _from_list(found)


def body_context(extra_body: Mapping[str, Any]) -> dict[str, str]:
    """The body fields of ``extra_body`` that move a call off the standard price, as genai-prices' price context."""
    context = {}
    for name, standard in PRICED_BY_BODY.items():
        value = extra_body.get(name)
        if value is not None and str(value) not in standard:
            context[name] = str(value)
    return context


def _from_list(found: ListedPrice) -> Price:
    base = found.rates_above(None)
    tiers = tuple(PriceTier(start, _all_rates(found.rates_above(start))) for start in found.starts)
    return Price(
        found.source, found.as_of.isoformat(), found.model, _all_rates(base), tiers, context=dict(found.context)
    )


def _all_rates(known: Mapping[str, Decimal]) -> dict[str, str]:
    """All five rates as strings. One the source leaves out is charged as the less special kind it belongs to, which is
    what genai-prices' own decomposition does: cache write 1 h → 5 min → input, cache read → input."""
    write = known.get("cache_write_5m", known["input"])
    rates = {
        "input": known["input"],
        "cache_read": known.get("cache_read", known["input"]),
        "cache_write_5m": write,
        "cache_write_1h": known.get("cache_write_1h", write),
        "output": known["output"],
    }
    return {name: format(value, "f") for name, value in rates.items()}


def cost(usage: Usage, price: Price | None, *, complete: bool, max_output_tokens: int | None = None) -> Cost:
    """Cost of a call from its counts and its stored price (metrics.md, "Counts and cost").

    ``complete``: the call ended with its wire's own terminal signal. Otherwise the service may have gone on and billed
    more, so the result is a lower bound; with ``max_output_tokens`` its upper end is ``high_nanousd``.
    """
    if price is None:
        return Cost("no_price")
    if price.per_hour is not None:
        return Cost("free", 0, 0) if Decimal(price.per_hour) == 0 else Cost("by_the_hour")
    counts = {name: getattr(usage, name) for name in DRIVERS}
    known = {name: count for name, count in counts.items() if count is not None}
    if not known:
        return Cost("unknown_usage")
    rates = price.rates_for(usage.input_total or 0)
    drivers = {name: _nano(count, rates[DRIVERS[name]]) for name, count in known.items()}
    total = sum(drivers.values())
    both_sides = usage.input_total is not None and usage.output_total is not None
    if not complete or not both_sides or usage.source == "partial":
        high = None
        if usage.input_total is not None and max_output_tokens is not None:
            seen = usage.output_total or 0
            high = total + _nano(max(max_output_tokens - seen, 0), rates["output"])
        return Cost("lower_bound", total, high, drivers)
    if usage.source == "provider":
        return Cost("exact", total, total, drivers)
    return Cost("estimated", total, None, drivers)


def _nano(count: int, rate: str) -> int:
    return int((count * Decimal(rate) * NANO_PER_RATE).to_integral_value(rounding=ROUND_HALF_UP))


def money(nanousd: int | None, mark: str = "") -> str:
    """An amount for a reader: cents from one dollar up, three significant digits below it.

    "$12.35", "$0.00123", "≥ $0.00091" with the mark "≥", "$0", and "no price" for None.
    """
    if nanousd is None:
        return "no price"
    dollars = Decimal(nanousd) / NANO
    if nanousd == 0:
        text = "0"
    elif abs(dollars) >= 1:
        text = format(dollars.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP), ",f")
    else:
        step = Decimal(1).scaleb(max(dollars.adjusted() - 2, -9))
        text = format(dollars.quantize(step, rounding=ROUND_HALF_UP).normalize(), "f")
        if len(text.partition(".")[2]) < 2:
            text = format(Decimal(text), ".2f")
    sign, text = ("−", text[1:]) if text.startswith("-") else ("", text)
    return f"{mark} {sign}${text}" if mark else f"{sign}${text}"


def mark_of(value: Cost) -> str:
    """ "≥" for a lower bound, "~" for an estimate, else nothing."""
    return MARKS.get(value.state, "")


def words_of(value: Cost, *, marked: bool = True) -> str:
    """A cost in the words of a column: "$0.0544", "≥ $0.00091", "free", "no price", "unknown", "by the hour"."""
    return WORDS.get(value.state) or money(value.nanousd, mark_of(value) if marked else "")
