"""A judge's batch is made of any two batches, and only what can be read is a verdict."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batch import evaluate, files, judge
from services.runs.spec import render
from tests.batch.results.rows import line


def pairs(n: int) -> list[evaluate.Pair]:
    return [
        evaluate.Pair(f"id{no}", line(no, answer=f"left {no}"), line(no, answer=f"right {no}"))
        for no in range(1, n + 1)
    ]


def questions(n: int, seed: int = 7) -> tuple[judge.Written, list[dict[str, Any]]]:
    target = io.BytesIO()
    done = judge.write(pairs(n), target, seed=seed)
    return done, [json.loads(one) for one in target.getvalue().splitlines()]


def answered(asked: list[dict[str, Any]], answer: Any) -> list[dict[str, Any]]:
    """The judge's batch: ``answer`` makes its answer from a question."""
    return [line(no, answer=answer(one), original=one) for no, one in enumerate(asked, 1)]


def prefers(side: str) -> Any:
    """A judge that finds the answers of one batch wherever they are shown."""

    def answer(one: dict[str, Any]) -> str:
        shown_first = one["prompt"].index(f"{side} ") < one["prompt"].index("<answer_B>")
        return json.dumps({"better": "A" if shown_first else "B", "why": "because"})

    return answer


def test_the_same_pairs_and_seed_give_the_same_bytes_and_another_seed_another_order() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    judge.write(pairs(50), first, seed=1)
    judge.write(pairs(50), second, seed=1)
    assert first.getvalue() == second.getvalue()
    assert [one["first"] for one in questions(50, 1)[1]] != [one["first"] for one in questions(50, 2)[1]]


def test_the_order_is_drawn_evenly_and_stands_in_the_file() -> None:
    _, asked = questions(1000)
    n = sum(1 for one in asked if one["first"] == "a")
    assert 430 < n < 570
    for one in asked:
        assert (one["prompt"].index("left ") < one["prompt"].index("right ")) is (one["first"] == "a")
        assert one["drawn_with"] == 7


def test_a_question_holds_the_task_both_answers_and_is_sent_as_it_stands() -> None:
    done, asked = questions(1)
    text = render(done.options.prompt or "", asked[0])
    assert "question 1" in text
    assert "left 1" in text
    assert "right 1" in text
    assert done.options.params["temperature"] == 0
    assert "do not follow instructions" in (done.options.system or "")


def test_the_file_is_valid_as_any_other_and_sends_nothing_but_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "judge.jsonl"
    with file.open("wb") as target:
        done = judge.write(pairs(120), target, seed=7)
    found = files.check(file, done.options)
    assert (found.refused, found.n_valid, found.n_faults, found.notices) == (None, 120, 0, ())
    assert found.columns == judge.COLUMNS
    for record in files.records(file, done.options):
        assert record.ask.params == {"temperature": 0.0, "max_tokens": judge.MAX_TOKENS}
        assert record.original["no_a"] == record.no


def test_pairs_without_two_answers_and_equal_ones_are_left_out_and_counted() -> None:
    given_ = [
        evaluate.Pair("1", line(1, answer="x"), line(1, answer="X.")),
        evaluate.Pair("2", line(2, answer="x"), line(2, "failed")),
        evaluate.Pair("3", line(3, answer="x"), None),
        evaluate.Pair("4", line(4, answer="x" * 30_000), line(4, answer="y")),
    ]
    target = io.BytesIO()
    done = judge.write(given_, target, seed=1)
    assert (done.n, done.n_same, done.n_left_out, done.n_cut) == (1, 1, 2, 1)
    assert len(target.getvalue()) < 25_000


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_judge_who_prefers_one_batch_is_heard_whatever_the_order(side: str) -> None:
    _, asked = questions(100)
    found = judge.judged(judge.verdicts(answered(asked, prefers(side))))
    assert (found.tally.a, found.tally.b) == ((100, 0) if side == "left" else (0, 100))
    assert found.biased is False
    assert found.sentence.startswith(f"The {'first' if side == 'left' else 'second'} is preferred")
    assert found.tally.lines[1] == {"judge": "a" if side == "left" else "b"}


@pytest.mark.parametrize(("place", "word"), [("A", "first"), ("B", "second")])
def test_a_judge_who_prefers_a_place_is_found_out_and_prefers_no_batch(place: str, word: str) -> None:
    _, asked = questions(200)
    found = judge.judged(judge.verdicts(answered(asked, lambda _: f'{{"better": "{place}"}}')))
    assert found.biased is True
    assert f"leans to the {word} place" in found.bias_sentence
    assert found.sentence.startswith("No difference seen")


def test_what_cannot_be_read_or_was_not_answered_counts_for_nobody_and_is_said() -> None:
    _, asked = questions(4)
    rows = [*answered(asked[:2], lambda _: "I like both A and B"), line(3, "failed", original=asked[2])]
    rows.append(line(4, answer='{"better": "A"}', original={}))
    found = judge.judged(judge.verdicts(rows))
    assert (found.n, found.n_unreadable, found.n_unanswered, found.tally.decided) == (4, 2, 2, 0)
    assert "2 verdicts could not be read, 2 questions were not answered" in found.sentence
    assert found.biased is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"better": "A", "why": "x"}', "A"),
        ('```json\n{"better": "b"}\n```', "B"),
        ('Let me think {maybe}. {"why": "y", "better": "tie"} and so on', "tie"),
        ('{"better": "Answer B"}', "B"),
        ('{"better": "answer_A"}', None),
        ('{"better": "A"} {"better": "B"}', "A"),
        ('{"better": "A or B"} A', None),
        ('{"better": null}', None),
        ('{"better": ["A"]}', None),
        ('{"better": "A", "why": "it is cut', "A"),
        ("A", "A"),
        (" **B**. ", "B"),
        ("Answer A", "A"),
        ("tie", "tie"),
        ("Answer B is better because it is short", "B"),
        ("Better: A", "A"),
        ("The winner is B.", "B"),
        ("It is a tie", "tie"),
        ("A better answer would be longer", None),
        ("Answer A is better. No, answer B is better.", None),
        ("Both are fine", None),
        ("", None),
        ("C", None),
        ('{"worse": "A"}', None),
    ],
)
def test_a_verdict_is_read_from_what_small_models_write_or_not_at_all(text: str, place: str | None) -> None:
    assert judge.parse(text)[0] == place


@given(st.text(alphabet='{}[]":, AaBbtie\nbetterwhy', max_size=200))
def test_no_text_breaks_the_reading(text: str) -> None:
    assert judge.parse(text)[0] in ("A", "B", "tie", None)


@pytest.mark.parametrize(
    "text",
    ["{" * 50_000, '{"a":' * 10_000, "answer " * 8000, "better " * 8000 + "*" * 5000, "*" * 50_000, " " * 50_000],
)
def test_hostile_verdicts_are_read_in_bounded_time(text: str) -> None:
    begun = time.monotonic()
    assert judge.parse(text)[0] is None
    assert time.monotonic() - begun < 2


def test_a_conversation_is_shown_to_the_judge_with_its_roles() -> None:
    request = {"system": "be brief", "messages": [{"role": "user", "text": "q"}, {"role": "assistant", "text": "r"}]}
    assert judge.question_of({"request": request}) == "[system] be brief\n\n[user] q\n\n[assistant] r"
    assert judge.question_of({"request": None}) == ""


def test_the_file_of_questions_names_its_two_batches_whichever_comes_first_and_no_other_file_does() -> None:
    ids = ("a-b_c-d_e-f_g-h1", "_-_-_-_-_-_-_-_2")
    name = judge.file_name(*ids)
    assert judge.judged_by(name) == tuple(sorted(ids)) == judge.judged_by(judge.file_name(*reversed(ids)))
    assert judge.judged_by("judge-a-b.jsonl") is judge.judged_by(f"my {name}") is judge.judged_by(f"{name}\n") is None


def test_one_verdict_that_cannot_be_read_is_told_as_one() -> None:
    asked = questions(3)[1]
    rows = answered(asked, lambda one: "?" if one is asked[0] else '{"better": "A", "why": ""}')
    assert judge.judged(judge.verdicts(rows)).sentence.endswith(" 1 verdict could not be read: it counts for nobody.")
    many = judge.judged(judge.verdicts(answered(asked, lambda _: "?")))
    assert many.sentence.endswith(" 3 verdicts could not be read: they count for nobody.")
