"""The Converse stream of Bedrock as frames, and the same answer as one JSON object."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.aws.frames import json_event
from tests.aws.scripts import AwsScript
from tests.fake.scripts import Mark, output_tokens
from tests.fake.wires import Frame, contents

SIGNATURE = "c2lnbmVk"
TOOL = {"toolUseId": "tooluse_fake", "name": "weather"}


def usage(script: AwsScript) -> dict[str, Any]:
    """TokenUsage: the input without what was read from the cache or written to it."""
    zero = script.usage == "zero"
    read, five, hour = (0, 0, 0) if zero else (script.cached, script.cache_write, script.cache_write_1h)
    given, out = (0, 0) if zero else (script.input, output_tokens(script))
    said: dict[str, Any] = {
        "inputTokens": given,
        "outputTokens": out,
        "totalTokens": given + out + read + five + hour,
        "cacheReadInputTokens": read,
        "cacheWriteInputTokens": five + hour,
    }
    details = [{"ttl": ttl, "inputTokens": n} for ttl, n in (("5m", five), ("1h", hour)) if n]
    return {**said, "cacheDetails": details} if details else said


def latency(script: AwsScript) -> int:
    """``metrics.latencyMs``: the script's own, or when the last delta leaves."""
    if script.latency_ms >= 0:
        return script.latency_ms
    return round(script.ttft + max(0, script.delta_count - 1) * script.itl)


def trace(script: AwsScript) -> dict[str, Any]:
    """A guardrail's trace, after AWS's own example of a topic that is denied."""
    denied = {"name": "Investment advice", "type": "DENY", "action": "BLOCKED", "detected": True}
    found = script.guardrail == "intervened"
    assessment: dict[str, Any] = {"topicPolicy": {"topics": [denied]}} if found else {}
    assessment["invocationMetrics"] = {
        "guardrailProcessingLatency": 211,
        "usage": {
            "topicPolicyUnits": 1,
            "contentPolicyUnits": 1,
            "wordPolicyUnits": 0,
            "sensitiveInformationPolicyUnits": 0,
            "sensitiveInformationPolicyFreeUnits": 0,
            "contextualGroundingPolicyUnits": 0,
        },
        "guardrailCoverage": {"textCharacters": {"guarded": 40, "total": 40}},
    }
    reason = "Guardrail blocked." if found else "No action."
    return {"guardrail": {"inputAssessment": {"gr0fake00000": assessment}, "actionReason": reason}}


def extras(script: AwsScript) -> dict[str, Any]:
    """What the end of an answer says beside its usage: trace, tier, latency mode."""
    said: dict[str, Any] = {}
    if script.guardrail:
        said["trace"] = trace(script)
    if script.latency not in {"", "none"}:
        said["performanceConfig"] = {"latency": script.latency}
    if script.tier not in {"", "none"}:
        said["serviceTier"] = {"type": script.tier}
    return said


def stop_reason(script: AwsScript) -> str:
    """The script's, or the one that fits its content."""
    return script.finish or ("tool_use" if script.tool else "end_turn")


def _delta(mark: Mark, text: str) -> dict[str, Any]:
    if mark == "reasoning":
        return {"reasoningContent": {"text": text}}
    return {"toolUse": {"input": text}} if mark == "tool" else {"text": text}


def frames(script: AwsScript) -> list[Frame]:
    """Every event, from messageStart to metadata. ``messageStop`` is the terminal one, ``metadata`` the usage."""
    pad = bool(script.pad)

    def say(mark: Mark, name: str, value: dict[str, Any], text: str = "") -> Frame:
        return Frame(mark, json_event(name, value, pad=pad), text)

    def in_block(mark: Mark, index: int, delta: dict[str, Any], text: str = "") -> Frame:
        return say(mark, "contentBlockDelta", {"contentBlockIndex": index, "delta": delta}, text)

    def end(index: int, block: str, mark: Mark) -> list[Frame]:
        signed = {"reasoningContent": {"signature": SIGNATURE}}
        signature = [in_block(mark, index, signed)] if block == "reasoning" else []
        return [*signature, say(mark, "contentBlockStop", {"contentBlockIndex": index})]

    out = [say("open", "messageStart", {"role": "assistant"})]
    index, block = -1, ""
    if script.redacted:
        index, blob = 0, {"reasoningContent": {"redactedContent": base64.b64encode(b"secret").decode()}}
        out += [in_block("open", 0, blob)] * script.redacted
        out.append(say("open", "contentBlockStop", {"contentBlockIndex": 0}))
    for mark, text in contents(script):
        if mark != block:
            if block:
                out += end(index, block, "open")
            index, block = index + 1, mark
            if mark == "tool":
                out.append(say("open", "contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": TOOL}}))
            out += [in_block("open", index, _delta(mark, ""))] * (script.empties if len(out) < 2 else 0)
        out.append(in_block(mark, index, _delta(mark, text), text))
    if block:
        out += end(index, block, "close")
    out.append(say("terminal", "messageStop", {"stopReason": stop_reason(script)}))
    if script.usage not in {"missing", "null"}:
        metadata = {"usage": usage(script), "metrics": {"latencyMs": latency(script)}, **extras(script)}
        out.append(say("usage", "metadata", metadata))
    return out


def whole(script: AwsScript) -> dict[str, Any]:
    """The reply of Converse (without streaming)."""
    parts = contents(script)
    text = {mark: "".join(t for m, t in parts if m == mark) for mark in ("reasoning", "answer", "tool")}
    content: list[dict[str, Any]] = []
    if text["reasoning"]:
        thought = {"text": text["reasoning"], "signature": SIGNATURE}
        content.append({"reasoningContent": {"reasoningText": thought}})
    if text["answer"]:
        content.append({"text": text["answer"]})
    if text["tool"]:
        content.append({"toolUse": {**TOOL, "input": json.loads(text["tool"])}})
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": stop_reason(script),
        "usage": usage(script),
        "metrics": {"latencyMs": latency(script)},
        **extras(script),
    }
