"""Which family a model's name means, and the prompt templates of the families that take a text instead of messages.

The templates are those of the models' own cards, as of November 2026.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from services.types import Ask, Message

Family = Literal[
    "claude",
    "nova",
    "titan",
    "llama",
    "mistral",
    "gpt-oss",
    "openai",
    "deepseek",
    "qwen",
    "cohere",
    "imported",
]

_MARKS: tuple[tuple[str, Family], ...] = (
    ("claude", "claude"),
    ("anthropic.", "claude"),
    ("amazon.nova", "nova"),
    ("titan", "titan"),
    ("gpt-oss", "gpt-oss"),
    ("openai.", "openai"),
    ("deepseek", "deepseek"),
    ("qwen", "qwen"),
    ("cohere.", "cohere"),
    ("mistral", "mistral"),
    ("mixtral", "mistral"),
    ("ministral", "mistral"),
    ("llama", "llama"),
    ("nova-", "nova"),
    (":imported-model/", "imported"),
)


def family(model: str) -> Family | None:
    """The family that a model id, a profile id or an ARN names; None where it names none that is known."""
    lowered = model.lower()
    return next((name for mark, name in _MARKS if mark in lowered), None)


def prompted(model: str) -> bool:
    """Whether a Mistral model takes a prompt; the newer ones take messages."""
    return any(mark in model.lower() for mark in ("mistral-7b", "mixtral", "large-2402", "small-2402"))


def llama_prompt(ask: Ask) -> str:
    """Llama 3's own template, up to where the assistant speaks."""
    turns = [("system", ask.system)] if ask.system else []
    turns += [(m.role, m.text) for m in ask.messages]
    history = "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in turns)
    return f"<|begin_of_text|>{history}<|start_header_id|>assistant<|end_header_id|>\n\n"


def mistral_prompt(ask: Ask) -> str:
    """Mistral's instruction template, which has no place for a system prompt but before the first instruction."""
    turns = _with_system(ask)
    history = "".join(f"[INST] {m.text} [/INST]" if m.role == "user" else f" {m.text}</s>" for m in turns)
    return f"<s>{history}"


def titan_prompt(ask: Ask) -> str:
    """Titan's conversation template."""
    return plain_prompt(ask, assistant="Bot")


def plain_prompt(ask: Ask, *, assistant: str = "Assistant") -> str:
    """A prompt for a model whose template is not known: the bare text, or who said what where there are turns."""
    turns = _with_system(ask)
    if len(turns) == 1 and assistant == "Assistant":
        return turns[0].text
    history = "".join(f"{'User' if m.role == 'user' else assistant}: {m.text}\n" for m in turns)
    return f"{history}{assistant}:"


def _with_system(ask: Ask) -> Sequence[Message]:
    if not ask.system:
        return ask.messages
    first, *later = ask.messages
    return (Message(first.role, f"{ask.system}\n\n{first.text}"), *later)


def served_prompt(model: str | None, ask: Ask) -> str:
    """The prompt for a container that takes text, by the template of the model that it serves where that is known."""
    kind = family(model or "")
    if kind == "llama" and "llama-2" not in (model or "").lower():
        return llama_prompt(ask)
    return mistral_prompt(ask) if kind == "mistral" else plain_prompt(ask)
