"""Amazon Bedrock, on demand and with provisioned throughput: ConverseStream, and InvokeModelWithResponseStream.

Which models Converse serves is not listed anywhere we could read, so "converse" is the default and "invoke" a choice.
``model`` is a model id, an inference profile's id ("us.…") or any ARN that Bedrock takes in its place.

The ARN does not say which model runs on it. ``serves`` in the deployment's ``aws`` settings does; without it what every
model takes over Converse is sent, and the rest is dropped with that reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from services.aws.credentials import signing
from services.providers import bedrock_streams as providers_bedrock_streams
from services.providers import caching
from services.providers.base import Choice, allowed, choose, merge
from services.providers.bedrock_streams import ConverseDecoder, converse_body
from services.providers.decoder import WireDecoder
from services.providers.errors import http_error
from services.types import Ask, Aws, CacheMode, Deployment, Wire, WireError, WireRequest

BEARER = ("authorization", "Bearer {key}")

_CONVERSE = providers_bedrock_streams.BASE | {"top_k", "reasoning_effort"}

_PATHS = {"converse": "converse-stream", "invoke": "invoke-with-response-stream"}


class BedrockKind:
    """Bedrock's own runtime API with pay-per-token capacity."""

    name = "bedrock"
    title = "Amazon Bedrock (on demand)"
    badge = "managed API"
    wires: tuple[Wire, ...] = ("converse", "invoke")
    default_base_url: str | None = "https://bedrock-runtime.{region}.amazonaws.com"
    default_key_env: str | None = None
    key_required = False
    on_aws = True

    def accepts(self, deployment: Deployment) -> frozenset[str]:
        """Names of the parameters that this deployment's model takes."""
        model = providers_bedrock_streams.underlying(deployment)
        converse = deployment.wire == "converse"
        return allowed(
            deployment,
            providers_bedrock_streams.converse_takes(model) if converse else providers_bedrock_streams.takes(model),
        )

    def cache_modes(self, deployment: Deployment) -> tuple[CacheMode, ...]:
        """The modes of prompt caching that can be asked for."""
        model = providers_bedrock_streams.underlying(deployment)
        if deployment.wire == "invoke" and providers_bedrock_streams.family(model) != "claude":
            return ()
        return providers_bedrock_streams.cache_modes(model)

    def request(self, deployment: Deployment, ask: Ask) -> WireRequest:
        """The request for one call. Raises ValueError in words."""
        aws = self.settings(deployment)
        model = providers_bedrock_streams.underlying(deployment)
        choice = choose(deployment, ask, _CONVERSE if deployment.wire == "converse" else providers_bedrock_streams.WIRE)
        settled = replace(ask, cache=caching.settle(ask, self.cache_modes(deployment), choice))
        usual = providers_bedrock_streams.DEFAULT_MAX_TOKENS
        if providers_bedrock_streams.thinks_unasked(model):
            usual = providers_bedrock_streams.DEFAULT_MAX_TOKENS_THINKING
        max_tokens = choice.sent.setdefault("max_tokens", usual)
        headers: dict[str, str] = {}
        if deployment.wire == "converse":
            extra = providers_bedrock_streams.settle(model, choice, max_tokens)
            body = converse_body(settled, aws, choice, extra)
        else:
            body = providers_bedrock_streams.body(model, settled, choice)
            headers = _invoke_headers(aws)
        return _wire_request(deployment, body, headers, choice)

    def settings(self, deployment: Deployment) -> Aws:
        """How this kind of capacity is asked."""
        return deployment.aws or Aws()

    def decoder(self, deployment: Deployment) -> WireDecoder:
        """A fresh decoder for one response of this deployment's wire and model."""
        if deployment.wire == "converse":
            return ConverseDecoder()
        return providers_bedrock_streams.decoder_of(providers_bedrock_streams.underlying(deployment))

    def http_error(self, status: int, headers: dict[str, str], body: bytes) -> WireError:
        """Classify a response that is not a 2xx event stream."""
        return http_error(status, headers, body)

    def models_request(self, deployment: Deployment) -> WireRequest | None:
        """None: Bedrock lists its models at another address, its control plane."""
        return None


def _invoke_headers(aws: Aws) -> dict[str, str]:
    headers: dict[str, str] = {}
    if aws.guardrail:
        name, _, version = aws.guardrail.rpartition(":")
        headers |= {
            "x-amzn-bedrock-guardrailidentifier": name,
            "x-amzn-bedrock-guardrailversion": version,
            "x-amzn-bedrock-trace": "ENABLED",
        }
    if aws.latency:
        headers["x-amzn-bedrock-performanceconfig-latency"] = aws.latency
    if aws.service_tier:
        headers["x-amzn-bedrock-service-tier"] = aws.service_tier
    return headers


def model_url(base_url: str, model: str, action: str) -> str:
    """The address of a call: the model's id or ARN is one segment of the path, percent-encoded as botocore does it."""
    parts = urlsplit(base_url.strip())
    path = f"{parts.path.rstrip('/')}/model/{quote(model, safe='-._~')}/{action}"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _wire_request(
    deployment: Deployment, body: Mapping[str, Any], headers: Mapping[str, str], choice: Choice
) -> WireRequest:
    sign = signing(deployment, "bedrock")
    return WireRequest(
        "POST",
        model_url(deployment.base_url, deployment.model.strip(), _PATHS[deployment.wire]),
        {**headers, **deployment.headers},
        merge(body, deployment.extra_body),
        None if sign else BEARER,
        framing="eventstream",
        sign=sign,
        sent_params=dict(choice.sent),
        dropped_params=dict(choice.dropped),
    )


class BedrockProvisionedKind(BedrockKind):
    """Model units that are paid by the hour, whether they are used or not."""

    name = "bedrock-provisioned"
    title = "Amazon Bedrock (provisioned throughput)"
    badge = "provisioned"

    def settings(self, deployment: Deployment) -> Aws:
        """No service tier: the tiers share on-demand capacity, and this call does not use it."""
        return replace(super().settings(deployment), service_tier=None)
