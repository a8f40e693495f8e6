"""Time in which a batch stood still is told apart: for the rate while it runs, and for what is learnt from its pace."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlmodel import Session

from db import batch_queries
from db.models import Batch, BatchLine, Call, Run
from services.batch import stats
from services.batch.estimate import estimates
from tests.batch.results.past import NOW
from tests.batch.results.rows import checked, deployment

Span = tuple[float, float | None]  # seconds before NOW from when to when a call was under way; None: it still is


def put(engine: Engine, spans: Sequence[Span], name: str = "b", **more: Any) -> dict[str, Any]:
    """A batch of our own runner whose lines were under way then."""
    values = {
        "id": name,
        "created_at": NOW - timedelta(seconds=900),
        "started_at": NOW - timedelta(seconds=600),
        "person": "ada",
        "name": "n",
        "deployment_id": "one",
        "route": "runner",
        "state": "running",
        "file_name": "f",
        "file_sha256": "s",
        "run_id": f"run-{name}",
        "n_lines": len(spans),
    } | more
    with Session(engine) as session:
        session.add(Run(id=f"run-{name}", created_at=NOW, person="ada", source="batch"))
        session.commit()
        session.add(Batch(**values))
        session.commit()
        for no, (began, ended) in enumerate(spans, 1):
            over = None if ended is None else NOW - timedelta(seconds=ended)
            state = "running" if ended is None else "succeeded"
            session.add(
                Call(
                    id=f"{name}-{no}",
                    run_id=f"run-{name}",
                    column_no=0,
                    deployment_id="one",
                    kind="k",
                    model="m",
                    wire="chat",
                    source="load",
                    person="ada",
                    state=state,
                    created_at=NOW - timedelta(seconds=began),
                    ended_at=over,
                )
            )
            session.add(
                BatchLine(
                    batch_id=name, no=no, line=no, record_id=str(no), state=state, call_id=f"{name}-{no}", ended_at=over
                )
            )
        session.commit()
    return values


def test_the_rate_is_of_the_time_in_which_it_worked(engine: Engine) -> None:
    # Ten lines of a second each, then a pause of 40 s, and for 10 s one that is still under way.
    row = put(engine, [*((60.0 - n, 59.0 - n) for n in range(10)), (10.0, None)])
    n, seconds = stats.rate(engine, row, 60, NOW)
    assert n == 10
    assert seconds == pytest.approx(20, abs=0.1)


def test_a_pause_that_reaches_into_the_window_is_left_out_and_what_ended_before_it_too(engine: Engine) -> None:
    row = put(engine, [(400.0, 390.0), *((5.0 - n / 2, 4.5 - n / 2) for n in range(10))])
    assert stats.rate(engine, row, 60, NOW) == (10, pytest.approx(5, abs=0.1))


def test_one_long_call_is_no_pause_and_a_batch_that_just_began_has_no_time_before_it(engine: Engine) -> None:
    row = put(engine, [(60.0, 1.0)])
    assert stats.rate(engine, row, 60, NOW) == (1, pytest.approx(60, abs=0.1))
    fresh = put(engine, [(10.0, 8.0), (8.0, 1.0)], "fresh", started_at=NOW - timedelta(seconds=10))
    assert stats.rate(engine, fresh, 60, NOW) == (2, pytest.approx(10, abs=0.1))


def test_a_slow_limit_of_lines_a_minute_is_no_pause(engine: Engine) -> None:
    row = put(engine, [(55.0, 54.0), (35.0, 34.0), (15.0, 14.0)], per_minute=3)
    assert stats.rate(engine, row, 60, NOW)[1] == 60
    quick = put(engine, [(55.0, 54.0), (35.0, 34.0), (15.0, 14.0)], "quick")
    assert stats.rate(engine, quick, 60, NOW)[1] == pytest.approx(3, abs=0.1)


def test_of_more_lines_than_are_looked_at_none_of_the_time_before_them_counts_as_a_pause(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = put(engine, [(60.0 - n, 59.0 - n) for n in range(60)])
    monkeypatch.setattr(batch_queries.latest, "__defaults__", (20,))
    monkeypatch.setattr(batch_queries, "LATEST", 20)
    n, seconds = stats.rate(engine, row, 60, NOW)
    assert 59 <= n <= 60
    assert seconds == 60


def test_an_estimate_takes_the_pauses_of_finished_batches_out_and_reads_their_calls_once(engine: Engine) -> None:
    # 30 lines, one a second in the first and the last 15 s of ten minutes.
    spans = [(float(at), at - 1.0) for at in (*range(600, 585, -1), *range(15, 0, -1))]
    put(engine, spans, state="ended", ended_at=NOW)
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    found = [estimates(engine, checked(60, 4000), [deployment()], NOW)[0] for _ in range(2)]
    assert [one.seconds_mid for one in found] == [pytest.approx(60, rel=0.01)] * 2
    assert len([one for one in asked if one.startswith("SELECT call.run_id")]) == 1


def test_batches_of_services_and_those_that_are_too_long_to_be_read_keep_their_whole_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = [(600.0, 599.0), (1.0, 0.0)]
    put(engine, spans, "theirs", state="ended", ended_at=NOW, route="openai")
    put(engine, spans, "long", state="ended", ended_at=NOW)
    monkeypatch.setattr(stats, "MOST_LINES", 1)
    whole = stats.working(engine, batch_queries.finished_batches(engine))
    assert [row["seconds"] for row in whole] == [600, 600]
    monkeypatch.undo()
    found = {row["run_id"]: row["seconds"] for row in stats.working(engine, batch_queries.finished_batches(engine))}
    assert found == {"run-theirs": 600, "run-long": pytest.approx(2)}
