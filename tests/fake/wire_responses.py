"""OpenAI Responses, as frames."""

from __future__ import annotations

from typing import Any

from tests.fake.scripts import Mark, Script, output_tokens
from tests.fake.wires import CREATED, REPORTED, Frame, contents, sse

INCOMPLETE = {"max_output_tokens", "content_filter"}


def usage(script: Script) -> dict[str, Any]:
    """The usage object of the Responses wire: input includes cached, output includes reasoning."""
    if script.usage == "zero":
        total_in = output = reasoned = cached = written = 0
    else:
        cached, written = script.cached, script.cache_write + script.cache_write_1h
        total_in, output = script.input + cached + written, output_tokens(script)
        reasoned = script.reasoning + script.hidden_reasoning
    return {
        "input_tokens": total_in,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoned},
        "total_tokens": total_in + output,
    }


def _response(script: Script, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {
        "id": "resp_fake",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": REPORTED,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
    }
    if status == "in_progress":
        return value
    if script.usage == "missing":
        del value["usage"]
    elif script.usage != "null":
        value["usage"] = usage(script)
    if status == "incomplete":
        value["incomplete_details"] = {"reason": script.finish}
    if status == "failed":
        code = script.finish.partition(":")[2] or "server_error"
        value["error"] = {"code": code, "message": f"The model stopped working ({code})."}
    return value


class _Writer:
    """Numbers the events and keeps the indexes of output items."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.frames: list[Frame] = []
        self.output: list[dict[str, Any]] = []

    def say(self, mark: Mark, kind: str, text: str = "", **fields: Any) -> None:
        value = {"type": kind, "sequence_number": len(self.frames), **fields}
        self.frames.append(Frame(mark, sse(value, kind), text))

    def item(self, mark: Mark, parts: list[str], *, empties: int = 0, last: bool = False) -> None:
        """One output item with all its deltas."""
        shape = _SHAPES["refusal" if mark == "answer" and self.script.finish == "refusal" else mark]
        if mark == "reasoning" and self.script.reasoning_style == "summary":
            shape = _SHAPES["summary"]
        kind, field, part_event, part = shape
        index, item_id = len(self.output), f"{'fc' if mark == 'tool' else 'rs' if mark == 'reasoning' else 'msg'}_fake"
        text = "".join(parts)
        where: dict[str, Any] = {"item_id": item_id, "output_index": index}
        self.say("open", "response.output_item.added", output_index=index, item=_item(mark, shape, item_id, None))
        if part_event:
            where["summary_index" if "summary" in part_event else "content_index"] = 0
            self.say("open", f"{part_event}.added", **where, part={"type": part, field: "", **_extra(part)})
        for _ in range(empties):
            self.say("open", f"{kind}.delta", **where, delta="")
        for piece in parts:
            self.say(mark, f"{kind}.delta", piece, **where, delta=piece)
        closing: Mark = "close" if last else "open"
        self.say(closing, f"{kind}.done", **where, **{field: text})
        if part_event:
            self.say(closing, f"{part_event}.done", **where, part={"type": part, field: text, **_extra(part)})
        done = _item(mark, shape, item_id, text)
        self.say(closing, "response.output_item.done", output_index=index, item=done)
        self.output.append(done)


# content → (event stem, name of its text field, event stem of its part, type of its part)
_SHAPES: dict[str, tuple[str, str, str, str]] = {
    "answer": ("response.output_text", "text", "response.content_part", "output_text"),
    "refusal": ("response.refusal", "refusal", "response.content_part", "refusal"),
    "reasoning": ("response.reasoning_text", "text", "response.content_part", "reasoning_text"),
    "summary": ("response.reasoning_summary_text", "text", "response.reasoning_summary_part", "summary_text"),
    "tool": ("response.function_call_arguments", "arguments", "", ""),
}


def _extra(part: str) -> dict[str, Any]:
    return {"annotations": [], "logprobs": []} if part == "output_text" else {}


def _item(mark: Mark, shape: tuple[str, str, str, str], item_id: str, text: str | None) -> dict[str, Any]:
    _, field, _, part = shape
    content = [] if text is None else [{"type": part, field: text, **_extra(part)}]
    status = "in_progress" if text is None else "completed"
    if mark == "tool":
        return {
            "id": item_id,
            "type": "function_call",
            "status": status,
            "call_id": "call_fake",
            "name": "weather",
            "arguments": text or "",
        }
    if mark == "reasoning":
        summary = content if part == "summary_text" else []
        return {"id": item_id, "type": "reasoning", "summary": summary, "content": [] if summary else content}
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": content}


def _write(script: Script) -> _Writer:
    writer = _Writer(script)
    writer.say("open", "response.created", response=_response(script, "in_progress", []))
    writer.say("open", "response.in_progress", response=_response(script, "in_progress", []))
    parts = contents(script)
    marks: tuple[Mark, ...] = ("reasoning", "answer", "tool")
    used = [mark for mark in marks if any(m == mark for m, _ in parts)]
    for mark in used:
        empties = script.empties if mark == used[0] else 0
        writer.item(mark, [t for m, t in parts if m == mark], empties=empties, last=mark == used[-1])
    status = "incomplete" if script.finish in INCOMPLETE else "completed"
    if script.finish.startswith("failed"):
        status = "failed"
    writer.say("terminal", f"response.{status}", response=_response(script, status, writer.output))
    return writer


def frames(script: Script) -> list[Frame]:
    """Every event of one answer, from response.created to response.completed (or incomplete, failed)."""
    return _write(script).frames


def whole(script: Script) -> dict[str, Any]:
    """The same answer as one JSON object."""
    writer = _write(script)
    status = "incomplete" if script.finish in INCOMPLETE else "completed"
    return _response(script, status, writer.output)
