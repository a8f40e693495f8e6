"""Answers held against each other: two batches of one file, votes, checks, and a judge who has not been asked yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages.batch_lab import BatchLab, arranged, opened, select
from tests.pages.lab import said


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchLab]:
    with arranged(tmp_path, monkeypatch) as made:
        yield made


def test_two_batches_of_a_file_are_compared_line_by_line(lab: BatchLab) -> None:
    first = lab.batch(answers=("Blue.", "Red", "Green"))
    lab.batch(answers=("blue", "Orange", "Green"), d="local-messages")
    at = opened(first, "Compare")
    assert "2 of 3 answers are the same" in said(at)
    pairs = at.dataframe[-1].value
    assert list(pairs["key"]) == ["a2"]
    select(at, 0, "bt_pairs")
    assert not at.exception
    assert "bold in green only in the second" in said(at)


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
    assert "You compare two answers to the same task" in "\n".join(t.value for t in at.text)
    assert not lab.submitted
