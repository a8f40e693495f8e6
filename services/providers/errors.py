"""What a service's own error means: one outcome, never judged by its HTTP status alone when it says more.

Sources: the error shapes of botocore 1.44.5 (bedrock-runtime, sagemaker-runtime) and error texts quoted in public
issues ("with on-demand throughput isn’t supported", "You don't have access to the model with the specified model ID").
"""

from __future__ import annotations

import email.utils
import math
import re
import time
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from services.providers.usage import obj
from services.types import JsonMapping, Outcome, WireError

MAX_MESSAGE = 200


# Words that mean "the money or the monthly limit ran out": waiting a minute does not help, unlike with a rate limit.
_MONEY = (
    "insufficient_quota",
    "credit_balance",
    "credit balance",
    "spend_limit_reached",
    "billing_hard_limit",
    "billing_not_active",
    "billing_error",
    "exceeded your current quota",
    "insufficient_balance",
    "insufficient balance",
    "payment_required",
)


_FILTERED = (
    "content_filter",
    "content_policy",
    "bio_policy",
    "misalignment_policy",
    "cyber_policy",
    "responsibleaipolicy",
)

_OVERLOADED = ("overloaded", "slow_down", "unavailable_error", "service_unavailable", "engine_overloaded")

_THROTTLED = ("rate_limit", "ratelimit", "too_many_requests", "ramp_limit", "throttling")

_UNAUTHORISED = ("authentication_error", "permission_error", "invalid_api_key", "unauthorized", "permission_denied")

_NOT_FOUND = ("not_found", "notfound")

_BY_STATUS: dict[int, Outcome] = {
    401: "unauthorised",
    402: "quota_exhausted",
    403: "unauthorised",
    404: "not_found",
    408: "timeout_headers",
    429: "throttled",
    503: "overloaded",
    504: "timeout_headers",
    529: "overloaded",
}


def plain(text: Any, limit: int = MAX_MESSAGE) -> str:
    """``text`` on one line without control, format or private characters, at most ``limit`` characters long."""
    raw = text if isinstance(text, str) else "" if text is None else str(text)
    # One character can only shrink, so four times the limit is always enough and a huge text costs nothing.
    letters = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in raw[: limit * 4])
    letters = "".join(c for c in letters if unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn"))
    line = " ".join(letters.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def classify(kind: str, code: str, message: str, status: int | None) -> Outcome:
    """The outcome that an error's own words mean; its HTTP status decides only where they say nothing."""
    words = f"{kind} {code}".lower()
    everything = f"{words} {message[:2000].lower()}"
    if any(word in everything for word in _MONEY):
        return "quota_exhausted"
    for outcome, marks in (
        ("filtered", _FILTERED),
        ("overloaded", _OVERLOADED),
        ("throttled", _THROTTLED),
        ("unauthorised", _UNAUTHORISED),
        ("not_found", _NOT_FOUND),
    ):
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
    if is_aws_error(kind):
        return aws_error(kind, error, status=status, retry_after_s=retry_after_s)
    detail_code = _word(obj(error.get("details")).get("error_code")) or _word(error.get("error_code"))
    code = detail_code or code
    stated = error.get("message") or error.get("detail") or error.get("msg") or ("" if error else value)
    message = plain(stated if isinstance(stated, str) else orjson.dumps(stated, default=str).decode("utf-8", "replace"))
    return WireError(classify(kind, code, message, status), kind or None, code or None, message, retry_after_s)


def aws_error(
    kind: str, body: JsonMapping, *, status: int | None = None, retry_after_s: float | None = None
) -> WireError:
    """A `WireError` from an error of AWS, by its type word."""
    outcome, code, message = aws_outcome(kind, body, status)
    return WireError(outcome, _word(bare_type(kind)) or None, _word(code) or None, plain(message), retry_after_s)


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
        target = f" to {host}" if host else ""
        return WireError("http_error", "redirect", str(status), f"it redirects{target} and redirects are not followed")
    parsed = _json(body)
    aws = aws_error_type(lowered, obj(parsed))
    if aws and status >= 400:
        return aws_error(aws, obj(parsed), status=status, retry_after_s=wait)
    if parsed is not None:
        error = _error_in(parsed, status)
        if error is not None:
            return stated_error(error, status=status, retry_after_s=wait)
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
        problem = "it answered 200 with a web page instead of a stream of events"
    elif is_json:
        problem = "it answered 200 with one JSON document instead of a stream of events"
    else:
        problem = f"it answered 200 with {plain(content_type, 60) or 'no content type'} instead of a stream of events"
    start = plain(body[:200].decode("utf-8", "replace"), 90)
    return WireError("protocol_error", "not_a_stream", "200", plain(f"{problem}; it begins: {start}"))


_OUTCOMES: dict[str, Outcome] = {
    "throttlingexception": "throttled",
    "throttling": "throttled",
    "toomanyrequestsexception": "throttled",
    "requestlimitexceeded": "throttled",
    "servicequotaexceededexception": "throttled",
    "modelnotreadyexception": "not_ready",
    "modeltimeoutexception": "timeout_first_token",
    "serviceunavailableexception": "overloaded",
    "serviceunavailable": "overloaded",
    "internalserverexception": "stream_error",
    "internalfailure": "stream_error",
    "internalstreamfailure": "stream_error",
    "modelstreamerrorexception": "stream_error",
    "modelstreamerror": "stream_error",
    "modelerrorexception": "http_error",
    "modelerror": "http_error",
    "validationexception": "http_error",
    "validationerror": "http_error",
    "serializationexception": "http_error",
    "accessdeniedexception": "unauthorised",
    "accessdenied": "unauthorised",
    "notauthorized": "unauthorised",
    "unrecognizedclientexception": "unauthorised",
    "invalidclienttokenid": "unauthorised",
    "invalidsignatureexception": "unauthorised",
    "signaturedoesnotmatch": "unauthorised",
    "incompletesignature": "unauthorised",
    "incompletesignatureexception": "unauthorised",
    "expiredtoken": "unauthorised",
    "expiredtokenexception": "unauthorised",
    "requestexpired": "unauthorised",
    "missingauthenticationtoken": "unauthorised",
    "missingauthenticationtokenexception": "unauthorised",
    "optinrequired": "unauthorised",
    "resourcenotfoundexception": "not_found",
    "unknownoperationexception": "not_found",
}


# SageMaker's ModelStreamError says in its ErrorCode what broke.
_STREAM_CODES: dict[str, Outcome] = {"ModelInvocationTimeExceeded": "timeout_total", "StreamBroken": "truncated"}


_ACTION = re.compile(r"not authorized to perform:? ([a-z-]+:\w+)")

_NO_ACCESS = (
    "there is no access to this model: ask for it in this region's Bedrock console, or allow "
    "bedrock:InvokeModelWithResponseStream for it in IAM"
)


def aws_error_type(headers: Mapping[str, str], body: JsonMapping) -> str:
    """The error's bare name ("ThrottlingException"), or "" when this is no error of AWS. Header names in lower case."""
    stated = headers.get("x-amzn-errortype") or body.get("__type")
    return bare_type(stated) if isinstance(stated, str) else ""


def bare_type(kind: str) -> str:
    """The name without the namespace before "#" and the address after ":" that some services add."""
    return kind.partition(":")[0].rpartition("#")[2].strip()


def is_aws_error(kind: str) -> bool:
    """Whether a type word is one of AWS's."""
    return bare_type(kind).lower() in _OUTCOMES


def aws_outcome(kind: str, body: JsonMapping, status: int | None) -> tuple[Outcome, str, str]:
    """Outcome, code and message of an error of AWS; ``body`` is what it sent, ``status`` None inside a stream.

    The message says what to do where that is known, and is the service's own otherwise.
    """
    name = bare_type(kind).lower()
    outcome = _OUTCOMES.get(name, "http_error" if status else "stream_error")
    if outcome == "stream_error" and status:
        outcome = "http_error"
    text = _text(body, "message", "Message")
    code = _text(body, "ErrorCode", "errorCode", "code")
    if name == "modelstreamerror":
        outcome = _STREAM_CODES.get(code, outcome)
    original = body.get("originalStatusCode", body.get("OriginalStatusCode"))
    if isinstance(original, int) and not isinstance(original, bool):
        code = str(original)
        if name in ("modelerror", "modelerrorexception"):
            outcome = {429: "throttled", 503: "overloaded"}.get(original, outcome)  # type: ignore[assignment]  # two outcomes
    cause = _text(body, "originalMessage", "OriginalMessage")
    if cause and cause not in text:
        text = f"{text.rstrip('. ')}: {cause}" if text else cause
    if outcome == "unauthorised":
        return outcome, code, _unauthorised(name, text)
    if outcome == "not_found" or name.startswith("validation"):
        return _validation(outcome, code, text)
    if name == "servicequotaexceededexception":
        return outcome, code, text or "a service quota of the account is used up: ask for a higher one"
    return outcome, code, text


def _validation(outcome: Outcome, code: str, text: str) -> tuple[Outcome, str, str]:
    lowered = text.lower().replace("’", "'")
    if "on-demand throughput isn't supported" in lowered:
        return outcome, code, "this model is served through an inference profile only: use its id, such as us.… or eu.…"
    if "model identifier is invalid" in lowered:
        return "not_found", code, text
    if "endpoint" in lowered and "not found" in lowered:
        return "not_found", code, f"{text.rstrip('. ')}: it does not exist in this region or is not InService"
    if "use case details" in lowered or "don't have access to the model" in lowered:
        return "unauthorised", code, _unauthorised("accessdeniedexception", text)
    return outcome, code, text


def _unauthorised(name: str, text: str) -> str:
    """Which of the many ways to be turned away this is, and how to mend it."""
    lowered = text.lower().replace("’", "'")
    if "expired" in name or ("expired" in lowered and "token" in lowered):
        return "the session has expired: sign in again, for example with “aws sso login”, or set fresh variables"
    if name.startswith(("missingauthentication", "incompletesignature")):
        return "the request arrived without a whole signature: check that no proxy takes headers out"
    if name.startswith(("unrecognizedclient", "invalidclient")):
        return "AWS does not know this access key: check that it exists, is active, and belongs to this partition"
    if name.startswith(("invalidsignature", "signaturedoes")):
        return "the signature does not match: the secret access key is wrong, or this machine's clock is"
    if "api key" in lowered or "bearer" in lowered:
        return "the Bedrock API key is not valid or has expired: make a new one and set AWS_BEARER_TOKEN_BEDROCK"
    action = _ACTION.search(text)
    if action:
        denied = "a policy denies it explicitly" if "explicit deny" in lowered else "allow it in IAM for this resource"
        return f"these credentials may not perform {action[1]}: {denied}"
    if "use case details" in lowered:
        return "the use case form for this vendor's models is missing: fill it in in the Bedrock console, then wait"
    if "access to the model" in lowered or "model access" in lowered:
        return _NO_ACCESS
    return text or _NO_ACCESS


def _text(body: JsonMapping, *names: str) -> str:
    for name in names:
        value = body.get(name)
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())
    return ""
