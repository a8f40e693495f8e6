"""Anthropic Messages, as frames."""

from __future__ import annotations

from typing import Any

from tests.fake.scripts import Mark, Script, output_tokens
from tests.fake.wires import REPORTED, Frame, contents, sent_so_far, sse

_START: dict[str, dict[str, Any]] = {
    "reasoning": {"type": "thinking", "thinking": "", "signature": ""},
    "answer": {"type": "text", "text": ""},
    "tool": {"type": "tool_use", "id": "toolu_fake", "name": "weather", "input": {}},
}


def _event(mark: Mark, value: dict[str, Any], text: str = "") -> Frame:
    return Frame(mark, sse(value, value["type"]), text)


def usage(script: Script, output: int) -> dict[str, Any]:
    """The usage object of the Messages wire: input without cache reads and writes."""
    if script.usage == "zero":
        return {
            "input_tokens": 0,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens_details": {"thinking_tokens": 0},
        }
    return {
        "input_tokens": script.input,
        "cache_creation_input_tokens": script.cache_write + script.cache_write_1h,
        "cache_read_input_tokens": script.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": script.cache_write,
            "ephemeral_1h_input_tokens": script.cache_write_1h,
        },
        "output_tokens": output,
        "service_tier": "standard",
    }


def _final_usage(script: Script) -> dict[str, Any]:
    said = usage(script, output_tokens(script))
    if script.usage != "zero":
        said["output_tokens_details"] = {"thinking_tokens": script.reasoning + script.hidden_reasoning}
    return said


def _with_usage(script: Script, value: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    if script.usage == "missing":
        return value
    return value | {"usage": None if script.usage == "null" else said}


def _stop_reason(script: Script) -> str | None:
    if script.finish == "none":
        return None
    return script.finish or ("tool_use" if script.tool else "end_turn")


def _block_delta(index: int, mark: Mark, text: str) -> Frame:
    delta = {
        "reasoning": {"type": "thinking_delta", "thinking": text},
        "answer": {"type": "text_delta", "text": text},
        "tool": {"type": "input_json_delta", "partial_json": text},
    }[mark]
    return _event(mark, {"type": "content_block_delta", "index": index, "delta": delta}, text)


def frames(script: Script) -> list[Frame]:
    """Every event of one answer, from message_start to message_stop."""
    start: dict[str, Any] = {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": REPORTED,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    start = _with_usage(script, start, usage(script, 1))
    out = [_event("open", {"type": "message_start", "message": start})]
    index, block = -1, ""
    parts = contents(script)
    for (mark, text), sent in zip(parts, sent_so_far(script, parts), strict=True):
        if mark != block:
            if index >= 0:
                out += _block_end(index, block)
            index, block = index + 1, mark
            out.append(_event("open", {"type": "content_block_start", "index": index, "content_block": _START[mark]}))
            if index == 0:
                out.append(Frame("keepalive", sse({"type": "ping"}, "ping")))
                out += [Frame("open", _block_delta(0, mark, "").data)] * script.empties
        out.append(_block_delta(index, mark, text))
        if script.usage == "every":
            running = {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": sent}}
            out.append(_event("junk", running))
    if index >= 0:
        out += _block_end(index, block, "close")
    delta: dict[str, Any] = {"stop_reason": _stop_reason(script), "stop_sequence": None}
    if script.finish == "refusal":
        delta["stop_details"] = {"type": "refusal", "category": "cyber", "explanation": "This could enable harm."}
    out.append(_event("usage", _with_usage(script, {"type": "message_delta", "delta": delta}, _final_usage(script))))
    return [*out, _event("terminal", {"type": "message_stop"})]


def _block_end(index: int, block: str, mark: Mark = "open") -> list[Frame]:
    signed = {"type": "signature_delta", "signature": "c2lnbmVk"}
    signature = [_event(mark, {"type": "content_block_delta", "index": index, "delta": signed})]
    stop = _event(mark, {"type": "content_block_stop", "index": index})
    return [*(signature if block == "reasoning" else []), stop]


def whole(script: Script) -> dict[str, Any]:
    """The same answer as one JSON object."""
    parts = contents(script)
    text = {mark: "".join(t for m, t in parts if m == mark) for mark in ("reasoning", "answer", "tool")}
    content: list[dict[str, Any]] = []
    if text["reasoning"]:
        content.append({"type": "thinking", "thinking": text["reasoning"], "signature": "c2lnbmVk"})
    if text["answer"]:
        content.append({"type": "text", "text": text["answer"]})
    if text["tool"]:
        content.append({"type": "tool_use", "id": "toolu_fake", "name": "weather", "input": {}})
    value = {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": REPORTED,
        "content": content,
        "stop_reason": _stop_reason(script),
        "stop_sequence": None,
    }
    return _with_usage(script, value, _final_usage(script))
