"""What each Claude model takes over the Messages wire, as of November 2026.

Sources: the installed SDK (anthropic 2.12: `Model`, `OutputConfigParam`, `ThinkingTypes`; it has no sampling parameters
any more) and Anthropic's migration guides for Opus 4.7, Opus 5, Opus 5.5, Sonnet 5, Sonnet 5.5 and Haiku 5.5.

- temperature, top_p, top_k: up to Opus 4.6, Sonnet 4.6 and Haiku 4.5. Newer models answer 400. From 4.1 on temperature
  and top_p exclude each other, and thinking excludes all three.
- reasoning_effort: ``output_config.effort`` with ``thinking: adaptive`` from Opus 4.6, Sonnet 4.6 and Haiku 5.5 on
  (``max`` everywhere there, ``xhigh`` from Opus 4.7 and all 5.x on). Older models take a budget of thinking tokens
  instead: a share of max_tokens (low 25 %, medium 50 %, high 75 %), at least 1,024.
- reasoning_effort "none": ``disabled`` up to Opus 5 / Sonnet 5 and on Haiku 5.5, ``between_tools`` on Sonnet 5.5; Opus
  5.5, Fable and Mythos always think.
- Where a model thinks, ``display: summarized`` is asked for: with the API's default of the newer models (omitted) no
  reasoning arrives, and reasoning could not be told from waiting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from services.providers.building import Choice

_NEW = re.compile(r"claude-(?P<line>[a-z]+)-(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?!\d)")
_OLD = re.compile(r"claude-(?P<major>\d)(?:[-.](?P<minor>\d))?-(?P<line>[a-z]+)")
SAMPLING = ("temperature", "top_p", "top_k")
MIN_BUDGET = 1024
_SHARE = {"low": 0.25, "medium": 0.5, "high": 0.75}


@dataclass(frozen=True, slots=True)
class Claude:
    """A Claude model by its line ("opus") and version ((4, 7)); (99, 0) where the name says none we know."""

    line: str
    version: tuple[int, int]

    @property
    def samples(self) -> bool:
        """Takes temperature, top_p and top_k."""
        return self.line in ("opus", "sonnet", "haiku", "instant") and self.version < (4, 7)

    @property
    def effort(self) -> bool:
        """Takes output_config.effort together with adaptive thinking."""
        return self.line in ("fable", "mythos") or self.version >= ((5, 0) if self.line == "haiku" else (4, 6))

    @property
    def budget(self) -> bool:
        """Thinks by a budget of tokens."""
        return not self.effort and self.version >= (3, 7)

    @property
    def thinks_unasked(self) -> bool:
        """Thinks when the request says nothing about it."""
        return self.line in ("fable", "mythos") or self.version >= (5, 0)

    @property
    def levels(self) -> tuple[str, ...]:
        """Effort levels above "none" that can be asked for."""
        if not self.effort:
            return tuple(_SHARE) if self.budget else ()
        xhigh = self.thinks_unasked or (self.line == "opus" and self.version >= (4, 7))
        return ("low", "medium", "high", *(("xhigh",) if xhigh else ()), "max")

    @property
    def off(self) -> str | None:
        """The thinking type that turns thinking off; None where the model always thinks."""
        if self.line in ("fable", "mythos") or (self.version >= (5, 5) and self.line not in ("sonnet", "haiku")):
            return None
        return "between_tools" if self.line == "sonnet" and self.version >= (5, 5) else "disabled"


def parse(model: str) -> Claude | None:
    """The Claude model that a name means (also Bedrock's and gateways' spellings); None when it is no Claude."""
    lowered = model.lower()
    if "claude" not in lowered:
        return None
    found = _OLD.search(lowered) or _NEW.search(lowered)
    if found is None:
        line = re.search(r"claude-([a-z]+)", lowered)
        return Claude(line.group(1) if line else "", (99, 0))
    return Claude(found["line"], (int(found["major"]), int(found["minor"] or 0)))


def settle(model: Claude, choice: Choice, max_tokens: int) -> dict[str, Any]:
    """Drop from ``choice`` what the model refuses; returns the body's thinking and output_config."""
    if not model.samples:
        choice.drop_all(dict.fromkeys(SAMPLING, "this Claude model takes no sampling parameters any more"))
    body = _thinking(model, choice, max_tokens)
    _narrow(model, choice)
    return body


def _thinking(model: Claude, choice: Choice, max_tokens: int) -> dict[str, Any]:
    effort = choice.sent.get("reasoning_effort")
    if effort == "none":
        return _off(model, choice)
    if effort is not None and effort not in model.levels:
        known = ", ".join(("none", *model.levels)) if model.levels else "no levels at all"
        choice.drop("reasoning_effort", f"this model knows {known}, not “{effort}”")
        effort = None
    if effort is not None and model.budget:
        return _budget(choice, str(effort), max_tokens)
    if effort is None and not model.thinks_unasked:
        return {}
    _thinking_excludes(choice)
    body: dict[str, Any] = {"thinking": {"type": "adaptive", "display": "summarized"}}
    return body if effort is None else {**body, "output_config": {"effort": effort}}


def _narrow(model: Claude, choice: Choice) -> None:
    temperature = choice.sent.get("temperature")
    if isinstance(temperature, int | float) and temperature > 1:
        choice.drop("temperature", f"Anthropic takes it from 0 to 1, and {temperature:g} was asked for")
    if model.version >= (4, 1) and "temperature" in choice.sent:
        choice.drop("top_p", "this model takes temperature or top_p, not both; temperature was sent")


def _off(model: Claude, choice: Choice) -> dict[str, Any]:
    if model.off is None:
        choice.drop("reasoning_effort", "this model always thinks; “low” is the least it takes")
        return {"thinking": {"type": "adaptive", "display": "summarized"}}
    return {"thinking": {"type": model.off}} if model.effort else {}


def _budget(choice: Choice, effort: str, max_tokens: int) -> dict[str, Any]:
    if max_tokens <= MIN_BUDGET:
        choice.drop(
            "reasoning_effort",
            f"this model needs room to think: max output tokens above {MIN_BUDGET:,}, and {max_tokens:,} was asked for",
        )
        return {}
    _thinking_excludes(choice)
    budget = min(max(MIN_BUDGET, int(max_tokens * _SHARE[effort])), max_tokens - 1)
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _thinking_excludes(choice: Choice) -> None:
    choice.drop_all(dict.fromkeys(SAMPLING, "Claude takes no sampling parameters while it thinks"))
