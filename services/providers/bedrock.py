"""Amazon Bedrock, on demand and with provisioned throughput: ConverseStream, and InvokeModelWithResponseStream.

Which models Converse serves is not listed anywhere we could read, so "converse" is the default and "invoke" a choice.
``model`` is a model id, an inference profile's id ("us.…") or any ARN that Bedrock takes in its place. An ARN does not
say which model runs on it; ``serves`` in the deployment's ``aws`` settings does. Without it what every model takes over
Converse is sent, and the rest is dropped with that reason.

Converse. Terminal signal: ``messageStop`` with a known stop reason, and ``metadata``, which carries the usage. Either
alone is not enough: the stream was cut between the two.

InvokeModel. Every frame is a ``chunk`` whose ``bytes`` are one JSON object (in base64) in the format of the model's
family. The last one also carries ``amazon-bedrock-invocationMetrics``: Bedrock's own counts and times. Terminal signals
by family:

- Claude: ``message_stop`` after a known stop reason, as on the Messages wire;
- Llama, Mistral (prompt), Titan: a chunk with a known ``stop_reason`` or ``completionReason``;
- Nova: ``messageStop`` and ``metadata``, as on the Converse wire;
- chat-shaped (gpt-oss, Qwen, DeepSeek, newer Mistral, imported models): a known finish reason, and then usage,
  invocation metrics or ``[DONE]``.

Sources, as of November 2026: AWS's "Inference request parameters and response fields" for Claude, Llama, Mistral,
Titan, Nova and OpenAI's open-weight models; AWS's pages on each family's parameters, botocore 1.44.5
(`InferenceConfiguration`: temperature and topP from 0 to 1), Nova's user guides (topK inside its own inferenceConfig;
reasoningConfig of Nova 2, whose "high" forbids a token limit), and how gateways send OpenAI's effort (flat for gpt-oss,
nested for the others). What is not known to be taken is dropped with its reason rather than tried.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import orjson

from services.aws.credentials import signing
from services.params import PARAMS
from services.providers import base
from services.providers.anthropic import SAMPLING, MessagesDecoder, claude_of, settle_claude
from services.providers.base import Choice, allowed, choose, merge
from services.providers.decoder import WireDecoder, loads, text
from services.providers.errors import http_error, plain
from services.providers.model_families import Family, family, llama_prompt, mistral_prompt, prompted, titan_prompt
from services.providers.openai import FINISHES, ChatDecoder
from services.providers.usage import count, from_converse, from_invocation, from_tokens, obj
from services.types import (
    Ask,
    Aws,
    CacheMode,
    Delta,
    Deployment,
    Json,
    JsonMapping,
    Usage,
    Wire,
    WireError,
    WireRequest,
)
from services.wire.framing import ServerEvent

METRICS = "amazon-bedrock-invocationMetrics"

_TITAN_STOPS = frozenset({"FINISH", "FINISHED", "LENGTH", "STOP_CRITERIA_MET", "CONTENT_FILTERED"})

_STOPS = frozenset({"stop", "length", "tool_calls"})


class ChunkFrames(WireDecoder):
    """Takes the family's JSON out of its frame and Bedrock's metrics out of the JSON; mixed in before its decoder."""

    def opened(self, headers: Mapping[str, str]) -> None:
        """The tier and the latency mode that served the call stand in the response's headers here."""
        super().opened(headers)
        super().tier(headers.get("x-amzn-bedrock-service-tier"))
        speed = headers.get("x-amzn-bedrock-performanceconfig-latency")
        if speed:
            self.facts["latency"] = plain(speed, 40)

    def tier(self, raw: Any) -> None:
        """Nothing: a tier in the family's own JSON is its vendor's, not Bedrock's."""

    def feed(self, event: ServerEvent) -> Sequence[Delta]:
        """Decode one frame; other frames than chunks and exceptions carry nothing."""
        if self.error is not None or event.name == "exception":
            return super().feed(event)
        if event.name != "chunk":
            self.events += 1
            return ()
        outer = loads(event.data)
        if not isinstance(outer, dict):
            return super().feed(event)  # which says what is wrong with it, and where
        try:
            inner = base64.b64decode(outer.get("bytes", ""), validate=True)
        except (binascii.Error, TypeError, ValueError):
            self.events += 1
            place = f"event {self.events}"
            self.error = WireError("protocol_error", "bad_event", place, f"{place} holds no base64 bytes")
            return ()
        return super().feed(self.unwrapped(inner))

    def unwrapped(self, inner: bytes) -> ServerEvent:
        """The event that the family's decoder is fed."""
        return ServerEvent("", inner)

    def take(self, name: str, body: JsonMapping) -> Sequence[Delta]:
        """One object of the family, then what Bedrock added to it."""
        deltas = super().take(name, body)
        metrics = obj(body.get(METRICS))
        if metrics:
            self.measured(metrics)
        blocked = text(body.get("amazon-bedrock-guardrailAction"))
        if blocked == "INTERVENED":
            self.finish("guardrail_intervened")
        return deltas

    def measured(self, metrics: JsonMapping) -> None:
        """Bedrock's own times and counts; the family's own final counts go before them."""
        latency, first = metrics.get("invocationLatency"), metrics.get("firstByteLatency")
        if isinstance(latency, int | float) and not isinstance(latency, bool) and 0 <= latency < 1e12:
            self.server_ms = float(latency)
        if isinstance(first, int | float) and not isinstance(first, bool) and 0 <= first < 1e12:
            self.facts["first_byte_ms"] = f"{first:g}"
        if self.usage is None or self.usage.source != "provider":
            self.usage = from_invocation(metrics) or self.usage


ANTHROPIC_VERSION = "bedrock-2023-05-31"

_WHY = "this model's InvokeModel format has no such parameter"


def invoke_takes(model: str) -> frozenset[str]:
    """Names of the parameters that this model's own format has."""
    kind = family(model)
    if kind == "claude":
        return converse_takes(model)
    if kind in ("llama", "titan"):
        return BASE if kind == "titan" else BASE - {"stop"}
    if kind == "nova" or (kind == "mistral" and prompted(model)):
        return BASE | {"top_k"}
    if kind == "mistral":
        return BASE
    return BASE | {"reasoning_effort"} if kind == "gpt-oss" else BASE | {"seed"}


def invoke_body(model: str, ask: Ask, choice: Choice) -> Json:
    """The body for this model. Raises ValueError in words for a family whose format is not known here."""
    kind = family(model)
    if kind == "cohere":
        raise ValueError(f"{model} has an InvokeModel format that is not known here: use the wire “converse”.")
    choice.drop_all(dict.fromkeys(frozenset(choice.sent) - invoke_takes(model), _WHY))
    if kind == "claude":
        return _claude(model, ask, choice)
    if kind == "llama":
        return {"prompt": llama_prompt(ask), **_named(choice, max_tokens="max_gen_len")}
    if kind == "titan":
        config = _named(choice, max_tokens="maxTokenCount", top_p="topP", stop="stopSequences")
        return {"inputText": titan_prompt(ask), "textGenerationConfig": config}
    if kind == "mistral" and prompted(model):
        return {"prompt": mistral_prompt(ask), **_named(choice)}
    if kind == "nova":
        config = _named(choice, max_tokens="maxTokens", top_p="topP", top_k="topK", stop="stopSequences")
        return {"schemaVersion": "messages-v1", **conversation(ask), "inferenceConfig": config}
    return _chat(kind, ask, choice)


def _claude(model: str, ask: Ask, choice: Choice) -> Json:
    claude = claude_of(model)
    reasoning = {} if claude is None else settle_claude(claude, choice, choice.sent["max_tokens"])
    mark: Json = {}
    if ask.cache in ("5m", "1h"):
        mark = {"cache_control": {"type": "ephemeral", **({"ttl": "1h"} if ask.cache == "1h" else {})}}
    messages: list[Json] = [{"role": m.role, "content": m.text} for m in ask.messages]
    if mark and (len(messages) > 1 or not ask.system):
        messages[-1]["content"] = [{"type": "text", "text": ask.messages[-1].text, **mark}]
    fields: Json = {"anthropic_version": ANTHROPIC_VERSION, "messages": messages}
    if ask.system:
        fields["system"] = [{"type": "text", "text": ask.system, **mark}] if mark else ask.system
    sent = _named(choice, stop="stop_sequences")
    sent.pop("reasoning_effort", None)
    return {**fields, **sent, **reasoning}


def _chat(kind: str | None, ask: Ask, choice: Choice) -> Json:
    effort = choice.sent.get("reasoning_effort")
    if effort is not None and effort not in ("low", "medium", "high"):
        choice.drop("reasoning_effort", f"this model knows low, medium, high, not “{effort}”")
    limit = "max_completion_tokens" if kind in ("gpt-oss", "openai") else "max_tokens"
    return {"messages": chat_messages(ask), **_named(choice, max_tokens=limit)}


def _named(choice: Choice, **names: str) -> Json:
    return {names.get(name, name): value for name, value in choice.sent.items()}


def chat_messages(ask: Ask) -> list[dict[str, str]]:
    """System prompt and turns in OpenAI's shape."""
    messages: list[dict[str, str]] = [{"role": "system", "content": ask.system}] if ask.system else []
    return messages + [{"role": m.role, "content": m.text} for m in ask.messages]


def conversation(ask: Ask) -> Json:
    """Messages and system prompt in blocks, with cache points where the Messages wire has its marks: behind the system
    prompt and, in a conversation or without a system prompt, behind the last message."""
    mark = _cache_point(ask.cache)
    messages: list[Json] = [{"role": m.role, "content": [{"text": m.text}]} for m in ask.messages]
    if mark and (len(messages) > 1 or not ask.system):
        messages[-1]["content"].append(mark)
    body: Json = {"messages": messages}
    if ask.system:
        body["system"] = [{"text": ask.system}, *([mark] if mark else [])]
    return body


def _cache_point(mode: CacheMode | None) -> Json | None:
    """The mark behind a prefix that is to be kept; its time to live is stated when it is not the 5 minutes that every
    model with caching knows."""
    if mode not in ("5m", "1h"):
        return None
    return {"cachePoint": {"type": "default", **({"ttl": "1h"} if mode == "1h" else {})}}


BASE = frozenset({"temperature", "top_p", "max_tokens", "stop"})


def converse_takes(model: str) -> frozenset[str]:
    """Names of the parameters that can be sent to this model over Converse."""
    kind = family(model)
    if kind == "claude":
        claude = claude_of(model)
        takes = BASE | {"top_k", "reasoning_effort"}
        if claude is None:
            return takes - {"reasoning_effort"}
        takes = takes if claude.samples else takes - frozenset(SAMPLING)
        return takes if claude.levels else takes - {"reasoning_effort"}
    takes = BASE | ({"top_k"} if kind in ("nova", "cohere") or _old_mistral(model) else set())
    return takes | {"reasoning_effort"} if kind in ("gpt-oss", "openai") or _nova_2(model) else takes


def _nova_2(model: str) -> bool:
    return bool(re.search(r"nova-2|nova-premier-2", model.lower()))


def _old_mistral(model: str) -> bool:
    return bool(re.search(r"mistral-7b|mixtral", model.lower()))


class InvokeClaude(ChunkFrames, MessagesDecoder):
    """Claude: the Messages wire's events."""


STOPS = frozenset(
    {
        "end_turn",
        "tool_use",
        "max_tokens",
        "stop_sequence",
        "guardrail_intervened",
        "content_filtered",
        "malformed_model_output",
        "malformed_tool_use",
        "model_context_window_exceeded",
    }
)


class ConverseDecoder(WireDecoder):
    """Decodes messageStart … messageStop, metadata."""

    def __init__(self) -> None:
        super().__init__()
        self._stopped = False
        self._reported = False

    def take(self, name: str, body: JsonMapping) -> Sequence[Delta]:
        """One event of the frame's type. Unknown types carry nothing."""
        if name == "contentBlockDelta":
            return self._delta(obj(body.get("delta")))
        if name == "contentBlockStart":
            self.answered = self.answered or "toolUse" in obj(body.get("start"))
        elif name == "messageStop":
            self.finish(body.get("stopReason"))
            self._stopped = True
            self._close()
        elif name == "metadata":
            self._metadata(body)
            self._close()
        return ()

    def _delta(self, delta: JsonMapping) -> Sequence[Delta]:
        if "text" in delta:
            return (Delta("answer", text(delta["text"])),)
        if "reasoningContent" in delta:  # its signature and redacted part are no content
            return (Delta("reasoning", text(obj(delta["reasoningContent"]).get("text"))),)
        if "toolUse" in delta:
            return (Delta("tool", text(obj(delta["toolUse"]).get("input"))),)
        return ()

    def _metadata(self, body: JsonMapping) -> None:
        self._reported = True
        self.usage = from_converse(obj(body.get("usage"))) or self.usage
        latency = obj(body.get("metrics")).get("latencyMs")
        if isinstance(latency, int | float) and not isinstance(latency, bool) and 0 <= latency < 1e12:
            self.server_ms = float(latency)
        self.tier(obj(body.get("serviceTier")).get("type"))
        speed = text(obj(body.get("performanceConfig")).get("latency"))
        if speed:
            self.facts["latency"] = plain(speed, 40)
        trace = obj(body.get("trace"))
        routed = text(obj(trace.get("promptRouter")).get("invokedModelId"))
        if routed:
            self.model_reported = plain(routed)
        guarded = guardrail_words(obj(trace.get("guardrail")))
        if guarded:
            self.facts["guardrail"] = guarded
            self.finish_detail = guarded

    def _close(self) -> None:
        if not (self._stopped and self._reported):
            return
        if self.finish_raw in STOPS:
            self._ended = True
        elif self.finish_raw:
            self.cut(f"the service stopped with the stop reason “{self.finish_raw}”")
        else:
            self.cut("the service closed its answer without a stop reason")


def guardrail_words(trace: JsonMapping) -> str:
    """What a guardrail found, in a few words: its policies' names and what was done, never the text that matched."""
    findings: list[str] = []
    for side, assessments in (
        ("input", obj(trace.get("inputAssessment")).values()),
        ("output", (assessment for some in obj(trace.get("outputAssessments")).values() for assessment in _list(some))),
    ):
        findings += [f"{side}: {words}" for assessment in assessments for words in _assessed(obj(assessment))]
    return plain("; ".join(dict.fromkeys(findings)) or text(trace.get("actionReason")), 200)


def _assessed(assessment: JsonMapping) -> Iterator[str]:
    for policy, parts in assessment.items():
        for filters in obj(parts).values():
            for match in map(obj, _list(filters)):
                action = text(match.get("action"))
                if action in ("", "NONE"):
                    continue
                subject = text(match.get("name")) or text(match.get("type"))
                yield " ".join(word for word in (policy.removesuffix("Policy"), subject, action.lower()) if word)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


class InvokeNova(ChunkFrames, ConverseDecoder):
    """Nova: the Converse wire's events, each under its own name."""

    def unwrapped(self, inner: bytes) -> ServerEvent:
        """The event with its type word as its name, as a Converse frame has it."""
        body = loads(inner)
        name = next((key for key in body if key != METRICS), "") if isinstance(body, dict) else ""
        if not name or not isinstance(body[name], dict):
            return ServerEvent("", inner)
        added = {METRICS: body[METRICS]} if METRICS in body else {}
        return ServerEvent(name, orjson.dumps({**body[name], **added}))


class InvokeChat(ChunkFrames, ChatDecoder):
    """Models with OpenAI's chat shape."""

    def take(self, name: str, body: JsonMapping) -> Sequence[Delta]:
        """One chunk; Mistral calls its finish reason ``stop_reason``."""
        choices = body.get("choices")
        first = obj(choices[0]) if isinstance(choices, list) and choices else {}
        self.finish(first.get("stop_reason") if not first.get("finish_reason") else None)
        return super().take(name, body)

    def measured(self, metrics: JsonMapping) -> None:
        """The metrics close the stream as a usage object does: Bedrock sends no ``[DONE]``."""
        super().measured(metrics)
        if self.finish_raw in FINISHES:
            self._ended = True


class _Plain(WireDecoder):
    """The older families: text in one field, a reason to stop in another, both in every chunk."""

    def take(self, name: str, body: JsonMapping) -> Sequence[Delta]:
        """One chunk of text; the one with a reason to stop is the last."""
        answer, reason = self.parts(body)
        self.finish(reason)
        if self.finish_raw in self.stops:
            self._ended = True
        elif self.finish_raw:
            self.cut(f"the service stopped with “{self.finish_raw}”")
        return (Delta("answer", answer),)

    stops: frozenset[str] = _STOPS

    def parts(self, body: JsonMapping) -> tuple[str, Any]:
        """The text and the reason to stop that one chunk holds."""
        raise NotImplementedError


def _counts(body: JsonMapping, input_name: str, output_name: str) -> Usage | None:
    """Both counts, or None: the last chunk of some versions holds only one of them, and the metrics hold both."""
    if count(body.get(input_name)) is None or count(body.get(output_name)) is None:
        return None
    return from_tokens(
        body[input_name], body[output_name], {input_name: body[input_name], output_name: body[output_name]}
    )


class _Llama(_Plain):
    def parts(self, body: JsonMapping) -> tuple[str, Any]:
        if body.get("stop_reason"):
            self.usage = _counts(body, "prompt_token_count", "generation_token_count") or self.usage
        return text(body.get("generation")), body.get("stop_reason")


class _Mistral(_Plain):
    def parts(self, body: JsonMapping) -> tuple[str, Any]:
        outputs = body.get("outputs")
        first = obj(outputs[0]) if isinstance(outputs, list) and outputs else {}
        return text(first.get("text")), first.get("stop_reason")


class _Titan(_Plain):
    stops = _TITAN_STOPS

    def parts(self, body: JsonMapping) -> tuple[str, Any]:
        if body.get("completionReason"):
            self.usage = _counts(body, "inputTextTokenCount", "totalOutputTextTokenCount") or self.usage
        return text(body.get("outputText")), body.get("completionReason")


class InvokeLlama(ChunkFrames, _Llama):
    """Llama: ``generation``, ``stop_reason``."""


class InvokeMistral(ChunkFrames, _Mistral):
    """Mistral's older models: ``outputs``."""


class InvokeTitan(ChunkFrames, _Titan):
    """Titan: ``outputText``, ``completionReason``."""


def decoder_of(model: str) -> ChunkFrames:
    """A fresh decoder for the family of ``model``; chat-shaped where it is not known."""
    kind = family(model)
    if kind == "mistral" and not prompted(model):
        return InvokeChat()
    decoders: dict[str, type[ChunkFrames]] = {
        "claude": InvokeClaude,
        "llama": InvokeLlama,
        "mistral": InvokeMistral,
        "titan": InvokeTitan,
        "nova": InvokeNova,
    }
    return decoders.get(kind or "", InvokeChat)()


_INVOKE = frozenset(PARAMS)


_NAMES = {"temperature": "temperature", "top_p": "topP", "max_tokens": "maxTokens", "stop": "stopSequences"}


def converse_body(ask: Ask, aws: Aws, choice: Choice, extra: JsonMapping) -> Json:
    """The JSON body of a ConverseStream call; ``extra`` is what the model takes beside the wire's own parameters.

    ``maxTokens`` is always in it: Bedrock reserves quota for as many tokens as a call may write, and without a limit
    that is the most the model can.
    """
    body = conversation(ask)
    body["inferenceConfig"] = {_NAMES[name]: value for name, value in choice.sent.items() if name in _NAMES}
    if extra:
        body["additionalModelRequestFields"] = dict(extra)
    if aws.guardrail:
        name, _, version = aws.guardrail.rpartition(":")
        body["guardrailConfig"] = {"guardrailIdentifier": name, "guardrailVersion": version, "trace": "enabled"}
    if aws.latency:
        body["performanceConfig"] = {"latency": aws.latency}
    if aws.service_tier:
        body["serviceTier"] = {"type": aws.service_tier}
    return body


_UNKNOWN = "the model behind this name is not known: say it with serves in the deployment's aws settings"

_NOT_TAKEN = "this model takes none over this wire, as far as we know"

DEFAULT_MAX_TOKENS = 1024


# Thinking counts towards the limit: with 1,024 a model that always thinks would often not reach its answer.
DEFAULT_MAX_TOKENS_THINKING = 8192


def underlying(deployment: Deployment) -> str:
    """The name of the model behind a deployment: as its settings say it, else its own, else its price's."""
    served = deployment.aws.serves if deployment.aws is not None else None
    for name in (served, deployment.model, deployment.price.model):
        if name and family(name):
            return name
    return served or deployment.model


def thinks_unasked(model: str) -> bool:
    """Whether the model reasons when the request says nothing about it."""
    claude = claude_of(model)
    return (claude is not None and claude.thinks_unasked) or family(model) in ("gpt-oss", "openai", "deepseek")


def settle_converse(model: str, choice: Choice, max_tokens: int) -> Json:
    """Drop from ``choice`` what this model refuses over Converse; returns ``additionalModelRequestFields``."""
    kind = family(model)
    why = _UNKNOWN if kind is None else _NOT_TAKEN
    takes = converse_takes(model)
    claude = claude_of(model)
    extra = settle_claude(claude, choice, max_tokens) if kind == "claude" and claude is not None else {}
    choice.drop_all({name: why for name in ("top_k", "reasoning_effort") if name not in takes})
    for name in ("temperature", "top_p"):
        value = choice.sent.get(name)
        if isinstance(value, int | float) and value > 1:
            choice.drop(name, f"Bedrock takes it from 0 to 1, and {value:g} was asked for")
    if kind != "claude":
        extra |= _reasoning(model, choice)
    return extra | _top_k(kind, choice)


def _top_k(kind: Family | None, choice: Choice) -> Json:
    if "top_k" not in choice.sent:
        return {}
    value = choice.sent["top_k"]
    if kind == "nova":
        return {"inferenceConfig": {"topK": value}}
    return {"k" if kind == "cohere" else "top_k": value}


def _reasoning(model: str, choice: Choice) -> Json:
    effort = choice.sent.get("reasoning_effort")
    if effort is None:
        return {}
    if family(model) == "nova":
        if effort == "high":
            choice.drop("reasoning_effort", "Nova takes “high” only without a token limit, and one is always sent here")
            return {}
        levels: tuple[str, ...] = ("none", "low", "medium")
    else:
        levels = ("low", "medium", "high") if family(model) == "gpt-oss" else ("none", "low", "medium", "high", "xhigh")
    if effort not in levels:
        choice.drop("reasoning_effort", f"this model knows {', '.join(levels)}, not “{effort}”")
        return {}
    if family(model) == "nova":
        kind = "disabled" if effort == "none" else "enabled"
        level = {} if effort == "none" else {"maxReasoningEffort": effort}
        return {"reasoningConfig": {"type": kind, **level}}
    return {"reasoning_effort": effort} if family(model) == "gpt-oss" else {"reasoning": {"effort": effort}}


def modes_of_model(model: str) -> tuple[CacheMode, ...]:
    """The modes of prompt caching that this model can be asked for. Claude marks prefixes for 5 minutes or an hour,
    Nova for 5 minutes; of a model that is not known anything can be asked, and Bedrock says when it refuses."""
    kind = family(model)
    if kind in ("claude", None):
        return ("off", "5m", "1h")
    return ("off", "5m") if kind == "nova" else ()


# --- the kinds --------------------------------------------------------------------------------------------------------

BEARER = ("authorization", "Bearer {key}")

_CONVERSE = BASE | {"top_k", "reasoning_effort"}

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
        model = underlying(deployment)
        converse = deployment.wire == "converse"
        return allowed(
            deployment,
            converse_takes(model) if converse else invoke_takes(model),
        )

    def cache_modes(self, deployment: Deployment) -> tuple[CacheMode, ...]:
        """The modes of prompt caching that can be asked for."""
        model = underlying(deployment)
        if deployment.wire == "invoke" and family(model) != "claude":
            return ()
        return modes_of_model(model)

    def request(self, deployment: Deployment, ask: Ask) -> WireRequest:
        """The request for one call. Raises ValueError in words."""
        aws = self.settings(deployment)
        model = underlying(deployment)
        choice = choose(deployment, ask, _CONVERSE if deployment.wire == "converse" else _INVOKE)
        settled = replace(ask, cache=base.settle(ask, self.cache_modes(deployment), choice))
        usual = DEFAULT_MAX_TOKENS
        if thinks_unasked(model):
            usual = DEFAULT_MAX_TOKENS_THINKING
        max_tokens = choice.sent.setdefault("max_tokens", usual)
        headers: dict[str, str] = {}
        if deployment.wire == "converse":
            extra = settle_converse(model, choice, max_tokens)
            body = converse_body(settled, aws, choice, extra)
        else:
            body = invoke_body(model, settled, choice)
            headers = _invoke_headers(aws)
        return _wire_request(deployment, body, headers, choice)

    def settings(self, deployment: Deployment) -> Aws:
        """How this kind of capacity is asked."""
        return deployment.aws or Aws()

    def decoder(self, deployment: Deployment) -> WireDecoder:
        """A fresh decoder for one response of this deployment's wire and model."""
        if deployment.wire == "converse":
            return ConverseDecoder()
        return decoder_of(underlying(deployment))

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


def _wire_request(deployment: Deployment, body: JsonMapping, headers: Mapping[str, str], choice: Choice) -> WireRequest:
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
