"""What pages read: runs and their calls, the search, and typical figures."""

from __future__ import annotations

import pytest

from db import run_queries
from db.engine import reader
from db.run_queries import RunFilter
from db.writer import Writer
from tests.db.rows import later, put


def found(url, **wanted):
    page = run_queries.search_runs(reader(url), RunFilter(**wanted), limit=100)
    assert page.total == len(page.rows)
    return [row["id"] for row in page.rows]


@pytest.fixture
def history(url, writer: Writer) -> str:
    """Four runs, oldest first: the address of a database that holds them."""
    put(
        writer,
        "weather",
        {"deployment_id": "one", "state": "succeeded", "answer": "Un ÉTÉ chaud"},
        {"deployment_id": "two", "column_no": 1, "state": "failed"},
        prompt="How is the Weather?",
        tags=["demo", "a,b"],
        n_calls=2,
    )
    put(
        writer,
        "percent",
        {"deployment_id": "two", "state": "succeeded", "answer": "50% off_all\\x"},
        prompt="discount",
        created_at=later(hours=1),
        starred=True,
        person="bob@example.org",
    )
    put(
        writer,
        "plain",
        {"deployment_id": "one", "state": "cut_off", "answer": "50 offer"},
        prompt="plain",
        created_at=later(hours=2),
        source="cli",
        tags=["Demo"],
    )
    put(writer, "empty", prompt=None, created_at=later(hours=3), tags=['say "demo"'], text_stored=False)
    return url


def test_runs_come_newest_first_with_what_became_of_their_calls(history):
    page = run_queries.search_runs(reader(history), RunFilter())
    assert [row["id"] for row in page.rows] == ["empty", "plain", "percent", "weather"]
    assert page.rows[3]["states"] == {"succeeded": 1, "failed": 1}
    assert page.rows[3]["deployments"] == ["one", "two"]
    assert page.rows[3]["n_calls"] == 2
    assert (page.rows[0]["states"], page.rows[0]["deployments"]) == ({}, [])


def test_pages_do_not_overlap_and_each_knows_the_total(history):
    pages = [run_queries.search_runs(reader(history), RunFilter(), limit=3, offset=at) for at in (0, 3, 6)]
    assert [[row["id"] for row in page.rows] for page in pages] == [["empty", "plain", "percent"], ["weather"], []]
    assert {page.total for page in pages} == {4}


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("weather", ["weather"]),
        ("WEATHER?", ["weather"]),
        ("été", ["weather"]),
        ("un Été CHAUD", ["weather"]),
        ("50%", ["percent"]),
        ("off_", ["percent"]),
        ("all\\x", ["percent"]),
        ("%", ["percent"]),
        ("_", ["percent"]),
        ("50", ["plain", "percent"]),
        ("' OR 1=1 --", []),
        ("  ", ["empty", "plain", "percent", "weather"]),
        ("x" * 100_000, []),
    ],
)
def test_text_is_found_as_it_is_written_in_any_case(history, text, runs):
    assert found(history, text=text) == runs


def test_every_filter_narrows_and_together_they_narrow_more(history):
    assert found(history, deployments=["two"]) == ["percent", "weather"]
    assert found(history, states=["failed", "cut_off"]) == ["plain", "weather"]
    assert found(history, persons=["bob@example.org"]) == ["percent"]
    assert found(history, sources=["cli"]) == ["plain"]
    assert found(history, starred=True) == ["percent"]
    assert found(history, starred=False) == ["empty", "plain", "weather"]
    assert found(history, date_from=later(hours=1), date_to=later(hours=2)) == ["percent"]
    assert found(history, deployments=["two"], states=["failed"], text="weather") == ["weather"]
    assert found(history, deployments=["two"], sources=["cli"]) == []


@pytest.mark.parametrize(
    ("tag", "runs"),
    [
        ("demo", ["weather"]),
        ("Demo", ["plain"]),
        ("a,b", ["weather"]),
        ('say "demo"', ["empty"]),
        ("dem", []),
        (",", []),
    ],
)
def test_a_tag_is_found_whole_and_as_it_is_written(history, tag, runs):
    assert found(history, tag=tag) == runs


def test_persons_and_tags_in_use_are_listed_once_each(history):
    assert run_queries.persons(reader(history)) == ["ada@example.org", "bob@example.org"]
    assert run_queries.tags(reader(history)) == ["Demo", "a,b", "demo", 'say "demo"']


def test_calls_come_by_column_repetition_and_attempt(url, writer):
    order = [(1, 1, 1), (0, 2, 1), (0, 1, 2), (0, 1, 1), (0, 10, 1)]
    put(writer, "run", *({"column_no": c, "repetition": r, "attempt_no": a} for c, r, a in order))
    calls = run_queries.calls_of_run(reader(url), "run")
    assert [(c["column_no"], c["repetition"], c["attempt_no"]) for c in calls] == sorted(order)


def test_a_run_that_is_not_there_is_none(url, writer):
    assert run_queries.run_by_id(reader(url), "unknown") is None
    assert run_queries.calls_of_run(reader(url), "unknown") == []


def test_typical_ttft_is_the_median_of_the_last_succeeded_calls(url, writer, monkeypatch):
    assert run_queries.typical_ttft(reader(url), "one") == (None, 0)
    ended = [{"state": "succeeded", "ttft_ms": float(ms), "created_at": later(minutes=ms)} for ms in (10, 20, 30, 40)]
    put(
        writer,
        "run",
        *ended,
        {"state": "failed", "ttft_ms": 1.0},
        {"state": "succeeded", "ttft_ms": None},
        {"state": "succeeded", "ttft_ms": 5.0, "deployment_id": "two"},
    )
    assert run_queries.typical_ttft(reader(url), "one") == (25.0, 4)
    monkeypatch.setattr(run_queries, "TYPICAL_OVER", 3)
    assert run_queries.typical_ttft(reader(url), "one") == (30.0, 3)


def test_typical_ttft_never_averages_cold_and_warm_calls_together(url, writer):
    def calls(n, ms, **counts):
        return [{"state": "succeeded", "ttft_ms": ms, "created_at": later(minutes=m)} | counts for m in range(n)]

    cold, warm = {"cache_read": 3, "uncached_input": 997}, {"cache_read": 900, "uncached_input": 100}
    put(writer, "run", *calls(2, 900.0, **cold), *calls(2, 100.0, **warm))
    assert run_queries.typical_ttft(reader(url), "one") == (900.0, 2)
    put(writer, "again", *calls(3, 100.0, **warm))
    assert run_queries.typical_ttft(reader(url), "one") == (100.0, 5)


def test_the_tags_in_use_are_found_by_steps_through_their_index(history):
    engine = reader(history)
    assert run_queries.tags(engine) == ["Demo", "a,b", "demo", 'say "demo"']
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {run_queries._LISTS}").all())
        assert plan.count("ix_run_tags") == 2 and "SCAN run" not in plan
