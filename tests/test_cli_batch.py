"""`lab batch` as a script uses it: an engine with its worker, and a fake server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from db.engine import database_url
from services import paths
from services.client import EngineClient, EngineError
from services.paths import ROOT
from tests.engine.house import KEY, KEY_NAME, table
from tests.engine.process import EngineProcess, engine_process
from tests.fake.fixture import FakeServerThread
from tests.lab_command import run_lab

pytestmark = pytest.mark.slow

GOOD = "id,text\na1,Why?\na2,=1+1\na3,\x1b[31mred\n"
BAD = "id,text\na1,Why?\na2,\n"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """The engine of `lab run`, which the commands find and use."""
    data = tmp_path_factory.mktemp("data")
    file = data / "deployments.toml"
    with FakeServerThread() as fake:
        file.write_text(
            table("good", "fake?tokens=5&itl=1", fake.url)
            + table("broken", "fake?fault=http_400", fake.url)
            + table("slow", "fake?tokens=2000&itl=20", fake.url)
        )
        with engine_process(data, file, {KEY_NAME: KEY}) as made:
            made.start().close()
            yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path, GOOD)


def write(folder: Path, text: str) -> Path:
    path = folder / "reviews.csv"
    # Its own bytes in every test: the same file twice is asked about.
    path.write_text(text.replace("a1", f"a1-{abs(hash(str(folder)))}"))
    return path


def lab(engine: EngineProcess, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    where = ["--data", str(engine.data)]
    if arguments[0] not in ("list", "show", "results"):
        where += ["--deployments", str(engine.file)]
    done = run_lab("batch", *arguments, *where, env={KEY_NAME: KEY})
    assert KEY not in done.stdout + done.stderr
    return done


def one(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
    return found


def submitted(engine: EngineProcess, file: Path, *more: str, name: str = "good") -> dict[str, Any]:
    return one(lab(engine, "submit", file, "-d", name, "--template", "{{text}}", "--wait", "--json", *more))


def test_check_says_what_is_in_a_file_and_needs_no_engine_for_it(engine: EngineProcess, file: Path) -> None:
    done = lab(engine, "check", file)
    assert done.returncode == 0
    assert "CSV · 3 lines · 2 columns: id, text" in done.stdout
    found = one(lab(engine, "check", file, "--json"))
    assert (found["n_valid"], found["n_faults"], found["sendable"]) == (3, 0, True)
    assert found["options"]["prompt"] == "{{text}}"


def test_check_names_each_fault_with_its_line_and_its_exit_code_says_so(engine: EngineProcess, tmp_path: Path) -> None:
    bad = write(tmp_path, BAD)
    done = lab(engine, "check", bad)
    assert done.returncode == 1
    assert "1 of 2 lines can be sent; 1 fault:" in done.stdout
    assert "Line 3: the prompt is empty" in done.stdout
    assert one(lab(engine, "check", bad, "--json"))["faults"][0]["line"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "/nowhere.csv"], "There is no file at /nowhere.csv"),
        (["check", "FILE", "--param", "nonsense=1"], "is not a parameter here"),
        (["check", "FILE", "-d", "nobody"], "There is no deployment “nobody”"),
        (["submit", "FILE", "-d", "nobody"], "There is no deployment “nobody”"),
        (["submit", "FILE", "-d", "good", "--route", "openai"], "OpenAI"),
        (["check", "/dev/zero"], "/dev/zero is a device, not a file"),
        (["check", "/proc/self/mem"], "mem cannot be read (Input/output error)"),
        (["show", "nothing"], "There is no batch “nothing”"),
        (["show", ".."], "There is no batch “..”"),
        (["show", ""], "There is no batch “”"),
        (["cancel", ".."], "There is no batch “..”"),
        (["submit", "FILE", "-d", "good", "--budget", "inf"], "--budget"),
        (["submit", "FILE", "-d", "good", "--name", "\udcff"], "--name holds bytes that are no UTF-8"),
        (["show", "\udcff"], "There is no batch"),
        (["results", "nothing", "--to", "/nowhere/at/all.csv"], "There is no batch “nothing”"),
        (["cancel", "nothing"], "There is no batch “nothing”"),
        (["results", "nothing"], "There is no batch “nothing”"),
    ],
)
def test_bad_input_is_one_sentence_and_not_a_traceback(
    engine: EngineProcess, file: Path, arguments: list[str], words: str
) -> None:
    done = lab(engine, *(str(file) if one == "FILE" else one for one in arguments))
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert not done.stdout


def test_check_with_a_deployment_tells_every_route_with_its_cost_or_why_not(engine: EngineProcess, file: Path) -> None:
    estimates = one(lab(engine, "check", file, "-d", "good", "--json"))["estimates"]
    assert estimates[0]["route"] == "runner"
    assert estimates[0]["why_not"] is None
    assert all(one["why_not"] for one in estimates if one["route"] == "bedrock")
    assert "cost_mid_usd" in estimates[0]
    assert not [name for name in estimates[0] if name.startswith(("cost_", "plain_")) and not name.endswith("_usd")]


def test_a_submitted_file_is_answered_and_its_results_stand_beside_its_columns(
    engine: EngineProcess, file: Path, tmp_path: Path
) -> None:
    row = submitted(engine, file, "--name", "My reviews")
    assert (row["state"], row["counts"], row["n_lines"]) == ("ended", {"succeeded": 3}, 3)
    assert row["name"] == "My reviews"
    printed = lab(engine, "results", row["id"])
    assert printed.returncode == 0
    lines = printed.stdout.splitlines()
    assert lines[0].startswith("id,text,lab_line")
    assert ",'=1+1," in printed.stdout, "what a spreadsheet would run is text"
    exact = [json.loads(line) for line in lab(engine, "results", row["id"], "--json").stdout.splitlines()]
    assert [line["text"] for line in exact] == ["Why?", "=1+1", "\x1b[31mred"]
    assert all(line["lab_state"] == "succeeded" and line["lab_answer"] for line in exact)
    for ending in ("xlsx", "parquet", "jsonl"):
        target = tmp_path / f"out.{ending}"
        assert lab(engine, "results", row["id"], "--to", target).returncode == 0
        assert target.stat().st_size > 100


def test_show_and_list_tell_how_it_stands_in_words_and_as_objects(engine: EngineProcess, file: Path) -> None:
    row = submitted(engine, file)
    shown = lab(engine, "show", row["id"])
    assert "3 sent = 3 succeeded." in shown.stdout
    assert one(lab(engine, "show", row["id"][:12], "--json")) == row
    listed = [json.loads(line)["id"] for line in lab(engine, "list", "--json").stdout.splitlines()]
    assert listed[0] == row["id"]
    assert "reviews" in lab(engine, "list").stdout


def test_lines_that_fail_are_explained_and_make_the_exit_code_say_so(engine: EngineProcess, file: Path) -> None:
    done = lab(engine, "submit", file, "-d", "broken", "--wait", "--json")
    assert done.returncode == 1
    row = one(done)
    assert row["counts"] == {"failed": 3}
    shown = lab(engine, "show", row["id"]).stdout
    assert "3 failed:" in shown
    assert lab(engine, "results", row["id"]).returncode == 1
    again = one(lab(engine, "resend", row["id"], "--json"))
    assert again["parent_id"] == row["id"]


def test_the_same_file_twice_and_invalid_lines_need_a_word(engine: EngineProcess, file: Path, tmp_path: Path) -> None:
    submitted(engine, file)
    done = lab(engine, "submit", file, "-d", "good")
    assert done.returncode == 2
    assert "give --again to send it again" in done.stderr
    assert submitted(engine, file, "--again")["counts"] == {"succeeded": 3}
    bad = write(tmp_path, BAD)
    refused = lab(engine, "submit", bad, "-d", "good")
    assert refused.returncode == 2
    assert "Nothing was sent" in refused.stderr
    row = submitted(engine, bad, "--leave-out")
    assert (row["n_lines"], row["n_left_out"]) == (1, 1)


def test_a_batch_is_paused_resumed_and_cancelled(engine: EngineProcess, file: Path) -> None:
    row = one(lab(engine, "submit", file, "-d", "slow", "--lanes", "1", "--json"))
    assert (row["n_lines"], row["recording"]) == (3, False), "it is told when the lines are recorded"
    assert lab(engine, "pause", row["id"]).returncode == 0
    assert lab(engine, "resume", row["id"]).returncode == 0
    assert lab(engine, "cancel", row["id"]).returncode == 0
    done = lab(engine, "cancel", row["id"])
    assert done.returncode in (0, 2)


def test_an_output_that_takes_nothing_is_named_and_not_the_data_directory(engine: EngineProcess, file: Path) -> None:
    row = submitted(engine, file)
    kept = lab(engine, "results", row["id"], "--to", "/dev/full")
    assert kept.returncode == 2
    assert kept.stderr.startswith("/dev/full cannot be written (No space left on device): they are kept here")
    for command in (["results", row["id"]], ["show", row["id"]]):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "app.cli", "batch", *command, "--data", str(engine.data)],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=180,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        assert done.returncode == 2
        assert "(No space left on device)" in done.stderr
        assert "data directory" not in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("ident", ["..", ".", "", "a/b", "%2e%2e"])
def test_an_id_that_a_path_takes_for_something_else_is_refused_in_words(engine: EngineProcess, ident: str) -> None:
    client = EngineClient(paths.socket_path(engine.data), role="admin")
    with closing(client), pytest.raises(EngineError, match="This batch is not in the records"):
        client.batches.cancel(ident)


def test_what_was_spent_is_a_lower_bound_where_the_cost_of_a_try_is_not_known(
    engine: EngineProcess, file: Path
) -> None:
    row = submitted(engine, file)
    assert row["spent_is_lower_bound"] is False
    with create_engine(database_url(engine.data)).begin() as connection:
        connection.execute(
            text("UPDATE call SET cost_nanousd = 2000, cost_state = 'exact' WHERE run_id = :run"),
            {"run": row["run_id"]},
        )
    assert "spent $0.000006" in lab(engine, "show", row["id"]).stdout
    with create_engine(database_url(engine.data)).begin() as connection:
        connection.execute(
            text("UPDATE call SET cost_nanousd = NULL, cost_state = 'unknown' WHERE repetition = 1 AND run_id = :run"),
            {"run": row["run_id"]},
        )
    assert "spent ≥ $0.000004" in lab(engine, "show", row["id"]).stdout
    found = one(lab(engine, "show", row["id"], "--json"))
    assert (found["spent_usd"], found["spent_is_lower_bound"]) == ("0.000004", True)
