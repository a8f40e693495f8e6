"""WORKLOAD.toml: what is written reads back, and what cannot be is said at its field."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.calculate import EXAMPLE
from services.calculator import presets, workload_file
from services.calculator.assumptions import Assumptions, TokenPrice
from services.calculator.types import Efficiency, Objectives, Range, Spread

WORK = "[workload]\nrpm = 60\ninput_tokens = 1000\noutput_tokens = 300\n"


def _fields(text: str | bytes) -> dict[str, str]:
    asked, errors = workload_file.parse(text.encode() if isinstance(text, str) else text)
    assert (asked is None) == bool(errors)
    return {one.field: one.sentence for one in errors}


def test_the_example_is_read_without_an_error() -> None:
    asked, errors = workload_file.parse(EXAMPLE.encode())
    assert errors == []
    assert asked is not None and asked.workload is not None
    assert asked.workload.shape == presets.OFFICE
    assert len(asked.points) == 1


@pytest.mark.parametrize("preset", presets.PRESETS, ids=lambda one: one.id)
def test_every_preset_is_written_and_read_back(preset: presets.Preset) -> None:
    assumed = Assumptions(
        token_prices={'a "quoted" name': TokenPrice(1.0, 2.0)},
        savings_discount={"*": {12: 0.25}},
        efficiency={"*": Efficiency(bandwidth=Range(0.5, 0.6, 0.7))},
        headroom=0.1,
    )
    asked, errors = workload_file.parse(workload_file.write(preset.workload, preset.objectives, assumed).encode())
    assert errors == []
    assert asked is not None
    assert (asked.workload, asked.objectives, asked.assumptions) == (preset.workload, preset.objectives, assumed)


def test_a_preset_by_name_is_changed_by_what_stands_beside_it() -> None:
    asked, errors = workload_file.parse(b'preset = "rag"\n[workload]\nrpm = 7\n[objectives]\nttft_s = "none"\n')
    assert errors == []
    assert asked is not None and asked.workload is not None
    assert asked.workload.rpm == 7
    assert asked.workload.input_tokens == presets.BY_ID["rag"].workload.input_tokens
    assert asked.objectives == Objectives(None, None, replicas=2)


def test_a_rate_by_the_month_is_730_hours_of_requests() -> None:
    text = "[workload]\nrequests_per_month = 43_800\ninput_tokens = 10\noutput_tokens = 10\n"
    asked, _ = workload_file.parse(text.encode())
    assert asked is not None and asked.workload is not None
    assert asked.workload.rpm == pytest.approx(1.0)
    assert asked.workload.input_tokens == Spread(10.0)


@pytest.mark.parametrize(
    ("text", "field", "word"),
    [
        (b"\x7fELF\x00\xff\xfe", "", "UTF-8"),
        (b"\x00\x01\x02", "", "no TOML"),
        ("hello there", "", "no TOML"),
        ("\n[workload]\nrpm = " + "9" * 5000, "", "more than 4,300 digits (at line 3)"),
        ("\n[workload]\nrpm = 0x" + "f" * 5000, "", "more than 4,300 digits (at line 3)"),
        ("a = " + "[" * 100_000, "", "no TOML"),
        ("", "workload", "Nothing is asked"),
        (WORK + "rmp = 4\n", "workload.rmp", "rpm"),
        ("[wrokload]\n" + WORK, "wrokload", "workload"),
        ("[workload]\nrpm = 60\noutput_tokens = 3\n", "workload.input_tokens", "needed"),
        ("workload = 5\n", "workload", "table"),
        (WORK.replace("60", "0"), "workload.rpm", "above 0"),
        (WORK.replace("60", "nan"), "workload.rpm", "nan"),
        (WORK.replace("60", "inf"), "workload.rpm", "inf"),
        (WORK.replace("60", '"many"'), "workload.rpm", "many"),
        (WORK.replace("60", "1" + "0" * 400), "workload.rpm", "number"),
        (WORK.replace("60", "1e9"), "workload.rpm", "1,000,000"),
        (WORK + 'requests_per_month = "x"\n', "workload.rpm", "not both"),
        (WORK + "shape = []\n", "workload.shape", "24 hours"),
        (WORK + 'shape = "square"\n', "workload.shape", "office"),
        (WORK + 'months = "six"\n', "workload.months", "number"),
        (WORK + "[objectives]\nreplicas = 1.5\n", "objectives.replicas", "whole"),
        (WORK + "[objectives]\nisolated = 1\n", "objectives.isolated", "true or false"),
        (WORK + '[objectives]\nmodels = "all"\n', "objectives.models", "list"),
        (WORK + "[assumptions]\nheadroom = -1\n", "assumptions.headroom", "at least 0"),
        (WORK + '[assumptions]\nprecisions = ["fp3"]\n', "assumptions.precisions[1]", "bf16"),
        ('preset = "rug"\n' + WORK, "preset", "rag"),
        (WORK + "[[points]]\nmodel = 5\n", "points[1].model", "table"),
        ("points = 3\n", "points", "[[points]]"),
    ],
)
def test_what_cannot_be_is_said_at_its_field(text: str | bytes, field: str, word: str) -> None:
    found = _fields(text)
    assert field in found
    assert word in found[field]


def test_a_file_that_is_not_there_and_a_folder_are_said_in_words(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        asked, errors = workload_file.read(path)
        assert asked is None
        assert "cannot be read" in errors[0].sentence
