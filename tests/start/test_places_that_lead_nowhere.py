"""Places that lead nowhere: a path of nobody, one in a circle of links, and a socket named from where we stand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from services import paths
from tests.lab_command import run_lab

COMMANDS = (
    "run --no-browser",
    "send Hi -d x",
    "runs",
    "deployments",
    "history",
    "rollup",
    "demo --calls 50",
    "worker",
    "doctor",
    "batch list",
    "batch show x",
    "batch check FILE",
    "batch cancel x",
    "batch results x",
)


@pytest.mark.slow
def test_every_command_says_in_words_that_a_place_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    readable = tmp_path / "lines.csv"
    readable.write_text("prompt\nHi\n")
    circle, nobody = "leads in a circle", "~nobodyxx is no user's home"
    file = str(tmp_path / "none.toml")
    environments = (
        ({"LAB_DATA": str(tmp_path / "loop"), "LAB_DEPLOYMENTS": file}, circle),
        ({"LAB_DATA": str(tmp_path / "loop" / "below"), "LAB_DEPLOYMENTS": file}, circle),
        ({"LAB_DATA": "~nobodyxx/d", "LAB_DEPLOYMENTS": file}, nobody),
    )
    flaws = []
    for env, words in environments:
        for command in COMMANDS:
            done = run_lab(*[str(readable) if word == "FILE" else word for word in command.split()], env=env)
            if words not in done.stdout + done.stderr or done.returncode not in (1, 2):
                flaws.append((env["LAB_DATA"], command, done))
    for place, words in ((tmp_path / "loop", circle), ("~nobodyxx/d.toml", nobody)):
        for command in ("deployments", "history", "doctor"):
            done = run_lab(command, "--data", tmp_path / "data", "--deployments", place)
            if words not in done.stdout + done.stderr or done.returncode not in (1, 2):
                flaws.append((str(place), command, done))
    assert not flaws, flaws


def test_doctor_names_each_place_that_leads_nowhere() -> None:
    done = run_lab("doctor", "--json", "--data", "~nobodyxx/d", "--deployments", "~nobodyxx/d.toml")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(row["what"], row["state"]) for row in rows} == {("data directory", "wrong"), ("deployments file", "wrong")}


def test_a_relative_socket_is_meant_from_the_folder_that_the_command_was_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_SOCKET", "own.sock")
    monkeypatch.chdir(tmp_path)
    paths.settle_socket()
    assert os.environ["LAB_SOCKET"] == str(tmp_path / "own.sock")
    monkeypatch.chdir("/")
    assert paths.new_socket_path(tmp_path / "data") == paths.socket_path(tmp_path / "data") == tmp_path / "own.sock"
