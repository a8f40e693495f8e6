"""Errors of Bedrock and SageMaker, before the stream and inside it: what they mean, and what to do about them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.outcomes import sentence
from services.providers.bedrock import ConverseDecoder, guardrail_words
from services.providers.errors import http_error
from services.providers.sagemaker import TokenDecoder
from services.types import Outcome
from services.wire.framing import ServerEvent
from tests.wires.helpers import deployment

SUFFIX = ":http://internal.amazon.com/coral/com.amazon.bedrock/"
NO_PROFILE = (
    "Invocation of model ID anthropic.claude-3-5-sonnet-20241022-v2:0 with on-demand throughput isn’t supported. Retry "
    "your request with the ID or ARN of an inference profile that contains this model."
)
DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/lab/me is not authorized to perform: "
    "bedrock:InvokeModelWithResponseStream on resource: arn:aws:bedrock:us-east-1::foundation-model/x"
)
HTTP: list[tuple[int, str, str, Outcome, str]] = [
    (429, "ThrottlingException", "Too many tokens, please wait before trying again.", "throttled", "Too many tokens"),
    (400, "ThrottlingException", "Rate exceeded", "throttled", "Rate exceeded"),
    (429, "ModelNotReadyException", "The model is not ready.", "not_ready", "not ready"),
    (408, "ModelTimeoutException", "The model took too long.", "timeout_first_token", "too long"),
    (503, "ServiceUnavailableException", "Busy.", "overloaded", "Busy"),
    (503, "ServiceUnavailable", "Busy.", "overloaded", "Busy"),
    (500, "InternalServerException", "Oops.", "http_error", "Oops"),
    (400, "ServiceQuotaExceededException", "", "throttled", "quota of the account"),
    (400, "ValidationException", "Malformed input request.", "http_error", "Malformed input"),
    (400, "ValidationException", NO_PROFILE, "http_error", "use its id, such as us."),
    (400, "ValidationException", "The provided model identifier is invalid.", "not_found", "identifier is invalid"),
    (404, "ResourceNotFoundException", "Could not resolve the foundation model.", "not_found", "Could not resolve"),
    (400, "ValidationError", "Endpoint e of account 1 not found.", "not_found", "not InService"),
    (
        403,
        "AccessDeniedException",
        DENIED,
        "unauthorised",
        "may not perform bedrock:InvokeModelWithResponseStream: allow it in IAM",
    ),
    (
        403,
        "AccessDeniedException",
        DENIED + " with an explicit deny in a service control policy",
        "unauthorised",
        "a policy denies it explicitly",
    ),
    (
        403,
        "AccessDeniedException",
        "You don't have access to the model with the specified model ID.",
        "unauthorised",
        "ask for it in this region's Bedrock console",
    ),
    (
        404,
        "ResourceNotFoundException",
        "Model use case details have not been submitted for this account.",
        "unauthorised",
        "use case form",
    ),
    (
        403,
        "AccessDeniedException",
        "Authentication failed: Please make sure your API Key is valid.",
        "unauthorised",
        "AWS_BEARER_TOKEN_BEDROCK",
    ),
    (
        403,
        "ExpiredTokenException",
        "The security token included in the request is expired",
        "unauthorised",
        "aws sso login",
    ),
    (
        403,
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        "unauthorised",
        "does not know this access key",
    ),
    (403, "InvalidSignatureException", "Signature expired: 20261103T000000Z is now earlier", "unauthorised", "clock"),
    (403, "MissingAuthenticationTokenException", "Missing Authentication Token", "unauthorised", "proxy"),
    (403, "IncompleteSignatureException", "…", "unauthorised", "without a whole signature"),
]


@pytest.mark.parametrize(("status", "kind", "said", "outcome", "words"), HTTP)
def test_an_error_before_the_stream_says_what_it_is_and_what_to_do(
    status: int, kind: str, said: str, outcome: Outcome, words: str
) -> None:
    by_header = http_error(status, {"x-amzn-ErrorType": kind + SUFFIX}, json.dumps({"message": said}).encode())
    by_type = http_error(status, {}, json.dumps({"__type": f"com.amazon.x#{kind}", "Message": said}).encode())
    for error in (by_header, by_type):
        assert (error.outcome, error.type) == (outcome, kind)
        assert words in error.message
        assert len(error.message) <= 200
    told = sentence(outcome, name="Nova", status=status, detail=by_header.message, model="m", aws=True)
    assert told.endswith(".")
    assert "did not accept the key" not in told
    assert "base URL" not in told


def test_a_model_error_of_an_endpoint_keeps_what_its_container_said() -> None:
    body = {"Message": "Received server error (500) from primary", "OriginalStatusCode": 500, "OriginalMessage": "CUDA"}
    error = http_error(424, {"x-amzn-errortype": "ModelError"}, json.dumps(body).encode())
    assert (error.outcome, error.code) == ("http_error", "500")
    assert error.message == "Received server error (500) from primary: CUDA"
    full = {"Message": "busy", "OriginalStatusCode": 429}
    assert http_error(424, {"x-amzn-errortype": "ModelError"}, json.dumps(full).encode()).outcome == "throttled"


IN_STREAM: list[tuple[dict[str, Any], bool, Outcome, str | None]] = [
    ({"type": "throttlingException", "message": "slow"}, True, "throttled", None),
    ({"type": "serviceUnavailableException", "message": "x"}, True, "overloaded", None),
    ({"type": "internalServerException", "message": "x"}, True, "stream_error", None),
    ({"type": "validationException", "message": "x"}, True, "http_error", None),
    ({"type": "modelTimeoutException", "message": "x"}, False, "timeout_first_token", None),
    ({"type": "modelTimeoutException", "message": "x"}, True, "timeout_idle", None),
    (
        {"type": "modelStreamErrorException", "message": "x", "originalStatusCode": 503, "originalMessage": "gone"},
        True,
        "stream_error",
        "503",
    ),
    ({"type": "ModelStreamError", "Message": "x", "ErrorCode": "StreamBroken"}, True, "truncated", "StreamBroken"),
    (
        {"type": "ModelStreamError", "Message": "x", "ErrorCode": "ModelInvocationTimeExceeded"},
        True,
        "timeout_total",
        "ModelInvocationTimeExceeded",
    ),
    ({"type": "InternalStreamFailure", "Message": "x"}, True, "stream_error", None),
    ({"type": "InternalError", "message": "x"}, True, "stream_error", None),
]


@pytest.mark.parametrize(("said", "spoke", "outcome", "code"), IN_STREAM)
def test_an_exception_inside_the_stream_ends_in_its_outcome_with_its_code(
    said: dict[str, Any], spoke: bool, outcome: Outcome, code: str | None
) -> None:
    decoder = ConverseDecoder()
    if spoke:
        decoder.feed(ServerEvent("contentBlockDelta", b'{"delta":{"text":"Half"}}'))
    decoder.feed(ServerEvent("exception", json.dumps(said).encode()))
    assert decoder.error is not None
    assert (decoder.error.outcome, decoder.error.type, decoder.error.code) == (outcome, said["type"], code)
    assert said.get("originalMessage", "x" if "x" in said.values() else "slow") in decoder.error.message
    assert not decoder.terminal


def test_a_container_that_fails_while_it_writes_is_no_success() -> None:
    decoder = TokenDecoder()
    last = {
        "token": {"id": -1, "text": "", "special_token": True},
        "generated_text": "",
        "details": {"finish_reason": "error", "generated_tokens": None},
    }
    decoder.feed(ServerEvent("", json.dumps(last).encode()))
    assert decoder.error is not None
    assert decoder.error.outcome == "stream_error"
    tgi = TokenDecoder()
    tgi.feed(ServerEvent("", b'{"error":"Model is overloaded","error_type":"overloaded"}'))
    assert tgi.error is not None
    assert tgi.error.outcome == "overloaded"


def test_a_guardrails_trace_is_told_by_its_policies_and_never_by_what_they_matched() -> None:
    pii = {"piiEntities": [{"type": "EMAIL", "match": "ada@example.org", "action": "ANONYMIZED"}]}
    trace = {
        "inputAssessment": {
            "g": {
                "contentPolicy": {
                    "filters": [
                        {"type": "VIOLENCE", "confidence": "HIGH", "action": "BLOCKED"},
                        {"type": "HATE", "action": "NONE"},
                    ]
                }
            }
        },
        "outputAssessments": {
            "g": [
                {"sensitiveInformationPolicy": pii},
                {"wordPolicy": {"customWords": [{"match": "secret word", "action": "BLOCKED"}]}},
            ]
        },
    }
    words = guardrail_words(trace)
    assert words == (
        "input: content VIOLENCE blocked; output: sensitiveInformation EMAIL anonymized; output: word blocked"
    )
    assert guardrail_words({"actionReason": "No action."}) == "No action."
    assert guardrail_words({"inputAssessment": ["hostile"], "outputAssessments": {"g": "x"}}) == ""


def test_without_credentials_the_sentence_speaks_of_them_and_not_of_a_key() -> None:
    detail = "no AWS credentials were found: set AWS_PROFILE"
    told = sentence("unauthorised", name="Nova", detail=detail, aws=True)
    assert told == f"Nova could not use its AWS credentials ({detail}); there was no text to keep."
    bare = sentence("unauthorised", name="Nova", status=403, aws=True)
    assert bare.endswith("there was no text to keep: check the profile, the region and what it may use.")
    assert deployment("bedrock", "converse").key_env is None
