"""Our own calls as speeds and as a workload."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from db.engine import reader
from db.history import Wanted
from db.migrate import upgrade
from db.models import Call, DeploymentRow, Run
from db.writer import Writer
from services.calculator import measured, presets, rank
from services.calculator.types import Objectives
from tests.db.rows import call_row, run_row

START = datetime(2026, 11, 1, 0, tzinfo=UTC)
WEEK = Wanted(START, START + timedelta(days=7))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    upgrade(f"sqlite:///{folder}/lab.sqlite3", folder)
    return folder / "lab.sqlite3"


def _filled(template: Path, folder: Path, calls: list[dict[str, Any]], base_url: str, **spec: Any) -> Engine:
    shutil.copy(template, folder / "lab.sqlite3")
    url = f"sqlite:///{folder}/lab.sqlite3"
    usual = {
        "deployment_id": "one",
        "kind": "openai",
        "model": "gpt-4.1",
        "state": "succeeded",
        "ttft_ms": 400.0,
        "ttlt_ms": 2400.0,
        "decode_tps": 50.0,
        "uncached_input": 900,
        "cache_read": None,
        "answer_output": 100,
        "lag_marked": False,
    }
    rows = [call_row(f"c{no}", "r", **(usual | call)) for no, call in enumerate(calls)]
    known = {
        "id": "one",
        "spec": {"name": "Mine", "base_url": base_url} | spec,
        "color_slot": 0,
        "origin": "file",
        "enabled": True,
        "archived": False,
        "created_at": START,
        "updated_at": START,
    }
    columns = {one.name for one in DeploymentRow.__table__.columns}  # type: ignore[attr-defined]  # made at run time

    def fill(session: Any) -> None:
        session.execute(insert(Run).values(**run_row("r")))
        session.execute(insert(DeploymentRow).values(**{key: known[key] for key in known if key in columns}))
        for row in rows:
            session.execute(insert(Call).values(**row))

    writer = Writer(url)
    writer.start()
    writer.submit(fill).result(60)
    writer.close()
    return reader(url)


def _at(minutes: float, **values: Any) -> dict[str, Any]:
    return {"created_at": START + timedelta(minutes=minutes), **values}


@pytest.mark.slow
def test_speeds_are_the_quantiles_of_the_calls_that_can_be_trusted(template: Path, tmp_path: Path) -> None:
    calls = [_at(no, ttft_ms=100.0 * (no + 1)) for no in range(21)]
    calls += [_at(30, ttft_ms=9e6, lag_marked=True), _at(31, ttft_ms=9e6, state="failed")]
    calls += [_at(32, ttft_ms=9e6, source="batch"), _at(33, ttft_ms=9e6, source="test")]
    engine = _filled(template, tmp_path, calls, "https://api.openai.com/v1")
    speed = measured.of(engine, WEEK)["openai/gpt-4.1"]
    assert (speed.n, speed.kind, speed.date) == (21, "measured", "2026-11-01")
    assert speed.ttft_p50_s == pytest.approx(1.1)
    assert speed.ttft_p95_s == pytest.approx(2.0)
    assert speed.tok_s_p50 == 50.0
    assert measured.deployments(engine, WEEK)[0].name == "Mine"


def test_a_server_that_only_speaks_the_wire_is_not_the_service(template: Path, tmp_path: Path) -> None:
    engine = _filled(template, tmp_path, [_at(no) for no in range(9)], "http://127.0.0.1:9000/v1")
    assert measured.of(engine, WEEK) == {}
    assert measured.deployments(engine, WEEK)[0].n == 9


def test_a_machine_that_was_measured_takes_the_place_of_its_estimate(template: Path, tmp_path: Path) -> None:
    own = {"model": "meta-llama/Llama-3.1-8B-Instruct", "price": {"instance": "g6e.xlarge"}}
    calls = [_at(no, ttft_ms=100.0 * (no + 1)) for no in range(21)]
    speeds = measured.of(_filled(template, tmp_path, calls, "http://10.0.0.1/v1", **own), WEEK)
    assert set(speeds) == {"ec2/g6e.xlarge/Llama-3.1-8B"}
    goal = Objectives(ttft_s=3.0, models=("Llama-3.1-8B",))
    before, after = (rank.calculate(presets.FIRST.workload, goal, measured=one) for one in (None, speeds))
    found = [one for answer in (before, after) for one in answer.options if one.id.startswith("ec2/g6e.xlarge/")]
    assert found[0].timed == "estimated" and found[-1].timed == "measured, n 21"
    assert found[-1].ttft_p95_s is not None and found[-1].ttft_p95_s.mid == pytest.approx(2.0)


def test_few_calls_have_no_p95_and_fewer_have_no_speed(template: Path, tmp_path: Path) -> None:
    nine = _filled(template, tmp_path, [_at(no) for no in range(9)], "https://api.openai.com")
    assert measured.of(nine, WEEK)["openai/gpt-4.1"].ttft_p95_s is None
    folder = tmp_path / "four"
    folder.mkdir()
    assert measured.of(_filled(template, folder, [_at(no) for no in range(4)], "https://api.openai.com"), WEEK) == {}


def test_the_history_is_a_workload(template: Path, tmp_path: Path) -> None:
    # Two days, a call every ten minutes from eight to twelve, a fifth of the input from the cache, one in four batch.
    calls = [
        _at(day * 1440 + 480 + no * 10, uncached_input=800, cache_read=200, source="batch" if no % 4 == 0 else "cli")
        for day in range(2)
        for no in range(24)
    ]
    found = measured.history(_filled(template, tmp_path, calls, "x://y"), Wanted(START, START + timedelta(hours=56)))
    assert found is not None
    work = found.workload
    assert found.n == 48
    assert work.rpm == pytest.approx(48 / (48 * 60))
    assert work.input_tokens.median == 1000
    assert work.output_tokens.median == 100
    assert [hour for hour, weight in enumerate(work.shape) if weight] == [8, 9, 10, 11]
    assert work.prefix_share == pytest.approx(0.2)
    assert work.batch_share == pytest.approx(0.25)
    assert work.burstiness == pytest.approx(0.05)  # every ten minutes to the second: no bunches at all


def test_below_a_day_the_shape_is_flat_and_that_is_said(template: Path, tmp_path: Path) -> None:
    engine = _filled(template, tmp_path, [_at(no) for no in range(9)], "x://y")
    found = measured.history(engine, Wanted(START, START + timedelta(hours=3)))
    assert found is not None
    assert len(set(found.workload.shape)) == 1
    assert any("less than a day" in one for one in found.sentences)
    assert any("No service reported cached input" in one for one in found.sentences)


def test_without_calls_there_is_no_workload(template: Path, tmp_path: Path) -> None:
    engine = _filled(template, tmp_path, [], "x://y")
    assert measured.history(engine, WEEK) is None
    assert measured.of(engine, WEEK) == {}


def test_of_many_calls_only_the_newest_are_read_and_that_is_said(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "NEWEST", 10)
    engine = _filled(template, tmp_path, [_at(no, answer_output=1000 if no < 20 else 10) for no in range(30)], "x://y")
    found = measured.history(engine, WEEK)
    assert found is not None
    assert (found.n, found.workload.output_tokens.median) == (10, 10)
    assert "Only the newest 10 of 30 were read." in found.sentences
