"""OpenAI's batches: what is theirs alone."""

from __future__ import annotations

import json

import pytest

from services.batch.types import ResultsGone, SubmitLater, no_of
from tests.batch.vendors.house import Vendor


def test_the_file_is_named_after_the_token_and_the_job_carries_it(openai: Vendor) -> None:
    job = openai.submit()
    (file,) = openai.api.files.values()
    made = openai.api.jobs[job.vendor_id]

    assert file.purpose == "batch" and file.name.startswith("lab-0001-") and file.name.endswith(".jsonl")
    assert made.metadata == {"lab_token": "token-1", "lab_job": "1"}
    assert made.endpoint == "/v1/responses"
    assert [row["custom_id"] for row in made.lines] == [f"r{no:010d}" for no in range(1, 7)]
    assert {row["body"]["model"] for row in made.lines} == {openai.deployment.model}


def test_a_chat_deployment_goes_to_chat_completions(chat: Vendor) -> None:
    assert chat.api.jobs[chat.submit().vendor_id].endpoint == "/v1/chat/completions"


def test_the_states_of_a_job_come_as_sentences_with_counts(openai: Vendor) -> None:
    job = openai.submit()
    found = [openai.poll(job) for _ in range(4)]

    assert [one.vendor_state for one in found] == ["validating", "in_progress", "finalizing", "completed"]
    assert [one.state for one in found] == ["checking", "running", "running", "ended"]
    assert [one.over for one in found] == [False, False, False, True]
    assert found[0].counts is None
    assert found[1].counts == {"total": 6, "succeeded": 3, "failed": 0}
    assert found[3].counts == {"total": 6, "succeeded": 6, "failed": 0}
    assert all(one.sentence.startswith("OpenAI ") for one in found)
    assert found[3].facts["output_file_id"] and found[3].expires_at


def test_a_file_that_fails_validation_is_refused_with_line_and_reason_and_nothing_to_collect(openai: Vendor) -> None:
    openai.faults.refuse = "This line is not parseable as valid JSON."
    _, polled = openai.to_end(openai.submit())

    assert (polled.state, polled.over, polled.collectable) == ("failed", True, False)
    assert polled.sentence == (
        "OpenAI refused the file, nothing was answered or charged: line 2: This line is not parseable as valid JSON."
    )


@pytest.mark.slow
def test_too_many_waiting_tokens_is_waiting_for_quota_and_asks_to_be_submitted_anew(openai: Vendor) -> None:
    openai.faults.over_quota = True
    _, polled = openai.to_end(openai.submit())

    assert (polled.state, polled.over, polled.collectable) == ("waiting_for_quota", True, False)
    assert polled.facts["resubmit"] is True and polled.facts["resubmit_after_s"] > 0
    openai.faults.over_quota = False
    job, polled = openai.to_end(openai.submit(openai.job(token="token-2")))
    assert polled.state == "ended" and len(openai.results(job)) == 6


def test_a_completed_job_can_have_an_error_file_only(openai: Vendor) -> None:
    openai.faults.errors = set(range(6))
    job, polled = openai.to_end(openai.submit())

    assert "output_file_id" not in polled.facts and polled.collectable
    assert "answered none of the 6 lines" in polled.sentence
    assert sorted(no_of(one.wire_id) or 0 for one in openai.results(job)) == [1, 2, 3, 4, 5, 6]


def test_an_upload_whose_job_was_not_made_is_used_again(openai: Vendor) -> None:
    openai.faults.throttle = [(429, 1.0), (429, None)]
    for _ in range(2):
        with pytest.raises(SubmitLater):
            openai.submit()
    openai.submit()
    assert len(openai.api.files) == 1 and len(openai.api.jobs) == 1


def test_an_upload_is_found_by_name_and_size_when_its_answer_was_lost(openai: Vendor) -> None:
    openai.faults.throttle = [(429, 1.0)]
    with pytest.raises(SubmitLater):
        openai.submit()
    (mark,) = (openai.bench.folder / "jobs").glob("*.mark")
    known = json.loads(mark.read_bytes())
    mark.write_text(json.dumps({**known, "file_id": None}))

    openai.submit()
    assert len(openai.api.files) == 1


def test_a_deleted_output_file_still_leaves_the_lines_of_the_error_file(openai: Vendor) -> None:
    openai.faults.errors = {0}
    job, polled = openai.to_end(openai.submit())
    del openai.api.files[polled.facts["output_file_id"]]
    found = []

    with pytest.raises(ResultsGone):
        for one in openai.route.results(openai.deployment, job, openai.bench):
            found.append(one)  # what came before the error is looked at
    assert [no_of(one.wire_id) for one in found] == [1]


@pytest.mark.slow
def test_ours_is_found_among_hundreds_of_jobs_of_others(openai: Vendor) -> None:
    openai.faults.lost = 1
    openai.faults.late = 1
    openai.route.settle_s = 60.0
    with pytest.raises(SubmitLater):
        openai.submit()
    (ours,) = openai.api.jobs
    for n in range(250):
        openai.api.jobs[f"other-{n}"] = openai.api.jobs[ours].__class__(f"other-{n}", "/v1/responses", "f", None, [])

    assert openai.submit().vendor_id == ours
