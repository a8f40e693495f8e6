"""OpenAI's API over its two wires, Responses and Chat Completions."""

from __future__ import annotations

from services.providers import caching, gpt
from services.providers.building import allowed, choose, endpoint, wire_request
from services.providers.chat_wire import ChatDecoder, chat_body
from services.providers.decoder import WireDecoder
from services.providers.errors import http_error
from services.providers.responses_wire import ResponsesDecoder, responses_body
from services.types import Ask, CacheMode, Deployment, Wire, WireError, WireRequest

BEARER = ("authorization", "Bearer {key}")
MIN_RESPONSES_TOKENS = 16
_RESPONSES = frozenset({"temperature", "top_p", "max_tokens", "reasoning_effort"})
_CHAT = _RESPONSES | {"stop", "seed", "frequency_penalty", "presence_penalty"}


class OpenAIKind:
    """OpenAI's own API; ``store: false``, so that nothing of a comparison stays with the service."""

    name = "openai"
    title = "OpenAI API (Responses, Chat Completions)"
    badge = "managed API"
    wires: tuple[Wire, ...] = ("responses", "chat")
    default_base_url: str | None = "https://api.openai.com/v1"
    default_key_env: str | None = "OPENAI_API_KEY"
    key_required = True
    on_aws = False

    def accepts(self, deployment: Deployment) -> frozenset[str]:
        """Names of the parameters that this deployment's model takes, at one reasoning effort at least."""
        takes = _CHAT if deployment.wire == "chat" else _RESPONSES
        if gpt.reasons(deployment.model):
            takes -= {"frequency_penalty", "presence_penalty", "stop"}
            if not gpt.samples(deployment.model, "none"):
                takes -= {"temperature", "top_p"}
        elif gpt.ours(deployment.model):
            takes -= {"reasoning_effort"}
        return allowed(deployment, takes)

    def cache_modes(self, deployment: Deployment) -> tuple[CacheMode, ...]:
        """The modes of prompt caching that can be asked for."""
        return caching.openai_modes(deployment)

    def request(self, deployment: Deployment, ask: Ask) -> WireRequest:
        """The request for one call. Raises ValueError in words."""
        choice = choose(deployment, ask, _CHAT if deployment.wire == "chat" else _RESPONSES)
        gpt.settle(deployment.model, choice)
        cache = caching.openai_fields(deployment, ask, caching.settle(ask, self.cache_modes(deployment), choice))
        if deployment.wire == "chat":
            body = chat_body(deployment, ask, choice.sent, "max_completion_tokens") | cache
            return wire_request(deployment, "/chat/completions", body, choice, auth=BEARER)
        if gpt.ours(deployment.model) and choice.sent.get("max_tokens", MIN_RESPONSES_TOKENS) < MIN_RESPONSES_TOKENS:
            choice.drop("max_tokens", f"OpenAI's Responses API takes no limit below {MIN_RESPONSES_TOKENS} tokens")
        body = responses_body(deployment, ask, choice.sent) | cache
        return wire_request(deployment, "/responses", body, choice, auth=BEARER)

    def decoder(self, deployment: Deployment) -> WireDecoder:
        """A fresh decoder for one response of this deployment's wire."""
        return ChatDecoder() if deployment.wire == "chat" else ResponsesDecoder()

    def http_error(self, status: int, headers: dict[str, str], body: bytes) -> WireError:
        """Classify a response that is not a 2xx event stream."""
        return http_error(status, headers, body)

    def models_request(self, deployment: Deployment) -> WireRequest | None:
        """GET /v1/models: all models the key may use."""
        return WireRequest("GET", endpoint(deployment.base_url, "/models"), dict(deployment.headers), {}, BEARER)
