"""An answer that came whole, as a batch service gives it, judged by the same decoders as a streamed one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from services.batch.providers.common import clean
from services.batch.types import LineResult, LineState
from services.outcomes import STATE_OF, judge
from services.providers.chat_wire import ChatDecoder
from services.providers.decoder import WireDecoder, text
from services.providers.errors import http_error, stated_error
from services.providers.messages_wire import MessagesDecoder
from services.providers.responses_wire import ResponsesDecoder
from services.providers.usage import obj
from services.security import keys
from services.types import Outcome, Usage, Wire, WireError
from services.wire.sse import ServerEvent


def answered(wire_id: str, wire: Wire, body: Mapping[str, Any], http_status: int | None = 200) -> LineResult:
    """The result of a line whose answer is ``body``, a whole response of the "messages", "chat" or "responses" wire."""
    decoder, events = _WIRES[wire]
    reader: WireDecoder = decoder()
    texts: dict[str, list[str]] = {"answer": [], "reasoning": [], "tool": []}
    for event in events(body):
        for delta in reader.feed(ServerEvent("", b"[DONE]" if event is None else _dumps(event))):
            texts[delta.kind].append(delta.text)
    outcome, detail = judge(reader, saw_content=reader.spoke, eof=True)
    error = reader.error or WireError(outcome)
    return LineResult(
        wire_id, _state(outcome), outcome, "".join(texts["answer"] or texts["tool"]), "".join(texts["reasoning"]),
        keys.scrub(detail) if detail else None, reader.usage or Usage(), reader.finish_raw, reader.model_reported,
        reader.response_id, http_status, error.type, error.code, reader.server_ms, reader.served_tier,
    )  # fmt: skip


def refused(
    wire_id: str, body: Mapping[str, Any], *, status: int | None, means: int | None, request_id: str | None
) -> LineResult:
    """The result of a line that the service answered with an error; ``body``: as a live call would have got it.

    ``means``: the HTTP status that a live call would have had, where the service tells none for the line.
    """
    judged = status or means
    said = http_error(judged, {}, _dumps(body)) if judged and judged >= 400 else stated_error(body)
    return LineResult(
        wire_id, "failed", said.outcome, message=clean(said.message) or None, response_id=request_id,
        http_status=status, error_type=said.type, error_code=said.code,
    )  # fmt: skip


def not_run(wire_id: str, state: LineState, message: str) -> LineResult:
    """The result of a line that the service did not get to: "cancelled" or "expired"."""
    outcome: Outcome = "cancelled" if state == "cancelled" else "timeout_total"
    return LineResult(wire_id, state, outcome, message=message)


def _dumps(value: Mapping[str, Any]) -> bytes:
    """JSON; of what is nested too deeply to be written, something that every decoder calls a protocol error."""
    try:
        return orjson.dumps(dict(value))
    except TypeError:
        return b"null"


def _state(outcome: Outcome) -> LineState:
    return "succeeded" if STATE_OF[outcome] == "succeeded" else "failed"


# --- a whole answer, told as the events of its wire; None is the chat wire's [DONE] ----------------------------------

_Event = Mapping[str, Any] | None


def _chat(body: Mapping[str, Any]) -> Iterator[_Event]:
    yield body
    yield None


def _messages(body: Mapping[str, Any]) -> Iterator[_Event]:
    usage = obj(body.get("usage"))
    yield {"type": "message_start", "message": {"id": body.get("id"), "model": body.get("model"), "usage": usage}}
    for block in _items(body.get("content")):
        yield {"type": "content_block_start", "content_block": block}
        if text(block.get("type")).endswith("tool_use"):
            arguments = orjson.dumps(block.get("input")).decode()
            yield {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": arguments}}
    stop = {name: body.get(name) for name in ("stop_reason", "stop_sequence", "stop_details")}
    yield {"type": "message_delta", "delta": stop, "usage": usage}
    yield {"type": "message_stop"}


def _responses(body: Mapping[str, Any]) -> Iterator[_Event]:
    for item in _items(body.get("output")):
        kind = text(item.get("type"))
        if kind.endswith("_call"):
            yield {"type": "response.output_item.added", "item": item}
            yield {"type": "response.function_call_arguments.delta", "delta": text(item.get("arguments"))}
        for part in [*_items(item.get("summary")), *_items(item.get("content"))]:
            said = text(part.get("text")) or text(part.get("refusal"))
            yield {"type": _PARTS.get(text(part.get("type")), ""), "delta": said}
    yield {"type": f"response.{text(body.get('status')) or 'completed'}", "response": body}


_PARTS = {
    "output_text": "response.output_text.delta", "refusal": "response.refusal.delta",
    "summary_text": "response.reasoning_summary_text.delta", "reasoning_text": "response.reasoning_text.delta",
}  # fmt: skip


def _items(value: Any) -> list[Mapping[str, Any]]:
    return [obj(one) for one in value] if isinstance(value, list) else []


_WIRES: Mapping[str, tuple[Any, Any]] = {
    "chat": (ChatDecoder, _chat), "messages": (MessagesDecoder, _messages), "responses": (ResponsesDecoder, _responses),
}  # fmt: skip
