"""The modes of prompt caching in words, and which of them a call is made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.providers.base import Choice
from services.types import Ask, CacheMode

DROPPED = "cache"  # its name among the parameters that were not sent
LABEL = "Prompt caching"
MODE_WORDS: Mapping[CacheMode, str] = {
    "off": "off",
    "auto": "automatic",
    "5m": "kept 5 minutes",
    "1h": "kept 1 hour",
}


def settle(ask: Ask, modes: Sequence[CacheMode], choice: Choice) -> CacheMode | None:
    """The asked mode if the deployment has it. Another one is dropped with its reason, and nothing is said."""
    if ask.cache is None or ask.cache in modes:
        return ask.cache
    can = " or ".join(f"“{MODE_WORDS[mode]}”" for mode in modes)
    why = f"it can be {can} here, not “{MODE_WORDS[ask.cache]}”" if modes else "this deployment has no say in it"
    choice.dropped[DROPPED] = why
    return None
