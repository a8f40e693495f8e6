"""Amazon SageMaker real-time endpoints with response streaming.

``model`` is the endpoint's name. The container behind it is told a model only when ``serves`` in the deployment's
``aws`` settings names one (an adapter, or a server of several): a container of one model needs none, and would refuse
the endpoint's name as one that it does not know. The wire says what the container speaks: "chat" (LMI, vLLM, SGLang,
TGI's Messages API), "tgi" (TGI's own), "lines" (LMI's own).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import orjson

from services.aws.credentials import signing
from services.params import PARAMS
from services.providers import caching, container_wires
from services.providers.building import allowed, choose, merge
from services.providers.chat_wire import chat_body
from services.providers.decoder import WireDecoder
from services.providers.errors import http_error
from services.types import Ask, Aws, CacheMode, Deployment, Wire, WireError, WireRequest

MAX_BODY_BYTES = 6_291_456  # InvokeEndpointWithResponseStream takes no larger one
DEFAULT_MAX_TOKENS = 1024  # the containers' own defaults are 20 (TGI) and 30 (LMI) tokens
_CHAT = frozenset(PARAMS)


class SageMakerKind:
    """An endpoint of one's own on SageMaker, paid by the instance hour."""

    name = "sagemaker"
    title = "Amazon SageMaker endpoint"
    badge = "self-hosted on SageMaker"
    wires: tuple[Wire, ...] = ("chat", "tgi", "lines")
    default_base_url: str | None = "https://runtime.sagemaker.{region}.amazonaws.com"
    default_key_env: str | None = None
    key_required = False
    on_aws = True

    def accepts(self, deployment: Deployment) -> frozenset[str]:
        """Names of the parameters that are passed on."""
        return allowed(deployment, _CHAT if deployment.wire == "chat" else container_wires.TAKES)

    def cache_modes(self, deployment: Deployment) -> tuple[CacheMode, ...]:
        """None that can be asked for: what the server behind the endpoint caches is its own affair."""
        return ()

    def request(self, deployment: Deployment, ask: Ask) -> WireRequest:
        """The request for one call. Raises ValueError in words, also for a body that SageMaker would not take."""
        aws = deployment.aws or Aws()
        choice = choose(deployment, ask, _CHAT if deployment.wire == "chat" else container_wires.TAKES)
        caching.settle(ask, self.cache_modes(deployment), choice)
        choice.sent.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
        if deployment.wire == "chat":
            body = chat_body(deployment, ask, choice.sent, "max_tokens")
            body = {name: value for name, value in body.items() if name != "model"}
            body = {**({"model": aws.serves} if aws.serves else {}), **body}
        else:
            container_wires.settle(deployment.wire, choice)
            body = container_wires.tokens_body(deployment.wire, aws.serves, ask, choice)
        body = merge(body, deployment.extra_body)
        _check_size(body)
        return WireRequest(
            "POST",
            endpoint_url(deployment.base_url, deployment.model.strip()),
            {**_headers(aws), **deployment.headers},
            body,
            framing="sagemaker",
            sign=signing(deployment, "sagemaker"),
            sent_params=dict(choice.sent),
            dropped_params=dict(choice.dropped),
        )

    def decoder(self, deployment: Deployment) -> WireDecoder:
        """A fresh decoder for one response of this deployment's wire."""
        return container_wires.DECODERS[deployment.wire]()

    def http_error(self, status: int, headers: dict[str, str], body: bytes) -> WireError:
        """Classify a response that is not a 2xx event stream."""
        return http_error(status, headers, body)

    def models_request(self, deployment: Deployment) -> WireRequest | None:
        """None: SageMaker describes its endpoints at another address, its control plane."""
        return None


def endpoint_url(base_url: str, endpoint: str) -> str:
    """The address that an endpoint's streamed invocations go to."""
    parts = urlsplit(base_url.strip())
    path = f"{parts.path.rstrip('/')}/endpoints/{quote(endpoint, safe='-._~')}/invocations-response-stream"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _headers(aws: Aws) -> dict[str, str]:
    headers = {}
    if aws.component:
        headers["x-amzn-sagemaker-inference-component"] = aws.component
    if aws.variant:
        headers["x-amzn-sagemaker-target-variant"] = aws.variant
    return headers


def _check_size(body: Mapping[str, Any]) -> None:
    size = len(orjson.dumps(body))
    if size > MAX_BODY_BYTES:
        raise ValueError(
            f"The request is {size:,} bytes long and SageMaker takes at most {MAX_BODY_BYTES:,}: shorten the prompt or "
            "the conversation."
        )
