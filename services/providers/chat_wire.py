"""The Chat Completions wire (OpenAI and everything that imitates it): request body and stream decoder.

Terminal signal: a whitelisted ``finish_reason``, and then either ``[DONE]`` or a usage object (in the finishing chunk
or after it). Either alone is not enough: a server that dies can still close with ``[DONE]``, and a proxy that cuts can
do so right behind the finishing chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.providers.decoder import WireDecoder, text
from services.providers.errors import plain
from services.providers.usage import from_openai, obj
from services.types import Ask, Delta, Deployment, WireError

_PLAIN = {"role", "content"}
FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})


class ChatDecoder(WireDecoder):
    """Decodes ``data: {"choices": [...]}`` chunks up to ``[DONE]``."""

    def take(self, name: str, body: Mapping[str, Any]) -> Sequence[Delta]:
        """One chunk. Usage is read before the choices are looked at; the last one wins."""
        self.identify(body)
        if "service_tier" in body:
            self.tier(body["service_tier"])
        choices = body.get("choices")
        first = obj(choices[0]) if isinstance(choices, list) and choices else {}
        if first.get("finish_reason"):
            self.finish(first["finish_reason"])
            if isinstance(first.get("stop_reason"), str | int):  # vLLM: the stop string or token that was met
                self.facts["stop_reason"] = plain(str(first["stop_reason"]), 80)
        raw = obj(body.get("usage"))
        if not raw and "x_groq" in body:
            raw = obj(obj(body["x_groq"]).get("usage"))
        if raw:
            # A usage object before the finish (some servers send one in every chunk) is a running count.
            self.usage = from_openai(raw, source="provider" if self.finish_raw else "partial") or self.usage
            if self.usage is not None and self.usage.source == "provider" and self.finish_raw in FINISHES:
                self._ended = True
        delta = obj(first.get("delta")) or obj(first.get("message"))
        content = delta.get("content")
        if isinstance(content, str) and (len(delta) == 1 or delta.keys() == _PLAIN):
            return (Delta("answer", content),)  # nearly every chunk of nearly every stream
        return list(self._content(delta))

    def done(self) -> None:
        """``[DONE]``: the end, if a finish reason of the wire came before it; otherwise the answer was cut."""
        if self.finish_raw in FINISHES:
            self._ended = True
            if self.usage is not None and self.usage.source == "partial":
                self.usage = from_openai(self.usage.raw or {})
        elif self.finish_raw == "error":
            self.error = WireError("stream_error", "finish_reason", "error", "the service ended its answer in an error")
        elif self.finish_raw:
            self.cut(f"the service stopped with the finish reason “{self.finish_raw}”")
        else:
            self.cut("the service closed its answer without a finish reason")

    def _content(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        reasoning = text(delta.get("reasoning_content")) or text(delta.get("reasoning"))
        yield Delta("reasoning", reasoning)
        content = delta.get("content")
        if isinstance(content, list):
            yield from _parts(content)
        else:
            yield Delta("answer", text(content))
        refusal = text(delta.get("refusal"))
        if refusal:
            self.refused = True
            yield Delta("answer", refusal)
        calls = delta.get("tool_calls")
        functions = [obj(obj(call).get("function")) for call in calls] if isinstance(calls, list) else []
        for function in [*functions, obj(delta.get("function_call"))]:
            if text(function.get("name")):
                self.answered = True
            yield Delta("tool", text(function.get("arguments")))


def _parts(content: list[Any]) -> Iterator[Delta]:
    """Content given as a list of typed parts (Mistral's reasoning models)."""
    for part in map(obj, content):
        if part.get("type") == "thinking":
            inner = part.get("thinking")
            for piece in inner if isinstance(inner, list) else []:
                yield Delta("reasoning", text(obj(piece).get("text")))
        else:
            yield Delta("answer", text(part.get("text")))


def chat_body(deployment: Deployment, ask: Ask, params: Mapping[str, Any], max_tokens_name: str) -> dict[str, Any]:
    """The JSON body of a streamed chat completion that reports its usage."""
    messages: list[dict[str, str]] = [{"role": "system", "content": ask.system}] if ask.system else []
    messages += [{"role": message.role, "content": message.text} for message in ask.messages]
    renamed = {max_tokens_name if name == "max_tokens" else name: value for name, value in params.items()}
    return {
        "model": deployment.model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        **renamed,
    }
