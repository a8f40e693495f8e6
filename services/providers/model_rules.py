"""What each Claude model and each OpenAI model takes, as of November 2026.

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

Sources: the installed SDK (openai 3.54: `ChatModel`, `ReasoningEffort`, "stop: not supported with latest reasoning
models"), OpenAI's reasoning guide, and error texts quoted in public issues ("Only the default (1) value is supported").

- Reasoning models (o-series, gpt-5 and later) refuse penalties and stop sequences, and take temperature and top_p only
  as gpt-5.1 … gpt-5.5 with reasoning effort "none".
- Effort levels: o-series low–high; gpt-5 minimal–high; gpt-5.1 none, low–high; from gpt-5.2 on also xhigh; from
  gpt-5.6 on also max; the -pro models of gpt-5 only high, later ones medium–xhigh.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from services.providers.base import Choice

_GPT = re.compile(r"^gpt-(\d+)(?:\.(\d+))?")

_O_SERIES = re.compile(r"^o\d")

_WHY = "OpenAI's reasoning models refuse it"


def bare(model: str) -> str:
    """The model's own name: lower case, without a gateway's vendor prefix or a fine-tune's ``ft:``."""
    return model.lower().rsplit("/", 1)[-1].removeprefix("ft:")


def version(model: str) -> tuple[int, int] | None:
    """(5, 4) for gpt-5.4 and its variants; None for a name that is no numbered GPT."""
    match = _GPT.match(bare(model))
    return (int(match[1]), int(match[2] or 0)) if match else None


def reasons(model: str) -> bool:
    """Whether this is one of OpenAI's reasoning models. ``gpt-5-chat-latest`` is not one."""
    name = bare(model)
    if _O_SERIES.match(name) or name.startswith(("codex", "gpt-daybreak", "gpt-rosalind")):
        return True
    number = version(model)
    return number is not None and number >= (5, 0) and not name.startswith("gpt-5-chat")


def ours(model: str) -> bool:
    """Whether the name is one of OpenAI's hosted models at all; others (a local model) take what the wire takes."""
    name = bare(model)
    return reasons(model) or name.startswith(("gpt-3", "gpt-4", "gpt-5", "chatgpt-", "computer-use"))


def levels(model: str) -> tuple[str, ...] | None:
    """The effort levels a reasoning model knows; None where we do not know and send what was asked."""
    name, number = bare(model), version(model)
    if _O_SERIES.match(name):
        return ("low", "medium", "high")
    if number is None:
        return None
    if "chat-latest" in name:
        return ("medium",)
    if "-pro" in name:
        return ("high",) if number < (5, 2) else ("medium", "high", "xhigh")
    if number < (5, 1):
        return ("minimal", "low", "medium", "high")
    if number < (5, 2):
        return ("none", "low", "medium", "high", *(("xhigh",) if "codex-max" in name else ()))
    return ("none", "low", "medium", "high", "xhigh", *(("max",) if number >= (5, 6) else ()))


def samples(model: str, effort: str | None) -> bool:
    """Whether a reasoning model takes temperature and top_p at this effort."""
    number = version(model)
    quiet = number is not None and (5, 1) <= number < (5, 6) and "chat-latest" not in bare(model)
    return quiet and effort == "none" and "none" in (levels(model) or ())


def settle_gpt(model: str, choice: Choice) -> None:
    """Drop from ``choice`` what this OpenAI model refuses, each with its reason."""
    if not ours(model):
        return
    if not reasons(model):
        choice.drop("reasoning_effort", "this model does not reason")
        return
    effort, allowed = choice.sent.get("reasoning_effort"), levels(model)
    if effort is not None and allowed is not None and effort not in allowed:
        choice.drop("reasoning_effort", f"this model knows {', '.join(allowed)}, not “{effort}”")
        effort = None
    choice.drop_all(dict.fromkeys(("frequency_penalty", "presence_penalty", "stop"), _WHY))
    if not samples(model, effort):
        takes_quiet = samples(model, "none")
        why = "this model takes it only with reasoning effort “none”" if takes_quiet else _WHY
        choice.drop_all({"temperature": why, "top_p": why})


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
    match = _OLD.search(lowered) or _NEW.search(lowered)
    if match is None:
        line = re.search(r"claude-([a-z]+)", lowered)
        return Claude(line.group(1) if line else "", (99, 0))
    return Claude(match["line"], (int(match["major"]), int(match["minor"] or 0)))


def settle_claude(model: Claude, choice: Choice, max_tokens: int) -> dict[str, Any]:
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
        levels = ", ".join(("none", *model.levels)) if model.levels else "no levels at all"
        choice.drop("reasoning_effort", f"this model knows {levels}, not “{effort}”")
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
