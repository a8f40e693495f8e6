"""What a service's own error means: one outcome, never judged by its HTTP status alone when it says more."""

from __future__ import annotations

import email.utils
import math
import time
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from services.providers import aws_errors
from services.providers.usage import obj
from services.types import Outcome, WireError

MAX_MESSAGE = 200
# Words that mean "the money or the monthly limit ran out": waiting a minute does not help, unlike with a rate limit.
_MONEY = (
    "insufficient_quota", "credit_balance", "credit balance", "spend_limit_reached", "billing_hard_limit",
    "billing_not_active", "billing_error", "exceeded your current quota", "insufficient_balance",
    "insufficient balance", "payment_required",
)  # fmt: skip
_FILTERED = (
    "content_filter", "content_policy", "bio_policy", "misalignment_policy", "cyber_policy", "responsibleaipolicy",
)  # fmt: skip
_OVERLOADED = ("overloaded", "slow_down", "unavailable_error", "service_unavailable", "engine_overloaded")
_THROTTLED = ("rate_limit", "ratelimit", "too_many_requests", "ramp_limit", "throttling")
_UNAUTHORISED = ("authentication_error", "permission_error", "invalid_api_key", "unauthorized", "permission_denied")
_NOT_FOUND = ("not_found", "notfound")
_BY_STATUS: dict[int, Outcome] = {
    401: "unauthorised", 402: "quota_exhausted", 403: "unauthorised", 404: "not_found", 408: "timeout_headers",
    429: "throttled", 503: "overloaded", 504: "timeout_headers", 529: "overloaded",
}  # fmt: skip


def plain(text: Any, limit: int = MAX_MESSAGE) -> str:
    """``text`` on one line without control, format or private characters, at most ``limit`` characters long."""
    raw = text if isinstance(text, str) else "" if text is None else str(text)
    # One character can only shrink, so four times the limit is always enough and a huge text costs nothing.
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in raw[: limit * 4])
    kept = "".join(c for c in kept if unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn"))
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def classify(kind: str, code: str, message: str, status: int | None) -> Outcome:
    """The outcome that an error's own words mean; its HTTP status decides only where they say nothing."""
    words = f"{kind} {code}".lower()
    everything = f"{words} {message[:2000].lower()}"
    if any(word in everything for word in _MONEY):
        return "quota_exhausted"
    for outcome, marks in (
        ("filtered", _FILTERED), ("overloaded", _OVERLOADED), ("throttled", _THROTTLED),
        ("unauthorised", _UNAUTHORISED), ("not_found", _NOT_FOUND),
    ):  # fmt: skip
        if any(mark in words for mark in marks):
            return outcome  # type: ignore[return-value]  # a tuple of literals loses its literal type in the loop
    number = status if status is not None and status >= 400 else int(code) if code.isdigit() else None
    if number in _BY_STATUS:
        return _BY_STATUS[number]
    return "http_error" if status is not None and status >= 400 else "stream_error"


def stated_error(value: Any, *, status: int | None = None, retry_after_s: float | None = None) -> WireError:
    """A `WireError` from whatever a service put in its error object: an object, a text, or nothing useful."""
    error = obj(value)
    inner = error.get("error")
    if isinstance(inner, Mapping):
        error = inner
    elif inner and not error.get("message"):
        error = {**error, "message": inner}
    kind, code = _word(error.get("type") or error.get("error_type")), _word(error.get("code"))
    if aws_errors.knows(kind):
        return aws_error(kind, error, status=status, retry_after_s=retry_after_s)
    detail_code = _word(obj(error.get("details")).get("error_code")) or _word(error.get("error_code"))
    code = detail_code or code
    said = error.get("message") or error.get("detail") or error.get("msg") or ("" if error else value)
    message = plain(said if isinstance(said, str) else orjson.dumps(said, default=str).decode("utf-8", "replace"))
    return WireError(classify(kind, code, message, status), kind or None, code or None, message, retry_after_s)


def aws_error(
    kind: str, said: Mapping[str, Any], *, status: int | None = None, retry_after_s: float | None = None
) -> WireError:
    """A `WireError` from an error of AWS, by its type word."""
    outcome, code, message = aws_errors.meaning(kind, said, status)
    return WireError(outcome, _word(aws_errors.bare(kind)) or None, _word(code) or None, plain(message), retry_after_s)


def _word(value: Any) -> str:
    return plain(value, 80) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait that the service asked for (``retry-after-ms``, or ``retry-after`` as seconds or a date)."""
    lowered = {name.lower(): value for name, value in headers.items()}
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = lowered.get(name, "").strip()
        try:
            seconds = float(value) * scale
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        when = email.utils.parsedate_to_datetime(lowered.get("retry-after", ""))
        return max(0.0, when.timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def http_error(status: int, headers: Mapping[str, str], body: bytes) -> WireError:
    """Classify a response that is not a 2xx event stream. Never raises; messages are one line of at most 200."""
    lowered = {name.lower(): value for name, value in headers.items()}
    wait = retry_after(lowered)
    if 300 <= status < 400:
        host = plain(urlsplit_host(lowered.get("location", "")), 80)
        where = f" to {host}" if host else ""
        return WireError("http_error", "redirect", str(status), f"it redirects{where} and redirects are not followed")
    parsed = _json(body)
    aws = aws_errors.type_of(lowered, obj(parsed))
    if aws and status >= 400:
        return aws_error(aws, obj(parsed), status=status, retry_after_s=wait)
    if parsed is not None:
        found = _error_in(parsed, status)
        if found is not None:
            return stated_error(found, status=status, retry_after_s=wait)
    if 200 <= status < 300:
        return _not_a_stream(lowered.get("content-type", ""), body, parsed is not None)
    text = "" if b"<html" in body[:2000].lower() else plain(body[:2000].decode("utf-8", "replace"))
    outcome = classify("", "", text, status)
    return WireError(outcome, None, str(status), text, wait)


def urlsplit_host(url: str) -> str:
    """The host of an address that a service sent, or "" when it has none or is not an address."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _error_in(parsed: Any, status: int) -> Any:
    """The part of a JSON body that states an error; None when a 2xx body states none."""
    first = parsed[0] if isinstance(parsed, list) and parsed else parsed
    body = obj(first)
    if body.get("error"):
        return body["error"] if not isinstance(body["error"], str) else body
    if status >= 400 or body.get("object") == "error" or body.get("type") == "error":
        return body or None
    return None


def _not_a_stream(content_type: str, body: bytes, is_json: bool) -> WireError:
    if not body.strip():
        return WireError("empty", None, "200", "the service answered 200 with nothing in it")
    head = body[:2000].lower()
    if "html" in content_type.lower() or b"<html" in head or b"<!doctype" in head:
        said = "it answered 200 with a web page instead of a stream of events"
    elif is_json:
        said = "it answered 200 with one JSON document instead of a stream of events"
    else:
        said = f"it answered 200 with {plain(content_type, 60) or 'no content type'} instead of a stream of events"
    start = plain(body[:200].decode("utf-8", "replace"), 90)
    return WireError("protocol_error", "not_a_stream", "200", plain(f"{said}; it begins: {start}"))
