"""Faults that only AWS's frames can have; the others are those of `tests.fake.changes`."""

from __future__ import annotations

import json
from binascii import crc32
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from tests.aws import errors, frames
from tests.aws.frames import EVENT_STREAM, event, json_event, message
from tests.aws.scripts import AwsScript
from tests.fake.changes import _until, inserted, said, spoiled
from tests.fake.plan import Plan, Step
from tests.fake.replies import HTML, body_reply
from tests.fake.wires import dumps

Change = Callable[[Plan, Any, Any], Plan]
_JSON = ("content-type", "application/json")


def excepted(name: str, code: str = "StreamBroken") -> Change:
    """The stream stops before delta ``at`` with that exception; then it ends cleanly, as AWS ends it."""
    return said(lambda _route, _n: errors.in_stream(name, code))


unmodelled: Change = said(lambda _route, _n: frames.unmodelled("InternalError", "An internal server error occurred"))
_DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "crc": frames.with_bad_crc,
    "prelude": frames.with_bad_prelude,
    "body": frames.with_bad_body,
}


def damaged(how: Literal["crc", "prelude", "body"]) -> Change:
    """The frame of delta ``at`` is damaged; the stream goes on as if nothing had been."""
    return spoiled(_DAMAGE[how])


def half_frame(plan: Plan, script: AwsScript, route: str) -> Plan:
    """Half of the next delta's frame, then a proper end of the HTTP body."""
    kept, at = _until(plan, script)
    half = plan.steps[len(kept)].data
    return replace(plan, steps=(*kept, Step(at, "junk", half[: len(half) // 2])), end="eof")


def short_of_length(plan: Plan, script: AwsScript, route: str) -> Plan:
    """Content-Length of the whole body, and the connection closes before delta ``at``."""
    kept, _ = _until(plan, script)
    length = ("content-length", str(sum(len(s.data) for s in plan.steps)))
    return replace(plan, steps=tuple(kept), headers=(*plan.headers, length), transfer="close", end="close")


def huge(plan: Plan, script: AwsScript, route: str) -> Plan:
    """A frame whose (rightly checked) length is 2 GB: its reader must not wait for it."""
    kept, at = _until(plan, script)
    frame = message({":event-type": "chunk", ":message-type": "event"}, b"{}")
    prelude = (2**31 - 1).to_bytes(4, "big") + frame[4:8]
    data = prelude + crc32(prelude).to_bytes(4, "big") + frame[12:]
    return replace(plan, steps=(*kept, Step(at, "error", data)), end="eof")


def unknown(plan: Plan, script: AwsScript, route: str) -> Plan:
    """An event that no model knows, before delta ``at``."""
    if route.startswith("sagemaker"):
        return inserted(lambda _r: event("Heartbeat", b"", "application/octet-stream"))(plan, script, route)  # type: ignore[arg-type]  # a route where the fake server has a wire
    return inserted(lambda _r: json_event("newsFlash", {"headline": "x"}))(plan, script, route)  # type: ignore[arg-type]  # as above


def drip(plan: Plan, script: AwsScript, route: str) -> Plan:
    """After delta ``at`` only SSE comments of the container, for ever."""
    kept, _ = _until(plan, script)
    again = (Step(0, "keepalive", b":\n\n"),)
    return replace(plan, steps=tuple(kept), repeat=again, repeat_ms=script.ping or 10.0, end="hang")


def container_error(plan: Plan, script: AwsScript, route: str) -> Plan:
    """The error of vLLM, TGI or LMI in the middle of their own stream."""
    data = {
        "sagemaker:chat": b'data: {"error":{"message":"the engine died","type":"InternalServerError","code":500}}\n\n'
        b"data: [DONE]\n\n",
        "sagemaker:tgi": b'data:{"error":"Request failed during generation: no memory","error_type":"generation"}\n\n',
        "sagemaker:lines": dumps(
            {
                "token": {"id": -1, "text": "", "log_prob": -1, "special_token": True},
                "generated_text": "",
                "details": {"finish_reason": "error", "generated_tokens": None, "inputs": None},
            }
        ).encode()
        + b"\n",
    }
    return said(lambda _r, _n: data[route])(plan, script, route)  # type: ignore[arg-type]  # a route where the fake server has a wire


def overloaded(plan: Plan, script: AwsScript, route: str) -> Plan:
    """Anthropic's own error event, carried in a chunk."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    return said(lambda _r, _n: json.dumps(error).encode())(plan, script, route)  # type: ignore[arg-type]  # as above


def broken_json(data: bytes) -> bytes:
    """The event without the last third of its data, its line end kept."""
    end = data[len(data.rstrip(b"\n")) :]
    return data[: len(data) * 2 // 3] + end


def broken_event(plan: Plan, script: AwsScript, route: str) -> Plan:
    """Delta ``at`` comes in a sound frame whose payload is half a JSON object."""
    name = "contentBlockDelta" if route == "converse" else "chunk"
    return spoiled(lambda _data: event(name, b'{"contentBlockIndex":0,"del'))(plan, script, route)  # type: ignore[arg-type]  # as above


# --- whole replies -------------------------------------------------------------------------------------------------


def error(name: str) -> Callable[[Any, str], Plan]:
    """The JSON error of that name, in the form of the route's service."""
    return lambda script, route: errors.reply(
        name, service="sagemaker" if route.startswith("sagemaker") else "bedrock", head_ms=script.headers
    )


def json_error(script: AwsScript, route: str) -> Plan:
    """200 with an error in JSON, as a gateway makes of one."""
    return body_reply(200, b'{"message":"Internal server error"}', _JSON)


def html_stream(script: AwsScript, route: str) -> Plan:
    """200 with the right content type and a page in place of frames."""
    return body_reply(200, HTML, EVENT_STREAM)


def empty(script: AwsScript, route: str) -> Plan:
    """200, an event stream without a byte in it."""
    return Plan(headers=(EVENT_STREAM,), head_ms=script.headers)


def empty_length(script: AwsScript, route: str) -> Plan:
    """200 with Content-Length: 0."""
    return body_reply(200, b"", EVENT_STREAM)
