"""Reads our dated, filtered copy of LiteLLM's price list (`scripts.refresh_litellm`), strictly as well.

A name is looked up as it is written, in the contexts that the list knows: standard, batch, flex, priority.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from services.pricing.price import completed
from services.pricing.sources import BEDROCK, ListedPrice
from services.providers.bedrock_ids import ModelId, parsed

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


def listed(
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
    known = {rate: Decimal(value) for rate, value in own.items()}
    return completed(known, usual=tables["standard"]["0"])


def _key(provider_id: str, model_ref: str, region: str | None) -> str | None:
    models = snapshot()["models"].get(provider_id)
    if models is None:
        return None
    if provider_id != BEDROCK:
        name = model_ref.strip().lower()
        return name if name in models else None
    asked = parsed(model_ref, region)
    names = [] if asked is None else _bedrock_names(asked)
    return next((name for name in names if name in models), None)


def _bedrock_names(asked: ModelId) -> Iterable[str]:
    """The list's names for exactly that model there: an inference profile as it is, else the region's own row.

    A row without a region is the price of the US regions.
    """
    if asked.geography is not None:
        yield asked.whole
        return
    if asked.region is not None:
        yield f"bedrock/{asked.region}/{asked.model}"
        yield f"bedrock_mantle/{asked.region}/{asked.model}"
    if asked.in_us:
        yield from (asked.model, f"bedrock/{asked.model}", f"bedrock_mantle/{asked.model}")
