"""Bedrock's batches when things go wrong: nothing is made twice, nothing is lost without being told."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from services.batch.providers import get
from services.batch.types import Job, ResultsGone, SubmitLater, SubmitRefused, no_of
from tests.batch.aws import house
from tests.batch.aws.cloud import BUCKET, Cloud
from tests.batch.aws.house import Desk, bedrock, by_no, finish, lines
from tests.batch.aws.script import Script

ROUTE = get("bedrock")


def submit(desk: Desk, token: str = "b1-0-abc") -> Job:
    return ROUTE.submit(bedrock(), house.job(120, token), lines(120), desk)


def results(desk: Desk, cloud: Cloud, script: Script) -> tuple[list[Any], Job]:
    cloud.jobs.scripts.append(script)
    made = finish(ROUTE, bedrock(), submit(desk))
    return list(ROUTE.results(bedrock(), made, desk)), made


# --- submitting ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["lost", "unheard", "broken"])
@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_a_lost_answer_to_a_submit_never_makes_a_second_job(cloud: Cloud, desk: Desk, fault: Any, times: int) -> None:
    cloud.faults.extend([fault] * times)
    made = None
    for _ in range(4):
        try:
            made = submit(desk)
            break
        except SubmitLater:
            continue
    assert made is not None and made.vendor_id == cloud.jobs.made[0].arn
    assert len(cloud.jobs.made) == 1
    assert submit(desk).vendor_id == made.vendor_id  # a restarted worker asks again


def test_a_lost_answer_is_found_by_name_in_the_same_submit(cloud: Cloud, desk: Desk) -> None:
    cloud.faults.extend(["lost", "broken"])
    assert submit(desk).vendor_id == cloud.jobs.made[0].arn


@pytest.mark.slow
def test_the_job_is_found_among_pages_of_jobs_whose_names_begin_alike(cloud: Cloud, desk: Desk) -> None:
    made = [submit(desk, f"b1-0-abc{'x' * n}") for n in range(5, 0, -1)]
    mine = submit(desk)
    assert submit(desk).vendor_id == mine.vendor_id not in [one.vendor_id for one in made]


def test_a_worker_that_died_before_the_answer_finds_its_job(cloud: Cloud, desk: Desk) -> None:
    made = submit(desk)
    before = cloud.log.count("POST /model-invocation-job")
    puts = cloud.s3.head_object(Bucket=BUCKET, Key="lab/lab-b1-0-abc/input/lines.jsonl")["LastModified"]
    again = ROUTE.submit(bedrock(), house.job(120), lines(120), desk)
    assert again.vendor_id == made.vendor_id and again.facts == made.facts
    assert cloud.log.count("POST /model-invocation-job") == before
    assert cloud.s3.head_object(Bucket=BUCKET, Key="lab/lab-b1-0-abc/input/lines.jsonl")["LastModified"] == puts


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("throttling", "asks to slow down"),
        ("quota", "sum of in-progress and submitted jobs"),
        ("conflict", "in use or committed"),
    ],
)
def test_what_passes_by_itself_is_submitted_later_without_a_second_upload(
    cloud: Cloud, desk: Desk, fault: Any, words: str
) -> None:
    cloud.faults.extend([fault, fault])  # boto3 tries twice what is throttled
    with pytest.raises(SubmitLater, match=words) as caught:
        submit(desk)
    assert caught.value.retry_after_s and not cloud.jobs.made
    cloud.faults.clear()
    before = cloud.s3.head_object(Bucket=BUCKET, Key="lab/lab-b1-0-abc/input/lines.jsonl")["LastModified"]
    assert submit(desk).vendor_id
    after = cloud.s3.head_object(Bucket=BUCKET, Key="lab/lab-b1-0-abc/input/lines.jsonl")["LastModified"]
    assert before == after


@pytest.mark.parametrize(
    ("fault", "words"),
    [("validation", "does not support batch"), ("denied", "needs bedrock:CreateModelInvocationJob.*iam:PassRole")],
)
def test_what_never_passes_refuses_the_job_in_awss_words_without_keys(
    cloud: Cloud, desk: Desk, fault: Any, words: str
) -> None:
    cloud.faults.append(fault)
    with pytest.raises(SubmitRefused, match=words) as caught:
        submit(desk)
    assert "AKIA" not in str(caught.value)


def test_a_bucket_that_is_not_there_refuses_the_job(cloud: Cloud, desk: Desk) -> None:
    one = bedrock(aws=replace(house.AWS, batch_s3="s3://no-such-bucket-here/x"))
    with pytest.raises(SubmitRefused, match="bucket"):
        ROUTE.submit(one, house.job(120), lines(120), desk)


@pytest.mark.slow
def test_many_workers_with_one_token_make_one_job(cloud: Cloud, desk: Desk) -> None:
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(submit(desk).vendor_id)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 6 and len(set(found)) == 1 and len(cloud.jobs.made) == 1


def test_a_job_that_fails_its_check_says_why(cloud: Cloud, desk: Desk) -> None:
    cloud.jobs.minimum = 500  # more than what Service Quotas and the defaults say
    made = submit(desk)
    for _ in range(3):
        polled = ROUTE.poll(bedrock(), made)
    assert (polled.state, polled.over, polled.collectable) == ("failed", True, False)
    assert "less records (120) than the required minimum of: 500" in polled.sentence


# --- collecting ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_errors_of_single_records_are_theirs_alone(cloud: Cloud, desk: Desk) -> None:
    found, made = results(desk, cloud, Script(errors=(3, 50)))
    one = by_no(found)
    assert len(one) == 120
    assert (one[4].state, one[4].outcome, one[4].message, one[4].http_status) == (
        "failed",
        "http_error",
        "bad request",
        400,
    )
    assert Counter(result.state for result in found) == {"succeeded": 118, "failed": 2}
    assert ROUTE.poll(bedrock(), made).counts == {"total": 120, "processed": 120, "succeeded": 118, "failed": 2}
    assert not any("manifest" in said for said in desk.said)


def test_shuffled_results_are_joined_by_id(cloud: Cloud, desk: Desk) -> None:
    found, _ = results(desk, cloud, Script(shuffled=True))
    assert [one.wire_id for one in found] != house.ids(120)
    assert all(one.answer == f"echo prompt {no}" for no, one in by_no(found).items()) and len(by_no(found)) == 120


def test_missing_double_and_unknown_ids_come_out_as_they_are(cloud: Cloud, desk: Desk) -> None:
    found, _ = results(desk, cloud, Script(missing=4, double=3, unknown=2))
    seen = Counter(one.wire_id for one in found)
    assert sum(1 for n in seen.values() if n == 2) == 3
    assert sum(1 for ident in seen if no_of(ident) is None) == 2
    assert set(house.ids(120)) - set(seen) == set(house.ids(4))


def test_a_truncated_output_tells_its_last_line_as_unreadable(cloud: Cloud, desk: Desk) -> None:
    found, _ = results(desk, cloud, Script(cut=40))
    assert len(found) == 120 and len(by_no(found)) == 119
    (last,) = [one for one in found if not one.wire_id]
    assert (last.outcome, last.state) == ("protocol_error", "failed") and "ends in the middle" in (last.message or "")
    assert "counts 120 finished records and its files hold 119" in desk.said[-1]


def test_a_lost_line_feed_at_the_very_end_loses_nothing(cloud: Cloud, desk: Desk) -> None:
    found, _ = results(desk, cloud, Script(cut=1))
    assert len(by_no(found)) == 120


@pytest.mark.parametrize(
    ("manifest", "words"), [("wrong", "counts 125 finished records"), ("broken", "cannot be read"), ("none", None)]
)
def test_a_manifest_that_does_not_fit_is_said(cloud: Cloud, desk: Desk, manifest: Any, words: str | None) -> None:
    found, _ = results(desk, cloud, Script(manifest=manifest))
    assert len(by_no(found)) == 120
    said = [one for one in desk.said if "manifest" in one]
    assert (words in said[0]) if words else said == []


def test_a_partly_completed_job_gives_what_it_has(cloud: Cloud, desk: Desk) -> None:
    found, made = results(desk, cloud, Script(states=("InProgress", "PartiallyCompleted"), finished=0.4))
    assert len(by_no(found)) == 48
    assert ROUTE.poll(bedrock(), made).state == "expired"


def test_an_expired_job_has_nothing_to_collect(cloud: Cloud, desk: Desk) -> None:
    cloud.jobs.scripts.append(Script(states=("Submitted", "Scheduled", "Expired")))
    made = finish(ROUTE, bedrock(), submit(desk))
    polled = ROUTE.poll(bedrock(), made)
    assert polled.state == "expired" and not polled.collectable
    with pytest.raises(ResultsGone, match="no record was finished"):
        list(ROUTE.results(bedrock(), made, desk))


def test_results_whose_files_are_gone_are_said_to_be(cloud: Cloud, desk: Desk) -> None:
    made = finish(ROUTE, bedrock(), submit(desk))
    for row in cloud.s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
        cloud.s3.delete_object(Bucket=BUCKET, Key=row["Key"])
    with pytest.raises(ResultsGone, match="it was emptied"):
        list(ROUTE.results(bedrock(), made, desk))


def test_results_are_found_without_the_jobs_facts(cloud: Cloud, desk: Desk) -> None:
    made = finish(ROUTE, bedrock(), submit(desk))
    bare = Job(made.batch_id, made.no, made.token, made.n_lines, made.vendor_id)
    assert len(by_no(ROUTE.results(bedrock(), bare, desk))) == 120


@pytest.mark.slow
def test_results_can_be_read_twice(cloud: Cloud, desk: Desk) -> None:
    made = finish(ROUTE, bedrock(), submit(desk))
    first, second = (list(ROUTE.results(bedrock(), made, desk)) for _ in range(2))
    assert first == second
