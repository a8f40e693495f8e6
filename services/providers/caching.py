"""Prompt caching in the request bodies of the general wires: who can be asked for what, and how it is said.

Sources: the installed SDKs (anthropic 2.12 `cache_control`; openai 3.54 `prompt_cache_key`, and `prompt_cache_options`
"for gpt-5.6 and later models": with mode ``explicit`` and no breakpoint "the request does not use prompt caching"),
vLLM's ``cache_salt`` and llama.cpp's ``cache_prompt``. llama.cpp heeds the latter on the Chat and Responses wires; its
Messages wire loses it when it translates the request (measured with the embedded server), so there is no "off" there.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from services.providers import model_rules as providers_model_rules
from services.providers.base import Choice
from services.types import Ask, CacheMode, Deployment

DROPPED = "cache"  # its name among the parameters that were not sent
LABEL = "Prompt caching"
MODE_WORDS: Mapping[CacheMode, str] = {
    "off": "off",
    "auto": "automatic",
    "5m": "kept 5 minutes",
    "1h": "kept 1 hour",
}
OPTIONS_SINCE = (5, 6)  # the GPT version from which OpenAI's caching can be steered


def settle(ask: Ask, modes: Sequence[CacheMode], choice: Choice) -> CacheMode | None:
    """The asked mode if the deployment has it. Another one is dropped with its reason, and nothing is said."""
    if ask.cache is None or ask.cache in modes:
        return ask.cache
    can = " or ".join(f"“{MODE_WORDS[mode]}”" for mode in modes)
    why = f"it can be {can} here, not “{MODE_WORDS[ask.cache]}”" if modes else "this deployment has no say in it"
    choice.dropped[DROPPED] = why
    return None


def messages_modes(deployment: Deployment) -> tuple[CacheMode, ...]:
    """Modes of the Messages wire: Claude caches only what a request marks; other servers cache by themselves.

    The one marker for the whole request ("auto") is not taken by Bedrock, which wants each one on its block.
    """
    if providers_model_rules.parse(deployment.model) is None:
        return ("auto",)
    return ("off", "5m", "1h") if deployment.aws is not None else ("off", "auto", "5m", "1h")


def mark_messages(deployment: Deployment, ask: Ask, mode: CacheMode | None) -> dict[str, Any]:
    """``messages``, ``system`` and the cache markers of a request of the Messages wire.

    Explicit breakpoints stand on the system prompt and, in a conversation or without a system prompt, on the last
    message: everything before a breakpoint is the prefix that is kept.
    """
    messages: list[dict[str, Any]] = [{"role": message.role, "content": message.text} for message in ask.messages]
    if mode not in ("5m", "1h"):
        marked = mode == "auto" and providers_model_rules.parse(deployment.model) is not None
        return {
            "messages": messages,
            **({"system": ask.system} if ask.system else {}),
            **({"cache_control": {"type": "ephemeral"}} if marked else {}),
        }
    if not ask.system or len(messages) > 1:
        messages[-1]["content"] = [_block(ask.messages[-1].text, mode)]
    return {"messages": messages, **({"system": [_block(ask.system, mode)]} if ask.system else {})}


def _block(text: str, ttl: CacheMode) -> dict[str, Any]:
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}}


def openai_modes(deployment: Deployment) -> tuple[CacheMode, ...]:
    """Modes of OpenAI's own models: automatic always, off from gpt-5.6 on; its lifetimes are not 5 minutes or 1 hour.

    Another model behind this kind caches by itself; only the server that we run ourselves is known to take "off".
    """
    if providers_model_rules.ours(deployment.model):
        version = providers_model_rules.version(deployment.model)
        return ("auto", "off") if version is not None and version >= OPTIONS_SINCE else ("auto",)
    # Not by its address: the engine has put the server's real one in place when it sends.
    return ("auto", "off") if deployment.origin == "embedded" else ("auto",)


def openai_fields(deployment: Deployment, ask: Ask, mode: CacheMode | None) -> dict[str, Any]:
    """Body fields for OpenAI's two wires. The key names the prefix without saying anything of it."""
    if not providers_model_rules.ours(deployment.model):
        return server_fields(mode)
    if mode == "off":
        return {"prompt_cache_options": {"mode": "explicit"}}
    if mode == "auto":
        return {"prompt_cache_key": prefix_key(deployment.model, ask.system)}
    return {}


def prefix_key(model: str, system: str | None) -> str:
    """The same 32 hexadecimal digits for the same model and system prompt."""
    prefix = f"{model}\0{system or ''}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(prefix).hexdigest()[:32]


def server_modes(deployment: Deployment) -> tuple[CacheMode, ...]:
    """Modes of a server of one's own: vLLM and llama.cpp cache by themselves and can be kept from it."""
    return ("auto",) if deployment.aws is not None else ("auto", "off")


def server_fields(mode: CacheMode | None) -> dict[str, Any]:
    """Body fields for vLLM (a salt that no other call has, so that no prefix of another one fits) and llama.cpp."""
    return {"cache_prompt": False, "cache_salt": secrets.token_hex(16)} if mode == "off" else {}
