"""What a kind of deployment has to provide: build a request, decode its stream, test the connection.

A kind is one file in this folder with one class that satisfies `Kind`, listed in `services.providers.KINDS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from services.types import Ask, CacheMode, Delta, Deployment, Usage, Wire, WireError, WireRequest
from services.wire.sse import ServerEvent


class Decoder(Protocol):
    """Turns the events of one response into deltas, and knows whether the wire has said that it is finished.

    A decoder is fed every event in order, never sees a clock, and never raises on hostile input: what cannot be
    understood becomes `error` with outcome ``protocol_error``.
    """

    usage: Usage | None  # normalised, as far as the service has said it
    finish_raw: str | None  # the wire's own word: "stop", "end_turn", "max_output_tokens", …
    error: WireError | None
    model_reported: str | None
    response_id: str | None
    server_ms: float | None
    served_tier: str | None  # which service tier really served the call, where the service says it
    facts: dict[str, Any]  # further words of the service that belong into the record: request id, guardrail, variant

    def opened(self, headers: Mapping[str, str]) -> None:
        """The response's headers (names in lower case), before any event."""
        ...

    def feed(self, event: ServerEvent) -> Sequence[Delta]:
        """Decode one server-sent event; returns the non-empty content it carried, in order."""
        ...

    @property
    def terminal(self) -> bool:
        """True once the wire's own terminal signal was seen. Only then may a call be called succeeded."""
        ...


class Kind(Protocol):
    """One kind of deployment."""

    name: str  # "anthropic", "openai", "openai-compatible", "bedrock", "bedrock-provisioned", "sagemaker"
    title: str  # "Anthropic API"
    badge: str  # short, for the column header: "managed API", "self-hosted"
    wires: tuple[Wire, ...]
    default_base_url: str | None  # may hold "{region}"
    default_key_env: str | None
    key_required: bool
    on_aws: bool  # reached with AWS credentials unless the deployment names a key of its own

    def accepts(self, deployment: Deployment) -> frozenset[str]:
        """Names of the parameters (`services.params`) that this deployment's model takes."""
        ...

    def cache_modes(self, deployment: Deployment) -> tuple[CacheMode, ...]:
        """The modes of prompt caching that this deployment can be asked for; () where it has no say in it."""
        ...

    def request(self, deployment: Deployment, ask: Ask) -> WireRequest:
        """The request for one call, with `sent_params` and `dropped_params` filled. Raises ValueError in words."""
        ...

    def decoder(self, deployment: Deployment) -> Decoder:
        """A fresh decoder for one response of this deployment's wire."""
        ...

    def http_error(self, status: int, headers: dict[str, str], body: bytes) -> WireError:
        """Classify a response that is not a 2xx stream (or a 2xx that is not an event stream)."""
        ...

    def models_request(self, deployment: Deployment) -> WireRequest | None:
        """A cheap request that lists models or describes the model (GET); None where the service has none."""
        ...
