"""The price that the lists have for a model, read strictly: genai-prices first, then our dated copy of LiteLLM's.

Kept apart from `services.pricing.cost` because it is the only place that knows the shapes of that package.

LiteLLM's row is used for what genai-prices lacks (models, and on Bedrock the contexts batch, flex and priority), on
these conditions:

* Where both have the standard price of the model, they have to agree on it: a row that contradicts the first list is
  a price of something else. (LiteLLM's "anthropic.claude-sonnet-4-5-…" is global inference, 10 % below the price in a
  region; half of that would be a wrong batch price.)
* Outside the US regions and global profiles LiteLLM's row of exactly that profile or region goes first. It has one for
  each, where genai-prices has one row for all ("regional.amazon.nova-2-lite" is $0.33 for us., eu. and jp.; AWS charges
  $0.33, $0.429 and $0.396). GovCloud is priced by such rows only.

What neither names exactly has no price.

A name is looked up as it is written, in the contexts that the list knows: standard, batch, flex, priority.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache, lru_cache
from importlib.resources import files
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

from services.aws.bedrock_ids import GEOGRAPHIES, ModelId, parsed, same_model
from services.pricing.price import completed


def listed(
    provider: str, model: str, moment: datetime, context: Mapping[str, str], region: str | None = None
) -> ListedPrice | None:
    """The price of exactly that model in exactly that context at that moment; None = no price.

    ``context``: {} for the standard price, else like genai-prices' (``{"service_tier": "flex"}``, ``{"processing":
    "batch"}``). ``region``: of a call to Bedrock, None when that is not known.
    """
    second = litellm_price(provider, model, context, region)
    if second is not None and _has_a_price_of_its_own(provider, model, region):
        return second
    first = genai_price(provider, model, moment, context, region)
    if first is not None or second is None:
        return first
    standard = genai_price(provider, model, moment, {}, region)
    return second if standard is None or _agree(standard, litellm_price(provider, model, {}, region)) else None


def _has_a_price_of_its_own(provider: str, model: str, region: str | None) -> bool:
    model_id = parsed(model, region) if provider == BEDROCK else None
    return model_id is not None and not model_id.in_us and model_id.geography != "global"


def _agree(first: ListedPrice, second: ListedPrice | None) -> bool:
    return second is not None and all(first.rates[name] == second.rates[name] for name in ("input", "output"))


FILE = "litellm_prices.json"


# The price contexts of genai-prices, and the list's name for each.
CONTEXTS: Mapping[tuple[tuple[str, str], ...], str] = {
    (): "standard",
    (("processing", "batch"),): "batch",
    (("service_tier", "flex"),): "flex",
    (("service_tier", "priority"),): "priority",
}


@cache
def snapshot() -> Mapping[str, Any]:
    """The whole file: ``source``, ``version``, ``date``, ``licence``, ``models`` by provider."""
    data: Mapping[str, Any] = json.loads((files("services.data") / FILE).read_text(encoding="utf-8"))
    return data


def litellm_price(
    provider_id: str, model_ref: str, context: Mapping[str, str], region: str | None = None
) -> ListedPrice | None:
    """The price of exactly that model in exactly that context, or None. ``region``: of a call to Bedrock."""
    name = CONTEXTS.get(tuple(sorted(context.items())))
    key = _key(provider_id, model_ref, region)
    if name is None or key is None:
        return None
    tables: Mapping[str, Mapping[str, Mapping[str, str]]] = snapshot()["models"][provider_id][key]
    if name not in tables:
        return None
    # A length that only the standard price tells apart has a tier without rates here: the batch price there is unknown.
    in_question = (tables[name], tables["standard"])
    starts = sorted({int(above) for table in in_question for above in table} - {0})
    tiers = tuple((above, _rates(tables, name, above)) for above in starts)
    source = f"{snapshot()['source']} {snapshot()['version']}"
    return ListedPrice(source, snapshot()["date"], key, _rates(tables, name, 0), tiers, dict(context))


def _rates(tables: Mapping[str, Mapping[str, Mapping[str, str]]], name: str, above: int) -> dict[str, Decimal]:
    """The rates of one context for calls above a number of input tokens; empty where the list states none of its own.

    A cache rate that the standard price has and this one leaves out stays out: it is not known.
    """
    own = tables[name].get(str(above), {})
    if not {"input", "output"} <= set(own):
        return {}
    rates = {rate: Decimal(value) for rate, value in own.items()}
    return completed(rates, usual=tables["standard"]["0"])


def _key(provider_id: str, model_ref: str, region: str | None) -> str | None:
    models = snapshot()["models"].get(provider_id)
    if models is None:
        return None
    if provider_id != BEDROCK:
        name = model_ref.strip().lower()
        return name if name in models else None
    model_id = parsed(model_ref, region)
    names = [] if model_id is None else _bedrock_names(model_id)
    return next((name for name in names if name in models), None)


def _bedrock_names(model_id: ModelId) -> Iterable[str]:
    """The list's names for exactly that model there: an inference profile as it is, else the region's own row.

    A row without a region is the price of the US regions.
    """
    if model_id.geography is not None:
        yield model_id.full_name
        return
    if model_id.region is not None:
        yield f"bedrock/{model_id.region}/{model_id.model}"
        yield f"bedrock_mantle/{model_id.region}/{model_id.model}"
    if model_id.in_us:
        yield from (model_id.model, f"bedrock/{model_id.model}", f"bedrock_mantle/{model_id.model}")


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


def genai_price(
    provider_id: str, model_ref: str, moment: datetime, context: Mapping[str, str], region: str | None = None
) -> ListedPrice | None:
    """The list's price of exactly that model at that moment, or None. ``region``: of a call to Bedrock.

    ``context`` (for example ``{"service_tier": "flex"}``) must be covered by a variant that is valid at that moment:
    genai-prices itself falls back to the standard price without a word.
    """
    model = find_model(provider_id, model_ref, region)
    prices = None if model is None else _prices_at(model, moment, context)
    if model is None or prices is None:
        return None
    rates = {name: getattr(prices, key) for name, key in PRICE_KEYS.items()}
    stated = {name: price for name, price in rates.items() if price is not None}
    if "input" not in stated or "output" not in stated:
        return None
    tiers = tuple((start, _rates_above(stated, start)) for start in _starts(stated))
    source = f"genai-prices {genai_prices.__version__}"
    return ListedPrice(source, newest_change().isoformat(), model.id, _rates_above(stated, None), tiers, dict(context))


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
    model_id = parsed(model_ref, region)
    if model_id is None or model_id.in_govcloud:
        return None
    for row in _providers()[BEDROCK].models:
        kind, _, name = row.id.partition(".")
        if kind in ("global", "regional"):
            fits = (kind == "global") == (model_id.geography == "global") and _covers(row, model_id.geography)
        else:
            name, fits = row.id, model_id.in_us
        if fits and same_model(name.lower(), model_id.model):
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


def _prices_at(model: ModelInfo, moment: datetime, context: Mapping[str, str]) -> ModelPrice | None:
    if isinstance(model.prices, list) and not any(_active(entry, moment) for entry in model.prices):
        return None
    if context and not any(dict(v.when) == dict(context) and _active(v, moment) for v in model.price_variants or ()):
        return None
    return model.get_prices(moment, dict(context))


def _active(entry: ConditionalPrice | PriceVariant, moment: datetime) -> bool:
    return entry.constraint is None or entry.constraint.active(moment)


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
