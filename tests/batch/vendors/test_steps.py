"""Batches at the vendors' emulators through the worker's own steps: given back, throttled, and cancelled meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.batch.runner.desk import Desk, desk_at
from tests.batch.runner.steps import Steps
from tests.batch.vendors.house import Vendor

pytestmark = pytest.mark.slow


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with desk_at(tmp_path) as made:
        yield made


def steps(desk: Desk, vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(desk, vendor.route, monkeypatch, vendor.deployment)


def test_a_file_over_the_quota_of_openai_waits_and_is_submitted_again(
    desk: Desk, openai: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = steps(desk, openai, monkeypatch)
    batch_id = desk.batch(5, route="openai")
    openai.faults.over_quota = True
    at.plan(batch_id)
    at.submit(batch_id)
    at.until(batch_id, at.poll, "waiting_for_quota")
    row = desk.row(batch_id)
    assert row["state"] == "waiting_for_quota" and "too many tokens" in row["said"]
    openai.faults.over_quota = False
    at.finish(batch_id)
    assert at.settle(batch_id)["state"] == "ended"
    assert at.counts(batch_id) == {"succeeded": 5}
    assert len(openai.api.jobs) == 2
    assert desk.ledger(batch_id)["calls"] == 5


def test_a_cancel_while_the_vendor_throttles_makes_no_job(
    desk: Desk, any_vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = steps(desk, any_vendor, monkeypatch)
    batch_id = desk.batch(4, route=any_vendor.name)
    any_vendor.faults.throttle = [(429, 17.0)]
    at.plan(batch_id)
    assert at.submit(batch_id) is not None
    at.cancel(batch_id)
    at.finish(batch_id)
    assert at.settle(batch_id)["state"] == "cancelled"
    assert (at.counts(batch_id), any_vendor.api.jobs) == ({"cancelled": 4}, {})


def test_a_cancel_after_a_lost_answer_finds_the_job_stops_it_and_keeps_its_answers(
    desk: Desk, any_vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = steps(desk, any_vendor, monkeypatch)
    batch_id = desk.batch(4, route=any_vendor.name)
    any_vendor.faults.lost, any_vendor.faults.late, any_vendor.faults.cancel_after = 1, 1, 3
    any_vendor.faults.hold = True
    at.plan(batch_id)
    assert at.submit(batch_id) is not None
    assert at.job(batch_id)["vendor_id"] is None and len(any_vendor.api.jobs) == 1
    at.cancel(batch_id)
    at.until(batch_id, at.submit, "checking")
    at.poll(batch_id)
    any_vendor.faults.hold = False
    at.finish(batch_id)
    assert at.settle(batch_id)["state"] == "cancelled"
    assert len(any_vendor.api.jobs) == 1
    # Which job is ours Anthropic tells only with the results: one that may be somebody else's is not stopped.
    stopped = {"openai": {"succeeded": 3, "cancelled": 1}, "anthropic": {"succeeded": 4}}
    assert at.counts(batch_id) == stopped[any_vendor.name], "what was answered is paid for"


def test_a_cancel_while_nobody_can_tell_which_job_is_ours_leaves_it_at_that_and_says_so(
    desk: Desk, anthropic: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = steps(desk, anthropic, monkeypatch)
    batch_id = desk.batch(4, route="anthropic")
    anthropic.faults.lost, anthropic.faults.late = 1, 1
    at.plan(batch_id)
    assert at.submit(batch_id) is not None
    for _ in range(2):
        anthropic.api.somebody_elses(4)
    at.cancel(batch_id)
    at.finish(batch_id)
    row = at.settle(batch_id)
    assert row["state"] == "cancelled" and "3 jobs with as many lines were begun" in row["said"]
    assert (at.counts(batch_id), len(anthropic.api.jobs)) == ({"cancelled": 4}, 3)
    assert all(job.cancelled is None for job in anthropic.api.jobs.values()), "strangers' jobs are left alone"
