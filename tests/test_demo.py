"""Demo data: like real records in every table, the same for the same seed, and never among real ones."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from app.cli.history import make_demo
from db import history, rollups, run_queries
from db import small_tables as small_tables_module
from db.engine import reader
from db.writer import Writer
from services.dashboard import demo
from services.dashboard.demo_calls import PLANS
from services.pricing import hourly
from services.pricing.cost import Price, cost, plain_nanousd
from services.types import Deployment, Usage
from tests.db.rows import ask, do

pytestmark = pytest.mark.slow

END = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
CALLS, DAYS = 6_000, 30
STATES_WITHOUT_COST = {"not_billed", "free", "by_the_hour"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("demo") / demo.FILE
    demo.make(target, CALLS, days=DAYS, end=END)
    return target


@pytest.fixture(scope="module")
def calls(made: Path) -> list[dict[str, Any]]:
    with reader(f"sqlite:///{made}").connect() as connection:
        return [dict(row) for row in connection.execute(rollups.CALL.select()).mappings()]


def test_as_many_calls_as_asked_lie_in_the_time_asked_and_all_are_in_the_rollups(made: Path) -> None:
    engine = reader(f"sqlite:///{made}")
    about = demo.about(engine)
    assert about == demo.About(CALLS, END - timedelta(days=DAYS), END, demo.DEFAULT_SEED)
    wanted = history.Wanted(about.start, about.end)
    for grain in ("h", "d"):
        found = history.pieces(engine, wanted, grain=grain)
        assert sum(int(frame["n"].sum()) for frame in (found.cells, found.calls) if len(frame)) == CALLS
        assert not found.exact
    first, last = history.span_of_calls(engine) or (END, END)
    assert rollups.day_of(about.start) <= first and last < about.end


@pytest.mark.slow
def test_the_last_minutes_hold_as_many_calls_as_those_before_them(tmp_path: Path) -> None:
    """An hour that has just begun has its share of calls, and not a whole hour's."""
    end = datetime(2026, 11, 18, 15, 5, tzinfo=UTC)
    demo.make(tmp_path / demo.FILE, 20_000, days=5, end=end)
    with reader(f"sqlite:///{tmp_path / demo.FILE}").connect() as connection:
        at = [row[0] for row in connection.execute(rollups.CALL.select().with_only_columns(rollups.CALL.c.created_at))]
    last, before = (
        sum(a <= one < a + timedelta(minutes=5) for one in at)
        for a in (end - timedelta(minutes=5), end - timedelta(minutes=10))
    )
    assert 0 < last < before * 2


@pytest.mark.slow
def test_the_rollups_are_those_that_adding_the_calls_up_one_by_one_makes(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite3"
    copy.write_bytes(made.read_bytes())
    url = f"sqlite:///{copy}"
    names = ", ".join(f'"{name}"' for name in (*rollups.KEYS, *rollups.SUMS, *rollups.SKETCHES))
    said = f"SELECT {names} FROM rollup ORDER BY {', '.join(rollups.KEYS)}"
    before = ask(url, said)
    writer = Writer(url)
    writer.start()
    days = sorted({rollups.day_of(END - timedelta(days=back)) for back in range(DAYS + 1)})
    assert do(writer, rollups.unroll_days, days=days) == CALLS
    while do(writer, rollups.fold, limit=2000):
        pass
    assert ask(url, said) == before
    writer.close()
    reader(url).dispose()


@pytest.mark.slow
def test_every_call_costs_what_its_own_price_row_and_counts_say(calls: list[dict[str, Any]]) -> None:
    seen: set[str] = set()
    for row in calls:
        seen.add(row["cost_state"])
        if row["cost_state"] in STATES_WITHOUT_COST:
            assert row["cost_nanousd"] == (None if row["cost_state"] == "by_the_hour" else 0)
            continue
        counts = {name: row[name] for name in rollups.COUNTS}
        usage = Usage(**counts, source="provider" if row["usage_source"] == "provider" else "none")
        price = Price.from_json(row["price"])
        found = cost(usage, price, complete=row["cost_state"] == "exact")
        assert (found.state, found.nanousd) == (row["cost_state"], row["cost_nanousd"])
        assert {name: n for name, n in found.drivers.items() if n} == row["cost_drivers"]
        if not price.context:
            assert plain_nanousd(usage, price) == row["plain_nanousd"]
        else:
            assert row["plain_nanousd"] > row["cost_nanousd"]
    assert seen == {*STATES_WITHOUT_COST, "exact", "lower_bound"}


def test_figures_are_there_where_a_call_streamed_and_nowhere_else(calls: list[dict[str, Any]]) -> None:
    for row in calls:
        if row["state"] == "succeeded" and row["source"] != "batch":
            assert 0 < row["ttft_ms"] <= row["ttfat_ms"] <= row["ttlt_ms"] < row["end_ms"]
        if row["state"] in ("throttled", "failed", "timed_out") or row["source"] == "batch":
            assert row["ttft_ms"] is None and row["decode_tps"] is None
        assert not any(isinstance(value, float) and math.isnan(value) for value in row.values())
    states = {row["state"] for row in calls}
    assert {"succeeded", "throttled", "failed", "cancelled"} <= states
    assert {row["source"] for row in calls} == {"playground", "cli", "batch"}


def test_every_deployment_is_labelled_simulated_and_has_a_colour_of_its_own(made: Path) -> None:
    rows = run_queries.deployment_rows(reader(f"sqlite:///{made}"))
    found = [Deployment.from_json(row.spec or {}) for row in rows]
    assert len(found) == 8 == len({row.color_slot for row in rows})
    assert all(one.labels == ("simulated",) and one.name.startswith("Demo ") for one in found)
    assert len({one.kind for one in found}) >= 5
    assert {one.model for one in found} == {plan.deployment.model for plan in PLANS}


@pytest.mark.slow
def test_hour_priced_deployments_were_on_whenever_they_were_called(made: Path, calls: list[dict[str, Any]]) -> None:
    engine = reader(f"sqlite:///{made}")
    on = hourly.accrued(engine, END - timedelta(days=DAYS), END, END)
    assert set(on["deployment_id"]) == {"demo-6", "demo-7", "demo-8"}
    for row in calls:
        if row["deployment_id"] in ("demo-7", "demo-8"):
            own = on[on["deployment_id"] == row["deployment_id"]]
            assert ((own["on_at"] <= row["created_at"]) & (own["off_at"] >= row["created_at"])).any()


def test_a_price_change_notes_and_an_alert_that_ended_are_part_of_it(made: Path, calls: list[dict[str, Any]]) -> None:
    engine = reader(f"sqlite:///{made}")
    inputs = {
        row["price"]["rates"]["input"]
        for row in calls
        if row["deployment_id"] == "demo-2" and not row["price"]["context"]
    }
    assert inputs == {"1", "0.8"}
    assert [one.note for one in small_tables_module.notes(engine)][::-1][:2] == [
        "Support moved from Sonnet to Haiku",
        "Haiku became 20 % cheaper",
    ]
    assert [one.firing for one in small_tables_module.events(engine)] == [
        False,
        True,
    ] and small_tables_module.firing(engine) == []


@pytest.mark.slow
def test_the_same_seed_gives_the_same_calls_and_another_seed_others(tmp_path: Path) -> None:
    def figures(seed: int) -> list[Any]:
        target = tmp_path / f"{seed}.sqlite3"
        demo.make(target, 300, days=5, seed=seed, end=END)
        return ask(f"sqlite:///{target}", "SELECT id, created_at, ttft_ms, cost_nanousd FROM call ORDER BY id")

    first = figures(1)
    assert len(first) == 300 and figures(1) == first and figures(2) != first


def test_one_call_and_calls_without_any_incident_can_be_made_and_progress_reaches_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    target = tmp_path / "one.sqlite3"
    demo.make(target, 1, days=1, end=END, progress=lambda done, n: told.append((done, n)))
    assert told == [(1, 1)] and ask(f"sqlite:///{target}", "SELECT sum(n) FROM rollup WHERE grain = 'd'") == [(1,)]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["one.lock", "one.sqlite3"]


@pytest.mark.parametrize(("calls", "days"), [(0, 9), (10**9, 9), (5, 0), (5, 10**6), (2_000_000, 1)])
def test_numbers_that_make_no_sense_are_refused_in_words(tmp_path: Path, calls: int, days: int) -> None:
    with pytest.raises(ValueError, match=r"can be simulated"):
        demo.make(tmp_path / "x.sqlite3", calls, days=days)


def test_what_cannot_be_written_is_said_and_what_was_there_is_kept(made: Path, tmp_path: Path) -> None:
    target = tmp_path / demo.FILE
    target.write_bytes(made.read_bytes())
    with target.with_suffix(".lock").open("a+") as lock:
        demo._hold(lock)
        with pytest.raises(demo.DemoTrouble, match="being made already"):
            demo.make(target, 5, end=END)
    target.with_suffix(".making").write_text("in the way")
    with pytest.raises(demo.DemoTrouble, match="could not be written"):
        demo.make(target, 5, end=END)
    about = demo.about(reader(f"sqlite:///{target}"))
    assert about is not None and about.calls == CALLS


def test_the_command_makes_it_beside_the_records_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = tmp_path / "lab.sqlite3"
    real.write_bytes(b"not to be touched")
    assert make_demo(tmp_path, calls=40, days=3, seed=5, as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["calls"] == 40 and said["simulated"] is True and Path(said["file"]) == tmp_path / demo.FILE
    assert real.read_bytes() == b"not to be touched"
    assert make_demo(tmp_path, calls=0, days=3, seed=5, as_json=False) == 1
    assert capsys.readouterr().err == "Between 1 and 10,000,000 calls can be simulated.\n"
    with sqlite3.connect(tmp_path / demo.FILE) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []


def test_what_the_disk_said_is_the_reason(tmp_path: Path) -> None:
    said = {}
    with contextlib.closing(sqlite3.connect(tmp_path / "small.sqlite3")) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        connection.execute("CREATE TABLE a (b)")
        with pytest.raises(sqlite3.Error) as full:
            connection.execute("INSERT INTO a VALUES (randomblob(100000))")
    said["sqlite"] = demo._why(full.value)
    said["sqlalchemy"] = demo._why(OperationalError("INSERT", None, full.value))
    said["file"] = demo._why(OSError(errno.ENOSPC, "No space left on device"))
    migration = OSError("The database could not be brought up to date")
    migration.__cause__ = OperationalError("INSERT", None, full.value)
    said["migration"] = demo._why(migration)
    assert said == {
        "sqlite": "the disk is full",
        "sqlalchemy": "the disk is full",
        "file": "No space left on device",
        "migration": "the disk is full",
    }
