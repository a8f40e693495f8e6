"""The Messages wire (Anthropic, llama.cpp and others): stream decoder.

Terminal signal: ``message_stop`` after a ``message_delta`` that gave a known stop reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.providers.decoder import WireDecoder, text
from services.providers.errors import plain
from services.providers.usage import count, from_messages, obj
from services.types import Delta

STOPS = frozenset({
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded",
})  # fmt: skip


class MessagesDecoder(WireDecoder):
    """Decodes message_start … message_stop."""

    def __init__(self) -> None:
        super().__init__()
        self._raw_usage: dict[str, Any] = {}

    def take(self, name: str, body: Mapping[str, Any]) -> Sequence[Delta]:
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

    def _delta(self, delta: Mapping[str, Any]) -> Sequence[Delta]:
        kind = delta.get("type")
        if kind == "text_delta":
            return (Delta("answer", text(delta.get("text"))),)
        if kind == "thinking_delta":
            return (Delta("reasoning", text(delta.get("thinking"))),)
        if kind == "input_json_delta":
            return (Delta("tool", text(delta.get("partial_json"))),)
        return ()  # signatures and citations are no content

    def _block(self, block: Mapping[str, Any]) -> Sequence[Delta]:
        if text(block.get("type")).endswith("tool_use"):
            self.answered = True
        return (Delta("reasoning", text(block.get("thinking"))), Delta("answer", text(block.get("text"))))

    def _message_delta(self, body: Mapping[str, Any]) -> None:
        delta = obj(body.get("delta"))
        self.finish(delta.get("stop_reason"))
        explanation = text(obj(delta.get("stop_details")).get("explanation"))
        if explanation:
            self.finish_detail = plain(explanation)
        usage = obj(body.get("usage"))
        self._count(usage, final=self.finish_raw is not None and count(usage.get("output_tokens")) is not None)

    def _count(self, usage: Mapping[str, Any], *, final: bool) -> None:
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
