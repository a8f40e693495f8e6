"""The Converse wire of Amazon Bedrock: request body and stream decoder.

Terminal signal: ``messageStop`` with a known stop reason, and ``metadata``, which carries the usage. Either alone is
not enough: the stream was cut between the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.providers.building import Choice
from services.providers.decoder import WireDecoder, text
from services.providers.errors import plain
from services.providers.usage import from_converse, obj
from services.types import Ask, Aws, CacheMode, Delta

STOPS = frozenset({
    "end_turn", "tool_use", "max_tokens", "stop_sequence", "guardrail_intervened", "content_filtered",
    "malformed_model_output", "malformed_tool_use", "model_context_window_exceeded",
})  # fmt: skip
_NAMES = {"temperature": "temperature", "top_p": "topP", "max_tokens": "maxTokens", "stop": "stopSequences"}


class ConverseDecoder(WireDecoder):
    """Decodes messageStart … messageStop, metadata."""

    def __init__(self) -> None:
        super().__init__()
        self._stopped = False
        self._reported = False

    def take(self, name: str, body: Mapping[str, Any]) -> Sequence[Delta]:
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

    def _delta(self, delta: Mapping[str, Any]) -> Sequence[Delta]:
        if "text" in delta:
            return (Delta("answer", text(delta["text"])),)
        if "reasoningContent" in delta:  # its signature and redacted part are no content
            return (Delta("reasoning", text(obj(delta["reasoningContent"]).get("text"))),)
        if "toolUse" in delta:
            return (Delta("tool", text(obj(delta["toolUse"]).get("input"))),)
        return ()

    def _metadata(self, body: Mapping[str, Any]) -> None:
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


def guardrail_words(trace: Mapping[str, Any]) -> str:
    """What a guardrail found, in a few words: its policies' names and what was done, never the text that matched."""
    found: list[str] = []
    for where, assessments in (
        ("input", obj(trace.get("inputAssessment")).values()),
        ("output", (one for some in obj(trace.get("outputAssessments")).values() for one in _list(some))),
    ):
        found += [f"{where}: {words}" for assessment in assessments for words in _assessed(obj(assessment))]
    return plain("; ".join(dict.fromkeys(found)) or text(trace.get("actionReason")), 200)


def _assessed(assessment: Mapping[str, Any]) -> Iterator[str]:
    for policy, parts in assessment.items():
        for part in obj(parts).values():
            for one in map(obj, _list(part)):
                action = text(one.get("action"))
                if action in ("", "NONE"):
                    continue
                what = text(one.get("name")) or text(one.get("type"))
                yield " ".join(word for word in (policy.removesuffix("Policy"), what, action.lower()) if word)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def converse_body(ask: Ask, aws: Aws, choice: Choice, extra: Mapping[str, Any]) -> dict[str, Any]:
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


def conversation(ask: Ask) -> dict[str, Any]:
    """Messages and system prompt in blocks, with cache points where the Messages wire has its marks: behind the system
    prompt and, in a conversation or without a system prompt, behind the last message."""
    mark = _cache_point(ask.cache)
    messages: list[dict[str, Any]] = [{"role": m.role, "content": [{"text": m.text}]} for m in ask.messages]
    if mark and (len(messages) > 1 or not ask.system):
        messages[-1]["content"].append(mark)
    body: dict[str, Any] = {"messages": messages}
    if ask.system:
        body["system"] = [{"text": ask.system}, *([mark] if mark else [])]
    return body


def _cache_point(mode: CacheMode | None) -> dict[str, Any] | None:
    """The mark behind a prefix that is to be kept; its time to live is stated when it is not the 5 minutes that every
    model with caching knows."""
    if mode not in ("5m", "1h"):
        return None
    return {"cachePoint": {"type": "default", **({"ttl": "1h"} if mode == "1h" else {})}}
