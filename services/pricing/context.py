"""What moves a call off the standard price: service tier, batch, speed, latency, as the context of a price list.

Services name one tier in several words, and say in their answer which tier really served a call. That one is billed:

* "standard", "default", "standard_only", "auto" and "on_demand" are the standard price;
* "priority", "flex", "batch", "fast", "scale", "reserved" are looked up, and have no price where no list has one
  (capacity that was bought beforehand: Anthropic's priority, OpenAI's scale, Bedrock's reserved tier);
* a word that is none of these tells nothing about the price: it stays that of the tier asked for, and the stored price
  says the word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.types import Deployment

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
    """``listed`` is looked up in the lists (empty: the standard price); ``told`` only informs (`Price.context`)."""

    listed: Mapping[str, str]
    told: Mapping[str, str] = field(default_factory=dict)


def tier_asked(deployment: Deployment) -> str | None:
    """The service tier that a deployment's calls ask for by its settings; None: the service's own default."""
    if deployment.aws is not None and deployment.aws.service_tier:
        return deployment.aws.service_tier
    asked = deployment.extra_body.get("service_tier")
    if isinstance(asked, Mapping):  # Converse writes {"type": "flex"}
        asked = asked.get("type")
    return asked if isinstance(asked, str) else None


def normal_tier(word: str | None) -> str | None:
    """A tier in one word, None for the standard one. Words that we do not know come back as they are, in lower case."""
    name = (word or "").strip().lower()
    return None if not name or name in STANDARD else name


def context_of(deployment: Deployment, *, batch: bool = False, tier: str | None = None) -> PriceContext:
    """The context of a call; ``tier`` is the one that served it, in the service's word, None where it said none."""
    asked, served = normal_tier(tier_asked(deployment)), normal_tier(tier)
    told: dict[str, str] = {}
    paid = asked
    if tier is not None and served != asked:
        if served is None or served in KNOWN:
            paid = served
            told = {"asked": asked or "default"}
        else:
            told = {"served": served}
    listed = dict(BATCH) if batch or paid == "batch" else {"service_tier": paid} if paid else {}
    return PriceContext(listed | _others(deployment), told)


def _others(deployment: Deployment) -> dict[str, str]:
    found = _by_body(deployment.extra_body)
    latency = deployment.aws.latency if deployment.aws is not None else None
    if latency is not None and latency != "standard":
        found["latency"] = latency
    return found


def _by_body(extra_body: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(extra_body[name])
        for name, standard in PRICED_BY_BODY.items()
        if extra_body.get(name) is not None and str(extra_body[name]) not in standard
    }
