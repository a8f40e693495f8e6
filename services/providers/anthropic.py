"""The Messages wire: Anthropic's API, and servers that speak it (llama.cpp, gateways)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.providers import caching, model_rules
from services.providers.building import allowed, choose, endpoint, wire_request
from services.providers.errors import http_error
from services.providers.messages_wire import MessagesDecoder
from services.types import Ask, CacheMode, Deployment, Wire, WireError, WireRequest

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
        reasoning = _other(choice.sent) if model is None else model_rules.settle(model, choice, max_tokens)
        body: dict[str, Any] = {
            "model": deployment.model,
            **caching.mark_messages(deployment, ask, caching.settle(ask, self.cache_modes(deployment), choice)),
            "stream": True,
            **{("stop_sequences" if n == "stop" else n): v for n, v in choice.sent.items() if n != "reasoning_effort"},
            **reasoning,
        }
        return wire_request(
            deployment, "/messages", body, choice,
            auth=("x-api-key", "{key}"), headers={"anthropic-version": API_VERSION},
        )  # fmt: skip

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
