"""Errors as AWS states them: before the stream (JSON and the ``x-amzn-ErrorType`` header), and inside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from tests.aws.frames import exception
from tests.fake.plan import Plan
from tests.fake.replies import body_reply
from tests.fake.wires import dumps

# Error name → (HTTP status, what AWS says).
BEDROCK: dict[str, tuple[int, str]] = {
    "AccessDeniedException": (403, "You don't have access to the model with the specified model ID."),
    "ThrottlingException": (429, "Too many requests, please wait before trying again."),
    "ResourceNotFoundException": (404, "The provided model identifier was not found."),
    "ValidationException": (400, "The provided model identifier is invalid."),
    "ModelTimeoutException": (408, "The model took too long to process the request."),
    "ModelNotReadyException": (429, "The model is not ready for inference. Try again later."),
    "ModelErrorException": (424, "The model failed to process the request."),
    "ServiceUnavailableException": (503, "Bedrock is unable to process your request."),
    "InternalServerException": (500, "The system encountered an unexpected error during processing."),
    "ExpiredTokenException": (403, "The security token included in the request is expired"),
    "UnrecognizedClientException": (403, "The security token included in the request is invalid."),
    "InvalidSignatureException": (
        403,
        "The request signature we calculated does not match the signature you provided. "
        "Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
    ),
    "MissingAuthenticationTokenException": (403, "Missing Authentication Token"),
    "IncompleteSignatureException": (403, "Authorization header is not complete."),
    "ServiceQuotaExceededException": (400, "You have exceeded a service quota."),
    "ConflictException": (400, "The resource is in a state that does not allow this."),
}
SAGEMAKER: dict[str, tuple[int, str]] = {
    "ValidationError": (400, "Endpoint fake of account 123456789012 not found."),
    "ModelError": (424, 'Received client error (400) from primary with message "the container refused".'),
    "ModelNotReadyException": (429, "The inference component is not ready to serve."),
    "InternalFailure": (500, "An internal failure occurred."),
    "ServiceUnavailable": (503, "The service is unavailable. Try your call again."),
    "ThrottlingException": (400, "Rate exceeded"),
    "AccessDeniedException": (403, "User is not authorized to perform: sagemaker:InvokeEndpoint"),
}
# Members of ConverseStreamOutput and of ResponseStream that are exceptions.
IN_CONVERSE = (
    "internalServerException",
    "modelStreamErrorException",
    "validationException",
    "throttlingException",
    "serviceUnavailableException",
)
IN_INVOKE = (*IN_CONVERSE, "modelTimeoutException")
IN_SAGEMAKER = ("ModelStreamError", "InternalStreamFailure")
_SAID = {
    "internalServerException": "The system encountered an unexpected error during processing. Try your request again.",
    "modelStreamErrorException": "An error occurred while streaming the response.",
    "validationException": "The input was refused while the model was answering.",
    "throttlingException": "Too many tokens, please wait before trying again.",
    "serviceUnavailableException": "Bedrock is unable to process your request.",
    "modelTimeoutException": "The model took too long to process the request.",
}


def in_stream(name: str, code: str = "StreamBroken") -> bytes:
    """The exception frame of that name. ``code``: of SageMaker's ModelStreamError."""
    if name == "ModelStreamError":
        return exception(name, {"Message": "The container broke the stream.", "ErrorCode": code})
    if name == "InternalStreamFailure":
        return exception(name, {"Message": "The stream processing failed because of an unknown error."})
    value: dict[str, Any] = {"message": _SAID[name]}
    if name == "modelStreamErrorException":
        value |= {"originalStatusCode": 500, "originalMessage": "the worker that served the model was lost"}
    return exception(name, value)


def reply(name: str, message: str = "", *, service: str = "bedrock", head_ms: float = 0.0) -> Plan:
    """The JSON error of that name, in the form of that service ("sagemaker" or any of the others)."""
    table = SAGEMAKER if service == "sagemaker" and name in SAGEMAKER else BEDROCK
    status, usual = table[name]
    body: Mapping[str, Any] = {"message": message or usual}
    if service == "sagemaker" and table is SAGEMAKER and name not in {"ThrottlingException", "AccessDeniedException"}:
        body = {"Message": message or usual}
    if name == "ModelError":
        body = {
            "ErrorCode": "CLIENT_ERROR_FROM_MODEL",
            "LogStreamArn": "arn:aws:logs:us-east-1:123456789012:log-group:x",
            "Message": message or usual,
            "OriginalMessage": "the container refused",
            "OriginalStatusCode": 400,
        }
    suffix = "" if service == "sagemaker" else f":http://internal.amazon.com/coral/com.amazon.{service}/"
    headers = (("content-type", "application/json"), ("x-amzn-ErrorType", f"{name}{suffix}"))
    return body_reply(status, dumps(body).encode(), *headers, head_ms=head_ms)


def sts_reply(code: str, message: str) -> Plan:
    """An error of STS: the query protocol's XML. Its names differ from those of the JSON services."""
    status = 403 if code != "InvalidAction" else 400
    body = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">\n  <Error>\n    <Type>Sender</Type>\n'
        f"    <Code>{code}</Code>\n    <Message>{escape(message)}</Message>\n  </Error>\n"
        "  <RequestId>00000000-0000-4000-8000-000000000000</RequestId>\n</ErrorResponse>\n"
    )
    return body_reply(status, body.encode(), ("content-type", "text/xml"))
