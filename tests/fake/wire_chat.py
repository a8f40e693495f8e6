"""OpenAI Chat Completions, as frames."""

from __future__ import annotations

from typing import Any

from tests.fake.scripts import Script, output_tokens
from tests.fake.wires import CREATED, REPORTED, Frame, contents, sent_so_far, sse


def usage(script: Script, output: int) -> dict[str, Any]:
    """The usage object of Chat Completions: prompt includes cached, completion includes reasoning."""
    if script.usage == "zero":
        prompt = output = reasoned = cached = written = 0
    else:
        cached, written = script.cached, script.cache_write + script.cache_write_1h
        prompt, reasoned = script.input + cached + written, script.reasoning + script.hidden_reasoning
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": min(reasoned, output)},
    }


def _chunk(script: Script, choices: list[dict[str, Any]], said: dict[str, Any] | None = None) -> bytes:
    value: dict[str, Any] = {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": REPORTED,
        "system_fingerprint": "fp_fake",
        "choices": choices,
    }
    # OpenAI states `"usage":null` in every chunk but the last one when usage was asked for.
    return sse(value if script.usage == "missing" else value | {"usage": said})


def _choice(delta: dict[str, Any], finish: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]


def _delta(script: Script, mark: str, text: str, first: bool) -> dict[str, Any]:
    if mark == "reasoning":
        return {"reasoning" if script.reasoning_style == "reasoning" else "reasoning_content": text}
    if mark == "answer":
        return {"refusal" if script.finish == "refusal" else "content": text}
    call: dict[str, Any] = {"index": 0, "function": {"arguments": text}}
    if first:
        call = {"index": 0, "id": "call_fake", "type": "function", "function": {"name": "weather", "arguments": text}}
    return {"tool_calls": [call]}


def _finish(script: Script) -> str | None:
    if script.finish == "none":
        return None
    return {"": "tool_calls" if script.tool else "stop", "refusal": "stop"}.get(script.finish, script.finish)


def frames(script: Script) -> list[Frame]:
    """Every chunk of one answer, from the role chunk to [DONE]."""
    out: list[Frame] = []
    if script.role:
        role = {"role": "assistant", "content": "" if not script.reasoning else None, "refusal": None}
        out.append(Frame("open", _chunk(script, _choice(role))))
    out += [Frame("open", _chunk(script, _choice({"content": ""})))] * script.empties
    parts = contents(script)
    before = ""
    for (mark, text), sent in zip(parts, sent_so_far(script, parts), strict=True):
        said = usage(script, sent) if script.usage == "every" else None
        out.append(Frame(mark, _chunk(script, _choice(_delta(script, mark, text, mark != before)), said), text))
        before = mark
    out.append(Frame("close", _chunk(script, _choice({}, _finish(script)))))
    if script.usage != "missing":
        said = None if script.usage == "null" else usage(script, 0 if script.usage == "zero" else output_tokens(script))
        out.append(Frame("usage", _chunk(script, [], said)))
    return [*out, Frame("terminal", sse("[DONE]"))]


def whole(script: Script) -> dict[str, Any]:
    """The same answer as one JSON object."""
    parts = contents(script)
    text = {mark: "".join(t for m, t in parts if m == mark) for mark in ("reasoning", "answer", "tool")}
    message: dict[str, Any] = {"role": "assistant", "content": text["answer"] or None, "refusal": None}
    if text["reasoning"]:
        message["reasoning_content"] = text["reasoning"]
    if text["tool"]:
        call = {"id": "call_fake", "type": "function", "function": {"name": "weather", "arguments": text["tool"]}}
        message["tool_calls"] = [call]
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": CREATED,
        "model": REPORTED,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(script)}],
        "usage": None if script.usage in {"missing", "null"} else usage(script, output_tokens(script)),
    }
