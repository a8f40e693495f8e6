"""`lab` as a script uses it, on a fake server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from services.paths import ROOT
from services.runs.spec import SUGGESTED
from services.types import Timing
from tests.engine.house import KEY, KEY_NAME, table
from tests.engine.process import EngineProcess, engine_process
from tests.fake.fixture import FakeServerThread
from tests.lab_command import run_lab

pytestmark = pytest.mark.slow

HOSTILE = "[/]:bomb:[red]\x1b[31m"


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServerThread]:
    with FakeServerThread() as server:
        yield server


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, fake: FakeServerThread) -> Iterator[EngineProcess]:
    """The engine of `lab run`, which the commands find and use."""
    data = tmp_path_factory.mktemp("data")
    file = data / "deployments.toml"
    file.write_text(
        table("good", "fake?tokens=40&itl=20&ttft=50&cached=3", fake.url)
        + table("claude-like", "fake?tokens=8", fake.url, "messages")
        + table("broken", "fake?fault=http_500", fake.url)
        + table("slow", "fake?tokens=2000&itl=20", fake.url)
        + table("needy", "fake", fake.url, "messages", key_env="A_KEY_THAT_NOBODY_SET")
        + table("odd", "fake?tokens=3", fake.url).replace(
            'name = "odd"', f"name = {json.dumps('odd [/] :bomb: [red]')}"
        )
    )
    with engine_process(data, file, {KEY_NAME: KEY}) as made:
        made.start().close()
        yield made


def lab(engine: EngineProcess, *arguments: str, file: Path | None = None) -> subprocess.CompletedProcess[str]:
    where = ["--data", str(engine.data)]
    if arguments[0] != "runs":
        where += ["--deployments", str(file or engine.file)]
    done = run_lab(*arguments, *where, env={KEY_NAME: KEY})
    assert KEY not in done.stdout + done.stderr
    return done


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_send_gives_one_object_per_call_with_every_figure(engine: EngineProcess) -> None:
    done = lab(engine, "send", "Hello", "-d", "good", "-d", "claude-like", "--param", "max_tokens=50", "--json")
    assert done.returncode == 0, done.stderr
    good, claude = lines(done)
    assert {field.name for field in fields(Timing)} <= set(good) | set(good.get("timing", {}))
    timing = good.get("timing", good)
    assert timing["ttft_ms"] > 0
    assert timing["ttlt_ms"] > timing["ttft_ms"]
    assert timing["decode_tps"] == pytest.approx(50, rel=0.5)
    assert (good["state"], claude["state"]) == ("succeeded", "succeeded")
    assert json.dumps(good).count("cache") >= 1
    listed = lines(lab(engine, "runs", "--run", good["run_id"], "--json"))
    assert listed == [good, claude], "what is printed is what was recorded"


def test_an_answer_is_bounded_as_on_the_playground_unless_the_person_says_otherwise(engine: EngineProcess) -> None:
    sent = {
        given: lines(lab(engine, "send", "Hello", "-d", "good", *given, "--json"))[0]["params_sent"]["max_tokens"]
        for given in ((), ("--param", "temperature=0"), ("--param", "max_tokens=900"))
    }
    assert list(sent.values()) == [SUGGESTED.max_tokens, SUGGESTED.max_tokens, 900]
    told = " ".join(lab(engine, "send", "--help").stdout.split())
    assert f"ends after {SUGGESTED.max_tokens} tokens" in told.replace("│ ", "")


def test_prompt_caching_is_asked_of_every_column_and_what_is_not_sent_is_said(engine: EngineProcess) -> None:
    done = lab(engine, "send", "Hello", "-d", "good", "-d", "claude-like", "--cache", "5m", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["cache"]["asked"] for row in rows] == ["5m", "5m"]
    assert all("cache" in row["params_not_sent"] for row in rows), "neither of these models has it"
    assert "Prompt caching was not sent" in lab(engine, "send", "Hello", "-d", "good", "--cache", "1h").stderr


def test_a_prompt_may_begin_with_a_hyphen_and_a_hyphen_reads_standard_input(engine: EngineProcess) -> None:
    where = ("--data", engine.data, "--deployments", engine.file, "--json")
    for words, prompt in (
        (("send", "-5 + 3 = ?", "-d", "good"), "-5 + 3 = ?"),
        (("send", "-d", "good", "-"), "from a pipe"),
        (("send", "-", "-d", "good"), "from a pipe"),
    ):
        done = run_lab(*words, *where, stdin=b"from a pipe", env={KEY_NAME: KEY})
        assert done.returncode == 0, done.stderr
        runs = lines(lab(engine, "runs", "--limit", "1", "--json"))
        assert runs[0]["prompt"] == prompt


def test_one_call_that_fails_makes_the_exit_code_say_so(engine: EngineProcess) -> None:
    done = lab(engine, "send", "Hello", "-d", "claude-like", "-d", "broken", "--json")
    assert done.returncode == 1
    assert [call["state"] for call in lines(done)] == ["succeeded", "failed"]
    assert lines(done)[1]["message"].endswith(".")


def test_a_single_answer_is_streamed_to_standard_output_and_figures_go_beside_it(engine: EngineProcess) -> None:
    done = lab(engine, "send", "Hello", "-d", "claude-like")
    assert done.returncode == 0
    assert len(done.stdout.split()) == 8
    assert "claude-like" in done.stderr
    assert "TTFT" in done.stderr


def test_names_and_prompts_steer_nothing(engine: EngineProcess) -> None:
    done = lab(engine, "send", HOSTILE, "-d", "odd", "-d", "odd")
    assert done.returncode == 0, done.stderr
    assert "[/] :bomb: [red]" in done.stdout
    listed = lab(engine, "runs")
    assert "[/]:bomb:[red]" in listed.stdout
    assert "\x1b[31m" not in listed.stdout
    assert "odd [/] :bomb: [red]" in lab(engine, "deployments").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("send", "Hi", "-d", "nobody"), "no deployment called “nobody”"),
        (("send", "  ", "-d", "good"), "prompt is empty"),
        (("send", "Hi", "-d", "good", "--param", "temperature"), "name=value"),
        (("send", "Hi", "-d", "good", "--param", "temperature=warm"), "Temperature is a number"),
        (("send", "Hi", "-d", "good", "-k", "99"), "Repetitions go from 1 to 30"),
        (("send", "Hi"), "deployment"),
        (("runs", "--run", "nothing-like-it"), "no run “nothing-like-it”"),
        (("dance",), "dance"),
    ],
)
def test_bad_input_gets_a_sentence_and_an_exit_code(
    engine: EngineProcess, arguments: tuple[str, ...], words: str
) -> None:
    done = lab(engine, *arguments)
    assert done.returncode in (1, 2)
    assert words in done.stderr + done.stdout


def test_deployments_say_what_they_need(engine: EngineProcess) -> None:
    listed = {entry["deployment"]["id"]: entry for entry in lines(lab(engine, "deployments", "--json"))}
    assert listed["good"]["ready"]
    assert listed["needy"]["needs"] == "needs A_KEY_THAT_NOBODY_SET"
    assert any(entry["needs"] == "disabled" for entry in listed.values()), "the catalogue is there to be enabled"


def test_doctor_says_what_is_wrong(engine: EngineProcess) -> None:
    found = lines(lab(engine, "doctor", "--json"))
    assert all({"level", "what", "sentence"} <= set(entry) or len(entry) >= 3 for entry in found)
    assert any("needy" in json.dumps(entry) or "A_KEY_THAT_NOBODY_SET" in json.dumps(entry) for entry in found)


def test_doctor_names_a_slip_in_the_keys_file_with_its_line_and_never_its_text(tmp_path: Path) -> None:
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text('A_KEY = "fine"\nB_KEY = sk-ant-canary04AAAABBBB\n')
    done = run_lab("doctor", "--data", tmp_path / "data", "--deployments", tmp_path / "none.toml", cwd=tmp_path)
    assert done.returncode == 1
    assert "FIX   keys file: .streamlit/secrets.toml has a mistake in line 2" in done.stdout
    assert "canary" not in done.stdout + done.stderr


def test_a_file_that_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    broken = tmp_path / "deployments.toml"
    broken.write_text('[[deployment]]\nname = "x\n')
    alone = EngineProcess(tmp_path / "data", broken)
    done = lab(alone, "deployments")
    assert done.returncode == 1
    assert "deployments.toml" in done.stderr
    assert "line 2" in done.stderr


def test_control_c_ends_in_good_order_and_keeps_what_came(engine: EngineProcess) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "app.cli",
            "send",
            "Count",
            "-d",
            "slow",
            "--data",
            str(engine.data),
            "--deployments",
            str(engine.file),
        ],
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LAB_EMBEDDED": "0", "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.read(10)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    assert process.returncode == 1
    newest = lines(lab(engine, "runs", "--limit", "1", "--json"))[0]
    call = lines(lab(engine, "runs", "--run", newest["id"], "--json"))[0]
    assert call["state"] == "cancelled"
    assert "stopped by hand" in call["message"]
