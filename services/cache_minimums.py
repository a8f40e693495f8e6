"""The shortest prompt that a model's service caches, and for how long: dated facts from public documentation.

``services/data/cache_minimums.json`` holds the minimums with their sources; a model that is not in it has none that we
know, which is said and never guessed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

from services.paths import ROOT
from services.providers import gpt, model_rules
from services.types import CacheMode, Deployment

FILE = ROOT / "services" / "data" / "cache_minimums.json"
MINUTES: dict[CacheMode, int] = {"5m": 5, "1h": 60}
CLAUDE_UNASKED_MIN = 5  # Anthropic's default lifetime, which "auto" takes
OPENAI_MIN = 30  # gpt-5.6 and later: the default of `prompt_cache_options.ttl` (openai 3.54)


@dataclass(frozen=True, slots=True)
class Minimum:
    """Tokens of the shortest prefix that is cached; 0 where any length is. ``as_of`` is the day it was looked up."""

    tokens: int
    as_of: str


@cache
def _entries() -> tuple[str, tuple[tuple[str, str, int], ...]]:
    data = json.loads(FILE.read_text(encoding="utf-8"))
    rows = ((e["service"], model, int(e["tokens"])) for e in data["entries"] for model in e["models"])
    return str(data["as_of"]), tuple(rows)


def minimum(deployment: Deployment) -> Minimum | None:
    """What a deployment's model needs at least; None where that is not known."""
    as_of, rows = _entries()
    if deployment.origin == "embedded":
        return Minimum(0, as_of)  # llama.cpp keeps any prefix
    service = "bedrock" if deployment.kind.startswith("bedrock") or deployment.aws is not None else deployment.kind
    found = [tokens for where, model, tokens in rows if where == service and _is(deployment.model, model)]
    return Minimum(found[0], as_of) if found else None


def _is(model: str, listed: str) -> bool:
    named, wanted = model_rules.parse(model), model_rules.parse(listed)
    if named is not None or wanted is not None:
        return named == wanted
    name = gpt.bare(model)
    return name.startswith(listed) or f".{listed}" in f".{name}"


def lifetime_min(deployment: Deployment, mode: CacheMode | None) -> int | None:
    """For how many minutes after its last use a prefix is kept in a mode; None where the service does not say."""
    if mode in MINUTES:
        return MINUTES[mode]
    if mode == "auto" and model_rules.parse(deployment.model) is not None:
        return CLAUDE_UNASKED_MIN
    version = gpt.version(deployment.model)
    return OPENAI_MIN if mode != "off" and version is not None and version >= (5, 6) else None
