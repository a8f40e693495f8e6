"""The price that the lists have for a model, called in one context: genai-prices first, then our copy of LiteLLM's.

LiteLLM's row is used for what genai-prices lacks (models, and on Bedrock the contexts batch, flex and priority), on
these conditions:

* Where both have the standard price of the model, they have to agree on it: a row that contradicts the first list is
  a price of something else. (LiteLLM's "anthropic.claude-sonnet-4-5-…" is global inference, 10 % below the price in a
  region; half of that would be a wrong batch price.)
* Outside the US regions and global profiles LiteLLM's row of exactly that profile or region goes first. It has one for
  each, where genai-prices has one row for all ("regional.amazon.nova-2-lite" is $0.33 for us., eu. and jp.; AWS charges
  $0.33, $0.429 and $0.396). GovCloud is priced by such rows only.

What neither names exactly has no price.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from services.pricing import snapshot, sources
from services.pricing.sources import BEDROCK, ListedPrice
from services.providers.bedrock_ids import parsed


def listed(
    provider: str, model: str, at: datetime, context: Mapping[str, str], region: str | None = None
) -> ListedPrice | None:
    """The price of exactly that model in exactly that context at that moment; None = no price.

    ``context``: {} for the standard price, else like genai-prices' (``{"service_tier": "flex"}``, ``{"processing":
    "batch"}``). ``region``: of a call to Bedrock, None when that is not known.
    """
    second = snapshot.listed(provider, model, context, region)
    if second is not None and _has_a_price_of_its_own(provider, model, region):
        return second
    first = sources.listed(provider, model, at, context, region)
    if first is not None or second is None:
        return first
    standard = sources.listed(provider, model, at, {}, region)
    return second if standard is None or _agree(standard, snapshot.listed(provider, model, {}, region)) else None


def _has_a_price_of_its_own(provider: str, model: str, region: str | None) -> bool:
    asked = parsed(model, region) if provider == BEDROCK else None
    return asked is not None and not asked.in_us and asked.geography != "global"


def _agree(one: ListedPrice, other: ListedPrice | None) -> bool:
    return other is not None and all(one.rates[name] == other.rates[name] for name in ("input", "output"))
