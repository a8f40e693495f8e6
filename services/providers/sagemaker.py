"""Amazon SageMaker real-time endpoints with response streaming, and what their containers write.

``model`` is the endpoint's name. The container behind it is told a model only when ``serves`` in the deployment's
``aws`` settings names one (an adapter, or a server of several): a container of one model needs none, and would refuse
the endpoint's name as one that it does not know. The wire says what the container speaks: "chat" (LMI, vLLM, SGLang,
TGI's Messages API), "tgi" (TGI's own), "lines" (LMI's own).

Terminal signal of both: the last object's ``details`` with a known ``finish_reason`` (TGI always sends them, LMI when
``details`` is asked for, as it is here); a last object that carries the whole ``generated_text`` but no details is an
end without a reason and counts as TGI's own. The oldest LMI lines (``{"outputs": [" text"]}``) have no terminal signal
at all, so a call that is read from them is never taken for finished.

Sources: TGI's ``StreamResponse``; DJL Serving's "LMI handlers Inference API Schema" (0.27 and 0.31).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit, urlunsplit

import orjson

from services.aws.credentials import signing
from services.params import PARAMS
from services.providers import base
from services.providers.base import Choice, allowed, choose, merge
from services.providers.decoder import WireDecoder, text
from services.providers.errors import http_error
from services.providers.model_families import served_prompt
from services.providers.openai import ChatDecoder, chat_body
from services.providers.usage import from_tokens, obj
from services.types import Ask, Aws, CacheMode, Delta, Deployment, Json, JsonMapping, Wire, WireError, WireRequest

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
        return allowed(deployment, _CHAT if deployment.wire == "chat" else TAKES)

    def cache_modes(self, deployment: Deployment) -> tuple[CacheMode, ...]:
        """None that can be asked for: what the server behind the endpoint caches is its own affair."""
        return ()

    def request(self, deployment: Deployment, ask: Ask) -> WireRequest:
        """The request for one call. Raises ValueError in words, also for a body that SageMaker would not take."""
        aws = deployment.aws or Aws()
        choice = choose(deployment, ask, _CHAT if deployment.wire == "chat" else TAKES)
        base.settle(ask, self.cache_modes(deployment), choice)
        choice.sent.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
        if deployment.wire == "chat":
            body = chat_body(deployment, ask, choice.sent, "max_tokens")
            body = {name: value for name, value in body.items() if name != "model"}
            body = {**({"model": aws.serves} if aws.serves else {}), **body}
        else:
            settle(deployment.wire, choice)
            body = tokens_body(deployment.wire, aws.serves, ask, choice)
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
        return DECODERS[deployment.wire]()

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


def _check_size(body: JsonMapping) -> None:
    size = len(orjson.dumps(body))
    if size > MAX_BODY_BYTES:
        raise ValueError(
            f"The request is {size:,} bytes long and SageMaker takes at most {MAX_BODY_BYTES:,}: shorten the prompt or "
            "the conversation."
        )


STOPS = frozenset({"length", "eos_token", "stop_sequence", "stop"})


# Stands for the reason when the whole text came without one.
WHOLE_TEXT = "generated_text"


TAKES = frozenset({"temperature", "top_p", "top_k", "max_tokens", "stop", "seed"})


class TokenDecoder(WireDecoder):
    """Decodes ``{"token": {"text": …}, "generated_text": …, "details": …}``, one object a token."""

    def take(self, name: str, body: JsonMapping) -> Sequence[Delta]:
        """One token, or one piece of the oldest lines. Special tokens are no content."""
        token = obj(body.get("token"))
        special = token.get("special") is True or token.get("special_token") is True
        piece = "" if special else text(token.get("text"))
        outputs = body.get("outputs")
        if not token and isinstance(outputs, list) and outputs:
            piece = text(outputs[0])
        details = obj(body.get("details"))
        if details:
            self._details(details)
        elif isinstance(body.get("generated_text"), str):
            self.finish(WHOLE_TEXT)
            self._ended = True
        return (Delta("answer", piece),)

    def _details(self, details: JsonMapping) -> None:
        counts = {name: details[name] for name in ("input_length", "generated_tokens") if name in details}
        self.usage = from_tokens(counts.get("input_length"), counts.get("generated_tokens"), counts) or self.usage
        self.finish(details.get("finish_reason"))
        if self.finish_raw in STOPS:
            self._ended = True
        elif self.finish_raw == "error":
            self.fail({"type": "generation", "message": "the container failed while it was writing"})
        elif self.finish_raw:
            self.cut(f"the container stopped with “{self.finish_raw}”")


DECODERS: Mapping[str, type[WireDecoder]] = {"chat": ChatDecoder, "tgi": TokenDecoder, "lines": TokenDecoder}


def settle(wire: str, choice: Choice) -> None:
    """Drop from ``choice`` what TGI refuses (it takes a top p below 1 only, and no temperature of 0)."""
    if wire != "tgi":
        return
    if choice.sent.get("top_p") == 1:
        choice.drop("top_p", "TGI takes it below 1 only, and leaving it out means the same")
    if choice.sent.get("temperature") == 0:
        choice.drop("temperature", "TGI takes it above 0 only; greedy decoding was asked for instead")
        choice.drop_all(dict.fromkeys(("top_p", "top_k"), "greedy decoding draws nothing"))


def tokens_body(wire: str, serves: str | None, ask: Ask, choice: Choice) -> Json:
    """The body for a container that takes a prompt. ``serves``: its model's name, for the prompt's template."""
    names = {"max_tokens": "max_new_tokens", **({"stop": "stop_sequences"} if wire == "lines" else {})}
    parameters: Json = {names.get(name, name): value for name, value in choice.sent.items()}
    drawn = any(name in choice.sent for name in ("temperature", "top_p", "top_k"))
    parameters["do_sample"] = drawn and choice.sent.get("temperature") != 0
    parameters |= {"details": True, "return_full_text": False}
    return {"inputs": served_prompt(serves, ask), "parameters": parameters, "stream": True}
