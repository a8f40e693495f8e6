"""Reads the price list that is bundled with genai-prices, strictly: the model that was asked for, or nothing.

Kept apart from `services.pricing.cost` because it is the only place that knows the shapes of that package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

import genai_prices
from genai_prices.data import providers as bundled_providers
from genai_prices.types import (
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TieredPrices,
)

from services.pricing.price import completed
from services.providers.bedrock_ids import GEOGRAPHIES, parsed, same_model

BEDROCK = "aws"
PRICE_KEYS: Mapping[str, str] = {
    "input": "input_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write_5m": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "output": "output_mtok",
}
# What may follow a model's name without making it another model.
DATED = re.compile(r"(?:-latest|[-@]20\d{6}|-20\d{2}-\d{2}-\d{2})?\Z")


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """The entry of one model at one moment, from whichever list. Rates are US dollars per 1,000,000 tokens.

    ``tiers``: (input tokens above which they hold, rates), ascending; empty rates: not known for that length.
    """

    source: str
    as_of: str
    model: str
    rates: Mapping[str, Decimal]
    tiers: tuple[tuple[int, Mapping[str, Decimal]], ...] = ()
    context: Mapping[str, str] = field(default_factory=dict)


def _rates_above(prices: Mapping[str, Decimal | TieredPrices], start: int | None) -> dict[str, Decimal]:
    """Rates of a call with more than ``start`` input tokens; the base rates for None."""
    return completed({name: _rate(price, start) for name, price in prices.items()})


def _starts(prices: Mapping[str, Decimal | TieredPrices]) -> list[int]:
    tiered = (price for price in prices.values() if isinstance(price, TieredPrices))
    return sorted({tier.start for price in tiered for tier in price.tiers})


def _rate(price: Decimal | TieredPrices, start: int | None) -> Decimal:
    if isinstance(price, Decimal):
        return price
    rate = price.base
    for tier in price.tiers:
        if start is not None and tier.start <= start:
            rate = tier.price
    return rate


def listed(
    provider_id: str, model_ref: str, at: datetime, context: Mapping[str, str], region: str | None = None
) -> ListedPrice | None:
    """The list's price of exactly that model at that moment, or None. ``region``: of a call to Bedrock.

    ``context`` (for example ``{"service_tier": "flex"}``) must be covered by a variant that is valid at that moment:
    genai-prices itself falls back to the standard price without a word.
    """
    model = find_model(provider_id, model_ref, region)
    prices = None if model is None else _prices_at(model, at, context)
    if model is None or prices is None:
        return None
    found = {name: getattr(prices, key) for name, key in PRICE_KEYS.items()}
    known = {name: price for name, price in found.items() if price is not None}
    if "input" not in known or "output" not in known:
        return None
    tiers = tuple((start, _rates_above(known, start)) for start in _starts(known))
    source = f"genai-prices {genai_prices.__version__}"
    return ListedPrice(source, newest_change().isoformat(), model.id, _rates_above(known, None), tiers, dict(context))


def find_model(provider_id: str, model_ref: str, region: str | None = None) -> ModelInfo | None:
    """The model of that provider with that name, one of its listed aliases, or a dated form of either.

    The provider is compared exactly (the package's own matching takes "openai-compatible" for OpenAI), and prefix and
    substring rules are not followed beyond a date.
    """
    if provider_id == BEDROCK:
        return _on_bedrock(model_ref, region)
    ref = model_ref.strip().lower()
    provider = _providers().get(provider_id)
    model = None if provider is None else provider.find_model(ref)
    return model if model is not None and _named(model, ref) else None


@lru_cache(maxsize=1000)
def _on_bedrock(model_ref: str, region: str | None) -> ModelInfo | None:
    """The row of a Bedrock identifier. The package itself looks for substrings there, and so prices too much alike.

    Its rows are "global.…", "regional.…" (one price for the geographies that its rule names, and for the model in a
    region: 10 % above global since Claude 4.5) and ones without either, which are the prices of the US regions: its
    substrings would give them to "eu.amazon.nova-pro-v1:0" too, which costs 31 % more. GovCloud is priced by none.
    """
    asked = parsed(model_ref, region)
    if asked is None or asked.in_govcloud:
        return None
    for row in _providers()[BEDROCK].models:
        kind, _, rest = row.id.partition(".")
        if kind in ("global", "regional"):
            fits = (kind == "global") == (asked.geography == "global") and _covers(row, asked.geography)
        else:
            rest, fits = row.id, asked.in_us
        if fits and same_model(rest.lower(), asked.model):
            return row
    return None


def _covers(row: ModelInfo, geography: str | None) -> bool:
    """Whether the rule of a row names a geography, or none at all: then it is meant for every one."""
    texts = [*_aliases(row.match), *_contained(row.match)]
    named = {text.removeprefix("/").partition(".")[0] for text in texts} & GEOGRAPHIES
    return geography is None or not named or geography in named


def _contained(clause: Any) -> Iterator[str]:
    if isinstance(clause, ClauseOr):
        for inner in clause.or_:
            yield from _contained(inner)
    elif isinstance(clause, ClauseContains):
        yield clause.contains.lower()
    elif isinstance(clause, ClauseEndsWith):
        yield clause.ends_with.lower()


@cache
def _providers() -> dict[str, Provider]:
    return {provider.id: provider for provider in bundled_providers}


def _named(model: ModelInfo, ref: str) -> bool:
    for name in {model.id.lower(), *_aliases(model.match)}:
        if ref.startswith(name) and DATED.match(ref, len(name)):
            return True
    return any(re.fullmatch(pattern, ref) for pattern in _patterns(model.match))


def _aliases(clause: Any) -> Iterator[str]:
    if isinstance(clause, ClauseOr):
        for inner in clause.or_:
            yield from _aliases(inner)
    elif isinstance(clause, ClauseEquals):
        yield clause.equals.lower()
    elif isinstance(clause, ClauseStartsWith):
        yield clause.starts_with.lower()


def _patterns(clause: Any) -> Iterator[str]:
    if isinstance(clause, ClauseOr):
        for inner in clause.or_:
            yield from _patterns(inner)
    elif isinstance(clause, ClauseRegex):
        yield clause.regex


def _prices_at(model: ModelInfo, at: datetime, context: Mapping[str, str]) -> ModelPrice | None:
    if isinstance(model.prices, list) and not any(_active(entry, at) for entry in model.prices):
        return None
    if context and not any(dict(v.when) == dict(context) and _active(v, at) for v in model.price_variants or ()):
        return None
    return model.get_prices(at, dict(context))


def _active(entry: ConditionalPrice | PriceVariant, at: datetime) -> bool:
    return entry.constraint is None or entry.constraint.active(at)


@cache
def newest_change() -> date:
    """The newest price change that the bundled list knows of and that is not in the future: it is at least that recent.

    The package states no date of its own.
    """
    today = datetime.now(UTC).date()
    dates = [
        entry.constraint.start_date
        for provider in bundled_providers
        for model in provider.models
        for entry in [*(model.prices if isinstance(model.prices, list) else ()), *(model.price_variants or ())]
        if isinstance(entry.constraint, StartDateConstraint) and entry.constraint.start_date <= today
    ]
    return max(dates)
