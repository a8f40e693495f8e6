"""The request bodies of InvokeModelWithResponseStream, one for each family of models that has its own format.

Sources, as of November 2026: AWS's "Inference request parameters and response fields" for Claude, Llama, Mistral,
Titan, Nova and OpenAI's open-weight models; the prompt templates are those of the models' own cards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.params import PARAMS
from services.providers import bedrock_models, model_rules
from services.providers.bedrock_models import BASE, family
from services.providers.building import Choice
from services.providers.converse_wire import conversation
from services.types import Ask, Message

ANTHROPIC_VERSION = "bedrock-2023-05-31"
WIRE = frozenset(PARAMS)
_WHY = "this model's InvokeModel format has no such parameter"


def takes(model: str) -> frozenset[str]:
    """Names of the parameters that this model's own format has."""
    kind = family(model)
    if kind == "claude":
        return bedrock_models.converse_takes(model)
    if kind in ("llama", "titan"):
        return BASE if kind == "titan" else BASE - {"stop"}
    if kind == "nova" or (kind == "mistral" and prompted(model)):
        return BASE | {"top_k"}
    if kind == "mistral":
        return BASE
    return BASE | {"reasoning_effort"} if kind == "gpt-oss" else BASE | {"seed"}


def prompted(model: str) -> bool:
    """Whether a Mistral model takes a prompt; the newer ones take messages."""
    return any(mark in model.lower() for mark in ("mistral-7b", "mixtral", "large-2402", "small-2402"))


def body(model: str, ask: Ask, choice: Choice) -> dict[str, Any]:
    """The body for this model. Raises ValueError in words for a family whose format is not known here."""
    kind = family(model)
    if kind == "cohere":
        raise ValueError(f"{model} has an InvokeModel format that is not known here: use the wire “converse”.")
    choice.drop_all(dict.fromkeys(frozenset(choice.sent) - takes(model), _WHY))
    if kind == "claude":
        return _claude(model, ask, choice)
    if kind == "llama":
        return {"prompt": llama_prompt(ask), **_named(choice, max_tokens="max_gen_len")}
    if kind == "titan":
        config = _named(choice, max_tokens="maxTokenCount", top_p="topP", stop="stopSequences")
        return {"inputText": titan_prompt(ask), "textGenerationConfig": config}
    if kind == "mistral" and prompted(model):
        return {"prompt": mistral_prompt(ask), **_named(choice)}
    if kind == "nova":
        config = _named(choice, max_tokens="maxTokens", top_p="topP", top_k="topK", stop="stopSequences")
        return {"schemaVersion": "messages-v1", **conversation(ask), "inferenceConfig": config}
    return _chat(kind, ask, choice)


def _claude(model: str, ask: Ask, choice: Choice) -> dict[str, Any]:
    found = model_rules.parse(model)
    reasoning = {} if found is None else model_rules.settle(found, choice, choice.sent["max_tokens"])
    mark: dict[str, Any] = {}
    if ask.cache in ("5m", "1h"):
        mark = {"cache_control": {"type": "ephemeral", **({"ttl": "1h"} if ask.cache == "1h" else {})}}
    messages: list[dict[str, Any]] = [{"role": m.role, "content": m.text} for m in ask.messages]
    if mark and (len(messages) > 1 or not ask.system):
        messages[-1]["content"] = [{"type": "text", "text": ask.messages[-1].text, **mark}]
    made: dict[str, Any] = {"anthropic_version": ANTHROPIC_VERSION, "messages": messages}
    if ask.system:
        made["system"] = [{"type": "text", "text": ask.system, **mark}] if mark else ask.system
    sent = _named(choice, stop="stop_sequences")
    sent.pop("reasoning_effort", None)
    return {**made, **sent, **reasoning}


def _chat(kind: str | None, ask: Ask, choice: Choice) -> dict[str, Any]:
    effort = choice.sent.get("reasoning_effort")
    if effort is not None and effort not in ("low", "medium", "high"):
        choice.drop("reasoning_effort", f"this model knows low, medium, high, not “{effort}”")
    limit = "max_completion_tokens" if kind in ("gpt-oss", "openai") else "max_tokens"
    return {"messages": chat_messages(ask), **_named(choice, max_tokens=limit)}


def _named(choice: Choice, **names: str) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in choice.sent.items()}


def llama_prompt(ask: Ask) -> str:
    """Llama 3's own template, up to where the assistant speaks."""
    turns = [("system", ask.system)] if ask.system else []
    turns += [(m.role, m.text) for m in ask.messages]
    said = "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in turns)
    return f"<|begin_of_text|>{said}<|start_header_id|>assistant<|end_header_id|>\n\n"


def mistral_prompt(ask: Ask) -> str:
    """Mistral's instruction template, which has no place for a system prompt but before the first instruction."""
    turns = _with_system(ask)
    said = "".join(f"[INST] {m.text} [/INST]" if m.role == "user" else f" {m.text}</s>" for m in turns)
    return f"<s>{said}"


def titan_prompt(ask: Ask) -> str:
    """Titan's conversation template."""
    return plain_prompt(ask, assistant="Bot")


def plain_prompt(ask: Ask, *, assistant: str = "Assistant") -> str:
    """A prompt for a model whose template is not known: the bare text, or who said what where there are turns."""
    turns = _with_system(ask)
    if len(turns) == 1 and assistant == "Assistant":
        return turns[0].text
    said = "".join(f"{'User' if m.role == 'user' else assistant}: {m.text}\n" for m in turns)
    return f"{said}{assistant}:"


def _with_system(ask: Ask) -> Sequence[Message]:
    if not ask.system:
        return ask.messages
    first, *rest = ask.messages
    return (Message(first.role, f"{ask.system}\n\n{first.text}"), *rest)


def served_prompt(model: str | None, ask: Ask) -> str:
    """The prompt for a container that takes text, by the template of the model that it serves where that is known."""
    kind = family(model or "")
    if kind == "llama" and "llama-2" not in (model or "").lower():
        return llama_prompt(ask)
    return mistral_prompt(ask) if kind == "mistral" else plain_prompt(ask)


def chat_messages(ask: Ask) -> list[dict[str, str]]:
    """System prompt and turns in OpenAI's shape."""
    messages: list[dict[str, str]] = [{"role": "system", "content": ask.system}] if ask.system else []
    return messages + [{"role": m.role, "content": m.text} for m in ask.messages]
