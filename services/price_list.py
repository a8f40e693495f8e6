"""Reads the price list that is bundled with genai-prices, strictly: the model that was asked for, or nothing.

Kept apart from `services.pricing` because it is the only place that knows the shapes of that package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import genai_prices
from genai_prices.data import providers as bundled_providers
from genai_prices.types import (
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
    """The entry of one model at one moment; ``prices`` by rate name, each a `Decimal` or a tiered price."""

    source: str
    as_of: date
    model: str
    prices: Mapping[str, Decimal | TieredPrices]
    context: Mapping[str, str]

    @property
    def starts(self) -> list[int]:
        """The numbers of input tokens above which some rate changes, ascending."""
        tiered = (price for price in self.prices.values() if isinstance(price, TieredPrices))
        return sorted({tier.start for price in tiered for tier in price.tiers})

    def rates_above(self, start: int | None) -> dict[str, Decimal]:
        """Rates ($ per 1M tokens) of a call with more than ``start`` input tokens; the base rates for None."""
        return {name: _rate(price, start) for name, price in self.prices.items()}


def _rate(price: Decimal | TieredPrices, start: int | None) -> Decimal:
    if isinstance(price, Decimal):
        return price
    rate = price.base
    for tier in price.tiers:
        if start is not None and tier.start <= start:
            rate = tier.price
    return rate


def listed(provider_id: str, model_ref: str, at: datetime, context: Mapping[str, str]) -> ListedPrice | None:
    """The list's price of exactly that model at that moment, or None.

    ``context`` (for example ``{"service_tier": "flex"}``) must be covered by a variant that is valid at that moment:
    genai-prices itself falls back to the standard price without a word.
    """
    model = find_model(provider_id, model_ref)
    prices = None if model is None else _prices_at(model, at, context)
    if model is None or prices is None:
        return None
    found = {name: getattr(prices, key) for name, key in PRICE_KEYS.items()}
    known = {name: price for name, price in found.items() if price is not None}
    if "input" not in known or "output" not in known:
        return None
    return ListedPrice(f"genai-prices {genai_prices.__version__}", newest_change(), model.id, known, dict(context))


def find_model(provider_id: str, model_ref: str) -> ModelInfo | None:
    """The model of that provider with that name, one of its listed aliases, or a dated form of either.

    The provider is compared exactly (the package's own matching takes "openai-compatible" for OpenAI), and prefix and
    substring rules are not followed beyond a date.
    """
    ref = model_ref.strip().lower()
    provider = _providers().get(provider_id)
    model = None if provider is None else provider.find_model(ref)
    return model if model is not None and _named(model, ref) else None


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
