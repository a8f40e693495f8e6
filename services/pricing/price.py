"""The price row stored with a call, and what moves a call off the standard price, as the context of a price list.

Services name one tier in several words, and say in their answer which tier really served a call. That one is billed:

* "standard", "default", "standard_only", "auto" and "on_demand" are the standard price;
* "priority", "flex", "batch", "fast", "scale", "reserved" are looked up, and have no price where no list has one
  (capacity that was bought beforehand: Anthropic's priority, OpenAI's scale, Bedrock's reserved tier);
* a word that is none of these tells nothing about the price: it stays that of the tier asked for, and the stored price
  says the word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from services.types import Deployment

RATE_NAMES = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")

NOT_READABLE = "price not readable"


# US dollars, and the power of ten of the smallest: the bounds of `cost.decimal_amount`, which wrote these rows.
MOST, SMALLEST = 1_000_000, -12


LESS_SPECIAL = {"cache_read": "input", "cache_write_5m": "input", "cache_write_1h": "cache_write_5m"}


@dataclass(frozen=True, slots=True)
class PriceTier:
    """Rates of *all* tokens of a call with more than ``above`` input tokens (cached ones included).

    Without rates the source says nothing about calls of that length, and they have no price.
    """

    above: int
    rates: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Price:
    """The price row stored with a call. Either ``rates`` (and ``tiers``) or ``per_hour`` is set.

    ``source`` says where it is from ("genai-prices 0.2.3", "LiteLLM 1.109.1", "deployment"), ``date`` (ISO, sometimes
    only its beginning) how recent that source is: the newest price change it knows for genai-prices, the day a list was
    read, the day of the call for a price of our own. ``model`` is the list's name. ``rates`` are US dollars per
    1,000,000 tokens; a rate that the source leaves out although it charges for such tokens is missing.

    ``per_hour`` is what the whole deployment costs, US dollars per hour of being on: the price of one ``instance`` (or
    unit) × ``count``.

    ``context`` is what moves the call off the standard price: ``service_tier``, ``processing`` ("batch"), ``speed``,
    ``latency`` … Two keys only inform: ``asked``, the tier that was asked for when another one served the call, and
    ``served``, a tier the service named that we do not know (the price is then that of the tier asked for).
    """

    source: str
    date: str
    model: str | None = None
    rates: Mapping[str, str] | None = None
    tiers: tuple[PriceTier, ...] = ()
    per_hour: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    instance: str | None = None
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON; `from_json` gives it back unchanged."""
        row: dict[str, Any] = {
            "source": self.source,
            "date": self.date,
            "model": self.model,
            "rates": None if self.rates is None else dict(self.rates),
            "tiers": [{"above": t.above, "rates": dict(t.rates)} for t in self.tiers],
            "per_hour": self.per_hour,
            "context": dict(self.context),
        }
        return row if self.per_hour is None else row | {"instance": self.instance, "count": self.count}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Price:
        """Inverse of `to_json`. Raises ValueError for a row that no version of this program wrote; see `read`."""
        try:
            rates, per_hour = row.get("rates"), row.get("per_hour")
            return cls(
                source=str(row["source"]),
                date=str(row["date"]),
                model=_word(row.get("model")),
                rates=None if rates is None else _amounts(rates),
                tiers=tuple(PriceTier(int(t["above"]), _amounts(t["rates"])) for t in row.get("tiers") or ()),
                per_hour=None if per_hour is None else _amount(per_hour),
                context={name: str(value) for name, value in (row.get("context") or {}).items()},
                instance=_word(row.get("instance")),
                count=int(row.get("count") or 1),
            )
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"This price row is not readable ({type(error).__name__}).") from error

    def rates_for(self, input_tokens: int) -> Mapping[str, str]:
        """The rates ($ per 1M tokens) of a call with that many input tokens, cached ones included."""
        rates = self.rates or {}
        for tier in self.tiers:
            if input_tokens > tier.above:
                rates = tier.rates
        return rates


def read(row: object) -> Price | None:
    """The price row stored with a call; None for none, and for a damaged one: what the call cost stays as recorded."""
    try:
        return Price.from_json(row) if isinstance(row, Mapping) else None
    except ValueError:
        return None


def damaged(row: object) -> bool:
    """Whether there is a price row that cannot be read: it is shown as `NOT_READABLE`, never as no price."""
    return row is not None and read(row) is None


def _word(value: object) -> str | None:
    return None if value is None else str(value)


def _amounts(rates: Mapping[str, Any]) -> dict[str, str]:
    return {name: _amount(value) for name, value in rates.items()}


def _amount(value: object) -> str:
    """An amount as text. Raises ValueError or ArithmeticError for what is no price, before anybody calculates."""
    text = value if isinstance(value, str) else str(value)
    amount = Decimal(text)
    if not amount.is_finite() or not 0 <= amount <= MOST or (amount and amount.adjusted() < SMALLEST):
        raise ValueError("no price")
    return text


def completed(listed: Mapping[str, Decimal], usual: Iterable[str] = ()) -> dict[str, Decimal]:
    """All five rates. One the source leaves out is charged as the less special kind it belongs to, which is what
    genai-prices' own decomposition does: cache write 1 h → 5 min → input, cache read → input.

    ``usual``: special rates that the source has for the same model elsewhere, so that leaving one out does not mean
    that it is charged like others: it is unknown and stays out.
    """
    rates = dict(listed)
    for name, less_special in LESS_SPECIAL.items():
        if name not in rates and name not in usual and less_special in rates:
            rates[name] = rates[less_special]
    return {name: rates[name] for name in RATE_NAMES if name in rates}


STANDARD = frozenset({"standard", "default", "standard_only", "auto", "on_demand"})

KNOWN = frozenset({"priority", "flex", "batch", "fast", "scale", "reserved"})


# Body fields that change what a service charges, and the values that mean the standard price.
PRICED_BY_BODY: Mapping[str, frozenset[str]] = {
    "speed": frozenset({"standard"}),
    "inference_geo": frozenset({"global"}),
}


BATCH = {"processing": "batch"}


@dataclass(frozen=True, slots=True)
class PriceContext:
    """``listed`` is looked up in the lists (empty: the standard price); ``noted_tier`` only informs."""

    listed: Mapping[str, str]
    noted_tier: Mapping[str, str] = field(default_factory=dict)


def tier_asked(deployment: Deployment) -> str | None:
    """The service tier that a deployment's calls ask for by its settings; None: the service's own default."""
    if deployment.aws is not None and deployment.aws.service_tier:
        return deployment.aws.service_tier
    tier = deployment.extra_body.get("service_tier")
    if isinstance(tier, Mapping):  # Converse writes {"type": "flex"}
        tier = tier.get("type")
    return tier if isinstance(tier, str) else None


def normal_tier(word: str | None) -> str | None:
    """A tier in one word, None for the standard one. Words that we do not know come back as they are, in lower case."""
    name = (word or "").strip().lower()
    return None if not name or name in STANDARD else name


def context_of(deployment: Deployment, *, batch: bool = False, tier: str | None = None) -> PriceContext:
    """The context of a call; ``tier`` is the one that served it, in the service's word, None where it said none."""
    requested, served = normal_tier(tier_asked(deployment)), normal_tier(tier)
    noted_tier: dict[str, str] = {}
    paid = requested
    if tier is not None and served != requested:
        if served is None or served in KNOWN:
            paid = served
            noted_tier = {"asked": requested or "default"}
        else:
            noted_tier = {"served": served}
    listed = dict(BATCH) if batch or paid == "batch" else {"service_tier": paid} if paid else {}
    return PriceContext(listed | _others(deployment), noted_tier)


def _others(deployment: Deployment) -> dict[str, str]:
    context = _by_body(deployment.extra_body)
    latency = deployment.aws.latency if deployment.aws is not None else None
    if latency is not None and latency != "standard":
        context["latency"] = latency
    return context


def _by_body(extra_body: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(extra_body[name])
        for name, standard in PRICED_BY_BODY.items()
        if extra_body.get(name) is not None and str(extra_body[name]) not in standard
    }
