"""What the model families of Amazon Bedrock take beyond what the Converse wire has a word for.

Sources, as of November 2026: AWS's pages on each family's parameters, botocore 1.44.5 (`InferenceConfiguration`:
temperature and topP from 0 to 1), Nova's user guides (topK inside its own inferenceConfig; reasoningConfig of Nova 2,
whose "high" forbids a token limit), and how gateways send OpenAI's effort (flat for gpt-oss, nested for the others).
What is not known to be taken is dropped with its reason rather than tried.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from services.providers import model_rules
from services.providers.building import Choice
from services.types import CacheMode, Deployment

Family = Literal[
    "claude", "nova", "titan", "llama", "mistral", "gpt-oss", "openai", "deepseek", "qwen", "cohere", "imported",
]  # fmt: skip
_MARKS: tuple[tuple[str, Family], ...] = (
    ("claude", "claude"), ("anthropic.", "claude"), ("amazon.nova", "nova"), ("titan", "titan"), ("gpt-oss", "gpt-oss"),
    ("openai.", "openai"), ("deepseek", "deepseek"), ("qwen", "qwen"), ("cohere.", "cohere"), ("mistral", "mistral"),
    ("mixtral", "mistral"), ("ministral", "mistral"), ("llama", "llama"), ("nova-", "nova"),
    (":imported-model/", "imported"),
)  # fmt: skip
BASE = frozenset({"temperature", "top_p", "max_tokens", "stop"})
_UNKNOWN = "the model behind this name is not known: say it with serves in the deployment's aws settings"
_NOT_TAKEN = "this model takes none over this wire, as far as we know"
DEFAULT_MAX_TOKENS = 1024
# Thinking counts towards the limit: with 1,024 a model that always thinks would often not reach its answer.
DEFAULT_MAX_TOKENS_THINKING = 8192


def underlying(deployment: Deployment) -> str:
    """The name of the model behind a deployment: as its settings say it, else its own, else its price's."""
    said = deployment.aws.serves if deployment.aws is not None else None
    for name in (said, deployment.model, deployment.price.model):
        if name and family(name):
            return name
    return said or deployment.model


def family(model: str) -> Family | None:
    """The family that a model id, a profile id or an ARN names; None where it names none that is known."""
    lowered = model.lower()
    return next((found for mark, found in _MARKS if mark in lowered), None)


def thinks_unasked(model: str) -> bool:
    """Whether the model reasons when the request says nothing about it."""
    found = model_rules.parse(model)
    return (found is not None and found.thinks_unasked) or family(model) in ("gpt-oss", "openai", "deepseek")


def converse_takes(model: str) -> frozenset[str]:
    """Names of the parameters that can be sent to this model over Converse."""
    kind = family(model)
    if kind == "claude":
        found = model_rules.parse(model)
        takes = BASE | {"top_k", "reasoning_effort"}
        if found is None:
            return takes - {"reasoning_effort"}
        takes = takes if found.samples else takes - frozenset(model_rules.SAMPLING)
        return takes if found.levels else takes - {"reasoning_effort"}
    takes = BASE | ({"top_k"} if kind in ("nova", "cohere") or _old_mistral(model) else set())
    return takes | {"reasoning_effort"} if kind in ("gpt-oss", "openai") or _nova_2(model) else takes


def settle(model: str, choice: Choice, max_tokens: int) -> dict[str, Any]:
    """Drop from ``choice`` what this model refuses over Converse; returns ``additionalModelRequestFields``."""
    kind = family(model)
    why = _UNKNOWN if kind is None else _NOT_TAKEN
    takes = converse_takes(model)
    found = model_rules.parse(model)
    extra = model_rules.settle(found, choice, max_tokens) if kind == "claude" and found is not None else {}
    choice.drop_all({name: why for name in ("top_k", "reasoning_effort") if name not in takes})
    for name in ("temperature", "top_p"):
        value = choice.sent.get(name)
        if isinstance(value, int | float) and value > 1:
            choice.drop(name, f"Bedrock takes it from 0 to 1, and {value:g} was asked for")
    if kind != "claude":
        extra |= _reasoning(model, choice)
    return extra | _top_k(kind, choice)


def _top_k(kind: Family | None, choice: Choice) -> dict[str, Any]:
    if "top_k" not in choice.sent:
        return {}
    value = choice.sent["top_k"]
    if kind == "nova":
        return {"inferenceConfig": {"topK": value}}
    return {"k" if kind == "cohere" else "top_k": value}


def _reasoning(model: str, choice: Choice) -> dict[str, Any]:
    effort = choice.sent.get("reasoning_effort")
    if effort is None:
        return {}
    if family(model) == "nova":
        if effort == "high":
            choice.drop("reasoning_effort", "Nova takes “high” only without a token limit, and one is always sent here")
            return {}
        known: tuple[str, ...] = ("none", "low", "medium")
    else:
        known = ("low", "medium", "high") if family(model) == "gpt-oss" else ("none", "low", "medium", "high", "xhigh")
    if effort not in known:
        choice.drop("reasoning_effort", f"this model knows {', '.join(known)}, not “{effort}”")
        return {}
    if family(model) == "nova":
        kind = "disabled" if effort == "none" else "enabled"
        level = {} if effort == "none" else {"maxReasoningEffort": effort}
        return {"reasoningConfig": {"type": kind, **level}}
    return {"reasoning_effort": effort} if family(model) == "gpt-oss" else {"reasoning": {"effort": effort}}


def cache_modes(model: str) -> tuple[CacheMode, ...]:
    """The modes of prompt caching that this model can be asked for. Claude marks prefixes for 5 minutes or an hour,
    Nova for 5 minutes; of a model that is not known anything can be asked, and Bedrock says when it refuses."""
    kind = family(model)
    if kind in ("claude", None):
        return ("off", "5m", "1h")
    return ("off", "5m") if kind == "nova" else ()


def _nova_2(model: str) -> bool:
    return bool(re.search(r"nova-2|nova-premier-2", model.lower()))


def _old_mistral(model: str) -> bool:
    return bool(re.search(r"mistral-7b|mixtral", model.lower()))
