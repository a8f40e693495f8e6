"""Batch Transform by unpatched boto3: files in, files out, joined by the id that SageMaker carries along."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from services.batch.providers import aws, get
from services.batch.types import UNSURE, Job, Line, RouteTrouble, SubmitLater, SubmitRefused
from services.types import Aws, Deployment
from tests.batch.aws import house
from tests.batch.aws.cloud import BUCKET, Cloud
from tests.batch.aws.house import AWS, Desk, bedrock, by_no, finish, lines, sagemaker
from tests.batch.aws.script import Script

ROUTE = get("transform")


@pytest.fixture
def own(cloud: Cloud) -> Deployment:
    cloud.sagemaker.endpoint("plain")
    return sagemaker(cloud, "plain")


def submit(desk: Desk, own: Deployment, n: int = 450, token: str = "b1-0-abc") -> Job:
    return ROUTE.submit(own, house.job(n, token), lines(n), desk)


@pytest.mark.slow
@pytest.mark.parametrize("wire", ["chat", "tgi", "lines"])
def test_every_line_comes_back_on_every_wire(cloud: Cloud, desk: Desk, own: Deployment, wire: Any) -> None:
    own = replace(own, wire=wire)
    made = finish(ROUTE, own, submit(desk, own))
    found = by_no(ROUTE.results(own, made, desk))
    assert sorted(found) == list(range(1, 451))
    assert {one.outcome for one in found.values()} == {"ok"} and found[333].answer == "echo prompt 333"
    assert (found[333].usage.uncached_input, found[333].usage.output_total) == (2, 3)
    assert not any("were sent" in said for said in desk.said)


@pytest.mark.slow
def test_the_job_takes_model_and_instances_from_the_endpoint(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    made = submit(desk, own)
    (name,) = cloud.sagemaker.transforms
    asked = cloud.sagemaker.transforms[name].request
    assert asked["ModelName"] == "the-model"
    assert asked["TransformResources"] == {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2}
    assert (asked["BatchStrategy"], asked["TransformInput"]["SplitType"]) == ("SingleRecord", "Line")
    assert made.facts["files"] == [200, 200, 50]
    first = cloud.s3.get_object(Bucket=BUCKET, Key=f"lab/{name}/input/part-00000.jsonl")["Body"].read().splitlines()
    row = json.loads(first[0])
    assert row["id"] == "r0000000001" and "stream" not in row["request"] and "stream_options" not in row["request"]


@pytest.mark.slow
def test_what_its_instances_cost_can_be_worked_out(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    made = submit(desk, own)
    assert aws.instance_cost_nanousd(made.facts) is None  # it has not ended
    made = finish(ROUTE, own, made)
    assert (made.facts["instance_type"], made.facts["instance_count"]) == ("ml.g5.xlarge", 2)
    assert made.facts["ended_at"] - made.facts["started_at"] == 1800
    rate = float(made.facts["usd_per_hour"])
    assert aws.instance_cost_nanousd(made.facts) == round(rate * 2 * 0.5 * 1e9)
    assert aws.instance_cost_nanousd({**made.facts, "usd_per_hour": None}) is None


@pytest.mark.slow
def test_lines_are_counted_by_finished_files(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    made = submit(desk, own)
    first = ROUTE.poll(own, made)
    assert (first.state, first.counts) == ("running", {"total": 450, "processed": 0})
    made = finish(ROUTE, own, made)
    last = ROUTE.poll(own, made)
    assert (last.state, last.over, last.collectable) == ("ended", True, True)
    assert last.counts == {"total": 450, "processed": 450}


@pytest.mark.slow
def test_one_bad_record_takes_its_file_with_it_and_no_other(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    cloud.sagemaker.scripts.append(Script(states=("InProgress", "Completed"), errors=(250,)))
    made = finish(ROUTE, own, submit(desk, own))
    polled = ROUTE.poll(own, made)
    assert (polled.state, polled.vendor_state, polled.collectable) == ("ended", "Failed", True)
    assert "250 of 450 have answers" in polled.sentence and "400 from the container" in polled.sentence
    found = by_no(ROUTE.results(own, made, desk))
    assert sorted(found) == [*range(1, 201), *range(401, 451)]
    assert "no output for 1 of 3 files" in desk.said[-1]


def test_a_job_that_failed_altogether_has_nothing_to_collect(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    cloud.sagemaker.scripts.append(Script(states=("InProgress", "Failed"), errors=tuple(range(450))))
    polled = ROUTE.poll(own, finish(ROUTE, own, submit(desk, own)))
    assert (polled.state, polled.over, polled.collectable) == ("failed", True, False)


def test_shuffled_missing_double_nameless_and_truncated_lines(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    cloud.sagemaker.scripts.append(Script(states=("Completed",), shuffled=True, missing=2, double=3, unknown=1, cut=30))
    made = finish(ROUTE, own, submit(desk, own, 100))
    found = list(ROUTE.results(own, made, desk))
    seen = Counter(one.wire_id for one in found)
    assert len(found) == 102 and seen[""] == 2  # one without an id, one that is cut
    assert all(one.answer == f"echo prompt {no}" for no, one in by_no(found).items())
    assert any("holds 102 lines and 100 were sent" in said for said in desk.said)


@pytest.mark.slow
def test_a_stopped_job_gives_its_finished_files(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    cloud.sagemaker.scripts.append(Script(states=("InProgress",), finished=0.4))
    made = submit(desk, own)
    ROUTE.cancel(own, made)
    assert ROUTE.poll(own, made).state == "cancelling"
    made = finish(ROUTE, own, made)
    assert ROUTE.poll(own, made).state == "cancelled"
    desk.stop_after = 0  # the batch stays cancelled while its results are fetched
    assert len(by_no(ROUTE.results(own, made, desk))) == 200
    ROUTE.cancel(own, made)  # of one that is over: nothing happens


@pytest.mark.slow
@pytest.mark.parametrize("faults", [["lost"], ["lost", "lost"], ["broken", "broken"], ["unheard"] * 3, ["quota"]])
def test_no_answer_to_a_submit_makes_no_second_job(cloud: Cloud, desk: Desk, own: Deployment, faults: Any) -> None:
    cloud.faults.extend(faults)
    made = None
    for _ in range(4):
        try:
            made = submit(desk, own)
            break
        except SubmitLater:
            continue
    assert made is not None and len(cloud.sagemaker.transforms) == 1
    again = submit(desk, own)
    assert again.vendor_id == made.vendor_id and again.facts["files"] == made.facts["files"]


def test_a_lost_answer_is_found_by_name_in_the_same_submit(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    cloud.faults.extend(["lost", "broken"])
    assert submit(desk, own).vendor_id and len(cloud.sagemaker.transforms) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "error"), [("throttling", SubmitLater), ("validation", SubmitRefused), ("denied", SubmitRefused)]
)
def test_refusals_and_delays_are_told_apart(
    cloud: Cloud, desk: Desk, own: Deployment, fault: Any, error: type[Exception]
) -> None:
    cloud.faults.extend([fault, fault])
    with pytest.raises(error) as caught:
        submit(desk, own)
    assert "AKIA" not in str(caught.value) and not cloud.sagemaker.transforms


def test_an_endpoint_without_a_model_or_an_instance_is_refused_in_words(cloud: Cloud, desk: Desk) -> None:
    cloud.sagemaker.endpoint("serverless", instance=None)
    cloud.sagemaker.endpoint("several", model=None)
    for name, words in (("serverless", "it is serverless"), ("several", "names no model"), ("nobody", "does not know")):
        one = sagemaker(cloud, name)
        assert any(words in said for said in ROUTE.check(one))
        with pytest.raises(SubmitRefused, match=words):
            submit(desk, one)
    assert "Contents" not in cloud.s3.list_objects_v2(Bucket=BUCKET)


def test_an_instance_type_that_transform_jobs_do_not_list_is_said(cloud: Cloud) -> None:
    cloud.sagemaker.endpoint("big", instance="ml.p5.48xlarge")
    (said,) = ROUTE.check(sagemaker(cloud, "big"))
    assert said.startswith(UNSURE) and "ml.p5.48xlarge" in said


def test_a_sound_endpoint_has_nothing_wrong(cloud: Cloud, own: Deployment) -> None:
    assert ROUTE.check(own) == []


def test_a_line_beyond_the_payload_is_refused_in_words(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    long = [Line(1, replace(next(lines(1)).ask, system="x" * 6_050_000))]
    with pytest.raises(SubmitRefused, match=r"Line 1 cannot be sent.*at most 6,000,000"):
        ROUTE.submit(own, house.job(1), long, desk)


def test_other_kinds_and_a_missing_place_are_said(cloud: Cloud, own: Deployment) -> None:
    assert "SageMaker endpoints" in (ROUTE.why_not(bedrock()) or "")
    assert "lacks batch_s3" in (ROUTE.why_not(replace(own, aws=Aws())) or "")
    assert ROUTE.why_not(own) is None and AWS.batch_s3


def test_a_poll_that_cannot_ask_is_a_trouble(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    made = submit(desk, own)
    cloud.denied.add("DescribeTransformJob")
    with pytest.raises(RouteTrouble, match="DescribeTransformJob"):
        ROUTE.poll(own, made)
