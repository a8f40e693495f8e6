"""Submitting to both vendors: never twice, never without need."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.batch.providers.common import claimed, journal_of
from services.batch.types import Line, SubmitLater, SubmitRefused, SubmitStopped
from services.types import Ask
from tests.batch.vendors.house import Vendor, lines
from tests.batch.vendors.server import Request


def _creates(vendor: Vendor) -> list[Request]:
    return [one for one in vendor.api.log if one.method == "POST" and one.path.endswith("/batches")]


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 529, 503])
def test_a_throttled_submit_comes_later_after_the_time_the_service_named(any_vendor: Vendor, status: int) -> None:
    any_vendor.faults.throttle = [(status, 17.0)]

    with pytest.raises(SubmitLater) as later:
        any_vendor.submit()
    # 503 can come from a gateway behind which the job was made: the route looks first, and finds none.
    assert later.value.retry_after_s == 17.0 or status == 503
    any_vendor.submit()
    assert len(any_vendor.api.jobs) == 1


def test_a_lost_answer_to_submit_makes_no_second_job(any_vendor: Vendor) -> None:
    any_vendor.faults.lost = 1
    job = any_vendor.submit_until_done()

    assert len(_creates(any_vendor)) == 1
    assert list(any_vendor.api.jobs) == [job.vendor_id]
    assert any_vendor.submit(any_vendor.job()).vendor_id == job.vendor_id
    assert len(_creates(any_vendor)) == 1


def test_a_lost_job_that_is_listed_late_is_waited_for(any_vendor: Vendor) -> None:
    any_vendor.route.settle_s = 60.0
    any_vendor.faults.lost, any_vendor.faults.late = 1, 2

    with pytest.raises(SubmitLater, match=r"answer .* was lost") as later:
        any_vendor.submit()
    assert later.value.retry_after_s and 50 < later.value.retry_after_s <= 60
    job = any_vendor.submit_until_done()
    assert list(any_vendor.api.jobs) == [job.vendor_id] and len(_creates(any_vendor)) == 1


def test_a_submit_that_never_arrived_is_sent_again(any_vendor: Vendor) -> None:
    any_vendor.faults.dropped = 1
    job = any_vendor.submit_until_done()

    assert len(_creates(any_vendor)) == 2
    assert list(any_vendor.api.jobs) == [job.vendor_id]


def test_a_killed_worker_on_another_machine_finds_the_job_by_the_time_of_the_first_try(any_vendor: Vendor) -> None:
    any_vendor.submit()
    for path in (any_vendor.bench.folder / "jobs").iterdir():
        path.unlink()

    again = any_vendor.submit(any_vendor.job(tried_at=datetime.now(UTC).timestamp() - 5))
    assert list(any_vendor.api.jobs) == [again.vendor_id]


def test_another_token_makes_another_job(any_vendor: Vendor) -> None:
    first, second = any_vendor.submit(), any_vendor.submit(any_vendor.job(token="token-2"))
    assert first.vendor_id != second.vendor_id and len(any_vendor.api.jobs) == 2


def test_a_stopped_batch_sends_nothing(any_vendor: Vendor) -> None:
    any_vendor.bench.stop = True
    with pytest.raises(SubmitLater, match="Stopped by hand"):
        any_vendor.submit()
    assert any_vendor.api.jobs == {}


def test_a_line_that_cannot_be_asked_refuses_the_job_by_its_number(any_vendor: Vendor) -> None:
    given = lines(3)
    given[1] = Line(2, Ask(()))
    with pytest.raises(SubmitRefused, match=r"Line 2 cannot be sent: The conversation has to end"):
        any_vendor.submit(any_vendor.job(3), given)
    assert not list((any_vendor.bench.folder / "jobs").glob("*"))


@pytest.mark.slow
def test_more_lines_than_the_service_takes_are_refused_before_anything_is_sent(any_vendor: Vendor) -> None:
    limits = any_vendor.route.limits(any_vendor.deployment)
    assert limits.max_bytes and limits.max_records
    # The same long line again and again, until the bytes are too many.
    long = lines(1, "x" * 4_000_000)[0]
    count = limits.max_bytes // 4_000_000 + 2
    with pytest.raises(SubmitRefused, match="split it into more jobs"):
        any_vendor.submit(any_vendor.job(count), [long] * count)
    assert _creates(any_vendor) == []


def test_stopped_after_a_lost_answer_it_does_not_say_that_nothing_was_submitted(any_vendor: Vendor) -> None:
    any_vendor.route.settle_s = 0.0
    any_vendor.faults.lost, any_vendor.faults.late = 1, 30
    with pytest.raises(SubmitLater):
        any_vendor.submit()
    any_vendor.bench.stop = True
    with pytest.raises(SubmitStopped, match="got no answer") as stopped:
        any_vendor.submit()
    assert "nothing was submitted" not in str(stopped.value)
    assert len(any_vendor.api.jobs) == 1


@pytest.mark.parametrize("sure", [True, False])
def test_a_job_that_was_only_guessed_is_not_hidden_from_the_one_whose_it_may_be(
    anthropic: Vendor, tmp_path: Path, sure: bool
) -> None:
    one = journal_of(tmp_path / "one", anthropic.job(token="token-1"))
    other = journal_of(tmp_path / "other", anthropic.job(token="token-2"))
    one.settled("msgbatch_1", sure=sure)
    assert ("msgbatch_1" in claimed(tmp_path / "other", other)) is sure
    assert journal_of(tmp_path / "one", anthropic.job(token="token-1")).sure is sure
