"""Which plan answers a request: pure functions of the request and the script."""

from __future__ import annotations

import json
from dataclasses import replace

from services.types import Wire
from tests.fake.faults import FAULTS
from tests.fake.plan import Compiled, Plan, compile_plan, compiled, plan_for
from tests.fake.record import Record
from tests.fake.replies import JSON_TYPE, body_reply, error_reply
from tests.fake.scripts import Script, parse
from tests.fake.wires import dumps, whole_for


def ready(plan: Plan) -> Compiled:
    """A plan that no option changes, as bytes."""
    return compile_plan(plan, "", gzip=False)


def whole_answer(script: Script, wire: Wire) -> Plan:
    """The answer to a request that did not ask to stream: one JSON object when the stream would have ended."""
    steps = plan_for(script, wire).steps
    body = dumps(whole_for(script, wire)).encode()
    return body_reply(200, body, JSON_TYPE, head_ms=steps[-1].at_ms if steps else script.ttft)


def answer(record: Record, script: Script, wire: Wire) -> Compiled:
    """The plan of a script for one request: what it asked for (stream, usage, compression) counts too."""
    options = record.json.get("stream_options")
    if FAULTS[script.fault or "ok"].with_stream_options and options is None:
        script = replace(script, fault="")
    asked = isinstance(options, dict) and options.get("include_usage")
    if wire == "chat" and not asked and script.usage in {"", "null"} and record.json.get("stream"):
        script = replace(script, usage="missing")
    if not record.json.get("stream") and FAULTS[script.fault or "ok"].reply is None and not script.status:
        return ready(whole_answer(script, wire))
    return compiled(script, wire, gzip="gzip" in record.headers.get("accept-encoding", ""))


def script_of(model: str, wire: Wire) -> Script | Compiled:
    if model != "fake" and not model.startswith("fake?"):
        return ready(error_reply(404, wire, f"The model {model[:80]!r} does not exist."))
    try:
        script = parse(model)
        plan_for(script, wire)
    except (ValueError, KeyError) as error:
        return ready(error_reply(400, wire, f"The fake server does not understand this model name: {error}"))
    return script


def models_answer(record: Record, wire: Wire, wanted: str) -> Compiled:
    """The list of models, or one of them; a model name with an HTTP fault answers with that fault."""
    if wanted:
        script = script_of(wanted, wire)
        if isinstance(script, Compiled):
            return script
        record.script = script
        if FAULTS[script.fault or "ok"].reply or script.status:
            return compiled(script, wire, gzip=False)
    return ready(models_reply(wire, wanted))


def models_reply(wire: Wire, wanted: str) -> Plan:
    """`GET /v1/models` in the form of the caller's service."""
    name = wanted or "fake"
    if wire == "messages":
        one: dict[str, object] = {
            "type": "model",
            "id": name,
            "display_name": "Fake",
            "created_at": "2026-01-01T00:00:00Z",
        }
        listed: dict[str, object] = {"data": [one], "has_more": False, "first_id": name, "last_id": name}
    else:
        one = {"id": name, "object": "model", "created": 1_790_000_000, "owned_by": "tests"}
        listed = {"object": "list", "data": [one]}
    return body_reply(200, json.dumps(one if wanted else listed).encode(), JSON_TYPE)


def bearer(headers: dict[str, str]) -> str:
    return headers.get("authorization", "").removeprefix("Bearer ")
