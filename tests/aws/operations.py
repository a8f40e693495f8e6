"""Which operation a request is, and which plan answers it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import unquote

from services.types import Wire
from tests.aws import errors, plan
from tests.aws.faults import FAULTS, effective
from tests.aws.scripts import AwsScript, of, parse
from tests.fake import choosing
from tests.fake.plan import Compiled, Plan
from tests.fake.record import Record
from tests.fake.replies import body_reply
from tests.fake.scripts import Script
from tests.fake.scripts import parse as parse_fake
from tests.fake.wires import dumps

__all__ = ["Operation", "Script", "answer", "of_request", "ready", "routes_of", "script_of"]
ready = choosing.ready

_MODEL = re.compile(r"/model/([^/]+)/(converse-stream|converse|invoke-with-response-stream|invoke|count-tokens)")
_ENDPOINT = re.compile(r"/endpoints/([^/]+)/(invocations-response-stream|invocations)")
_MANTLE: dict[str, Wire] = {
    "/openai/v1/responses": "responses",
    "/openai/v1/chat/completions": "chat",
    "/anthropic/v1/messages": "messages",
    "/v1/responses": "responses",
    "/v1/chat/completions": "chat",
}
Kind = Literal["converse", "invoke", "count-tokens", "sagemaker", "mantle"]
# The vendor in a model id → the family of its InvokeModel body.
_FAMILIES = {
    "anthropic": "anthropic",
    "meta": "llama",
    "mistral": "mistral",
    "openai": "chat",
    "qwen": "chat",
    "deepseek": "chat",
    "moonshot": "chat",
    "minimax": "chat",
    "zai": "chat",
    "google": "chat",
    "nvidia": "chat",
    "amazon.titan-text": "titan",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. ``name``: of the model or endpoint, decoded; "" when it is in the body (mantle)."""

    kind: Kind
    service: Literal["bedrock", "sagemaker", "mantle"]
    name: str
    streams: bool
    wire: Wire | None = None


def of_request(method: str, path: str) -> Operation | None:
    """The operation of a raw path, or None."""
    if method != "POST":
        return None
    if path in _MANTLE:
        return Operation("mantle", "mantle", "", True, _MANTLE[path])
    if found := _MODEL.fullmatch(path):
        kind: Any = found[2].removesuffix("-stream").removesuffix("-with-response")
        return Operation(kind, "bedrock", unquote(found[1]), found[2].endswith("-stream"))
    if found := _ENDPOINT.fullmatch(path):
        return Operation("sagemaker", "sagemaker", unquote(found[1]), found[2].endswith("-stream"))
    return None


def family(base: str) -> str:
    """The InvokeModel family of a model id without its geography; "fake" speaks Anthropic's."""
    if ":imported-model/" in base:
        return "chat"
    return next(
        (f for vendor, f in _FAMILIES.items() if base.startswith(vendor)), "anthropic" if base == "fake" else ""
    )


def routes_of(operation: Operation, base: str) -> tuple[str, ...]:
    """The routes that an operation on that model can take, for choosing an enqueued script."""
    if operation.kind == "converse":
        return ("converse",)
    if operation.kind == "invoke":
        return (f"invoke:{family(base)}",)
    return (operation.kind, operation.service, str(operation.wire))


def script_of(operation: Operation, name: str) -> Script:
    """The script that a name asks for. Raises ValueError for an option that does not exist."""
    if operation.kind == "mantle":
        return parse_fake(f"fake?{name.partition('?')[2]}")
    return parse(name)


def answer(record: Record, operation: Operation, script: Script, base: str) -> Compiled:
    """The plan of a script for one request. Raises ValueError or KeyError for what no script can do."""
    if operation.wire is not None:
        record.wire = operation.wire
        return choosing.answer(record, script, operation.wire)
    if operation.kind == "count-tokens":
        return ready(
            body_reply(200, dumps({"inputTokens": script.input}).encode(), ("content-type", "application/json"))
        )
    wanted = of(script)
    if operation.kind == "sagemaker":
        route, wanted = _container(record, wanted)
    elif operation.kind == "invoke":
        if not family(base):
            return ready(errors.reply("ValidationException", "The provided model identifier is invalid."))
        route, wanted = f"invoke:{family(base)}", _header_asked(record, wanted)
    else:
        route, wanted = "converse", _body_asked(record, wanted)
    wanted = _fitting(record, wanted, route)
    record.script = wanted
    spec = FAULTS[wanted.fault or "ok"]
    if route not in spec.routes:
        raise ValueError(f"{spec.name} cannot happen on {route}")
    if wanted.status:
        return ready(_by_status(wanted, operation))
    if not operation.streams and not spec.reply:
        return ready(plan.whole_reply(effective(wanted, route), route))
    return plan.compiled(wanted, route)


def _container(record: Record, script: AwsScript) -> tuple[str, AwsScript]:
    """The inner body: the script's, else chat for ``messages`` and TGI for ``inputs``."""
    body = script.body or ("chat" if "messages" in record.json else "tgi")
    variant = record.headers.get("x-amzn-sagemaker-target-variant")
    return f"sagemaker:{body}", replace(script, variant=variant) if variant else script


def _body_asked(record: Record, script: AwsScript) -> AwsScript:
    """The tier and latency mode that a Converse request asks for are served, unless the script says otherwise."""
    tier = (record.json.get("serviceTier") or {}).get("type", "")
    latency = (record.json.get("performanceConfig") or {}).get("latency", "")
    return replace(script, tier=script.tier or tier, latency=script.latency or latency)


def _header_asked(record: Record, script: AwsScript) -> AwsScript:
    """The same for InvokeModel, where they are headers."""
    tier = record.headers.get("x-amzn-bedrock-service-tier", "")
    latency = record.headers.get("x-amzn-bedrock-performanceconfig-latency", "")
    return replace(script, tier=script.tier or tier, latency=script.latency or latency)


def _fitting(record: Record, script: AwsScript, route: str) -> AwsScript:
    """Usage comes only where the request's own body asked for it: chat's stream_options, TGI's and LMI's details."""
    if script.usage not in {"", "null"}:
        return script
    if route.endswith(":chat"):
        options = record.json.get("stream_options")
        asked = isinstance(options, dict) and options.get("include_usage")
        return script if asked or route == "invoke:chat" else replace(script, usage="missing")
    if route in {"sagemaker:tgi", "sagemaker:lines"}:
        parameters = record.json.get("parameters")
        asked = isinstance(parameters, dict) and parameters.get("details")
        return script if asked else replace(script, usage="missing")
    return script


def _by_status(script: AwsScript, operation: Operation) -> Plan:
    table = errors.SAGEMAKER if operation.service == "sagemaker" else errors.BEDROCK
    name = next((n for n, (status, _) in table.items() if status == script.status), "ValidationException")
    return replace(errors.reply(name, service=operation.service), status=script.status)
