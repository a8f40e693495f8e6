"""What the errors of Amazon Bedrock and SageMaker mean, before a stream and inside it.

Sources: the error shapes of botocore 1.44.5 (bedrock-runtime, sagemaker-runtime) and error texts quoted in public
issues ("with on-demand throughput isn’t supported", "You don't have access to the model with the specified model ID").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from services.types import Outcome

_OUTCOMES: dict[str, Outcome] = {
    "throttlingexception": "throttled", "throttling": "throttled", "toomanyrequestsexception": "throttled",
    "requestlimitexceeded": "throttled", "servicequotaexceededexception": "throttled",
    "modelnotreadyexception": "not_ready", "modeltimeoutexception": "timeout_first_token",
    "serviceunavailableexception": "overloaded", "serviceunavailable": "overloaded",
    "internalserverexception": "stream_error", "internalfailure": "stream_error",
    "internalstreamfailure": "stream_error", "modelstreamerrorexception": "stream_error",
    "modelstreamerror": "stream_error", "modelerrorexception": "http_error", "modelerror": "http_error",
    "validationexception": "http_error", "validationerror": "http_error", "serializationexception": "http_error",
    "accessdeniedexception": "unauthorised", "accessdenied": "unauthorised", "notauthorized": "unauthorised",
    "unrecognizedclientexception": "unauthorised", "invalidclienttokenid": "unauthorised",
    "invalidsignatureexception": "unauthorised", "signaturedoesnotmatch": "unauthorised",
    "incompletesignature": "unauthorised", "incompletesignatureexception": "unauthorised",
    "expiredtoken": "unauthorised", "expiredtokenexception": "unauthorised", "requestexpired": "unauthorised",
    "missingauthenticationtoken": "unauthorised", "missingauthenticationtokenexception": "unauthorised",
    "optinrequired": "unauthorised", "resourcenotfoundexception": "not_found", "unknownoperationexception": "not_found",
}  # fmt: skip
# SageMaker's ModelStreamError says in its ErrorCode what broke.
_STREAM_CODES: dict[str, Outcome] = {"ModelInvocationTimeExceeded": "timeout_total", "StreamBroken": "truncated"}
_ACTION = re.compile(r"not authorized to perform:? ([a-z-]+:\w+)")
_NO_ACCESS = (
    "there is no access to this model: ask for it in this region's Bedrock console, or allow "
    "bedrock:InvokeModelWithResponseStream for it in IAM"
)


def type_of(headers: Mapping[str, str], body: Mapping[str, Any]) -> str:
    """The error's bare name ("ThrottlingException"), or "" when this is no error of AWS. Header names in lower case."""
    stated = headers.get("x-amzn-errortype") or body.get("__type")
    return bare(stated) if isinstance(stated, str) else ""


def bare(kind: str) -> str:
    """The name without the namespace before "#" and the address after ":" that some services add."""
    return kind.partition(":")[0].rpartition("#")[2].strip()


def knows(kind: str) -> bool:
    """Whether a type word is one of AWS's."""
    return bare(kind).lower() in _OUTCOMES


def meaning(kind: str, said: Mapping[str, Any], status: int | None) -> tuple[Outcome, str, str]:
    """Outcome, code and message of an error of AWS; ``said`` is its body, ``status`` None inside a stream.

    The message says what to do where that is known, and is the service's own otherwise.
    """
    name = bare(kind).lower()
    outcome = _OUTCOMES.get(name, "http_error" if status else "stream_error")
    if outcome == "stream_error" and status:
        outcome = "http_error"
    text = _text(said, "message", "Message")
    code = _text(said, "ErrorCode", "errorCode", "code")
    if name == "modelstreamerror":
        outcome = _STREAM_CODES.get(code, outcome)
    original = said.get("originalStatusCode", said.get("OriginalStatusCode"))
    if isinstance(original, int) and not isinstance(original, bool):
        code = str(original)
        if name in ("modelerror", "modelerrorexception"):
            outcome = {429: "throttled", 503: "overloaded"}.get(original, outcome)  # type: ignore[assignment]
    cause = _text(said, "originalMessage", "OriginalMessage")
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


def _text(said: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = said.get(name)
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())
    return ""
