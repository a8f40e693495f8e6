"""The Messages wire: Anthropic's API, and servers that speak it (llama.cpp, gateways), with its stream decoder.

Terminal signal: ``message_stop`` after a ``message_delta`` that gave a known stop reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.providers import caching, model_rules
from services.providers.base import allowed, choose, endpoint, wire_request
from services.providers.decoder import WireDecoder, text
from services.providers.errors import http_error, plain
from services.providers.usage import count, from_messages, obj
from services.types import Ask, CacheMode, Delta, Deployment, Wire, WireError, WireRequest

API_VERSION = "2023-06-01"

DEFAULT_MAX_TOKENS = 1024


# Thinking counts towards max_tokens: with 1,024 a model that always thinks would often not reach its answer.
DEFAULT_MAX_TOKENS_THINKING = 8192


_TAKES = frozenset({"temperature", "top_p", "top_k", "max_tokens", "stop", "reasoning_effort"})

_BUDGETS = {"minimal": 512, "low": 1024, "medium": 4096, "high": 16384, "xhigh": 32768, "max": 65536}


class AnthropicKind:
    """Anthropic's own API or any server behind ``base_url`` that speaks the Messages wire."""

    name = "anthropic"
    title = "Anthropic API (Messages)"
    badge = "managed API"
    wires: tuple[Wire, ...] = ("messages",)
    default_base_url: str | None = "https://api.anthropic.com"
    default_key_env: str | None = "ANTHROPIC_API_KEY"
    key_required = True
    on_aws = False

    def accepts(self, deployment: Deployment) -> frozenset[str]:
        """Names of the parameters that this deployment's model takes."""
        model = model_rules.parse(deployment.model)
        takes = _TAKES
        if model is not None:
            takes = takes if model.samples else takes - frozenset(model_rules.SAMPLING)
            takes = takes if model.levels else takes - {"reasoning_effort"}
        return allowed(deployment, takes)

    def cache_modes(self, deployment: Deployment) -> tuple[CacheMode, ...]:
        """The modes of prompt caching that can be asked for."""
        return caching.messages_modes(deployment)

    def request(self, deployment: Deployment, ask: Ask) -> WireRequest:
        """The request for one call. ``max_tokens`` is always sent, as the wire demands. Raises ValueError in words."""
        choice = choose(deployment, ask, _TAKES)
        model = model_rules.parse(deployment.model)
        thinks = model is not None and model.thinks_unasked
        max_tokens = choice.sent.setdefault("max_tokens", DEFAULT_MAX_TOKENS_THINKING if thinks else DEFAULT_MAX_TOKENS)
        reasoning = _other(choice.sent) if model is None else model_rules.settle_claude(model, choice, max_tokens)
        body: dict[str, Any] = {
            "model": deployment.model,
            **caching.mark_messages(deployment, ask, caching.settle(ask, self.cache_modes(deployment), choice)),
            "stream": True,
            **{("stop_sequences" if n == "stop" else n): v for n, v in choice.sent.items() if n != "reasoning_effort"},
            **reasoning,
        }
        return wire_request(
            deployment,
            "/messages",
            body,
            choice,
            auth=("x-api-key", "{key}"),
            headers={"anthropic-version": API_VERSION},
        )

    def decoder(self, deployment: Deployment) -> MessagesDecoder:
        """A fresh decoder for one response."""
        return MessagesDecoder()

    def http_error(self, status: int, headers: dict[str, str], body: bytes) -> WireError:
        """Classify a response that is not a 2xx event stream."""
        return http_error(status, headers, body)

    def models_request(self, deployment: Deployment) -> WireRequest | None:
        """GET /v1/models: all models the key may use (Anthropic pages by 20 unless told otherwise)."""
        url = endpoint(deployment.base_url, "/models")
        joined = url if "?" in url else f"{url}?limit=1000"
        headers = {"anthropic-version": API_VERSION, **deployment.headers}
        return WireRequest("GET", joined, headers, {}, ("x-api-key", "{key}"))


def _other(params: Mapping[str, Any]) -> dict[str, Any]:
    """Reasoning for a model that is no Claude: the wire's manual thinking budget, in tokens."""
    effort = params.get("reasoning_effort")
    if effort is None:
        return {}
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    return {"thinking": {"type": "enabled", "budget_tokens": _BUDGETS[effort]}}


STOPS = frozenset(
    {
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
    }
)


class MessagesDecoder(WireDecoder):
    """Decodes message_start … message_stop."""

    def __init__(self) -> None:
        super().__init__()
        self._raw_usage: dict[str, Any] = {}

    def take(self, name: str, body: Mapping[str, Any]) -> Sequence[Delta]:
        """One event; its type is stated in the data, and in the event name as well. Unknown types carry nothing."""
        kind = text(body.get("type")) or name
        if kind == "content_block_delta":
            return self._delta(obj(body.get("delta")))
        if kind == "content_block_start":
            return self._block(obj(body.get("content_block")))
        if kind == "message_start":
            message = obj(body.get("message"))
            self.identify(message)
            self._count(obj(message.get("usage")), final=False)
        elif kind == "message_delta":
            self._message_delta(body)
        elif kind == "message_stop":
            self._stop()
        return ()

    def _delta(self, delta: Mapping[str, Any]) -> Sequence[Delta]:
        kind = delta.get("type")
        if kind == "text_delta":
            return (Delta("answer", text(delta.get("text"))),)
        if kind == "thinking_delta":
            return (Delta("reasoning", text(delta.get("thinking"))),)
        if kind == "input_json_delta":
            return (Delta("tool", text(delta.get("partial_json"))),)
        return ()  # signatures and citations are no content

    def _block(self, block: Mapping[str, Any]) -> Sequence[Delta]:
        if text(block.get("type")).endswith("tool_use"):
            self.answered = True
        return (Delta("reasoning", text(block.get("thinking"))), Delta("answer", text(block.get("text"))))

    def _message_delta(self, body: Mapping[str, Any]) -> None:
        delta = obj(body.get("delta"))
        self.finish(delta.get("stop_reason"))
        explanation = text(obj(delta.get("stop_details")).get("explanation"))
        if explanation:
            self.finish_detail = plain(explanation)
        usage = obj(body.get("usage"))
        self._count(usage, final=self.finish_raw is not None and count(usage.get("output_tokens")) is not None)

    def _count(self, usage: Mapping[str, Any], *, final: bool) -> None:
        """Merge: the counts of message_delta are cumulative and win, what it leaves out stands as first said."""
        if not usage:
            return
        self.tier(usage.get("service_tier"))
        self._raw_usage.update({name: value for name, value in usage.items() if value is not None})
        final = final or (self.usage is not None and self.usage.source == "provider")
        self.usage = from_messages(self._raw_usage, final=final)

    def _stop(self) -> None:
        if self.finish_raw in STOPS:
            self._ended = True
        elif self.finish_raw:
            self.cut(f"the service stopped with the stop reason “{self.finish_raw}”")
        else:
            self.cut("the service closed its answer without a stop reason")
