"""Whole HTTP answers that are not the expected event stream: errors, pages, redirects, empty bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.types import Wire
from tests.fake.plan import Plan, Step
from tests.fake.scripts import Script
from tests.fake.wires import dumps, error_body

RETRY_DATE = "{retry-date}"  # filled in by the server with now + `retry_after`
JSON_TYPE = ("content-type", "application/json")
HTML = (
    b"<!doctype html><html><head><title>Sign in</title></head><body><h1>Sign in to continue</h1>"
    b'<img src="/canary/from-html.png"></body></html>\n'
)
Reply = Callable[[Script, Wire], Plan]

# status -> (error.type on Messages, error.type on the OpenAI wires, code there)
ERRORS: dict[int, tuple[str, str, str | None]] = {
    400: ("invalid_request_error", "invalid_request_error", None),
    401: ("authentication_error", "invalid_request_error", "invalid_api_key"),
    402: ("billing_error", "billing_error", None),
    403: ("permission_error", "permission_error", None),
    404: ("not_found_error", "invalid_request_error", "model_not_found"),
    413: ("request_too_large", "invalid_request_error", None),
    422: ("invalid_request_error", "invalid_request_error", None),
    429: ("rate_limit_error", "requests", "rate_limit_exceeded"),
    500: ("api_error", "server_error", None),
    502: ("api_error", "server_error", None),
    503: ("api_error", "service_unavailable_error", None),
    504: ("timeout_error", "server_error", None),
    529: ("overloaded_error", "overloaded_error", None),
}


def body_reply(status: int, body: bytes, *headers: tuple[str, str], head_ms: float = 0.0) -> Plan:
    """One response with Content-Length."""
    steps = (Step(head_ms, "error", body),) if body else ()
    return Plan(steps, status=status, headers=headers, head_ms=head_ms, transfer="length")


def error_reply(status: int, wire: Wire, message: str = "", *headers: tuple[str, str]) -> Plan:
    """The JSON error that the service of that wire sends with that status."""
    kinds = ERRORS.get(status, ("api_error", "server_error", None))
    text = message or f"The fake server was asked for a {status}."
    kind = kinds[0] if wire == "messages" else kinds[1]
    return body_reply(status, dumps(error_body(wire, status, kind, text, kinds[2])).encode(), JSON_TYPE, *headers)


def status(code: int, message: str = "") -> Reply:
    """A reply with that status, whatever was asked."""
    return lambda _script, wire: error_reply(code, wire, message)


def throttled(script: Script, wire: Wire) -> Plan:
    """429 with retry-after in seconds."""
    return error_reply(429, wire, "Too many requests.", ("retry-after", f"{script.retry_after:g}"))


def throttled_until(script: Script, wire: Wire) -> Plan:
    """429 with retry-after as an HTTP date."""
    return error_reply(429, wire, "Too many requests.", ("retry-after", RETRY_DATE))


def quota(script: Script, wire: Wire) -> Plan:
    """429 that means that the money ran out: no retry-after."""
    if wire == "messages":
        value: dict[str, Any] = error_body(wire, 429, "rate_limit_error", "You have reached your spend limit.")
        value["error"]["details"] = {"error_code": "enforced_spend_limit_reached"}
        return body_reply(429, dumps(value).encode(), JSON_TYPE)
    text = "You exceeded your current quota, please check your plan and billing details."
    value = error_body(wire, 429, "insufficient_quota", text, "insufficient_quota")
    return body_reply(429, dumps(value).encode(), JSON_TYPE)


def credit(script: Script, wire: Wire) -> Plan:
    """A 400 whose text says that the credit is used up (Anthropic's way)."""
    return error_reply(400, wire, "Your credit balance is too low to access the Anthropic API.")


def html(code: int) -> Reply:
    """A page instead of an answer: a login page with 200, a proxy's page with 502."""
    return lambda _script, _wire: body_reply(code, HTML, ("content-type", "text/html; charset=utf-8"))


def json_error(script: Script, wire: Wire) -> Plan:
    """200 with a JSON error body."""
    value = error_body(wire, 200, "api_error", "Something went wrong behind a proxy.")
    return body_reply(200, dumps(value).encode(), JSON_TYPE)


def json_other(script: Script, wire: Wire) -> Plan:
    """200 with JSON that is no answer and no error."""
    return body_reply(200, b'{"status":"ok"}', JSON_TYPE)


def empty(script: Script, wire: Wire) -> Plan:
    """200, an event stream without a byte in it."""
    return Plan(head_ms=script.headers)


def empty_length(script: Script, wire: Wire) -> Plan:
    """200 with Content-Length: 0."""
    return body_reply(200, b"", ("content-type", "text/event-stream"))


def redirect(code: int) -> Reply:
    """A redirect to a path of the canary, which records who follows it."""
    return lambda _script, _wire: body_reply(code, b"", ("location", "/canary/redirect"))


def nothing(script: Script, wire: Wire) -> Plan:
    """The request is read and never answered."""
    return Plan(head_ms=None, end="hang")


def slammed(script: Script, wire: Wire) -> Plan:
    """The request is read and the connection closed without an answer."""
    return Plan(head_ms=None, end="close")


def slammed_rst(script: Script, wire: Wire) -> Plan:
    """The request is read and the connection reset."""
    return Plan(head_ms=None, end="rst")
