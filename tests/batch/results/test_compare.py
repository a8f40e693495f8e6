"""Two batches of one file side by side, and what people vote."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import Session

from db import batch_queries
from db.models import Batch, BatchLine
from services.batch import evaluate
from services.batch.stats import summary
from tests.batch.results.rows import line, priced


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Yes.", " yes", True),
        ("a  b\nc", "A b c", True),
        ("ﬁne", "fine", True),
        ("", " ", True),
        ("yes", "no", False),
        ("3.5", "35", False),
        ("a b", "ab", False),
        ("STRASSE", "straße", True),
    ],
)
def test_answers_agree_whatever_their_case_blanks_and_full_stop(a: str, b: str, same: bool) -> None:
    assert evaluate.Pair("x", line(1, answer=a), line(1, answer=b)).agrees is same


def test_lines_of_one_file_are_joined_by_their_place_and_the_totals_are_those_of_each_batch() -> None:
    a = [priced(1, 10, line=2, answer="x"), priced(2, 20, line=3, answer="y"), line(3, "failed", line=5)]
    b = [priced(1, 1, line=2, answer="X"), line(2, line=4, answer="new"), priced(3, 3, line=5, answer="z")]
    pairs = list(evaluate.pairs(a, b, same_file=True))
    assert [(p.a and p.a["no"], p.b and p.b["no"]) for p in pairs] == [(1, 1), (2, None), (None, 2), (3, 3)]
    found = evaluate.compare(a, b, same_file=True)
    assert (found.n_pairs, found.n_answered, found.n_same, found.only_a, found.only_b) == (2, 1, 1, 1, 1)
    assert found.b_alone == 1
    assert found.a == summary(a)
    assert found.b == summary(b)
    assert found.sentence.startswith("100.0% the same of 1 line that both answered (1 the same, 0 different; ")
    assert found.sentence.endswith(
        "Not compared: 1 line that only the second answered, 1 line that is only in the first, 1 line that is only in "
        "the second."
    )


def test_each_line_is_of_one_kind_and_only_lines_that_both_answered_agree_or_differ() -> None:
    def kind(a: Any, b: Any) -> str:
        return evaluate.Pair("x", a, b).kind

    yes, no, failed = line(1), line(1, answer="no"), line(1, "failed")
    assert [kind(yes, yes), kind(yes, no), kind(yes, None), kind(None, yes)] == ["same", "differ", "only_a", "only_b"]
    assert [kind(yes, failed), kind(failed, yes), kind(failed, failed)] == ["one", "one", "neither"]


def test_records_that_begin_in_the_same_line_of_the_file_are_joined_by_id() -> None:
    a = [line(n, line=1, record_id=f"r{n}") for n in (1, 2, 3)]
    b = [line(n, line=1, record_id=f"r{4 - n}") for n in (1, 2)]
    pairs = list(evaluate.pairs(a, b, same_file=True))
    assert [(p.key, p.b and p.b["no"]) for p in pairs] == [("r1", None), ("r2", 2), ("r3", 1)]


def test_two_different_files_are_joined_by_id_in_any_order() -> None:
    a = [line(1, record_id="x"), line(2, record_id="y")]
    b = [line(1, record_id="y"), line(2, record_id="z")]
    pairs = list(evaluate.pairs(a, b, same_file=False))
    assert [(p.key, bool(p.a), bool(p.b)) for p in pairs] == [("x", True, False), ("y", True, True), ("z", False, True)]
    assert evaluate.same_sha({"file_sha256": "s"}, {"file_sha256": "s"})
    assert not evaluate.same_sha({"file_sha256": "s"}, {"file_sha256": "t"})


places = st.lists(st.tuples(st.integers(1, 12), st.sampled_from("abc")), max_size=15, unique=True).map(sorted)


@pytest.mark.slow
@given(places, places, st.booleans())
def test_every_line_is_in_exactly_one_pair(a: list[Any], b: list[Any], same_file: bool) -> None:
    left, right = (
        [line(no, line=at[0], record_id=f"{at[0]}{at[1]}") for no, at in enumerate(found, 1)] for found in (a, b)
    )
    pairs = list(evaluate.pairs(left, right, same_file=same_file))
    assert sorted(p.a["no"] for p in pairs if p.a) == [row["no"] for row in left]
    assert sorted(p.b["no"] for p in pairs if p.b) == [row["no"] for row in right]
    assert sum(1 for p in pairs if p.a and p.b and p.a["record_id"] == p.b["record_id"]) == len(set(a) & set(b))


def test_the_join_of_one_file_holds_one_line_of_each() -> None:
    read = itertools.count()
    rows = ({**line(1), "line": next(read)} for _ in range(10**9))
    other = ({**line(1), "line": n} for n in range(10**9))
    assert len(list(itertools.islice(evaluate.pairs(rows, other, same_file=True), 50))) == 50
    assert next(read) < 60


def test_the_difference_is_told_word_by_word() -> None:
    found = evaluate.Pair("x", line(1, answer="a red house"), line(1, answer="a blue house")).diff
    assert [(s.kind, s.text) for s in found.segments if s.kind != "equal"] == [("delete", "red"), ("insert", "blue")]


# --- votes ---------------------------------------------------------------------------------------------------------


def put(engine: Engine, *ids: str) -> None:
    with Session(engine) as session:
        for one in ids:
            session.add(
                Batch(
                    id=one,
                    created_at=datetime.now(UTC),
                    person="ada",
                    name=one,
                    deployment_id="d",
                    route="runner",
                    state="ended",
                    file_name="f",
                    file_sha256="s",
                )
            )
        session.commit()


def vote(engine: Engine, a: str, b: str, no: int, person: str, choice: str | None) -> None:
    with Session(engine) as session:
        batch_queries.vote(session=session, batch_a=a, batch_b=b, no=no, person=person, choice=choice)
        session.commit()


def test_a_vote_is_the_same_whichever_batch_is_shown_first(engine: Engine) -> None:
    put(engine, "one", "two")
    vote(engine, "two", "one", 5, "ada", "a")
    assert batch_queries.votes(engine, "two", "one") == [{"no": 5, "person": "ada", "choice": "a"}]
    assert batch_queries.votes(engine, "one", "two") == [{"no": 5, "person": "ada", "choice": "b"}]
    assert batch_queries.line_of("one", "two", 5, 7) == batch_queries.line_of("two", "one", 7, 5) == 5


def test_a_person_has_one_vote_on_a_line_which_can_be_changed_and_taken_back(engine: Engine) -> None:
    put(engine, "one", "two")
    for choice in ("a", "tie", "b"):
        vote(engine, "one", "two", 1, "ada", choice)
    vote(engine, "one", "two", 1, "bob", "tie")
    assert [row["choice"] for row in batch_queries.votes(engine, "one", "two", "ada")] == ["b"]
    assert len(batch_queries.votes(engine, "one", "two")) == 2
    vote(engine, "one", "two", 1, "ada", None)
    assert [row["person"] for row in batch_queries.votes(engine, "one", "two")] == ["bob"]


@pytest.mark.parametrize(("b", "choice"), [("two", "best"), ("one", "a")])
def test_what_is_no_vote_is_refused_in_words(engine: Engine, b: str, choice: str) -> None:
    put(engine, "one", "two")
    with pytest.raises(ValueError, match=r"^A "):
        vote(engine, "one", b, 1, "ada", choice)


def lines(engine: Engine, batch_id: str, *places: tuple[int, str]) -> None:
    with Session(engine) as session:
        session.add_all(
            [
                BatchLine(batch_id=batch_id, no=no, line=at, record_id=name, state="succeeded", attempts=1)
                for no, (at, name) in enumerate(places, 1)
            ]
        )
        session.commit()


def test_a_line_to_be_voted_on_is_one_that_both_batches_have(engine: Engine) -> None:
    put(engine, "one", "two")
    lines(engine, "one", (2, "x"), (3, "y"), (4, "z"), (9, "p"), (9, "q"))
    lines(engine, "two", (2, "x"), (4, "named otherwise"), (9, "p"))
    first, second = ({"id": one, "file_sha256": "s"} for one in ("one", "two"))
    both = [no for no in range(8) if batch_queries.in_both(engine, first, second, no)]
    assert both == [1, 3, 4], "of one file by the place of the line, and by its id where several begin in one place"
    other = [no for no in range(8) if batch_queries.in_both(engine, first, second | {"file_sha256": "t"}, no)]
    assert other == [1, 4], "of two files by the id"


def test_the_votes_of_a_deleted_batch_go_with_it(engine: Engine) -> None:
    put(engine, "one", "two")
    vote(engine, "one", "two", 1, "ada", "a")
    with Session(engine) as session:
        session.delete(session.get(Batch, "two"))
        session.commit()
    assert batch_queries.votes(engine, "one", "two") == []


def test_a_tally_says_no_difference_until_one_is_seen() -> None:
    few = evaluate.tally([{"no": n, "person": "ada", "choice": "a" if n else "b"} for n in range(4)])
    assert few.sentence.startswith("No difference seen: 3 for the first, 1 for the second")
    many = evaluate.tally([{"no": n, "person": "ada", "choice": "b"} for n in range(20)])
    assert many.sentence.startswith("The second is preferred")
    assert evaluate.tally([{"no": 1, "person": "ada", "choice": "tie"}]).sentence.startswith("No vote for one")
    assert few.lines[2] == {"ada": "a"}
