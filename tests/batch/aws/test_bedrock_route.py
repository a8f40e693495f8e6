"""Bedrock's batches by unpatched boto3: what is uploaded, made, polled, stopped and read back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from services.batch.providers import get
from services.batch.providers.aws import converse
from services.batch.providers.bedrock import STATES, polled
from services.batch.types import Job, SubmitLater, SubmitRefused, wire_id
from services.types import Aws, Deployment
from tests.aws import shapes
from tests.batch.aws import house
from tests.batch.aws.cloud import BUCKET, Cloud
from tests.batch.aws.house import AWS, Desk, bedrock, by_no, finish, lines
from tests.batch.aws.jobs import OVER
from tests.batch.aws.script import BEDROCK_STATES, Script

ROUTE = get("bedrock")


def submit(desk: Desk, n: int = 120, deployment: Deployment | None = None, token: str = "b1-0-abc") -> Job:
    return ROUTE.submit(deployment or bedrock(), house.job(n, token), lines(n), desk)


@pytest.mark.slow
def test_every_line_comes_back_with_answer_counts_and_time(cloud: Cloud, desk: Desk) -> None:
    made = finish(ROUTE, bedrock(), submit(desk))
    found = by_no(ROUTE.results(bedrock(), made, desk))
    assert sorted(found) == list(range(1, 121))
    one = found[7]
    assert (one.state, one.outcome, one.answer, one.server_ms) == ("succeeded", "ok", "echo prompt 7", 41)
    assert (one.usage.uncached_input, one.usage.answer_output, one.usage.source) == (2, 3, "provider")
    assert not any("manifest" in said for said in desk.said)


@pytest.mark.slow
def test_the_job_is_asked_for_as_botocore_allows_and_the_file_lies_where_it_says(cloud: Cloud, desk: Desk) -> None:
    made = submit(desk)
    request = cloud.jobs.made[0].request
    assert made.vendor_id == cloud.jobs.made[0].arn
    assert request["jobName"] == "lab-b1-0-abc" and request["clientRequestToken"] == "b1-0-abc"
    assert request["modelInvocationType"] == "Converse" and request["roleArn"] == AWS.batch_role
    uri = request["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
    raw = cloud.s3.get_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))["Body"].read()
    rows = [json.loads(row) for row in raw.splitlines()]
    assert [row["recordId"] for row in rows] == house.ids(120)
    assert rows[0]["modelInput"]["messages"] == [{"role": "user", "content": [{"text": "prompt 1"}]}]
    assert rows[0]["modelInput"]["inferenceConfig"] == {"maxTokens": 50}


def test_a_tier_and_a_latency_mode_of_live_calls_do_not_go_into_a_batch() -> None:
    one = bedrock(aws=replace(AWS, service_tier="flex", latency="optimized"))
    row = json.loads(ROUTE.body(one, next(lines(1))))
    assert set(row["modelInput"]) == {"messages", "inferenceConfig"}


@pytest.mark.parametrize("token", ["a/b c", "x" * 300, "-", "2026.11.24", "é"])
def test_any_token_makes_a_legal_name_that_is_the_same_at_every_try(cloud: Cloud, desk: Desk, token: str) -> None:
    first, second = submit(desk, token=token), submit(desk, token=token)
    assert first.vendor_id == second.vendor_id and len(cloud.jobs.made) == 1


def test_two_jobs_have_two_names(cloud: Cloud, desk: Desk) -> None:
    assert submit(desk, token="b1-0-abc").vendor_id != submit(desk, token="b1-0-abcd").vendor_id


def test_a_job_is_polled_through_its_states_with_counts_from_the_middle_on(cloud: Cloud, desk: Desk) -> None:
    made = submit(desk)
    seen = [ROUTE.poll(bedrock(), made) for _ in BEDROCK_STATES]
    assert [one.vendor_state for one in seen] == list(BEDROCK_STATES)
    assert [one.state for one in seen] == ["checking", "checking", "running", "running", "ended"]
    assert seen[0].counts is None
    assert seen[3].counts == {"total": 120, "processed": 60, "succeeded": 60, "failed": 0}
    assert seen[4].counts == {"total": 120, "processed": 120, "succeeded": 120, "failed": 0}
    assert seen[4].over and seen[4].collectable and not seen[3].over
    assert seen[0].expires_at is not None and "ended_at" in seen[4].facts and "submitted_at" in seen[0].facts


@pytest.mark.parametrize(
    ("last", "state", "collectable"),
    [
        ("Completed", "ended", True),
        ("PartiallyCompleted", "expired", True),
        ("Stopped", "cancelled", True),
        ("Failed", "failed", False),
        ("Expired", "expired", False),
    ],
)
def test_every_end_is_known_and_said(cloud: Cloud, desk: Desk, last: str, state: str, collectable: bool) -> None:
    assert last in OVER
    cloud.jobs.scripts.append(Script(states=("Submitted", last), message="the words of AWS", finished=0.5))
    made = submit(desk)
    ROUTE.poll(bedrock(), made)
    found = ROUTE.poll(bedrock(), made)
    assert (found.state, found.over, found.collectable) == (state, True, collectable)
    assert "the words of AWS" in found.sentence
    if collectable:
        assert len(by_no(ROUTE.results(bedrock(), made, desk))) == 60


def test_a_state_that_is_not_known_is_taken_for_a_running_one() -> None:
    polls = polled({"status": "Reconsidering", "jobArn": "x"})
    assert (polls.state, polls.over) == ("running", False) and "Reconsidering" in polls.sentence
    shape = shapes.operation("bedrock", "GetModelInvocationJob").output_shape
    assert set(shape.members["status"].enum) == set(STATES)  # type: ignore[attr-defined]  # a structure's shape


def test_a_stopped_job_gives_what_was_finished(cloud: Cloud, desk: Desk) -> None:
    cloud.jobs.scripts.append(Script(finished=0.25))
    made = submit(desk)
    ROUTE.poll(bedrock(), made)
    ROUTE.cancel(bedrock(), made)
    found = ROUTE.poll(bedrock(), made)
    assert (found.state, found.over) == ("cancelling", False)
    made = finish(ROUTE, bedrock(), made)
    desk.stop_after = 0  # the batch stays cancelled while its results are fetched
    assert len(by_no(ROUTE.results(bedrock(), made, desk))) == 30
    ROUTE.cancel(bedrock(), made)  # of one that is over: nothing happens


def test_too_few_records_are_said_before_anything_is_uploaded(cloud: Cloud, desk: Desk) -> None:
    with pytest.raises(
        SubmitRefused, match=r"at least 100 records for this model and there are 37: send them one by one"
    ):
        submit(desk, 37)
    assert "Contents" not in cloud.s3.list_objects_v2(Bucket=BUCKET)
    assert cloud.jobs.made == []


def test_too_many_records_are_said_before_anything_is_uploaded(cloud: Cloud, desk: Desk) -> None:
    with pytest.raises(SubmitRefused, match="at most 50,000 records"):
        ROUTE.submit(bedrock(), house.job(50_001), lines(1), desk)


@pytest.mark.slow
def test_a_large_file_goes_up_in_parts_and_is_whole(cloud: Cloud, desk: Desk) -> None:
    filler = "word " * 40_000
    long = (replace(line, ask=replace(line.ask, system=filler)) for line in lines(110))
    made = ROUTE.submit(bedrock(), house.job(110), long, desk)
    head = cloud.s3.head_object(Bucket=BUCKET, Key="lab/lab-b1-0-abc/input/lines.jsonl")
    assert head["ContentLength"] > 20_000_000 and head["ETag"].rstrip('"').endswith("-3")
    assert any("of 110 lines" in said for said in desk.said)
    made = finish(ROUTE, bedrock(), made)
    assert len(by_no(ROUTE.results(bedrock(), made, desk))) == 110


def test_a_stopped_upload_leaves_nothing_behind(cloud: Cloud, desk: Desk) -> None:
    filler = "word " * 40_000
    long = (replace(line, ask=replace(line.ask, system=filler)) for line in lines(110))
    desk.stop_after = 20
    with pytest.raises(SubmitLater, match="Stopped by hand"):
        ROUTE.submit(bedrock(), house.job(110), long, desk)
    assert "Contents" not in cloud.s3.list_objects_v2(Bucket=BUCKET)
    assert "Uploads" not in cloud.s3.list_multipart_uploads(Bucket=BUCKET)
    assert cloud.jobs.made == []


def test_a_line_that_cannot_be_sent_refuses_the_job_by_its_number(cloud: Cloud, desk: Desk) -> None:
    bad = [replace(line, ask=replace(line.ask, messages=())) if line.no == 90 else line for line in lines(120)]
    with pytest.raises(SubmitRefused, match=r"Line 90 cannot be sent\. The conversation has to end"):
        ROUTE.submit(bedrock(), house.job(120), bad, desk)
    assert cloud.jobs.made == []


def test_lines_that_are_fewer_than_the_job_says_are_not_sent(cloud: Cloud, desk: Desk) -> None:
    with pytest.raises(SubmitRefused, match="has 120 lines and 119"):
        ROUTE.submit(bedrock(), house.job(120), lines(119), desk)
    assert cloud.jobs.made == []


@pytest.mark.parametrize(
    "model",
    [
        "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        "us.amazon.nova-pro-v1:0",
        "us.meta.llama3-3-70b-instruct-v1:0",
        "mistral.mixtral-8x7b-instruct-v0:1",
        "amazon.titan-text-express-v1",
        "openai.gpt-oss-20b-1:0",
    ],
)
def test_every_family_of_invoke_model_is_asked_and_read(cloud: Cloud, desk: Desk, model: str) -> None:
    one = bedrock(model, "invoke")
    made = finish(ROUTE, one, submit(desk, 100, one))
    assert cloud.jobs.made[0].request["modelInvocationType"] == "InvokeModel"
    found = by_no(ROUTE.results(one, made, desk))
    assert {result.outcome for result in found.values()} == {"ok"}
    assert found[5].answer == "echo prompt 5"
    usage = found[5].usage
    if "mixtral" in model:  # its whole answers hold no counts, and none are made up
        assert usage.input_total is None and usage.output_total is None
    else:
        assert (usage.uncached_input, usage.output_total, usage.source) == (2, 3, "provider")
    if "claude" in model:
        assert (usage.cache_read, usage.cache_write_5m) == (3, 2)


def test_reasoning_tools_guardrails_and_limits_of_a_converse_answer_are_told_apart() -> None:
    def said(stop: str, *blocks: dict[str, object], **more: object) -> dict[str, object]:
        usage = {
            "inputTokens": 10,
            "outputTokens": 4,
            "totalTokens": 34,
            "cacheReadInputTokens": 20,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 5}],
            "cacheWriteInputTokens": 5,
        }
        message = {"role": "assistant", "content": list(blocks)}
        return {"output": {"message": message}, "stopReason": stop, "usage": usage, **more}

    thought = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}
    one = converse("r1", said("end_turn", thought, {"text": "yes"}))
    assert (one.answer, one.reasoning, one.outcome) == ("yes", "hm", "ok")
    assert (one.usage.uncached_input, one.usage.cache_read, one.usage.cache_write_1h) == (10, 20, 5)
    assert converse("r1", said("max_tokens", {"text": "ye"})).outcome == "max_tokens"
    tool = converse("r1", said("tool_use", {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}}))
    assert (tool.outcome, tool.answer) == ("ok", '{"a":1}')
    topic = {"topics": [{"name": "advice", "type": "DENY", "action": "BLOCKED"}]}
    trace = {"guardrail": {"inputAssessment": {"g": {"topicPolicy": topic}}}}
    blocked = converse("r1", said("guardrail_intervened", {"text": "no"}, trace=trace))
    assert (blocked.state, blocked.outcome, blocked.message) == ("failed", "guardrail", "input: topic advice blocked")
    assert converse("r1", said("end_turn")).outcome == "empty"
    assert converse("r1", {"output": 7}).state == "failed"
    assert converse("r1", said("exhausted", {"text": "x"})).outcome == "truncated"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "openai", "wire": "chat"}, "Only models on Amazon Bedrock"),
        ({"kind": "bedrock-provisioned"}, "provisioned throughput"),
        ({"model": "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefabcdef"}, "provisioned throughput"),
        ({"model": "arn:aws:bedrock:us-east-1:123456789012:imported-model/abcdefabcdef"}, "imported"),
        ({"aws": Aws()}, "lacks batch_s3 and batch_role"),
        ({"aws": Aws(batch_s3="s3://b")}, "lacks batch_role"),
        ({"wire": "invoke", "aws": replace(AWS, guardrail="g:1")}, "guardrail"),
        ({"extra_body": {"toolConfig": {"tools": []}}}, "use the wire “invoke”"),
    ],
)
def test_what_cannot_be_sent_is_said_in_a_sentence(change: dict[str, object], words: str) -> None:
    why = ROUTE.why_not(replace(bedrock(), **change))  # type: ignore[arg-type]  # fields of a dataclass
    assert why is not None and words in why and why.endswith(".")
    assert ROUTE.why_not(bedrock()) is None


def test_the_ids_that_are_sent_are_alphanumeric_and_long_enough() -> None:
    assert all(len(wire_id(no)) >= 11 and wire_id(no).isalnum() for no in (1, 50_000, 10**9))
