"""What each fault looks like to boto3: the errors it raises, and the many that it takes for success."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest
from botocore.eventstream import ChecksumMismatch, InvalidPayloadLength
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EventStreamError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from urllib3.exceptions import ProtocolError

from services.types import Framing, Outcome, State
from services.wire.framing import FRAMERS, FramingError
from tests.aws.clients import NAMES, streamed
from tests.aws.faults import FAULTS
from tests.aws.fixture import AwsEmulator
from tests.aws.plan import golden
from tests.aws.scripts import ROUTES, AwsScript, model, truth, with_fault
from tests.fake.scripts import CONTENT

IN_STREAM = {
    "stream_throttling": "throttlingException",
    "stream_throttling_first": "throttlingException",
    "stream_internal": "internalServerException",
    "stream_model_error": "modelStreamErrorException",
    "stream_validation": "validationException",
    "stream_unavailable": "serviceUnavailableException",
    "stream_model_timeout": "modelTimeoutException",
    "model_stream_error": "ModelStreamError",
    "model_stream_time": "ModelStreamError",
    "internal_stream_failure": "InternalStreamFailure",
    "stream_unmodelled": "InternalError",
}
HTTP = {
    "throttled": ("ThrottlingException", 429),
    "denied": ("AccessDeniedException", 403),
    "missing_model": ("ResourceNotFoundException", 404),
    "invalid": ("ValidationException", 400),
    "model_timeout": ("ModelTimeoutException", 408),
    "not_ready": ("ModelNotReadyException", 429),
    "unavailable": ("ServiceUnavailableException", 503),
    "internal": ("InternalServerException", 500),
    "model_failed": ("ModelErrorException", 424),
    "expired": ("ExpiredTokenException", 403),
    "unrecognised": ("UnrecognizedClientException", 403),
    "bad_signature": ("InvalidSignatureException", 403),
    "quota": ("ServiceQuotaExceededException", 400),
    "sm_not_found": ("ValidationError", 400),
    "sm_model_error": ("ModelError", 424),
    "sm_unavailable": ("ServiceUnavailable", 503),
    "sm_internal": ("InternalFailure", 500),
}
# boto3 raises nothing for these, though the answer is not whole: why our own reader judges.
SILENT = (
    "clean_eof",
    "mid_frame_eof",
    "no_message_stop",
    "empty_200",
    "empty_200_length",
    "length_cut",
)
RAISED: dict[str, tuple[type[Exception], ...]] = {
    "bad_crc": (ChecksumMismatch,),
    "bad_prelude": (ChecksumMismatch,),
    "bad_body": (ChecksumMismatch,),
    "huge_frame": (InvalidPayloadLength,),
    "html_as_stream": (ChecksumMismatch,),
    "html_200": (ChecksumMismatch,),
    "json_200": (ChecksumMismatch,),
    "json_200_other": (ChecksumMismatch,),
    "mid_frame": (ProtocolError, ResponseStreamingError),
    "rst": (ProtocolError, ResponseStreamingError),
    "fin": (ProtocolError, ResponseStreamingError),
    "close_before_head": (ConnectionClosedError,),
    "rst_before_head": (ConnectionClosedError,),
    "header_stall": (ReadTimeoutError,),
}


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsEmulator]:
    with AwsEmulator() as emulator:
        yield emulator


def named(fault: str, route: str, **options: Any) -> str:
    return FAULTS[fault].model(NAMES[route], body=route.partition(":")[2], **options)


def of(faults: dict[str, Any] | tuple[str, ...]) -> list[tuple[str, str]]:
    return [(f, r) for f in faults if f in FAULTS for r in FAULTS[f].routes]


def test_every_outcome_and_state_named_exists_and_every_fault_has_a_truth_on_each_route() -> None:
    for spec in FAULTS.values():
        assert set(spec.outcomes) <= set(get_args(Outcome)), spec.name
        assert spec.routes and set(spec.routes) <= set(ROUTES)
        for route in spec.routes:
            expected = truth(with_fault(spec.name), route)
            assert set(expected.states) <= set(get_args(State))
            assert expected.outcomes == spec.outcomes


def raised(aws: AwsEmulator, fault: str, route: str) -> Exception | None:
    """What boto3 raises for a fault on a route, from the request to the last event; None for nothing."""
    try:
        list(streamed(aws.url, route, named(fault, route))[1])
    except Exception as error:  # whatever it is: the caller compares it
        return error
    return None


@pytest.mark.slow
def test_exceptions_in_the_stream_reach_boto3_by_name(aws: AwsEmulator) -> None:
    seen, wanted = {}, {}
    for fault, route in of(IN_STREAM):
        error = raised(aws, fault, route)
        code = error.response["Error"]["Code"] if isinstance(error, EventStreamError) else error
        seen[fault, route] = code, sum(mark in CONTENT for mark in aws.requests[-1].marks)
        wanted[fault, route] = IN_STREAM[fault], 0 if fault.endswith("first") else 5
    assert seen == wanted


def test_errors_before_the_stream_reach_boto3_by_name(aws: AwsEmulator) -> None:
    seen, wanted = {}, {}
    for fault, route in of(HTTP):
        error = raised(aws, fault, route)
        assert isinstance(error, ClientError), (fault, route, error)
        answer = error.response
        assert answer["Error"]["Message"] or answer.get("Message"), (fault, route)
        seen[fault, route] = answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]
        throttled = (fault, route.partition(":")[0]) == ("throttled", "sagemaker")
        wanted[fault, route] = (HTTP[fault][0], 400) if throttled else HTTP[fault]
    assert seen == wanted


@pytest.mark.slow
def test_boto3_says_nothing_about_streams_that_are_not_whole(aws: AwsEmulator) -> None:
    for fault, route in of(SILENT):
        assert raised(aws, fault, route) is None, (fault, route)
        aws.until(lambda: aws.requests[-1].done)
        assert truth(with_fault(fault), route).outcomes[0] in {"truncated", "empty"}, (fault, route)


@pytest.mark.slow
def test_transport_and_frame_faults_raise_in_boto3_what_they_are(aws: AwsEmulator) -> None:
    # One of the headers' stalls will do: each lasts as long as the client waits.
    cases = [(fault, route) for fault, route in of(RAISED) if fault != "header_stall" or route == "converse"]
    seen = {(fault, route): raised(aws, fault, route) for fault, route in cases}
    assert {case: error for case, error in seen.items() if not isinstance(error, RAISED[case[0]])} == {}


def test_a_stream_can_be_cut_after_any_byte(aws: AwsEmulator) -> None:
    script = AwsScript(tokens=2, ttft=0, itl=0, text="utf8")
    for route in ROUTES:
        whole = golden(script, route)
        for cut in (0, 1, 12, len(whole) // 2, len(whole) - 1):
            assert golden(replace(script, cut=cut), route) == whole[:cut]
            name = model(replace(script, cut=cut, body=route.partition(":")[2]), NAMES[route])
            with pytest.raises((ProtocolError, ResponseStreamingError)):
                list(streamed(aws.url, route, name)[1])
            assert truth(replace(script, cut=cut), route).outcomes == ("truncated", "empty") or cut > len(whole) // 2


def test_stalls_hold_the_connection_until_the_client_goes(aws: AwsEmulator) -> None:
    reply, stream = streamed(aws.url, "converse", named("stall", "converse"))
    got = list(itertools.islice(stream, 6))
    assert len(got) == 6 and not aws.requests[-1].done
    stream.close()
    aws.until(lambda: aws.requests[-1].aborted)
    assert aws.requests[-1].disconnect_ns and reply["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_our_own_framing_finds_the_same_bytes_and_the_same_damage() -> None:
    for route in ROUTES:
        framing: Framing = "sagemaker" if route.startswith("sagemaker") else "eventstream"
        whole, framer = golden(AwsScript(tokens=3, text="utf8"), route), FRAMERS[framing]()
        events = [e for i in range(len(whole)) for e in framer.feed(whole[i : i + 1])]
        assert len(events) >= 4 and all(e.name != "exception" for e in events), route
        for fault in ("bad_crc", "bad_prelude", "bad_body", "huge_frame", "html_as_stream"):
            with pytest.raises(FramingError):
                FRAMERS[framing]().feed(golden(with_fault(fault), route))
