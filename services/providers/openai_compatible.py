"""Self-hosted and third-party servers that speak OpenAI's wires: vLLM, llama.cpp, SGLang, Ollama, gateways, …

Every parameter is passed on under the name these servers share; what a particular one refuses is taken out with the
deployment's ``params`` list. The connection test finds out whether a server refuses ``stream_options``, and calls then
leave it out (`services.engine.connection_test`).
"""

from __future__ import annotations

from services.params import PARAMS
from services.providers import caching
from services.providers.building import allowed, choose, endpoint, wire_request
from services.providers.chat_wire import ChatDecoder, chat_body
from services.providers.decoder import WireDecoder
from services.providers.errors import http_error
from services.providers.openai import BEARER
from services.providers.responses_wire import ResponsesDecoder, responses_body
from services.types import Ask, CacheMode, Deployment, Wire, WireError, WireRequest

_CHAT = frozenset(PARAMS)
_RESPONSES = frozenset({"temperature", "top_p", "top_k", "max_tokens", "reasoning_effort", "seed"})


class OpenAICompatibleKind:
    """Any server that imitates OpenAI's wires; the key is optional."""

    name = "openai-compatible"
    title = "OpenAI-compatible server"
    badge = "self-hosted"
    wires: tuple[Wire, ...] = ("chat", "responses")
    default_base_url: str | None = None
    default_key_env: str | None = None
    key_required = False
    on_aws = False

    def accepts(self, deployment: Deployment) -> frozenset[str]:
        """Names of the parameters that are passed on."""
        return allowed(deployment, _CHAT if deployment.wire == "chat" else _RESPONSES)

    def cache_modes(self, deployment: Deployment) -> tuple[CacheMode, ...]:
        """The modes of prompt caching that can be asked for."""
        return caching.server_modes(deployment)

    def request(self, deployment: Deployment, ask: Ask) -> WireRequest:
        """The request for one call. Raises ValueError in words."""
        choice = choose(deployment, ask, _CHAT if deployment.wire == "chat" else _RESPONSES)
        cache = caching.server_fields(caching.settle(ask, self.cache_modes(deployment), choice))
        if deployment.wire == "chat":
            body = chat_body(deployment, ask, choice.sent, "max_tokens") | cache
            return wire_request(deployment, "/chat/completions", body, choice, auth=BEARER)
        body = responses_body(deployment, ask, choice.sent) | cache
        return wire_request(deployment, "/responses", body, choice, auth=BEARER)

    def decoder(self, deployment: Deployment) -> WireDecoder:
        """A fresh decoder for one response of this deployment's wire."""
        return ChatDecoder() if deployment.wire == "chat" else ResponsesDecoder()

    def http_error(self, status: int, headers: dict[str, str], body: bytes) -> WireError:
        """Classify a response that is not a 2xx event stream."""
        return http_error(status, headers, body)

    def models_request(self, deployment: Deployment) -> WireRequest | None:
        """GET /v1/models: what the server serves."""
        return WireRequest("GET", endpoint(deployment.base_url, "/models"), dict(deployment.headers), {}, BEARER)
