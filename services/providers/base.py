"""What a kind of deployment has to provide, and what the kinds share when they build a request.

A kind is one file in this folder with one class that satisfies `Kind`, listed in `services.providers.KINDS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from services.aws.credentials import BEARER_ENV, signing
from services.params import PARAMS
from services.types import (
    Ask,
    CacheMode,
    Delta,
    Deployment,
    Json,
    JsonMapping,
    Signing,
    Usage,
    Wire,
    WireError,
    WireRequest,
)
from services.wire.framing import ServerEvent

_VERSION = re.compile(r"^v\d+[a-z0-9]*$")

_WIRE_PATHS = ("/chat/completions", "/responses", "/messages", "/models")

_WIRE_NAMES = {
    "messages": "Messages",
    "responses": "Responses",
    "chat": "Chat Completions",
    "converse": "Converse",
    "invoke": "InvokeModel",
    "tgi": "TGI",
    "lines": "JSON lines",
}


def endpoint(base_url: str, path: str) -> str:
    """The full address of a wire's ``path`` ("/messages") under a base URL written in any of the usual ways.

    With or without a trailing slash, with or without ``/v1`` (or another version anywhere in its path), or even with
    the wire's path already on it. A query string stays.
    """
    parts = urlsplit(base_url.strip())
    base = parts.path.rstrip("/")
    for wire_path in _WIRE_PATHS:
        base = base.removesuffix(wire_path)
    versioned = any(_VERSION.match(segment) for segment in base.split("/"))
    return urlunsplit((parts.scheme, parts.netloc, base + ("" if versioned else "/v1") + path, parts.query, ""))


def merge(body: JsonMapping, extra: JsonMapping) -> Json:
    """``body`` with ``extra`` laid over it: objects are merged key by key, None takes a key out."""
    merged = dict(body)
    for name, value in extra.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(name), Mapping):
            merged[name] = merge(merged[name], value)
        else:
            merged[name] = value
    return merged


@dataclass
class Choice:
    """Which of the asked parameters are sent, and why the others are not."""

    sent: Json
    dropped: dict[str, str] = field(default_factory=dict)

    def drop(self, name: str, why: str) -> None:
        """Leave ``name`` out if it was asked for, for the reason ``why`` (words, no full stop)."""
        if name in self.sent:
            del self.sent[name]
            self.dropped[name] = why

    def drop_all(self, names: Mapping[str, str]) -> None:
        """`drop` each name with its reason."""
        for name, why in names.items():
            self.drop(name, why)


def choose(deployment: Deployment, ask: Ask, wire_takes: frozenset[str]) -> Choice:
    """Start a `Choice` from what was asked: what the wire has no word for, or the deployment's list does not name, is
    dropped here. Raises ValueError in words for an ask or a deployment that cannot be sent at all."""
    if not deployment.model.strip():
        raise ValueError(f"{deployment.name} names no model: give it one in its settings.")
    if not ask.messages or ask.messages[-1].role != "user":
        raise ValueError("The conversation has to end with a message from the user.")
    choice = Choice({name: value for name, value in ask.params.items() if value is not None})
    for name in list(choice.sent):
        if name not in PARAMS:
            raise ValueError(f"“{name}” is not a parameter here; these are: {', '.join(PARAMS)}.")
        if name not in wire_takes:
            choice.drop(name, f"the {_WIRE_NAMES[deployment.wire]} wire has no such parameter")
        elif deployment.params is not None and name not in deployment.params:
            choice.drop(name, "this deployment's settings do not list it")
    return choice


def allowed(deployment: Deployment, takes: frozenset[str]) -> frozenset[str]:
    """What the model takes, narrowed by the deployment's own list; a list can only take away."""
    return takes if deployment.params is None else takes & frozenset(deployment.params)


def wire_request(
    deployment: Deployment,
    path: str,
    body: JsonMapping,
    choice: Choice,
    *,
    auth: tuple[str, str] | None,
    headers: Mapping[str, str] | None = None,
) -> WireRequest:
    """A POST with the deployment's extra body and headers laid over it. Raises ValueError in words.

    A deployment on AWS (Bedrock's endpoints that speak these wires) is signed for, or sends Bedrock's own API key,
    which is a bearer token whatever the wire.
    """
    sign = aws_signing(deployment)
    bearer = deployment.aws is not None and deployment.key_env == BEARER_ENV
    return WireRequest(
        "POST",
        endpoint(deployment.base_url, path),
        {**(headers or {}), **deployment.headers},
        merge(body, deployment.extra_body),
        None if sign else ("authorization", "Bearer {key}") if bearer else auth,
        sign=sign,
        sent_params=dict(choice.sent),
        dropped_params=dict(choice.dropped),
    )


def aws_signing(deployment: Deployment) -> Signing | None:
    """What a deployment of one of the general kinds has to be signed for, when it stands on AWS. Raises ValueError."""
    if deployment.aws is None:
        return None
    host = urlsplit(deployment.base_url).hostname or ""
    return signing(deployment, "bedrock" if host.startswith("bedrock-runtime") else "bedrock-mantle")


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
    facts: Json  # further words of the service that belong into the record: request id, guardrail, variant

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


DROPPED = "cache"  # its name among the parameters that were not sent
LABEL = "Prompt caching"
MODE_WORDS: Mapping[CacheMode, str] = {
    "off": "off",
    "auto": "automatic",
    "5m": "kept 5 minutes",
    "1h": "kept 1 hour",
}


def settle(ask: Ask, modes: Sequence[CacheMode], choice: Choice) -> CacheMode | None:
    """The asked mode if the deployment has it. Another one is dropped with its reason, and nothing is said."""
    if ask.cache is None or ask.cache in modes:
        return ask.cache
    can = " or ".join(f"“{MODE_WORDS[mode]}”" for mode in modes)
    why = f"it can be {can} here, not “{MODE_WORDS[ask.cache]}”" if modes else "this deployment has no say in it"
    choice.dropped[DROPPED] = why
    return None
