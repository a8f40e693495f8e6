"""What lies inside the frames: the model families of InvokeModel, and the containers of SageMaker.

A container's frames are the bytes as it writes them (SSE or lines); a family's are one JSON object each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.aws.converse import latency
from tests.aws.scripts import AwsScript
from tests.fake import wire_chat, wire_messages
from tests.fake.scripts import Mark, output_tokens
from tests.fake.wires import Frame, contents, dumps

METRICS = "amazon-bedrock-invocationMetrics"


def metrics(script: AwsScript) -> dict[str, Any]:
    """What Bedrock adds to the last chunk of every family. Latencies in ms."""
    zero = script.usage == "zero"
    said: dict[str, Any] = {
        "inputTokenCount": 0 if zero else script.input,
        "outputTokenCount": 0 if zero else output_tokens(script),
        "invocationLatency": latency(script),
        "firstByteLatency": round(script.ttft),
    }
    if not zero and (script.cached or script.cache_write or script.cache_write_1h):
        said["cacheReadInputTokenCount"] = script.cached
        said["cacheWriteInputTokenCount"] = script.cache_write + script.cache_write_1h
    return {METRICS: said}


def _say(mark: Mark, value: Any, text: str = "") -> Frame:
    return Frame(mark, dumps(value).encode(), text)


def _ended(frames: list[Frame], script: AwsScript) -> list[Frame]:
    """The last frame becomes the terminal one and carries the metrics, unless they are to be missing."""
    last = frames[-1]
    data = json.loads(last.data)
    if script.usage not in {"missing", "null"}:
        data |= metrics(script)
    return [*frames[:-1], _say("terminal", data, last.text)]


# --- families of InvokeModel ---------------------------------------------------------------------------------------


def _inner(frames: list[Frame]) -> list[Frame]:
    """The JSON of server-sent events, without keepalives and [DONE]."""
    cut = [Frame(f.mark, f.data.partition(b"data: ")[2].rstrip(b"\n"), f.text) for f in frames]
    return [f for f in cut if f.mark != "keepalive" and f.data.startswith(b"{")]


def anthropic(script: AwsScript) -> list[Frame]:
    """Messages events."""
    return _ended(_inner(wire_messages.frames(script)), script)


def chat(script: AwsScript) -> list[Frame]:
    """Chunks of Chat Completions, without [DONE]: gpt-oss, Qwen, imported models."""
    return _ended(_inner(wire_chat.frames(script)), script)


def llama(script: AwsScript) -> list[Frame]:
    """Meta's ``generation``: the prompt's tokens in the first object, the running count in each."""
    out: list[Frame] = []
    for index, (mark, text) in enumerate(contents(script)):
        prompt = script.input if index == 0 else None
        counted = {"prompt_token_count": prompt, "generation_token_count": index + 1, "stop_reason": None}
        out.append(_say(mark, {"generation": text, **counted}, text))
    counted = {"prompt_token_count": None, "generation_token_count": output_tokens(script)}
    end = {"generation": "", **counted, "stop_reason": script.finish or "stop"}
    return _ended([*out, _say("terminal", end)], script)


def mistral(script: AwsScript) -> list[Frame]:
    """Mistral's ``outputs``."""
    out = [_say(mark, {"outputs": [{"text": t, "stop_reason": None}]}, t) for mark, t in contents(script)]
    end = {"outputs": [{"text": "", "stop_reason": script.finish or "stop"}]}
    return _ended([*out, _say("terminal", end)], script)


def titan(script: AwsScript) -> list[Frame]:
    """Amazon's ``outputText``."""
    common = {"index": 0, "inputTextTokenCount": script.input}
    running = {"totalOutputTextTokenCount": None, "completionReason": None}
    out = [_say(mark, {"outputText": t, **common, **running}, t) for mark, t in contents(script)]
    end = {"totalOutputTextTokenCount": output_tokens(script), "completionReason": script.finish or "FINISH"}
    return _ended([*out, _say("terminal", {"outputText": "", **common, **end})], script)


# --- containers of SageMaker ---------------------------------------------------------------------------------------


def _tokens(script: AwsScript, token: Callable[[int, str, bool], dict[str, Any]], end: dict[str, Any]) -> list[Frame]:
    """Token objects of TGI or LMI; the end is in a special token of its own, or with ``last`` in the last one."""
    parts = contents(script)
    out = [_say(mark, token(i, text, False), text) for i, (mark, text) in enumerate(parts)]
    if script.last and out:
        mark, text = parts[-1]
        return [*out[:-1], _say(mark, token(len(parts) - 1, text, False) | end, text)]
    return [*out, _say("terminal", token(len(parts), "</s>", True) | end)]


def _answer(script: AwsScript) -> str:
    return "".join(text for _, text in contents(script))


def tgi(script: AwsScript) -> list[Frame]:
    """TGI's ``generate_stream``: ``data:`` without a space, details in the last event when they were asked for."""

    def token(index: int, text: str, special: bool) -> dict[str, Any]:
        said = {"id": 2 if special else 1000 + index, "text": text, "logprob": -0.25, "special": special}
        return {"index": index + 1, "token": said, "generated_text": None, "details": None}

    details = None
    if script.usage not in {"missing", "null"}:
        zero = script.usage == "zero"
        details = {
            "finish_reason": script.finish or "eos_token",
            "generated_tokens": 0 if zero else output_tokens(script),
            "seed": None,
            "input_length": 0 if zero else script.input,
        }
    frames = _tokens(script, token, {"generated_text": _answer(script), "details": details})
    return [Frame(f.mark, b"data:" + f.data + b"\n\n", f.text) for f in frames]


def lines(script: AwsScript) -> list[Frame]:
    """LMI's JSON lines (DJL Serving, ``application/jsonlines``): ``log_prob``, ``special_token`` only where true."""

    def token(index: int, text: str, special: bool) -> dict[str, Any]:
        said: dict[str, Any] = {"id": 2 if special else 1000 + index, "text": text, "log_prob": -0.25}
        return {"token": {**said, "special_token": True} if special else said}

    end: dict[str, Any] = {"generated_text": _answer(script)}
    if script.usage not in {"missing", "null"}:
        counted = 0 if script.usage == "zero" else output_tokens(script)
        end["details"] = {
            "finish_reason": script.finish or "eos_token",
            "generated_tokens": counted,
            "inputs": "a prompt",
        }
    return [Frame(f.mark, f.data + b"\n", f.text) for f in _tokens(script, token, end)]


BODIES: dict[str, Callable[[AwsScript], list[Frame]]] = {
    "invoke:anthropic": anthropic,
    "invoke:chat": chat,
    "invoke:llama": llama,
    "invoke:mistral": mistral,
    "invoke:titan": titan,
    "sagemaker:chat": wire_chat.frames,
    "sagemaker:tgi": tgi,
    "sagemaker:lines": lines,
}
CONTENT_TYPES = {
    "sagemaker:chat": "text/event-stream",
    "sagemaker:tgi": "text/event-stream",
    "sagemaker:lines": "application/jsonlines",
}


def whole(script: AwsScript, route: str) -> Any:
    """The JSON body of the same answer without streaming."""
    text, out = _answer(script), output_tokens(script)
    if route == "invoke:anthropic":
        return wire_messages.whole(script)
    if route in {"invoke:chat", "sagemaker:chat"}:
        return wire_chat.whole(script)
    if route == "invoke:llama":
        stop = script.finish or "stop"
        return {
            "generation": text,
            "prompt_token_count": script.input,
            "generation_token_count": out,
            "stop_reason": stop,
        }
    if route == "invoke:mistral":
        return {"outputs": [{"text": text, "stop_reason": script.finish or "stop"}]}
    if route == "invoke:titan":
        result = {"tokenCount": out, "outputText": text, "completionReason": script.finish or "FINISH"}
        return {"inputTextTokenCount": script.input, "results": [result]}
    details = {"finish_reason": script.finish or "eos_token", "generated_tokens": out}
    said = {"generated_text": text, "details": details}
    return [said] if route == "sagemaker:tgi" else said
