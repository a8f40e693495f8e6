"""Asynchronous inference when a request gets no answer or a no: nothing that SageMaker took is lost after a cancel."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from services.batch.providers import sagemaker_async
from services.batch.types import Job, SubmitLater, SubmitRefused
from services.types import Deployment
from tests.batch.aws.cloud import BUCKET, Cloud
from tests.batch.aws.house import Desk, by_no, finish, lines
from tests.batch.aws.test_asynchronous import ROUTE, own, submit

pytestmark = pytest.mark.slow

__all__ = ["own"]  # the fixture


def left_in_doubt(cloud: Cloud, desk: Desk, own: Deployment, fault: Any) -> Job:
    """Line 1 was sent, and no answer came to the request; then the person cancels. boto asks twice by itself."""
    cloud.sagemaker.hold = True
    cloud.faults.extend([fault, fault])
    with pytest.raises(SubmitLater):
        submit(desk, own, 3, lines(1))
    desk.stop_after = 0
    return submit(desk, own, 3)


@pytest.mark.slow
def test_a_line_whose_lost_request_was_taken_is_collected_after_a_cancel(
    cloud: Cloud, desk: Desk, own: Deployment
) -> None:
    made = left_in_doubt(cloud, desk, own, "lost")
    polled = ROUTE.poll(own, made)
    assert (polled.state, polled.over) == ("cancelling", False)
    assert "Whether SageMaker took 1 line is not known" in polled.sentence and "UTC" in polled.sentence
    cloud.sagemaker.deliver()
    last = ROUTE.poll(own, replace(made, facts={**made.facts, **polled.facts}))
    assert (last.state, last.over, last.collectable) == ("cancelled", True, True)
    assert (last.counts or {})["succeeded"] == 1 and "not known" not in last.sentence
    assert [one.answer for one in ROUTE.results(own, made, desk)] == ["echo prompt 1"]


def test_a_line_that_never_arrived_is_waited_for_so_long_and_then_said_to_be_unknown(
    cloud: Cloud, desk: Desk, own: Deployment
) -> None:
    made = left_in_doubt(cloud, desk, own, "unheard")
    first = ROUTE.poll(own, made)
    assert not first.over
    long_ago = replace(made, facts={**made.facts, "answered_at": time.time() - sagemaker_async.DOUBT_S - 1})
    last = ROUTE.poll(own, long_ago)
    assert (last.state, last.over) == ("cancelled", True)
    assert "Whether SageMaker took 1 line is not known" in last.sentence and f"s3://{BUCKET}/answers/" in last.sentence
    assert list(ROUTE.results(own, long_ago, desk)) == []


@pytest.mark.slow
def test_a_line_that_was_put_off_in_words_is_in_no_doubt(
    cloud: Cloud, desk: Desk, own: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sagemaker_async, "BACKOFF_S", ())
    cloud.faults.extend(["throttling", "throttling"])
    with pytest.raises(SubmitLater, match="It is tried again by itself"):
        submit(desk, own, 3, lines(1))
    desk.stop_after = 0
    with pytest.raises(SubmitLater, match="nothing was submitted"):
        submit(desk, own, 3)


@pytest.mark.slow
def test_the_first_line_that_is_refused_takes_no_other_with_it(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    cloud.faults.append("validation")
    made = submit(desk, own, 30)
    found = by_no(ROUTE.results(own, finish(ROUTE, own, made), desk))
    assert Counter(one.state for one in found.values()) == {"succeeded": 29, "failed": 1}


def test_an_endpoint_that_takes_nothing_refuses_the_job_and_is_not_asked_for_every_line(
    cloud: Cloud, desk: Desk, own: Deployment
) -> None:
    cloud.faults.extend(["denied"] * 200)
    with pytest.raises(SubmitRefused, match="needs sagemaker"):
        submit(desk, own, 200)
    assert len(cloud.faults) > 150 and not cloud.sagemaker.invocations
