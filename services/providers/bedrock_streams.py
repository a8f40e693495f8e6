"""The InvokeModelWithResponseStream wire of Amazon Bedrock: stream decoders.

Every frame is a ``chunk`` whose ``bytes`` are one JSON object (in base64) in the format of the model's family. The last
one also carries ``amazon-bedrock-invocationMetrics``: Bedrock's own counts and times. Terminal signals by family:

- Claude: ``message_stop`` after a known stop reason, as on the Messages wire;
- Llama, Mistral (prompt), Titan: a chunk with a known ``stop_reason`` or ``completionReason``;
- Nova: ``messageStop`` and ``metadata``, as on the Converse wire;
- chat-shaped (gpt-oss, Qwen, DeepSeek, newer Mistral, imported models): a known finish reason, and then usage,
  invocation metrics or ``[DONE]``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from services.providers import invoke_bodies
from services.providers.bedrock_models import family
from services.providers.chat_wire import FINISHES, ChatDecoder
from services.providers.converse_wire import ConverseDecoder
from services.providers.decoder import WireDecoder, loads, text
from services.providers.errors import plain
from services.providers.messages_wire import MessagesDecoder
from services.providers.usage import count, from_invocation, from_tokens, obj
from services.types import Delta, Usage, WireError
from services.wire.sse import ServerEvent

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

    def take(self, name: str, body: Mapping[str, Any]) -> Sequence[Delta]:
        """One object of the family, then what Bedrock added to it."""
        deltas = super().take(name, body)
        metrics = obj(body.get(METRICS))
        if metrics:
            self.measured(metrics)
        blocked = text(body.get("amazon-bedrock-guardrailAction"))
        if blocked == "INTERVENED":
            self.finish("guardrail_intervened")
        return deltas

    def measured(self, metrics: Mapping[str, Any]) -> None:
        """Bedrock's own times and counts; the family's own final counts go before them."""
        latency, first = metrics.get("invocationLatency"), metrics.get("firstByteLatency")
        if isinstance(latency, int | float) and not isinstance(latency, bool) and 0 <= latency < 1e12:
            self.server_ms = float(latency)
        if isinstance(first, int | float) and not isinstance(first, bool) and 0 <= first < 1e12:
            self.facts["first_byte_ms"] = f"{first:g}"
        if self.usage is None or self.usage.source != "provider":
            self.usage = from_invocation(metrics) or self.usage


class InvokeClaude(ChunkFrames, MessagesDecoder):
    """Claude: the Messages wire's events."""


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

    def take(self, name: str, body: Mapping[str, Any]) -> Sequence[Delta]:
        """One chunk; Mistral calls its finish reason ``stop_reason``."""
        choices = body.get("choices")
        first = obj(choices[0]) if isinstance(choices, list) and choices else {}
        self.finish(first.get("stop_reason") if not first.get("finish_reason") else None)
        return super().take(name, body)

    def measured(self, metrics: Mapping[str, Any]) -> None:
        """The metrics close the stream as a usage object does: Bedrock sends no ``[DONE]``."""
        super().measured(metrics)
        if self.finish_raw in FINISHES:
            self._ended = True


class _Plain(WireDecoder):
    """The older families: text in one field, a reason to stop in another, both in every chunk."""

    def take(self, name: str, body: Mapping[str, Any]) -> Sequence[Delta]:
        """One chunk of text; the one with a reason to stop is the last."""
        answer, reason = self.parts(body)
        self.finish(reason)
        if self.finish_raw in self.stops:
            self._ended = True
        elif self.finish_raw:
            self.cut(f"the service stopped with “{self.finish_raw}”")
        return (Delta("answer", answer),)

    stops: frozenset[str] = _STOPS

    def parts(self, body: Mapping[str, Any]) -> tuple[str, Any]:
        """The text and the reason to stop that one chunk holds."""
        raise NotImplementedError


def _counts(body: Mapping[str, Any], given: str, made: str) -> Usage | None:
    """Both counts, or None: the last chunk of some versions holds only one of them, and the metrics hold both."""
    if count(body.get(given)) is None or count(body.get(made)) is None:
        return None
    return from_tokens(body[given], body[made], {given: body[given], made: body[made]})


class _Llama(_Plain):
    def parts(self, body: Mapping[str, Any]) -> tuple[str, Any]:
        if body.get("stop_reason"):
            self.usage = _counts(body, "prompt_token_count", "generation_token_count") or self.usage
        return text(body.get("generation")), body.get("stop_reason")


class _Mistral(_Plain):
    def parts(self, body: Mapping[str, Any]) -> tuple[str, Any]:
        outputs = body.get("outputs")
        first = obj(outputs[0]) if isinstance(outputs, list) and outputs else {}
        return text(first.get("text")), first.get("stop_reason")


class _Titan(_Plain):
    stops = _TITAN_STOPS

    def parts(self, body: Mapping[str, Any]) -> tuple[str, Any]:
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
    if kind == "mistral" and not invoke_bodies.prompted(model):
        return InvokeChat()
    known: dict[str, type[ChunkFrames]] = {
        "claude": InvokeClaude, "llama": InvokeLlama, "mistral": InvokeMistral, "titan": InvokeTitan,
        "nova": InvokeNova,
    }  # fmt: skip
    return known.get(kind or "", InvokeChat)()
