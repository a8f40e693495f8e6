"""Batches at the emulated account through the worker's own steps: prices, shares of instances, cancels, and words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from db import batches
from services.batch.providers import aws as providers_aws
from services.batch.providers import get, sagemaker_async
from services.types import Deployment, PriceRef
from tests.batch.aws.cloud import BUCKET, Cloud
from tests.batch.aws.house import AWS, bedrock, sagemaker
from tests.batch.aws.script import Script
from tests.batch.runner.desk import Desk, desk_at
from tests.batch.runner.steps import Steps

pytestmark = pytest.mark.slow

NOVA = "us.amazon.nova-pro-v1:0"


@pytest.fixture
def house(tmp_path: Path, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with desk_at(tmp_path) as made:
        yield made


def steps(house: Desk, route: Any, deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(house, get(route), monkeypatch, deployment)


def costs(house: Desk, batch_id: str) -> list[int]:
    return [row["cost_nanousd"] for row in batches.each_line(house.reader, batch_id)]


def test_a_bedrock_batch_is_priced_as_a_batch_whatever_tier_live_calls_ask_for(
    house: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for aws in (AWS, replace(AWS, service_tier="priority", latency="optimized")):
        deployment = bedrock(NOVA, price=PriceRef("aws", NOVA), aws=aws)
        at = steps(house, "bedrock", deployment, monkeypatch)
        batch_id = house.batch(100, route="bedrock")
        assert at.through(batch_id)["state"] == "ended"
        found.append([(row["cost_nanousd"], row["plain_nanousd"]) for row in batches.each_line(house.reader, batch_id)])
    assert found[0] == found[1]
    line = next(batches.each_line(house.reader, batch_id))
    # From the dated list: $0.40 and $1.60 a million in a batch, half of what a live call costs.
    tokens_in, tokens_out = line["uncached_input"], line["answer_output"]
    assert line["cost_nanousd"] == tokens_in * 400 + tokens_out * 1600
    assert line["plain_nanousd"] == 2 * line["cost_nanousd"]


def test_lines_of_batch_transform_share_the_time_of_its_instances_to_the_nano_dollar(
    house: Desk, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.sagemaker.endpoint("plain")
    at = steps(house, "transform", sagemaker(cloud, "plain"), monkeypatch)
    batch_id = house.batch(7, route="transform")
    assert at.through(batch_id)["state"] == "ended"
    whole = providers_aws.instance_cost_nanousd(at.job(batch_id)["facts"])
    found = costs(house, batch_id)
    assert whole and sum(found) == whole
    assert max(found) - min(found) <= 1
    assert {row["cost_state"] for row in batches.each_line(house.reader, batch_id)} == {"estimated"}
    assert batches.spent(house.reader, batch_id) == whole


def test_what_transform_did_not_answer_is_said_with_the_batch(
    house: Desk, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.sagemaker.endpoint("plain")
    cloud.sagemaker.scripts.append(Script(states=("InProgress", "Completed"), errors=(250,)))
    at = steps(house, "transform", sagemaker(cloud, "plain"), monkeypatch)
    batch_id = house.batch(450, route="transform")
    row = at.through(batch_id)
    assert "no output for 1 of 3 files" in row["said"]
    assert at.counts(batch_id)["succeeded"] == 250


def test_what_a_check_finds_at_aws_ends_the_batch_in_its_words(house: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = bedrock(NOVA, aws=replace(AWS, batch_s3="s3://nowhere-at-all/lab"))
    at = steps(house, "bedrock", missing, monkeypatch)
    batch_id = house.batch(100, route="bedrock")
    row = at.through(batch_id)
    assert row["state"] == "failed" and "nowhere-at-all" in row["said"] and row["said"].endswith(".")
    assert at.counts(batch_id) == {"failed": 100}


def test_asynchronous_lines_that_were_sent_before_a_throttled_submit_was_cancelled_are_collected(
    house: Desk, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.sagemaker.endpoint("later", answers=f"s3://{BUCKET}/answers/", failures=f"s3://{BUCKET}/failures")
    monkeypatch.setattr(sagemaker_async, "BACKOFF_S", ())
    script: Any = [*["none"] * 12, *["throttling"] * 40]
    cloud.faults.extend(script)
    at = steps(house, "async", sagemaker(cloud, "later"), monkeypatch)
    batch_id = house.batch(30, route="async")
    at.plan(batch_id)
    assert at.submit(batch_id) is not None
    assert at.job(batch_id)["state"] == "waiting_for_quota"
    cloud.faults.clear()
    at.cancel(batch_id)
    at.finish(batch_id)
    assert at.settle(batch_id)["state"] == "cancelled"
    assert at.counts(batch_id) == {"succeeded": 12, "cancelled": 18}
    assert len(cloud.sagemaker.invocations) == 12, "nothing more was sent"


def test_asynchronous_lines_whose_requests_got_no_answer_are_collected_after_a_cancel(
    house: Desk, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.sagemaker.endpoint("later", answers=f"s3://{BUCKET}/answers/", failures=f"s3://{BUCKET}/failures")
    cloud.sagemaker.hold = True
    cloud.faults.extend(["lost"] * 40)
    at = steps(house, "async", sagemaker(cloud, "later"), monkeypatch)
    batch_id = house.batch(4, route="async")
    at.plan(batch_id)
    assert at.submit(batch_id) is not None
    cloud.faults.clear()
    at.cancel(batch_id)
    at.submit(batch_id)
    assert at.poll(batch_id) is not None, "they may be in the queue"
    assert "Whether SageMaker took 4 lines is not known" in at.job(batch_id)["said"]
    cloud.sagemaker.deliver()
    at.finish(batch_id)
    assert at.settle(batch_id)["state"] == "cancelled"
    assert at.counts(batch_id) == {"succeeded": 4}
