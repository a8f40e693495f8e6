"""One batch on its page: each of its states, what can be done about it, and everything that came back."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from streamlit.runtime.download_data_util import convert_data_to_bytes_and_infer_mime

from app.batch import results
from services.batch.types import BatchState
from tests.pages.batch_lab import BatchLab, arranged, opened, select
from tests.pages.lab import buttons, page, said

HOSTILE = "![x](https://evil.example/p.png) <img src=x onerror=alert(1)> :red[hot] **bold**"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchLab]:
    with arranged(tmp_path, monkeypatch) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "words", "offered"),
    [
        ("queued", "Waiting for a worker", {"Pause", "Cancel"}),
        ("sending", "The file is on its way to the service", {"Cancel"}),
        ("checking", "The service is checking the file", {"Cancel"}),
        ("waiting_for_quota", "Waiting: the service takes it later", {"Cancel"}),
        ("running", "Running", {"Pause", "Cancel"}),
        ("pausing", "Pausing: lines under way are finished first", {"Resume", "Cancel"}),
        ("paused", "Paused", {"Resume", "Cancel"}),
        ("cancelling", "Cancelling", set()),
        ("collecting", "The answers are being collected", {"Cancel"}),
    ],
)
def test_every_state_of_a_living_batch_has_its_words_and_its_buttons(
    lab: BatchLab, state: BatchState, words: str, offered: set[str]
) -> None:
    at = opened(lab.batch(("succeeded", "running", "waiting", "waiting"), state=state, ended_at=None))
    assert f"**{words}**" in said(at)
    assert set(buttons(at)) & {"Pause", "Resume", "Cancel", "Delete"} == offered
    assert "1 answered · 1 under way · 2 waiting" in said(at)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("ended", "Ended, 1 failed, 1 missing, 1 expired and 1 cancelled of 5"),
        ("cancelled", "Cancelled, 1 of 5 answered"),
        ("expired", "Expired, 1 of 5 answered: the service ran out of time"),
        ("failed", "Refused by the service"),
    ],
)
def test_every_end_accounts_for_every_line(lab: BatchLab, state: BatchState, words: str) -> None:
    at = opened(lab.batch(("succeeded", "failed", "missing", "cancelled", "expired"), state=state, said="It said so."))
    assert words in said(at)
    assert ("It said so." in said(at)) == (state != "ended")
    assert "5 sent = 1 succeeded + 1 failed + 1 cancelled + 1 expired + 1 missing." in said(at)
    assert "Delete" in buttons(at)
    assert "bt_watch" not in str(at)


def test_a_service_that_tells_no_counts_shows_none_and_says_so(lab: BatchLab) -> None:
    at = opened(
        lab.batch(
            ("running",) * 4,
            state="running",
            route="anthropic",
            ended_at=None,
            jobs=[{"state": "running", "vendor_id": "msgbatch_1", "vendor_state": "in_progress"}],
        )
    )
    assert "Anthropic tells no counts before the end" in said(at)
    assert not at.get("progress")
    assert list(at.dataframe[0].value["vendor_id"]) == ["msgbatch_1"]


def test_the_counts_of_a_service_are_shown_as_its_own(lab: BatchLab) -> None:
    at = opened(
        lab.batch(
            ("running",) * 10,
            state="running",
            route="openai",
            ended_at=None,
            jobs=[
                {"state": "running", "vendor_id": "b1", "counts": {"total": 6, "succeeded": 3, "failed": 1}},
                {"state": "queued", "vendor_id": None},
            ],
        )
    )
    assert "3 answered · 1 failed · as the service counts" in said(at)
    frame = at.dataframe[0].value
    assert list(frame["counts"]) == ["4 of 6, 1 failed", "–"]
    assert list(frame["vendor_id"]) == ["b1", "not given yet"]


@pytest.mark.slow
def test_pause_resume_and_cancel_are_asked_of_the_engine_and_a_refusal_is_said(lab: BatchLab) -> None:
    batch_id = lab.batch(("running", "waiting"), state="running", ended_at=None)
    at = opened(batch_id)
    at.button(key="bt_pause").click().run()
    at.button(key="bt_cancel").click().run()
    assert lab.asked == [("pause", batch_id), ("cancel", batch_id)]
    lab.refusal = "The batch is over; nothing was changed."
    at.button(key="bt_cancel").click().run()
    assert "The batch is over" in said(at)


@pytest.mark.slow
def test_a_batch_that_its_budget_paused_goes_on_with_a_larger_one(lab: BatchLab) -> None:
    batch_id = lab.batch(
        ("succeeded", "waiting"),
        state="paused",
        ended_at=None,
        budget_nanousd=2 * 10**9,
        wanted="pause",
        said="The budget is used up.",
    )
    at = opened(batch_id)
    assert "The budget is used up." in said(at)
    assert at.number_input(key="bt_new_budget").value == 2.0
    at.number_input(key="bt_new_budget").set_value(5.0).run()
    at.button(key="bt_resume").click().run()
    assert lab.asked == [("resume", batch_id, 5 * 10**9)]


@pytest.mark.slow
def test_the_rate_and_what_is_left_are_told_only_when_enough_lines_have_ended(lab: BatchLab) -> None:
    began = datetime.now(UTC) - timedelta(seconds=30)
    few = opened(lab.batch(("succeeded", "waiting"), state="running", ended_at=None, started_at=began, lanes=4))
    assert [(m.label, m.value) for m in few.metric if m.label == "Time left"] == [("Time left", "–")]
    many = opened(
        lab.batch(("succeeded",) * 15 + ("waiting",) * 15, state="running", ended_at=None, started_at=began, lanes=4)
    )
    shown = {m.label: m.value for m in many.metric}
    assert shown["Rate"].endswith("lines/s"), "its calls are all of the last moment"
    assert shown["Time left"].startswith("~")
    assert shown["Lanes"] == "4"


def test_a_queued_batch_says_why_nobody_works_on_it(lab: BatchLab) -> None:
    lab.no_worker = "This server starts no worker of its own (LAB_WORKER=0): start one with lab worker."
    at = opened(lab.batch(("waiting",), state="queued", ended_at=None))
    assert "start one with lab worker" in said(at)


@pytest.mark.slow
def test_lines_are_told_apart_by_what_the_template_takes_from_the_file(lab: BatchLab) -> None:
    at = opened(lab.batch(options={"prompt": "Shorten this, please: {{text}}"}))
    assert list(at.dataframe[0].value["input"]) == ["Question 1", "Question 2", "Question 3"]
    two = opened(lab.batch(options={"prompt": "{{id}}? {{text}}"}))
    assert two.dataframe[0].value["input"][0] == "a1 · Question 1"


@pytest.mark.slow
def test_a_batch_whose_lines_are_being_recorded_shows_no_figures_of_none(lab: BatchLab) -> None:
    at = opened(lab.batch((), state="queued", ended_at=None, said="The file is being checked."))
    assert "Its lines are being recorded" in said(at)
    assert "The file is being checked." in said(at)
    assert not at.get("progress")
    assert not at.metric
    ended = opened(lab.batch((), state="cancelled"))
    assert "No line was sent." in said(ended)
    assert not ended.tabs


@pytest.mark.slow
def test_the_lines_of_a_living_batch_say_of_which_moment_they_are(lab: BatchLab) -> None:
    living = opened(lab.batch(("succeeded", "waiting"), state="running", ended_at=None))
    assert re.search(r"The lines so far, at \d\d:\d\d:\d\d \(UTC\)", said(living))
    assert list(living.dataframe[0].value["state"]) == ["answered", "waiting"]
    assert "so far" not in said(opened(lab.batch()))


@pytest.mark.slow
def test_a_batch_that_is_not_recorded_yet_tells_no_line_whatever_is_wanted_of_it(lab: BatchLab) -> None:
    for state in ("queued", "cancelling", "paused"):
        at = opened(lab.batch((), state=state, ended_at=None))
        assert "0 of 0" not in said(at) + str([p.proto for p in at.get("progress")])


def test_answers_that_a_service_counts_and_nobody_here_has_are_said(lab: BatchLab) -> None:
    jobs = [
        {
            "state": "ended",
            "vendor_id": "m1",
            "counts": {"total": 3, "succeeded": 3, "failed": 0},
            "said": "Anthropic has ended it: 3 answered.",
        }
    ]
    at = opened(lab.batch(("succeeded", "missing", "missing"), route="anthropic", jobs=jobs))
    assert "Ended, 2 of 3 missing" in said(at)
    assert "The service counts 3 answers, and 1 of the lines here has one" in said(at)


@pytest.mark.slow
def test_an_unknown_address_is_one_sentence(lab: BatchLab) -> None:
    assert "There is no batch at this address" in said(opened("nothing-here"))
    assert "There is no batch at this address" in said(opened("../../etc/passwd"))


@pytest.mark.slow
def test_results_stand_beside_what_was_asked_and_are_found_by_state_and_text(lab: BatchLab) -> None:
    at = opened(lab.batch(("succeeded", "failed", "succeeded"), answers=("Blue.", "", "Because of Rayleigh.")))
    frame = at.dataframe[0].value
    assert list(frame["input"]) == ["Question 1", "Question 2", "Question 3"]
    assert list(frame["answer"]) == ["Blue.", "The service answered 500.", "Because of Rayleigh."]
    at.pills(key="bt_only").set_value(["failed"]).run()
    assert list(at.dataframe[0].value["id"]) == ["a2"]
    at.pills(key="bt_only").set_value([]).run()
    at.text_input(key="bt_search").set_value("rayleigh").run()
    assert list(at.dataframe[0].value["id"]) == ["a3"]
    at.text_input(key="bt_search").set_value("no such thing").run()
    assert "No line matches" in said(at)


@pytest.mark.slow
def test_a_selected_line_shows_its_whole_text_and_its_call(lab: BatchLab) -> None:
    at = select(opened(lab.batch(answers=("word " * 400, "b", "c"))), 0)
    assert not at.exception
    assert ("word " * 400).strip() in "\n".join(str(t.value).strip() for t in at.text)
    assert "First token **0\\.10 s**" in "\n".join(c.value for c in at.caption)
    assert "Question 1" in [t.value for t in at.text]


@pytest.mark.slow
def test_answers_are_text_and_obey_nothing(lab: BatchLab) -> None:
    at = select(opened(lab.batch(("succeeded",), answers=(HOSTILE,))), 0)
    assert HOSTILE in [t.value for t in at.text]
    drawn = "\n".join(str(e.value) for kind in (at.markdown, at.caption) for e in kind)
    assert "evil.example" not in drawn


@pytest.mark.slow
def test_a_line_goes_to_the_playground_with_its_question(lab: BatchLab) -> None:
    at = select(opened(lab.batch()), 1)
    at.button(key="bt_ask_again").click().run()
    assert not at.exception
    assert at.session_state["pg_prompt"] == "Question 2"
    assert at.session_state["pg_deployments"] == ["local-chat"]


def test_failed_lines_are_explained_and_sent_again_as_a_linked_batch(lab: BatchLab) -> None:
    batch_id = lab.batch(("succeeded", "failed", "failed"))
    at = opened(batch_id)
    assert "2 failed" in said(at)
    assert "check the parameters and the model" in said(at)
    at.button(key="bt_resend").click().run()
    assert not at.exception
    assert ("resend", batch_id) in lab.asked
    assert at.query_params["batch"] != batch_id
    child = at.query_params["batch"]
    at.button(key="bt_parent").click().run()
    assert at.query_params["batch"] == batch_id
    assert "bt_resend" not in [b.key for b in at.button], "its lines were taken already"
    assert "can be sent again" not in said(at)
    assert "The 2 lines without an answer were sent again as “Reviews” (waiting for a worker)." in said(at)
    at.button(key="bt_child").click().run()
    assert at.query_params["batch"] == child


def test_deleting_is_asked_about_first_and_leads_back_to_the_list(lab: BatchLab) -> None:
    batch_id = lab.batch()
    at = opened(batch_id)
    at.button(key="bt_delete").click().run()
    assert not lab.asked
    at.button(key="bt_delete_now").click().run()
    assert lab.asked == [("delete", batch_id)]
    assert "batch" not in at.query_params


def test_figures_sum_up_all_lines_and_the_card_compares_with_one_by_one(lab: BatchLab) -> None:
    at = opened(lab.batch(("succeeded",) * 30))
    at.session_state["bt_tabs"] = "Figures"
    at.run()
    assert not at.exception
    shown = {m.label: m.value for m in at.metric}
    assert shown["First token"] == "0.12 s"
    assert shown["Input tokens"] == "600"
    assert shown["Cost"] == "free"
    assert "Batch against one by one" in said(at)
    assert "The batch took" in said(at)
    assert shown["Paused or waiting"] == "4 min", "its calls are of the last moment of its four minutes"
    assert "This deployment costs nothing, in a batch or one by one." in said(at)
    assert "One by one" not in shown


def test_somebody_who_may_only_look_sees_results_and_downloads_and_no_action(lab: BatchLab) -> None:
    lab.close_doors("ada")
    at = opened(lab.batch(("succeeded", "failed")))
    assert not {"Delete", "Pause", "Cancel", "Send the 1 line without an answer again"} & set(buttons(at))
    assert "1 failed" in said(at)
    assert [d.label for d in at.download_button] == ["CSV", "JSONL", "Parquet", "Excel"]


def test_a_simulated_deployment_is_labelled(lab: BatchLab) -> None:
    batch_id = lab.batch(deployment={"name": "Play", "labels": ["simulated"]})
    assert "simulated" in said(opened(batch_id))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "excel"])
def test_every_kind_of_file_has_the_original_columns_and_every_line(lab: BatchLab, kind: Any) -> None:
    from db import batches

    row = batches.batch(lab.database(), lab.batch(("succeeded", "failed", "succeeded"), answers=("=1+1", "", "c")))
    assert row is not None
    content, _ = convert_data_to_bytes_and_infer_mime(results.file_writer(row, kind)(), AssertionError())
    assert len(content) > 50
    if kind == "csv":
        assert content.decode().splitlines()[0].startswith("id,text,lab_line")
        assert "'=1+1" in content.decode()
    if kind == "jsonl":
        assert [json.loads(line)["lab_answer"] for line in io.BytesIO(content)] == ["=1+1", None, "c"]
    assert results.file_name(row, kind).startswith("inference-lab-Reviews-")


def test_the_list_names_every_batch_and_a_line_opens_it(lab: BatchLab) -> None:
    lab.batch(name="Old", created_at=datetime.now(UTC) - timedelta(days=1))
    newest = lab.batch(("waiting",), state="waiting_for_quota", name="New", ended_at=None)
    at = page("batch").run()
    assert list(at.dataframe[0].value["name"]) == ["New", "Old"]
    assert list(at.dataframe[0].value["state"]) == ["waiting", "ended, all answered"]
    assert list(at.dataframe[0].value)[:3] == ["name", "cost", "state"], "a telephone shows no more than these"
    assert list(at.dataframe[0].value["cost"]) == ["–", "free"]
    select(at, 0, "bt_list")
    assert not at.exception
    assert at.query_params["batch"] == newest
