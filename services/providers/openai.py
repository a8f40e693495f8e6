"""OpenAI's API over its two wires, Responses and Chat Completions, and the servers that imitate it.

Every parameter is passed on under the name these servers share; what a particular one refuses is taken out with the
deployment's ``params`` list. The connection test finds out whether a server refuses ``stream_options``, and calls then
leave it out (`services.engine.api`).

Responses. Terminal signal: ``response.completed`` or ``response.incomplete``. ``response.failed``,
``response.cancelled`` and ``error`` events end the call in their own error.

Chat Completions. Terminal signal: a known ``finish_reason``, and then either ``[DONE]`` or a usage object (in the
finishing chunk or after it). Either alone is not enough: a server that dies can still close with ``[DONE]``, and a
proxy that cuts can do so right behind the finishing chunk.

What each OpenAI model takes, as of November 2026.
Sources: the installed SDK (openai 3.54: `ChatModel`, `ReasoningEffort`, "stop: not supported with latest reasoning
models"), OpenAI's reasoning guide, and error texts quoted in public issues ("Only the default (1) value is supported").

- Reasoning models (o-series, gpt-5 and later) refuse penalties and stop sequences, and take temperature and top_p only
  as gpt-5.1 … gpt-5.5 with reasoning effort "none".
- Effort levels: o-series low–high; gpt-5 minimal–high; gpt-5.1 none, low–high; from gpt-5.2 on also xhigh; from
  gpt-5.6 on also max; the -pro models of gpt-5 only high, later ones medium–xhigh.

Prompt caching.
Sources: the installed SDKs (anthropic 2.12 `cache_control`; openai 3.54 `prompt_cache_key`, and `prompt_cache_options`
"for gpt-5.6 and later models": with mode ``explicit`` and no breakpoint "the request does not use prompt caching"),
vLLM's ``cache_salt`` and llama.cpp's ``cache_prompt``. llama.cpp heeds the latter on the Chat and Responses wires; its
Messages wire loses it when it translates the request (measured with the embedded server), so there is no "off" there.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from services.params import PARAMS
from services.providers import base
from services.providers.base import Choice, allowed, choose, endpoint, wire_request
from services.providers.decoder import WireDecoder, text
from services.providers.errors import http_error, plain
from services.providers.usage import from_openai, obj
from services.types import Ask, CacheMode, Delta, Deployment, Json, JsonMapping, Wire, WireError, WireRequest

_COMPATIBLE_CHAT = frozenset(PARAMS)

_COMPATIBLE_RESPONSES = frozenset({"temperature", "top_p", "top_k", "max_tokens", "reasoning_effort", "seed"})


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
        return allowed(deployment, _COMPATIBLE_CHAT if deployment.wire == "chat" else _COMPATIBLE_RESPONSES)

    def cache_modes(self, deployment: Deployment) -> tuple[CacheMode, ...]:
        """The modes of prompt caching that can be asked for."""
        return server_modes(deployment)

    def request(self, deployment: Deployment, ask: Ask) -> WireRequest:
        """The request for one call. Raises ValueError in words."""
        choice = choose(deployment, ask, _COMPATIBLE_CHAT if deployment.wire == "chat" else _COMPATIBLE_RESPONSES)
        cache = server_fields(base.settle(ask, self.cache_modes(deployment), choice))
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
        if reasons(deployment.model):
            takes -= {"frequency_penalty", "presence_penalty", "stop"}
            if not takes_sampling(deployment.model, "none"):
                takes -= {"temperature", "top_p"}
        elif is_openai_model(deployment.model):
            takes -= {"reasoning_effort"}
        return allowed(deployment, takes)

    def cache_modes(self, deployment: Deployment) -> tuple[CacheMode, ...]:
        """The modes of prompt caching that can be asked for."""
        return openai_modes(deployment)

    def request(self, deployment: Deployment, ask: Ask) -> WireRequest:
        """The request for one call. Raises ValueError in words."""
        choice = choose(deployment, ask, _CHAT if deployment.wire == "chat" else _RESPONSES)
        settle_gpt(deployment.model, choice)
        cache = openai_fields(deployment, ask, base.settle(ask, self.cache_modes(deployment), choice))
        if deployment.wire == "chat":
            body = chat_body(deployment, ask, choice.sent, "max_completion_tokens") | cache
            return wire_request(deployment, "/chat/completions", body, choice, auth=BEARER)
        if (
            is_openai_model(deployment.model)
            and choice.sent.get("max_tokens", MIN_RESPONSES_TOKENS) < MIN_RESPONSES_TOKENS
        ):
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


# --- what each OpenAI model takes -------------------------------------------------------------------------------------

_GPT = re.compile(r"^gpt-(\d+)(?:\.(\d+))?")

_O_SERIES = re.compile(r"^o\d")

_WHY = "OpenAI's reasoning models refuse it"


def bare(model: str) -> str:
    """The model's own name: lower case, without a gateway's vendor prefix or a fine-tune's ``ft:``."""
    return model.lower().rsplit("/", 1)[-1].removeprefix("ft:")


def gpt_version(model: str) -> tuple[int, int] | None:
    """(5, 4) for gpt-5.4 and its variants; None for a name that is no numbered GPT."""
    match = _GPT.match(bare(model))
    return (int(match[1]), int(match[2] or 0)) if match else None


def reasons(model: str) -> bool:
    """Whether this is one of OpenAI's reasoning models. ``gpt-5-chat-latest`` is not one."""
    name = bare(model)
    if _O_SERIES.match(name) or name.startswith(("codex", "gpt-daybreak", "gpt-rosalind")):
        return True
    number = gpt_version(model)
    return number is not None and number >= (5, 0) and not name.startswith("gpt-5-chat")


def is_openai_model(model: str) -> bool:
    """Whether the name is one of OpenAI's hosted models at all; others (a local model) take what the wire takes."""
    name = bare(model)
    return reasons(model) or name.startswith(("gpt-3", "gpt-4", "gpt-5", "chatgpt-", "computer-use"))


def effort_levels(model: str) -> tuple[str, ...] | None:
    """The effort levels a reasoning model knows; None where we do not know and send what was asked."""
    name, number = bare(model), gpt_version(model)
    if _O_SERIES.match(name):
        return ("low", "medium", "high")
    if number is None:
        return None
    if "chat-latest" in name:
        return ("medium",)
    if "-pro" in name:
        return ("high",) if number < (5, 2) else ("medium", "high", "xhigh")
    if number < (5, 1):
        return ("minimal", "low", "medium", "high")
    if number < (5, 2):
        return ("none", "low", "medium", "high", *(("xhigh",) if "codex-max" in name else ()))
    return ("none", "low", "medium", "high", "xhigh", *(("max",) if number >= (5, 6) else ()))


def takes_sampling(model: str, effort: str | None) -> bool:
    """Whether a reasoning model takes temperature and top_p at this effort."""
    number = gpt_version(model)
    quiet = number is not None and (5, 1) <= number < (5, 6) and "chat-latest" not in bare(model)
    return quiet and effort == "none" and "none" in (effort_levels(model) or ())


def settle_gpt(model: str, choice: Choice) -> None:
    """Drop from ``choice`` what this OpenAI model refuses, each with its reason."""
    if not is_openai_model(model):
        return
    if not reasons(model):
        choice.drop("reasoning_effort", "this model does not reason")
        return
    effort, allowed = choice.sent.get("reasoning_effort"), effort_levels(model)
    if effort is not None and allowed is not None and effort not in allowed:
        choice.drop("reasoning_effort", f"this model knows {', '.join(allowed)}, not “{effort}”")
        effort = None
    choice.drop_all(dict.fromkeys(("frequency_penalty", "presence_penalty", "stop"), _WHY))
    if not takes_sampling(model, effort):
        takes_quiet = takes_sampling(model, "none")
        why = "this model takes it only with reasoning effort “none”" if takes_quiet else _WHY
        choice.drop_all({"temperature": why, "top_p": why})


# --- prompt caching ---------------------------------------------------------------------------------------------------

OPTIONS_SINCE = (5, 6)  # the GPT version from which OpenAI's caching can be steered


def openai_modes(deployment: Deployment) -> tuple[CacheMode, ...]:
    """Modes of OpenAI's own models: automatic always, off from gpt-5.6 on; its lifetimes are not 5 minutes or 1 hour.

    Another model behind this kind caches by itself; only the server that we run ourselves is known to take "off".
    """
    if is_openai_model(deployment.model):
        version = gpt_version(deployment.model)
        return ("auto", "off") if version is not None and version >= OPTIONS_SINCE else ("auto",)
    # Not by its address: the engine has put the server's real one in place when it sends.
    return ("auto", "off") if deployment.origin == "embedded" else ("auto",)


def openai_fields(deployment: Deployment, ask: Ask, mode: CacheMode | None) -> Json:
    """Body fields for OpenAI's two wires. The key names the prefix without saying anything of it."""
    if not is_openai_model(deployment.model):
        return server_fields(mode)
    if mode == "off":
        return {"prompt_cache_options": {"mode": "explicit"}}
    if mode == "auto":
        return {"prompt_cache_key": prefix_key(deployment.model, ask.system)}
    return {}


def prefix_key(model: str, system: str | None) -> str:
    """The same 32 hexadecimal digits for the same model and system prompt."""
    prefix = f"{model}\0{system or ''}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(prefix).hexdigest()[:32]


def server_modes(deployment: Deployment) -> tuple[CacheMode, ...]:
    """Modes of a server of one's own: vLLM and llama.cpp cache by themselves and can be kept from it."""
    return ("auto",) if deployment.aws is not None else ("auto", "off")


def server_fields(mode: CacheMode | None) -> Json:
    """Body fields for vLLM (a salt that no other call has, so that no prefix of another one fits) and llama.cpp."""
    return {"cache_prompt": False, "cache_salt": secrets.token_hex(16)} if mode == "off" else {}


# --- bodies and streams -----------------------------------------------------------------------------------------------

_DELTAS: dict[str, Literal["answer", "reasoning", "tool"]] = {
    "response.output_text.delta": "answer",
    "response.refusal.delta": "answer",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.function_call_arguments.delta": "tool",
    "response.custom_tool_call_input.delta": "tool",
    "response.mcp_call_arguments.delta": "tool",
    "response.code_interpreter_call_code.delta": "tool",
}

_LAST = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


class ResponsesDecoder(WireDecoder):
    """Decodes typed ``response.*`` events."""

    def take(self, name: str, body: JsonMapping) -> Sequence[Delta]:
        """One event; its type is stated in the data, and in the event name as well."""
        kind = text(body.get("type")) or name
        if kind in _DELTAS:
            if kind == "response.refusal.delta":
                self.refused = self.refused or bool(text(body.get("delta")))
            return [Delta(_DELTAS[kind], text(body.get("delta")))]
        response = obj(body.get("response"))
        self.identify(response)
        if kind == "response.output_item.added" and text(obj(body.get("item")).get("type")).endswith("_call"):
            self.answered = True
        if kind in _LAST:
            return self._last(kind, response)
        return ()

    def _last(self, kind: str, response: JsonMapping) -> Sequence[Delta]:
        usage = obj(response.get("usage"))
        self.usage = from_openai(usage) or self.usage
        self.tier(response.get("service_tier"))
        status = text(response.get("status")) or kind.removeprefix("response.")
        if kind == "response.failed" or status == "failed" or response.get("error"):
            self.finish("failed")
            self.fail(response.get("error"))
            return ()
        if kind == "response.incomplete" or status == "incomplete":
            self.finish(obj(response.get("incomplete_details")).get("reason") or "incomplete")
        else:
            self.finish(status)
        if kind == "response.cancelled" or status not in ("completed", "incomplete"):
            self.cut(f"the service ended its answer with the status “{self.finish_raw}”")
            return ()
        self._ended = True
        # A server that does not stream still says its whole text here.
        return () if self.answered else list(_whole(response))


def _whole(response: JsonMapping) -> Iterator[Delta]:
    output = response.get("output")
    for item in map(obj, output if isinstance(output, list) else []):
        content = item.get("content")
        if item.get("type") == "message" and isinstance(content, list):
            for block in map(obj, content):
                if block.get("type") == "output_text":
                    yield Delta("answer", text(block.get("text")))


def responses_body(deployment: Deployment, ask: Ask, params: JsonMapping) -> Json:
    """The JSON body of a streamed response that the service does not store."""
    body: Json = {
        "model": deployment.model,
        "input": [{"role": message.role, "content": message.text} for message in ask.messages],
        "stream": True,
        "store": False,
    }
    if ask.system:
        body["instructions"] = ask.system
    for name, value in params.items():
        if name == "max_tokens":
            body["max_output_tokens"] = value
        elif name == "reasoning_effort":
            body["reasoning"] = {"effort": value}
        else:
            body[name] = value
    return body


_PLAIN = {"role", "content"}

FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})


class ChatDecoder(WireDecoder):
    """Decodes ``data: {"choices": [...]}`` chunks up to ``[DONE]``."""

    def take(self, name: str, body: JsonMapping) -> Sequence[Delta]:
        """One chunk. Usage is read before the choices are looked at; the last one wins."""
        self.identify(body)
        if "service_tier" in body:
            self.tier(body["service_tier"])
        choices = body.get("choices")
        first = obj(choices[0]) if isinstance(choices, list) and choices else {}
        if first.get("finish_reason"):
            self.finish(first["finish_reason"])
            if isinstance(first.get("stop_reason"), str | int):  # vLLM: the stop string or token that was met
                self.facts["stop_reason"] = plain(str(first["stop_reason"]), 80)
        raw = obj(body.get("usage"))
        if not raw and "x_groq" in body:
            raw = obj(obj(body["x_groq"]).get("usage"))
        if raw:
            # A usage object before the finish (some servers send one in every chunk) is a running count.
            self.usage = from_openai(raw, source="provider" if self.finish_raw else "partial") or self.usage
            if self.usage is not None and self.usage.source == "provider" and self.finish_raw in FINISHES:
                self._ended = True
        delta = obj(first.get("delta")) or obj(first.get("message"))
        content = delta.get("content")
        if isinstance(content, str) and (len(delta) == 1 or delta.keys() == _PLAIN):
            return (Delta("answer", content),)  # nearly every chunk of nearly every stream
        return list(self._content(delta))

    def done(self) -> None:
        """``[DONE]``: the end, if a finish reason of the wire came before it; otherwise the answer was cut."""
        if self.finish_raw in FINISHES:
            self._ended = True
            if self.usage is not None and self.usage.source == "partial":
                self.usage = from_openai(self.usage.raw or {})
        elif self.finish_raw == "error":
            self.error = WireError("stream_error", "finish_reason", "error", "the service ended its answer in an error")
        elif self.finish_raw:
            self.cut(f"the service stopped with the finish reason “{self.finish_raw}”")
        else:
            self.cut("the service closed its answer without a finish reason")

    def _content(self, delta: JsonMapping) -> Iterator[Delta]:
        reasoning = text(delta.get("reasoning_content")) or text(delta.get("reasoning"))
        yield Delta("reasoning", reasoning)
        content = delta.get("content")
        if isinstance(content, list):
            yield from _parts(content)
        else:
            yield Delta("answer", text(content))
        refusal = text(delta.get("refusal"))
        if refusal:
            self.refused = True
            yield Delta("answer", refusal)
        calls = delta.get("tool_calls")
        functions = [obj(obj(call).get("function")) for call in calls] if isinstance(calls, list) else []
        for function in [*functions, obj(delta.get("function_call"))]:
            if text(function.get("name")):
                self.answered = True
            yield Delta("tool", text(function.get("arguments")))


def _parts(content: list[Any]) -> Iterator[Delta]:
    """Content given as a list of typed parts (Mistral's reasoning models)."""
    for block in map(obj, content):
        if block.get("type") == "thinking":
            inner = block.get("thinking")
            for piece in inner if isinstance(inner, list) else []:
                yield Delta("reasoning", text(obj(piece).get("text")))
        else:
            yield Delta("answer", text(block.get("text")))


def chat_body(deployment: Deployment, ask: Ask, params: JsonMapping, max_tokens_name: str) -> Json:
    """The JSON body of a streamed chat completion that reports its usage."""
    messages: list[dict[str, str]] = [{"role": "system", "content": ask.system}] if ask.system else []
    messages += [{"role": message.role, "content": message.text} for message in ask.messages]
    renamed = {max_tokens_name if name == "max_tokens" else name: value for name, value in params.items()}
    return {
        "model": deployment.model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        **renamed,
    }
