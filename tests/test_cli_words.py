"""What the commands take and refuse before anything is read or sent, and what their help says."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App
from cyclopts.exceptions import CycloptsError

from app.cli.batch_commands import file_options, in_command_words, in_dollars, local_path, next_step, utf8
from app.cli.main import app as lab
from app.cli.options import ReadingOptions, name_value_pairs
from services.batch.estimate import Estimate
from services.batch.files import check
from services.batch.types import Options
from services.paths import ROOT
from tests.lab_command import run_lab

HUGE = "9" * 30
# What takes long to load; a help needs none of it.
HEAVY = """
aiohttp alembic altair anthropic boto3 botocore dbos genai_prices httpx numpy openai openpyxl orjson
pandas psycopg pyarrow pydantic sqlalchemy sqlmodel starlette streamlit yarl
"""
LOADED = """
import runpy, sys
sys.argv = ["lab", *sys.argv[1:]]
try:
    runpy.run_module("app.cli", run_name="__main__", alter_sys=True)
finally:
    print(*sys.modules, file=sys.stderr)
"""
SUBMIT = ("batch", "submit", "file.csv", "-d", "good")


def commands(of: App, *way: str) -> Iterator[tuple[str, ...]]:
    """The ways to all commands."""
    for name in of:
        if not name.startswith("-"):
            yield from commands(of[name], *way, name)
    if of.default_command is not None and way:
        yield way


@pytest.mark.parametrize("way", list(commands(lab)), ids=" ".join)
def test_the_help_of_a_command_says_what_each_option_is(way: tuple[str, ...]) -> None:
    command = lab
    for name in way:
        command = command[name]
    arguments = [one for one in command.assemble_argument_collection(parse_docstring=True) if one.show]
    assert [one.name for one in arguments if not one.parameter.help] == []


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            (*SUBMIT, option, value)
            for option in ("--budget", "--objective")
            for value in ("inf", "-inf", "nan", "-1", "0", "1e300", HUGE)
        ),
        *((*SUBMIT, option, value) for option in ("--lanes", "--per-minute") for value in ("0", "-1", HUGE, "nan")),
        ("batch", "list", "--limit", "0"),
        ("batch", "list", "--limit", HUGE),
        ("runs", "--limit", HUGE),
        ("demo", "--seed", HUGE),
        ("demo", "--calls", HUGE),
        ("demo", "--days", "0"),
        ("run", "--port", HUGE),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused_by_name(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CycloptsError) as refused:
        lab.parse_args(arguments, exit_on_error=False, print_error=False)
    assert arguments[-2] in str(refused.value)


def test_what_the_engine_takes_is_taken() -> None:
    given = (*SUBMIT, "--budget", "0.5", "--objective", "2", "--lanes", "1024", "--per-minute", "1")
    _, bound, _ = lab.parse_args(given, exit_on_error=False, print_error=False)
    assert (bound.kwargs["budget"], bound.kwargs["lanes"]) == (0.5, 1024)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("max_tokens=" + "1" * 5000, "1" * 5000), ("stop=" + "[" * 100_000, "[" * 100_000), ("a=1e999", float("inf"))],
)
def test_a_parameter_that_json_cannot_read_is_kept_as_it_was_written(given: str, kept: object) -> None:
    (value,) = name_value_pairs([given]).values()
    assert value == kept


@pytest.mark.parametrize(
    "given",
    [
        {"param": ["max_tokens=" + "1" * 5000]},
        {"param": ["temperature=nan"]},
        {"param": ["max_tokens=" + HUGE]},
        {"template": "a\udcff"},
        {"system": "\udcff"},
        {"param": ["stop=\udcff"]},
        {"sheet": "\udcff"},
    ],
)
def test_options_that_cannot_be_sent_are_one_sentence(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\.$") as refused:
        file_options(ReadingOptions(**given))  # type: ignore[arg-type]
    assert "codec" not in str(refused.value)


def test_bytes_that_are_no_utf8_are_named_by_what_they_are_in() -> None:
    assert utf8("Grüße", "--name") == "Grüße"
    with pytest.raises(ValueError, match="--name holds bytes that are no UTF-8"):
        utf8("\udcff", "--name")


def test_money_in_what_a_script_reads_is_named_in_dollars_and_exact() -> None:
    found = in_dollars(Estimate("d", "runner", cost_low=54_399_000, cost_high=None, plain_mid=10**9).to_json())
    assert found is not None
    assert (found["cost_low_usd"], found["cost_high_usd"], found["plain_mid_usd"]) == ("0.054399", None, "1")
    assert not {"cost_low", "plain_mid"} & set(found)
    assert json.loads(json.dumps(found)) == found
    assert in_dollars(None) is None


def test_what_the_page_has_a_button_for_the_command_line_has_an_option_for(tmp_path: Path) -> None:
    """The very sentences of a check, so that one that is written anew there is missed here."""
    for text, option in (
        (b"id,prompt\na,caf\xe9\n", "--encoding cp1252"),
        (b"id,prompt\na,x\na,y\n", "--suffix-ids"),
        (b"id,question of mine\na,x\n", "--template"),
    ):
        path = tmp_path / "a.csv"
        path.write_bytes(text)
        found = check(path, Options())
        said = in_command_words(" ".join(fault.text for fault in found.faults))
        assert option in said
        assert "press" not in said
        assert "Choose" not in said
    named = check(path, Options(id_column="nothing")).refused or ""
    assert "--id-column" in in_command_words(named)


def test_a_batch_that_stopped_is_told_with_the_command_that_goes_on() -> None:
    row = {"id": "abc", "state": "paused", "n_lines": 3, "budget_nanousd": 1}
    assert "`lab batch resume abc`" in (next_step(row, {}) or "")
    assert "--budget" in (next_step(row, {}) or "")
    over = row | {"state": "ended"}
    assert next_step(over, {"succeeded": 3}) is None
    assert "resend abc` sends the 2 lines" in (next_step(over, {"succeeded": 1, "failed": 2}) or "")
    assert next_step(row | {"state": "running"}, {"succeeded": 1}) is None


def test_a_path_that_leads_nowhere_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for path in (str(tmp_path / "a"), "~nobody-of-that-name/a.csv"):
        with pytest.raises(ValueError, match="leads nowhere"):
            local_path(path, tmp_path)


@pytest.mark.slow
def test_a_help_and_the_version_load_nothing_heavy() -> None:
    needless: dict[str, set[str]] = {}
    for arguments in ("--help", "--version", "runs --help", "batch --help", "batch submit --help", "history --help"):
        done = subprocess.run(
            [sys.executable, "-c", LOADED, *arguments.split()], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        modules = {name.partition(".")[0] for name in done.stderr.split()}
        assert "cyclopts" in modules
        if heavy := modules & set(HEAVY.split()):
            needless[arguments] = heavy
    assert needless == {}


def test_the_version_is_the_one_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert run_lab("--version").stdout == f"Inference Lab {version}\n"
