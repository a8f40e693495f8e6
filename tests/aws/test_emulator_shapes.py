"""Every reply the emulator can produce is one that botocore's service models allow, or is a fault that says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from botocore.model import OperationModel

from tests.aws import errors, plan, shapes
from tests.aws.bodies import CONTENT_TYPES
from tests.aws.faults import FAULTS, effective
from tests.aws.frames import json_event
from tests.aws.scripts import ROUTES, AwsScript, with_fault
from tests.fake.plan import Plan, compile_plan

STREAMING = {
    "converse": ("bedrock-runtime", "ConverseStream"),
    "invoke": ("bedrock-runtime", "InvokeModelWithResponseStream"),
    "sagemaker": ("sagemaker-runtime", "InvokeEndpointWithResponseStream"),
}
WHOLE = {
    "converse": ("bedrock-runtime", "Converse"),
    "invoke": ("bedrock-runtime", "InvokeModel"),
    "sagemaker": ("sagemaker-runtime", "InvokeEndpoint"),
}
# Faults whose whole point is that the reply is none of AWS's, and what the check says about each.
DELIBERATE = {
    "stream_unmodelled": "a message of the type error",
    "unknown_events": "a message of the type event and the name",
    "mid_frame": "unfinished frame",
    "mid_frame_eof": "unfinished frame",
    "bad_crc": "damaged: ChecksumMismatch",
    "bad_prelude": "damaged: ChecksumMismatch",
    "bad_body": "damaged: ChecksumMismatch",
    "huge_frame": "damaged: InvalidPayloadLength",
    "bad_event_json": "no JSON",
    "html_200": "damaged",
    "html_as_stream": "damaged",
    "html_502": "an unnamed error with 502",
    "json_200": "content-type application/json",
    "json_200_other": "content-type application/json",
    "redirect_307": "an unnamed error with 307",
    "empty_200_length": "",
    "empty_200": "",
}
# The same on one operation only: errors that its twin lists, and what is inside another one's opaque bytes.
BEYOND = {
    ("quota", "converse"): "ServiceQuotaExceededException with 400",
    ("not_ready", "sagemaker"): "ModelNotReadyException with 429",
    ("unknown_stop", "converse"): "'moon_phase' is none of",
}
RICH = AwsScript(
    tokens=6,
    reasoning=3,
    tool=4,
    cached=7,
    cache_write=5,
    cache_write_1h=3,
    text="utf8",
    tier="flex",
    latency="optimized",
    guardrail="intervened",
    redacted=1,
    empties=2,
)


def model_of(route: str, table: dict[str, tuple[str, str]]) -> OperationModel:
    return shapes.operation(*table[route.partition(":")[0]])


def found(made: Plan, model: OperationModel) -> list[str]:
    return list(shapes.reply_problems(model, made.status, dict(made.headers), b"".join(s.data for s in made.steps)))


def cases() -> Iterator[tuple[str, str]]:
    for spec in FAULTS.values():
        for route in spec.routes:
            yield spec.name, route


SCRIPTS = (AwsScript(), RICH, replace(RICH, parts="1-7-3", join=3, pad=0), AwsScript(tokens=0))


def test_a_sound_stream_holds_only_what_the_service_model_allows() -> None:
    problems = {
        (route, n): found(plan.plan_for(script, route), model_of(route, STREAMING))
        for route in ROUTES
        for n, script in enumerate(SCRIPTS)
    }
    assert {case: problem for case, problem in problems.items() if problem} == {}


def test_the_answer_without_streaming_holds_only_what_the_service_model_allows() -> None:
    problems = {
        (route, n): found(plan.whole_reply(effective(script, route), route), model_of(route, WHOLE))
        for route in ROUTES
        for n, script in enumerate((AwsScript(), RICH))
    }
    assert {case: problem for case, problem in problems.items() if problem} == {}


@pytest.mark.slow
def test_every_fault_is_allowed_by_the_service_model_or_is_deliberate() -> None:
    wrong = {}
    for name, route in cases():
        made = plan.plan_for(with_fault(name), route)
        if made.head_ms is None:
            if made.steps:
                wrong[name, route] = ["steps without a head"]
            continue
        problems = found(made, model_of(route, STREAMING))
        wanted = DELIBERATE.get(name) or BEYOND.get((name, route.partition(":")[0]))
        if wanted and not any(wanted in problem for problem in problems):
            wrong[name, route] = [f"not {wanted!r}", *problems]
        elif not wanted and name not in DELIBERATE and problems:
            wrong[name, route] = problems
    assert wrong == {}


def test_every_exception_that_the_streams_can_hold_is_among_the_faults() -> None:
    for route, names in (
        ("converse", errors.IN_CONVERSE),
        ("invoke", errors.IN_INVOKE),
        ("sagemaker", errors.IN_SAGEMAKER),
    ):
        stream = model_of(route, STREAMING).get_event_stream_output()
        assert set(names) == {n for n, m in stream.members.items() if m.metadata.get("exception")}
        assert all(list(shapes.stream_problems(stream, errors.in_stream(name))) == [] for name in names)


def test_every_error_that_the_operations_list_can_be_asked_for() -> None:
    for route, table in (("converse", errors.BEDROCK), ("invoke", errors.BEDROCK), ("sagemaker", errors.SAGEMAKER)):
        service = "sagemaker" if route == "sagemaker" else "bedrock"
        for model in (model_of(route, STREAMING), model_of(route, WHOLE)):
            listed = {s.name for s in model.error_shapes} - {*errors.IN_SAGEMAKER, "ModelStreamErrorException"}
            assert listed - set(table) <= {"InternalDependencyException"}
            for name in listed & set(table):
                assert found(errors.reply(name, service=service), model) == []


def test_every_stop_reason_of_converse_can_be_asked_for() -> None:
    shape = model_of("converse", STREAMING).get_event_stream_output().members["messageStop"].members["stopReason"]
    assert len(shape.enum) >= 9
    for reason in shape.enum:
        made = plan.plan_for(AwsScript(tokens=2, finish=reason), "converse")
        assert found(made, model_of("converse", STREAMING)) == []
        assert f'"stopReason":"{reason}"'.encode() in b"".join(s.data for s in made.steps)


def test_the_check_itself_finds_what_is_wrong() -> None:
    stream = model_of("converse", STREAMING).get_event_stream_output()
    for name, value, wanted in (
        ("contentBlockStart", {"contentBlockIndex": 0, "start": {}}, "a union with 0 members"),
        ("contentBlockDelta", {"delta": {"text": "", "toolUse": {"input": ""}}}, "union with 2"),
        ("contentBlockDelta", {"contentBlockIndex": "0", "delta": {"text": "a"}}, "is no integer"),
        ("contentBlockDelta", {"delta": {"reasoningContent": {"redactedContent": "?"}}}, "base64"),
        ("messageStop", {}, "stopReason is missing"),
        ("messageStop", {"stopReason": "tired"}, "is none of"),
        ("metadata", {"usage": {"inputTokens": 1}, "metrics": {"latencyMs": 1}}, "outputTokens is missing"),
        ("metadata", {"usage": {"inputTokens": -1, "outputTokens": 1, "totalTokens": 1}}, "not within"),
        ("messageStart", {"role": "assistant", "mood": "good"}, "mood is not in MessageStartEvent"),
        ("throttlingException", {"message": "x"}, "sent as event"),
    ):
        assert any(wanted in p for p in shapes.stream_problems(stream, json_event(name, value))), wanted


def test_the_container_type_and_variant_are_in_the_head() -> None:
    for route, content_type in CONTENT_TYPES.items():
        head = compile_plan(plan.plan_for(AwsScript(variant="blue"), route), "", gzip=False).head.decode()
        assert f"X-Amzn-SageMaker-Content-Type: {content_type}\r\n" in head
        assert "x-Amzn-Invoked-Production-Variant: blue\r\n" in head
