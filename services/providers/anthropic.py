"""The Messages wire: Anthropic's API, and servers that speak it (llama.cpp, gateways), with its stream decoder.

Terminal signal: ``message_stop`` after a ``message_delta`` that gave a known stop reason.

What each Claude model takes, as of November 2026.
Sources: the installed SDK (anthropic 2.12: `Model`, `OutputConfigParam`, `ThinkingTypes`; it has no sampling parameters
any more) and Anthropic's migration guides for Opus 4.7, Opus 5, Opus 5.5, Sonnet 5, Sonnet 5.5 and Haiku 5.5.

- temperature, top_p, top_k: up to Opus 4.6, Sonnet 4.6 and Haiku 4.5. Newer models answer 400. From 4.1 on temperature
  and top_p exclude each other, and thinking excludes all three.
- reasoning_effort: ``output_config.effort`` with ``thinking: adaptive`` from Opus 4.6, Sonnet 4.6 and Haiku 5.5 on
  (``max`` everywhere there, ``xhigh`` from Opus 4.7 and all 5.x on). Older models take a budget of thinking tokens
  instead: a share of max_tokens (low 25 %, medium 50 %, high 75 %), at least 1,024.
- reasoning_effort "none": ``disabled`` up to Opus 5 / Sonnet 5 and on Haiku 5.5, ``between_tools`` on Sonnet 5.5; Opus
  5.5, Fable and Mythos always think.
- Where a model thinks, ``display: summarized`` is asked for: with the API's default of the newer models (omitted) no
  reasoning arrives, and reasoning could not be told from waiting.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.providers import base
from services.providers.base import Choice, allowed, choose, endpoint, wire_request
from services.providers.decoder import WireDecoder, text
from services.providers.errors import http_error, plain
from services.providers.usage import count, from_messages, obj
from services.types import Ask, CacheMode, Delta, Deployment, Json, JsonMapping, Wire, WireError, WireRequest

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
        model = claude_of(deployment.model)
        takes = _TAKES
        if model is not None:
            takes = takes if model.samples else takes - frozenset(SAMPLING)
            takes = takes if model.levels else takes - {"reasoning_effort"}
        return allowed(deployment, takes)

    def cache_modes(self, deployment: Deployment) -> tuple[CacheMode, ...]:
        """The modes of prompt caching that can be asked for."""
        return messages_modes(deployment)

    def request(self, deployment: Deployment, ask: Ask) -> WireRequest:
        """The request for one call. ``max_tokens`` is always sent, as the wire demands. Raises ValueError in words."""
        choice = choose(deployment, ask, _TAKES)
        model = claude_of(deployment.model)
        thinks = model is not None and model.thinks_unasked
        max_tokens = choice.sent.setdefault("max_tokens", DEFAULT_MAX_TOKENS_THINKING if thinks else DEFAULT_MAX_TOKENS)
        reasoning = _other(choice.sent) if model is None else settle_claude(model, choice, max_tokens)
        body: Json = {
            "model": deployment.model,
            **mark_messages(deployment, ask, base.settle(ask, self.cache_modes(deployment), choice)),
            "stream": True,
            **{("stop_sequences" if n == "stop" else n): v for n, v in choice.sent.items() if n != "reasoning_effort"},
            **reasoning,
        }
        return wire_request(
            deployment,
            "/messages",
            body,
            choice,
            auth=("x-api-key", "{key}"),
            headers={"anthropic-version": API_VERSION},
        )

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


def _other(params: JsonMapping) -> Json:
    """Reasoning for a model that is no Claude: the wire's manual thinking budget, in tokens."""
    effort = params.get("reasoning_effort")
    if effort is None:
        return {}
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    return {"thinking": {"type": "enabled", "budget_tokens": _BUDGETS[effort]}}


# --- what each Claude model takes -------------------------------------------------------------------------------------

_NEW = re.compile(r"claude-(?P<line>[a-z]+)-(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?!\d)")

_OLD = re.compile(r"claude-(?P<major>\d)(?:[-.](?P<minor>\d))?-(?P<line>[a-z]+)")

SAMPLING = ("temperature", "top_p", "top_k")

MIN_BUDGET = 1024

_SHARE = {"low": 0.25, "medium": 0.5, "high": 0.75}


@dataclass(frozen=True, slots=True)
class Claude:
    """A Claude model by its line ("opus") and version ((4, 7)); (99, 0) where the name says none we know."""

    line: str
    version: tuple[int, int]

    @property
    def samples(self) -> bool:
        """Takes temperature, top_p and top_k."""
        return self.line in ("opus", "sonnet", "haiku", "instant") and self.version < (4, 7)

    @property
    def effort(self) -> bool:
        """Takes output_config.effort together with adaptive thinking."""
        return self.line in ("fable", "mythos") or self.version >= ((5, 0) if self.line == "haiku" else (4, 6))

    @property
    def budget(self) -> bool:
        """Thinks by a budget of tokens."""
        return not self.effort and self.version >= (3, 7)

    @property
    def thinks_unasked(self) -> bool:
        """Thinks when the request says nothing about it."""
        return self.line in ("fable", "mythos") or self.version >= (5, 0)

    @property
    def levels(self) -> tuple[str, ...]:
        """Effort levels above "none" that can be asked for."""
        if not self.effort:
            return tuple(_SHARE) if self.budget else ()
        xhigh = self.thinks_unasked or (self.line == "opus" and self.version >= (4, 7))
        return ("low", "medium", "high", *(("xhigh",) if xhigh else ()), "max")

    @property
    def off(self) -> str | None:
        """The thinking type that turns thinking off; None where the model always thinks."""
        if self.line in ("fable", "mythos") or (self.version >= (5, 5) and self.line not in ("sonnet", "haiku")):
            return None
        return "between_tools" if self.line == "sonnet" and self.version >= (5, 5) else "disabled"


def claude_of(model: str) -> Claude | None:
    """The Claude model that a name means (also Bedrock's and gateways' spellings); None when it is no Claude."""
    lowered = model.lower()
    if "claude" not in lowered:
        return None
    match = _OLD.search(lowered) or _NEW.search(lowered)
    if match is None:
        line = re.search(r"claude-([a-z]+)", lowered)
        return Claude(line.group(1) if line else "", (99, 0))
    return Claude(match["line"], (int(match["major"]), int(match["minor"] or 0)))


def settle_claude(model: Claude, choice: Choice, max_tokens: int) -> Json:
    """Drop from ``choice`` what the model refuses; returns the body's thinking and output_config."""
    if not model.samples:
        choice.drop_all(dict.fromkeys(SAMPLING, "this Claude model takes no sampling parameters any more"))
    body = _thinking(model, choice, max_tokens)
    _narrow(model, choice)
    return body


def _thinking(model: Claude, choice: Choice, max_tokens: int) -> Json:
    effort = choice.sent.get("reasoning_effort")
    if effort == "none":
        return _off(model, choice)
    if effort is not None and effort not in model.levels:
        levels = ", ".join(("none", *model.levels)) if model.levels else "no levels at all"
        choice.drop("reasoning_effort", f"this model knows {levels}, not “{effort}”")
        effort = None
    if effort is not None and model.budget:
        return _budget(choice, str(effort), max_tokens)
    if effort is None and not model.thinks_unasked:
        return {}
    _thinking_excludes(choice)
    body: Json = {"thinking": {"type": "adaptive", "display": "summarized"}}
    return body if effort is None else {**body, "output_config": {"effort": effort}}


def _narrow(model: Claude, choice: Choice) -> None:
    temperature = choice.sent.get("temperature")
    if isinstance(temperature, int | float) and temperature > 1:
        choice.drop("temperature", f"Anthropic takes it from 0 to 1, and {temperature:g} was asked for")
    if model.version >= (4, 1) and "temperature" in choice.sent:
        choice.drop("top_p", "this model takes temperature or top_p, not both; temperature was sent")


def _off(model: Claude, choice: Choice) -> Json:
    if model.off is None:
        choice.drop("reasoning_effort", "this model always thinks; “low” is the least it takes")
        return {"thinking": {"type": "adaptive", "display": "summarized"}}
    return {"thinking": {"type": model.off}} if model.effort else {}


def _budget(choice: Choice, effort: str, max_tokens: int) -> Json:
    if max_tokens <= MIN_BUDGET:
        choice.drop(
            "reasoning_effort",
            f"this model needs room to think: max output tokens above {MIN_BUDGET:,}, and {max_tokens:,} was asked for",
        )
        return {}
    _thinking_excludes(choice)
    budget = min(max(MIN_BUDGET, int(max_tokens * _SHARE[effort])), max_tokens - 1)
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _thinking_excludes(choice: Choice) -> None:
    choice.drop_all(dict.fromkeys(SAMPLING, "Claude takes no sampling parameters while it thinks"))


# --- prompt caching ---------------------------------------------------------------------------------------------------


def messages_modes(deployment: Deployment) -> tuple[CacheMode, ...]:
    """Modes of the Messages wire: Claude caches only what a request marks; other servers cache by themselves.

    The one marker for the whole request ("auto") is not taken by Bedrock, which wants each one on its block.
    """
    if claude_of(deployment.model) is None:
        return ("auto",)
    return ("off", "5m", "1h") if deployment.aws is not None else ("off", "auto", "5m", "1h")


def mark_messages(deployment: Deployment, ask: Ask, mode: CacheMode | None) -> Json:
    """``messages``, ``system`` and the cache markers of a request of the Messages wire.

    Explicit breakpoints stand on the system prompt and, in a conversation or without a system prompt, on the last
    message: everything before a breakpoint is the prefix that is kept.
    """
    messages: list[Json] = [{"role": message.role, "content": message.text} for message in ask.messages]
    if mode not in ("5m", "1h"):
        marked = mode == "auto" and claude_of(deployment.model) is not None
        return {
            "messages": messages,
            **({"system": ask.system} if ask.system else {}),
            **({"cache_control": {"type": "ephemeral"}} if marked else {}),
        }
    if not ask.system or len(messages) > 1:
        messages[-1]["content"] = [_block(ask.messages[-1].text, mode)]
    return {"messages": messages, **({"system": [_block(ask.system, mode)]} if ask.system else {})}


def _block(text: str, ttl: CacheMode) -> Json:
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}}


# --- the stream -------------------------------------------------------------------------------------------------------

STOPS = frozenset(
    {
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
    }
)


class MessagesDecoder(WireDecoder):
    """Decodes message_start … message_stop."""

    def __init__(self) -> None:
        super().__init__()
        self._raw_usage: Json = {}

    def take(self, name: str, body: JsonMapping) -> Sequence[Delta]:
        """One event; its type is stated in the data, and in the event name as well. Unknown types carry nothing."""
        kind = text(body.get("type")) or name
        if kind == "content_block_delta":
            return self._delta(obj(body.get("delta")))
        if kind == "content_block_start":
            return self._block(obj(body.get("content_block")))
        if kind == "message_start":
            message = obj(body.get("message"))
            self.identify(message)
            self._count(obj(message.get("usage")), final=False)
        elif kind == "message_delta":
            self._message_delta(body)
        elif kind == "message_stop":
            self._stop()
        return ()

    def _delta(self, delta: JsonMapping) -> Sequence[Delta]:
        kind = delta.get("type")
        if kind == "text_delta":
            return (Delta("answer", text(delta.get("text"))),)
        if kind == "thinking_delta":
            return (Delta("reasoning", text(delta.get("thinking"))),)
        if kind == "input_json_delta":
            return (Delta("tool", text(delta.get("partial_json"))),)
        return ()  # signatures and citations are no content

    def _block(self, block: JsonMapping) -> Sequence[Delta]:
        if text(block.get("type")).endswith("tool_use"):
            self.answered = True
        return (Delta("reasoning", text(block.get("thinking"))), Delta("answer", text(block.get("text"))))

    def _message_delta(self, body: JsonMapping) -> None:
        delta = obj(body.get("delta"))
        self.finish(delta.get("stop_reason"))
        explanation = text(obj(delta.get("stop_details")).get("explanation"))
        if explanation:
            self.finish_detail = plain(explanation)
        usage = obj(body.get("usage"))
        self._count(usage, final=self.finish_raw is not None and count(usage.get("output_tokens")) is not None)

    def _count(self, usage: JsonMapping, *, final: bool) -> None:
        """Merge: the counts of message_delta are cumulative and win, what it leaves out stands as first said."""
        if not usage:
            return
        self.tier(usage.get("service_tier"))
        self._raw_usage.update({name: value for name, value in usage.items() if value is not None})
        final = final or (self.usage is not None and self.usage.source == "provider")
        self.usage = from_messages(self._raw_usage, final=final)

    def _stop(self) -> None:
        if self.finish_raw in STOPS:
            self._ended = True
        elif self.finish_raw:
            self.cut(f"the service stopped with the stop reason “{self.finish_raw}”")
        else:
            self.cut("the service closed its answer without a stop reason")
