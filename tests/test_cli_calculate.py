"""`lab calculate` as a script uses it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from app.cli import calculate
from services.paths import ROOT
from tests.lab_command import run_lab

POINT = "model=Llama-3.1-8B,gpu=H100-80GB-SXM,batch=4,input=500,output=100"


def lab(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    return run_lab("calculate", *arguments, stdin=stdin, cwd=ROOT)


def test_the_example_gives_ranked_options_with_ranges_and_its_point() -> None:
    done = lab("-", "--json", stdin=lab("--example").stdout.encode())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    meeting = [one["monthly_usd"]["mid"] for one in found["options"] if one["meets"]]
    assert meeting == sorted(meeting)
    assert meeting
    assert len(found["sentences"]) == 3
    assert {one["way"] for one in found["options"]} >= {"anthropic", "openai", "bedrock", "sagemaker", "ec2"}
    assert found["points"][0]["ttft_s"]["low"] <= found["points"][0]["ttft_s"]["mid"]


def test_a_point_alone_needs_no_file() -> None:
    done = lab("--point", POINT, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"schema", "points"}
    assert found["points"][0]["kv_slots"] > 0


def test_a_person_reads_the_sentences_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "w.toml"
    file.write_text(calculate.EXAMPLE)
    assert calculate.calculate(file, [POINT], as_json=False, example=False) == 0
    said = capsys.readouterr().out
    assert "a month" in said
    assert "Cannot be done" in said
    assert "KV slots" in said
    assert "bandwidth" in said


@pytest.mark.parametrize(
    ("content", "given", "said"),
    [
        (None, [], "Give a WORKLOAD.toml"),
        (b"\x89PNG\r\n\x1a\n\x00", [], "no text in UTF-8"),
        (b'preset = "chat"\n[workload]\nrpm = 1e9\n', [], "workload.rpm: Requests per minute"),
        (b'preset = "chat"\n[workload]\nshape = []\n', [], "workload.shape: The day has 24 hours"),
        (b'"\\u001b[31mx" = 1\n', [], "There is no field"),
        (None, ["model=\x1b[31mx,gpu=L4"], "--point 1.model: The catalogue has no model"),
        (None, ["batch"], "name=value"),
    ],
)
def test_bad_input_is_said_on_standard_error_and_nothing_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, given: list[str], said: str
) -> None:
    file = tmp_path / "w.toml" if content is not None else None
    if file is not None and content is not None:
        file.write_bytes(content)
    assert calculate.calculate(file, given, as_json=True, example=False) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert "\x1b" not in printed.err


def test_a_file_that_is_not_there_is_said_in_words() -> None:
    done = lab("/no/such/file.toml")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "cannot be read" in done.stderr
