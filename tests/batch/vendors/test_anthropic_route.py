"""Anthropic's batches: what is theirs alone, above all how a lost job is recognised without an idempotency key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.batch.providers.anthropic import AnthropicRoute
from services.batch.providers.common import journal_of
from services.batch.types import ResultsGone, RouteTrouble, SubmitLater, SubmitRefused, no_of
from tests.batch.vendors.house import Bench, Vendor, lines


def _lost(vendor: Vendor, others: int) -> None:
    """A submit whose job was made but cannot be seen yet, and ``others`` of the same length that can."""
    vendor.route.settle_s = 0.0
    vendor.faults.lost, vendor.faults.late = 1, 1
    with pytest.raises(SubmitLater):
        vendor.submit()
    for _ in range(others):
        vendor.api.somebody_elses(6)


def test_every_custom_id_carries_the_mark_of_the_token_within_64_characters(anthropic: Vendor) -> None:
    job = anthropic.submit()
    names = [one["custom_id"] for one in anthropic.api.jobs[job.vendor_id].requests]

    assert len({name.partition("-")[2] for name in names}) == 1
    assert all(name.startswith(f"r{no:010d}-") and len(name) == 24 for no, name in enumerate(names, 1))


def test_it_counts_nothing_before_the_end_and_says_so(anthropic: Vendor) -> None:
    anthropic.faults.errors = {3}
    job = anthropic.submit()
    found = [anthropic.poll(job) for _ in range(3)]

    assert anthropic.route.counts is False
    assert [(one.state, one.counts) for one in found[:2]] == [("running", None)] * 2
    assert "counts none of them before all have ended" in found[0].sentence
    assert found[2].counts == {"total": 6, "succeeded": 5, "failed": 1, "cancelled": 0, "expired": 0}
    assert found[2].state == "ended" and found[2].expires_at


def test_a_request_that_the_service_refuses_is_refused_with_its_words(anthropic: Vendor) -> None:
    anthropic.faults.refuse = "requests.0.custom_id: String should have at most 64 characters"
    with pytest.raises(SubmitRefused, match="String should have at most 64 characters"):
        anthropic.submit()
    assert anthropic.api.jobs == {}


def test_a_batch_that_was_there_before_is_never_taken_for_ours(anthropic: Vendor) -> None:
    anthropic.api.somebody_elses(6)
    anthropic.faults.dropped = 1
    job = anthropic.submit_until_done()
    assert job.vendor_id == "msgbatch_0002" and "adopted" not in job.facts


def test_a_batch_of_another_length_is_never_taken_for_ours(anthropic: Vendor) -> None:
    anthropic.faults.dropped = 1
    anthropic.route.settle_s = 60.0
    with pytest.raises(SubmitLater):
        anthropic.submit()
    anthropic.api.somebody_elses(5)
    anthropic.route.settle_s = 0.0
    assert anthropic.submit().vendor_id == "msgbatch_0002"


def test_one_that_is_taken_for_ours_is_proved_at_its_end(anthropic: Vendor) -> None:
    anthropic.faults.lost = 1
    job = anthropic.submit_until_done()
    assert job.facts["adopted"] is True and "proven" not in job.facts

    job, polled = anthropic.to_end(job)
    assert polled.state == "ended" and job.facts["proven"] is True
    assert sorted(no_of(one.wire_id) or 0 for one in anthropic.results(job)) == [1, 2, 3, 4, 5, 6]


def test_one_that_proves_to_be_somebody_elses_is_submitted_again_and_never_read(anthropic: Vendor) -> None:
    anthropic.faults.dropped = 1
    anthropic.route.settle_s = 60.0
    with pytest.raises(SubmitLater):
        anthropic.submit()
    anthropic.api.somebody_elses(6)
    job = anthropic.submit()
    assert job.vendor_id == "msgbatch_0001" and job.facts["adopted"] is True

    anthropic.route.cancel(anthropic.deployment, job)
    assert anthropic.api.jobs["msgbatch_0001"].cancelled is None
    assert "it is not stopped from here" in anthropic.poll(job).sentence
    _, polled = anthropic.to_end(job)
    assert (polled.state, polled.collectable, polled.facts["resubmit"]) == ("waiting_for_quota", False, True)
    assert "somebody else's" in polled.sentence
    assert anthropic.submit(anthropic.job(token="token-2")).vendor_id == "msgbatch_0002"


def test_between_several_nothing_is_sent_until_their_ends_tell_which_is_ours(anthropic: Vendor) -> None:
    _lost(anthropic, others=2)
    with pytest.raises(SubmitLater, match="3 jobs with as many lines") as later:
        anthropic.submit()
    assert later.value.retry_after_s and later.value.retry_after_s >= 600
    assert len(anthropic.api.jobs) == 3

    anthropic.api.end(anthropic.api.jobs["msgbatch_0003"])
    with pytest.raises(SubmitLater, match="2 jobs with as many lines"):
        anthropic.submit()
    anthropic.api.end(anthropic.api.jobs["msgbatch_0001"])
    job = anthropic.submit()
    assert job.vendor_id == "msgbatch_0001" and job.facts["proven"] is True
    assert len(anthropic.api.jobs) == 3


def test_when_all_candidates_prove_foreign_the_job_is_sent(anthropic: Vendor) -> None:
    anthropic.faults.dropped = 1
    anthropic.route.settle_s = 60.0
    with pytest.raises(SubmitLater):
        anthropic.submit()
    anthropic.route.settle_s = 0.0
    for _ in range(2):
        anthropic.api.end(anthropic.api.somebody_elses(6))
    assert anthropic.submit().vendor_id == "msgbatch_0003"


def test_a_job_that_another_submit_of_ours_has_is_not_taken(anthropic: Vendor) -> None:
    _lost(anthropic, others=0)
    beside = replace(anthropic, bench=Bench(anthropic.bench.folder.parent / "batch-2"))
    other = beside.submit(anthropic.job(token="token-9", no=1))
    job = anthropic.submit()

    assert other.vendor_id == "msgbatch_0002" and job.vendor_id == "msgbatch_0001"


def test_results_are_not_fetched_with_our_key_from_wherever_the_answer_points(anthropic: Vendor) -> None:
    job, _ = anthropic.to_end(anthropic.submit())
    anthropic.api.results_at = "http://localhost:9"
    with pytest.raises(RouteTrouble, match="may not be sent to the host 'localhost'"):
        anthropic.results(job)


def test_archived_results_are_told_in_words_with_the_day(anthropic: Vendor) -> None:
    job = anthropic.submit()
    anthropic.api.jobs[job.vendor_id].archived = True
    job, polled = anthropic.to_end(job)

    assert polled.over and not polled.collectable
    assert "Anthropic keeps them for 29 days after" in polled.sentence
    with pytest.raises(ResultsGone, match="29 days after"):
        anthropic.results(job)


def test_the_lines_that_were_not_reached_say_that_they_cost_nothing(anthropic: Vendor) -> None:
    anthropic.faults.expire_after = 5
    found = anthropic.run()
    assert found[6].message == "Anthropic did not reach this line within 24 hours; it costs nothing."


def test_the_request_on_disk_fits_the_limit_when_its_lines_do(anthropic: Vendor) -> None:
    route = AnthropicRoute()
    limits = route.limits(anthropic.deployment)
    given = lines(50)
    bare = sum(len(route.body(anthropic.deployment, line)) for line in given)
    path = anthropic.bench.folder / "whole.json"
    mark = journal_of(anthropic.bench.folder, anthropic.job(50))
    route._write(anthropic.deployment, anthropic.job(50), given, anthropic.bench, path, mark)

    # Brackets around all, and in every line the mark and a comma: what the limit was lowered by.
    assert path.stat().st_size <= bare + 50 * 14 + 16
    assert limits.max_bytes is not None and limits.max_bytes + 100_000 * 14 + 16 <= 256_000_000
