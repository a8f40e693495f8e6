"""Batches held against each other and linked: two of one file, votes, checks, a judge, and what was sent again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.batch import judge
from tests.pages.batch_lab import BatchLab, arranged, opened, select
from tests.pages.lab import said

pytestmark = pytest.mark.slow


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchLab]:
    with arranged(tmp_path, monkeypatch) as made:
        yield made


def test_two_batches_of_a_file_are_compared_line_by_line(lab: BatchLab) -> None:
    first = lab.batch(answers=("Blue.", "Red", "Green"))
    lab.batch(answers=("blue", "Orange", "Green"), d="local-messages")
    at = opened(first, "Compare")
    assert "66.7% the same of 3 lines that both answered" in said(at)
    pairs = at.dataframe[-1].value
    assert list(pairs["key"]) == ["a2"]
    select(at, 0, "bt_pairs")
    assert not at.exception
    assert "bold in green only in the second" in said(at)


def test_lines_that_one_batch_alone_has_are_counted_and_are_no_lines_that_differ(lab: BatchLab) -> None:
    first = lab.batch(("succeeded",) * 5, answers=("a", "b", "c", "d", "e"))
    lab.batch(("succeeded", "failed", "succeeded"), answers=("a", "", "c"), d="local-messages")
    at = opened(first, "Compare")
    assert "100.0% the same of 2 lines that both answered" in said(at)
    assert "2 lines that are only in this batch" in said(at)
    assert "No line that both answered differs." in said(at)
    which = at.button_group(key="bt_which")
    assert which.options == [
        "0 differ",
        "2 are the same",
        "1 lacks an answer",
        "2 lines are only in this batch",
        "5 lines in all",
    ]
    which.set_value("only_a").run()
    assert not at.exception
    pairs = at.dataframe[-1].value
    assert list(pairs["key"]) == ["a4", "a5"]
    assert set(pairs["b"]) == {"not in this batch"}


def test_a_judges_batch_leads_back_to_the_comparison_of_the_two_that_it_judges(lab: BatchLab) -> None:
    first, second = lab.batch(name="Mine"), lab.batch(name="Yours", d="local-messages")
    at = opened(lab.batch(file_name=judge.file_name(second, first), file_sha256="b" * 64))
    assert "“Mine · " in said(at) and "“Yours · " in said(at)
    at.button(key="bt_judged").click().run()
    assert not at.exception
    assert at.query_params["batch"] == min(first, second)
    assert at.session_state["bt_other"] == max(first, second)
    assert "3 lines that both answered" in said(at)
    gone = opened(lab.batch(file_name=judge.file_name(first, "x" * 16), file_sha256="c" * 64))
    assert "bt_judged" not in [b.key for b in gone.button]


def test_people_vote_on_a_line_and_take_it_back(lab: BatchLab) -> None:
    first = lab.batch(answers=("Blue.", "Red", "Green"))
    lab.batch(answers=("blue", "Orange", "Green"), d="local-messages")
    at = opened(first, "Compare")
    select(at, 0, "bt_pairs")
    at.button(key="bt_vote_b").click()
    select(at, 0, "bt_pairs")
    assert "0 for the first, 1 for the second" in said(at)
    at.button(key="bt_vote_b").click()
    select(at, 0, "bt_pairs")
    assert "for the second" not in said(at)


def test_a_batch_without_a_second_says_how_to_get_one(lab: BatchLab) -> None:
    at = opened(lab.batch(), "Compare")
    assert "No other batch was made of this file" in said(at)


def test_answers_are_checked_against_a_column(lab: BatchLab) -> None:
    at = opened(lab.batch(answers=("Question 1", "Question 2!", "no")), "Compare")
    at.selectbox(key="bt_ck_kind").set_value("contains").run()
    at.text_area(key="bt_ck_expected").set_value("{{text}}").run()
    at.button(key="bt_ck_run").click().run()
    assert not at.exception
    assert "2 of 3 passed" in said(at)
    at.text_area(key="bt_ck_expected").set_value("{{nothing}}").run()
    at.button(key="bt_ck_run").click().run()
    assert "The file has no column “nothing”" in said(at)


def test_a_judge_gets_a_file_of_questions_that_nothing_has_sent_yet(lab: BatchLab) -> None:
    first = lab.batch(answers=("Blue.", "Red", "Green"))
    lab.batch(answers=("blue", "Orange", "Green"), d="local-messages")
    at = opened(first, "Compare")
    at.button(key="bt_judge_prepare").click().run()
    assert not at.exception
    assert at.button(key="bt_send").label == "Send 1 line"
    assert at.text_input(key="bt_name").value == "Judge of Reviews and Reviews"
    assert "You compare two answers to the same task" in "\n".join(t.value for t in at.text)
    assert not lab.submitted


def test_a_batch_of_another_file_that_follows_takes_none_of_the_lines(lab: BatchLab) -> None:
    batch_id = lab.batch(("succeeded", "failed"))
    lab.batch(parent_id=batch_id, file_sha256="b" * 64)
    assert "bt_resend" in [b.key for b in opened(batch_id).button]


def test_why_a_batch_ended_or_stopped_stands_above_its_tabs(lab: BatchLab) -> None:
    failed = opened(lab.batch(("succeeded", "failed")), "Figures")
    assert "check the parameters and the model" in said(failed), "on every tab"
    why = "Paused: 5 calls in a row failed."
    paused = opened(lab.batch(("failed", "waiting"), state="paused", ended_at=None, said=why))
    assert f":orange[{why}]" in [m.value.replace("\\", "") for m in paused.markdown]
