"""What each OpenAI model takes, as of November 2026.

Sources: the installed SDK (openai 3.54: `ChatModel`, `ReasoningEffort`, "stop: not supported with latest reasoning
models"), OpenAI's reasoning guide, and error texts quoted in public issues ("Only the default (1) value is supported").

- Reasoning models (o-series, gpt-5 and later) refuse penalties and stop sequences, and take temperature and top_p only
  as gpt-5.1 … gpt-5.5 with reasoning effort "none".
- Effort levels: o-series low–high; gpt-5 minimal–high; gpt-5.1 none, low–high; from gpt-5.2 on also xhigh; from
  gpt-5.6 on also max; the -pro models of gpt-5 only high, later ones medium–xhigh.
"""

from __future__ import annotations

import re

from services.providers.building import Choice

_GPT = re.compile(r"^gpt-(\d+)(?:\.(\d+))?")
_O_SERIES = re.compile(r"^o\d")
_WHY = "OpenAI's reasoning models refuse it"


def bare(model: str) -> str:
    """The model's own name: lower case, without a gateway's vendor prefix or a fine-tune's ``ft:``."""
    return model.lower().rsplit("/", 1)[-1].removeprefix("ft:")


def version(model: str) -> tuple[int, int] | None:
    """(5, 4) for gpt-5.4 and its variants; None for a name that is no numbered GPT."""
    found = _GPT.match(bare(model))
    return (int(found[1]), int(found[2] or 0)) if found else None


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


def settle(model: str, choice: Choice) -> None:
    """Drop from ``choice`` what this OpenAI model refuses, each with its reason."""
    if not ours(model):
        return
    if not reasons(model):
        choice.drop("reasoning_effort", "this model does not reason")
        return
    effort, known = choice.sent.get("reasoning_effort"), levels(model)
    if effort is not None and known is not None and effort not in known:
        choice.drop("reasoning_effort", f"this model knows {', '.join(known)}, not “{effort}”")
        effort = None
    choice.drop_all(dict.fromkeys(("frequency_penalty", "presence_penalty", "stop"), _WHY))
    if not samples(model, effort):
        takes_quiet = samples(model, "none")
        why = "this model takes it only with reasoning effort “none”" if takes_quiet else _WHY
        choice.drop_all({"temperature": why, "top_p": why})
