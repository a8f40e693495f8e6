"""`lab history` and `lab rollup` as a script uses them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from app.cli.history import history_params
from app.cli.options import PageOptions
from db import rollups
from db.engine import reader
from db.models import Powered, Rollup
from db.writer import Writer
from services.dashboard.address import ADDRESS
from services.dashboard.filters import LISTS
from services.dashboard.rebuild import OwnRollups, rebuild
from services.paths import ROOT
from tests.dashboard.calls import NOW, START, fill, fold_all, make_calls
from tests.db.rows import ask, do
from tests.engine.house import KEY, KEY_NAME, table
from tests.engine.process import engine_process
from tests.lab_command import run_lab

TEAMS = '[teams]\nsearch = ["ada", "bob"]\n'


@pytest.fixture
def data(migrated_file: Path, tmp_path: Path, open_writer: Any) -> Path:
    """A data directory with calls that are rolled up."""
    shutil.copy(migrated_file, tmp_path / "lab.sqlite3")
    writer = open_writer(url_of(tmp_path))
    fill(writer)
    fold_all(writer)
    (tmp_path / "deployments.toml").write_text(TEAMS)
    return tmp_path


def url_of(data: Path) -> str:
    return f"sqlite:///{data}/lab.sqlite3"


def lab(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = ["--data", str(data)]
    if arguments[0] == "history":
        where += ["--deployments", str(data / "deployments.toml")]
    return run_lab(*arguments, *where)


SPAN = ["--from", START.isoformat(), "--to", NOW.isoformat()]


def test_history_as_json_holds_every_figure_of_the_page_and_agrees_with_the_calls(data: Path) -> None:
    done = lab(data, "history", *SPAN, "--zone", "Europe/Berlin", "--deployment", "A", "--team", "search", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    mine = [r for r in make_calls() if r["deployment_id"] == "a" and r["person"] in ("ada", "bob")]
    kpis = {one["key"]: one for one in found["kpis"]}
    assert kpis["calls"]["value"] == len(mine)
    assert found["spend"]["total"] == kpis["spend"]["value"] == sum(r["cost_nanousd"] or 0 for r in mine)
    assert sum(line["n"] for line in found["states"]) == len(mine)
    assert set(found["latency"]) == {"ttft", "ttfat", "ttlt", "tpot", "decode", "e2e"}
    assert {
        "cost",
        "savings",
        "pace",
        "scatter",
        "ranking",
        "repriced",
        "heatmap",
        "distribution",
        "medians",
        "throughput",
        "said",
        "notes",
        "window",
        "filter",
    } <= set(found)
    assert all(sum(line["nanousd"] for line in found["cost"][by]) == found["spend"]["total"] for by in found["cost"])
    assert any(line["p95"] is None for line in found["latency"]["ttft"]), "a percentile that is not shown is null"


def test_history_in_words_names_deployments_and_says_where_the_figures_come_from(data: Path) -> None:
    done = lab(data, "history", *SPAN)
    assert done.returncode == 0, done.stderr
    assert "900 calls, each one read" in done.stdout and "≥ $" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--deployment", "nobody"], "no deployment “nobody”"),
        (["--range", "9y"], "no range “9y”; it can be 1h, 24h, 7d,"),
        (["--range", "custom"], "needs a day or a moment"),
        (["--range", "24h", "--from", "2026-10-01"], "--range 24h and --from are two ranges"),
        (["--team", "none"], "no team “none”"),
        (["--zone", "Mars"], "no time zone “Mars”; it can be UTC or a name like Europe/Berlin."),
        (["--from", "soon"], "“soon” is no date"),
    ],
)
def test_a_filter_that_means_nothing_is_refused_in_words(data: Path, arguments: list[str], words: str) -> None:
    done = lab(data, "history", *arguments, "--json")
    assert done.returncode == 2 and words in done.stderr and not done.stdout
    assert "shown" not in done.stderr, "nothing is shown in place of what was asked"


@pytest.mark.parametrize("command", ["history", "runs", "rollup"])
def test_where_there_is_no_database_none_is_made(tmp_path: Path, command: str) -> None:
    missing = tmp_path / "missing"
    done = lab(missing, command)
    assert done.returncode == 2 and f"There is no database in {missing}" in done.stderr and not done.stdout
    assert not missing.exists()


def test_paid_hours_without_a_call_are_an_amount_and_not_without_a_price(data: Path, open_writer: Any) -> None:
    on = Powered(deployment_id="a", on_at=NOW, off_at=None, usd_per_hour="2.5")
    do(open_writer(url_of(data)), lambda *, session: session.add(on))
    later = NOW + timedelta(hours=1)
    done = lab(data, "history", "--from", later.isoformat(), "--to", (later + timedelta(hours=2)).isoformat())
    assert done.returncode == 0, done.stderr
    (line,) = [one for one in done.stdout.splitlines() if one.startswith("A ")]
    assert "$5.00" in line and "no price" not in line


PAGE = {
    "range": "custom",
    "since": START.isoformat(),
    "until": NOW.isoformat(),
    "zone": "Europe/Berlin",
    "persons": "ada,bob",
    "deployments": "a",
    "metric": "ttft",
}


def test_a_view_goes_from_the_browser_to_the_command_line_by_its_address(data: Path) -> None:
    spelt = lab(
        data,
        "history",
        *SPAN,
        "--zone",
        "Europe/Berlin",
        "--person",
        "ada",
        "--person",
        "bob",
        "--deployment",
        "a",
        "--json",
    )
    by_url = lab(data, "history", "--url", f"http://127.0.0.1:8501/history?{urlencode(PAGE)}", "--json")
    own = [part for name in ("since", "until", "zone", "persons") for part in (f"--{name}", PAGE[name])]
    by_words = lab(data, "history", *own, "--deployment", "a", "--json")
    assert spelt.returncode == by_url.returncode == by_words.returncode == 0, by_url.stderr + by_words.stderr
    first, *others = (
        {name: json.loads(done.stdout)[name] for name in ("filter", "window", "kpis", "ranking")}
        for done in (spelt, by_url, by_words)
    )
    assert first["filter"]["person"] == "ada,bob" and others == [first, first]


def test_every_word_of_the_page_is_understood_and_none_is_in_the_help() -> None:
    words = {one.name for one in fields(PageOptions)}
    assert words | {"range", "zone", "deployments"} == set(ADDRESS.values())
    lists = dict.fromkeys(LISTS.values())
    found, file = history_params({}, lists, PageOptions(since="2026-01-01", tags=["a,b", "c"]), Path("d1"), None)
    assert (found, file) == ({"from": "2026-01-01", "tag": "a,b,c", "deployment": "d1"}, None)
    assert history_params({}, lists, None, Path("x.toml"), None) == ({}, Path("x.toml"))
    url = "https://lab.example/history?range=30d&sources=batch&by=model&embed=true"
    assert history_params({"from": "2026-01-01"}, lists, None, None, url)[0] == {
        "from": "2026-01-01",
        "source": "batch",
    }
    shown = run_lab("history", "--help").stdout
    assert "--url" in shown and "--since" not in shown


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://h/runs?range=7d", "This is not the address of the History page"),
        ("http://h/history?foo=1", "a word the History page does not know: “foo”."),
        ("http://h/history?demo=1", "This address shows the demo data"),
        ("http://[h/history", "This is no address"),
    ],
)
def test_an_address_that_shows_no_view_is_refused_in_words(data: Path, url: str, words: str) -> None:
    done = lab(data, "history", "--url", url)
    assert done.returncode == 2 and words in done.stderr and not done.stdout


# Ctrl-C at the moment a module is loaded: the program's own first one, a command's, and one in the middle of work.
STOP_AT = """
import builtins, os, signal
load = builtins.__import__
def loading(name, *rest, **more):
    if name == {name!r}:
        builtins.__import__ = load
        os.kill(os.getpid(), signal.SIGINT)
    return load(name, *rest, **more)
builtins.__import__ = loading
"""


@pytest.mark.parametrize("name", ["getpass", "cyclopts", "services.client", "alembic"])
@pytest.mark.parametrize("command", ["rollup", "history", "demo"])
def test_ctrl_c_at_the_start_is_one_sentence(tmp_path: Path, command: str, name: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(STOP_AT.format(name=name))
    if command != "demo":  # a file that is still to be made into a database; a reading command makes none
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "lab.sqlite3").touch()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "app.cli", command, "--data", str(tmp_path / "data")],
        cwd="/",
        text=True,
        capture_output=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "LAB_EMBEDDED": "0"},
    )
    assert (done.returncode, done.stderr.strip()) == (130, "Stopped before it was done; what was recorded is kept.")


def cells(data: Path) -> list[Any]:
    names = ", ".join(f'"{name}"' for name in (*rollups.KEYS, *rollups.SUMS, *rollups.SKETCHES))
    return [tuple(row) for row in ask(url_of(data), f"SELECT {names} FROM rollup ORDER BY {', '.join(rollups.KEYS)}")]


@pytest.fixture
def spoiled(data: Path, open_writer: Any) -> Iterator[tuple[Path, list[Any]]]:
    """Rollups with a wrong number and with a cell that no call stands behind; and what they should be."""
    right = cells(data)
    writer = open_writer(url_of(data))
    ghost = {name: "x" for name in rollups.KEYS} | {"grain": "h", "bucket": START - timedelta(hours=5)}
    do(writer, lambda *, session: session.add(Rollup(**ghost, n=3)))
    do(writer, lambda *, session: session.execute(rollups.ROLLUP.update().values(n=rollups.ROLLUP.c.n + 1)) and None)
    assert cells(data) != right
    yield data, right


def test_a_rebuild_without_an_engine_makes_the_rollups_those_of_the_calls(spoiled: tuple[Path, list[Any]]) -> None:
    data, right = spoiled
    done = lab(data, "rollup", "--rebuild")
    assert done.returncode == 0, done.stderr
    assert "900 calls rolled up" in done.stdout
    assert cells(data) == right


def test_a_rebuild_goes_through_the_engine_that_runs(spoiled: tuple[Path, list[Any]]) -> None:
    data, right = spoiled
    file = data / "deployments.toml"
    file.write_text(table("good", "fake", "http://127.0.0.1:9"))
    with engine_process(data, file, {KEY_NAME: KEY}) as engine:
        engine.start().close()
        done = lab(data, "rollup", "--rebuild")
        assert done.returncode == 0, done.stderr
        assert cells(data) == right


def test_a_rebuild_that_is_stopped_half_way_loses_nothing(spoiled: tuple[Path, list[Any]], open_writer: Any) -> None:
    data, right = spoiled
    writer: Writer = open_writer(url_of(data))

    def stop(done: int, added: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    from db.runs import days_kept

    with reader(url_of(data)).connect() as connection:
        days = days_kept(connection)
    with pytest.raises(KeyboardInterrupt):
        rebuild(OwnRollups(writer), days, stop)
    assert rebuild(OwnRollups(writer), days, lambda *_: None) == 900
    assert cells(data) == right
