"""The calculator's page: fields, words on them, the answer, its address."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import session as app_session
from services.calculator import presets
from tests.pages.lab import Lab, page, said


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = Lab(tmp_path)
    monkeypatch.setattr(app_session, "sources", made)
    return made


def opened(**query: str) -> AppTest:
    at = page("calculator", **query)
    at.default_timeout = 60
    at.run()
    assert not at.exception, at.exception
    return at


def number(at: AppTest, key: str) -> float:
    return float(at.number_input(key=key).value or 0)


def test_the_page_answers_at_once_with_three_sentences_and_options(lab: Lab) -> None:
    at = opened()
    assert number(at, "ca_rpm") == presets.FIRST.workload.rpm
    table = at.dataframe[0].value
    assert {"option", "month", "meets"} <= set(table.columns) and len(table) > 10
    answered = " ".join(str(one.proto.body) for one in at.get("html"))
    assert "choose " in answered and "a month against" in answered
    assert at.query_params["rpm"] == "60"


@pytest.mark.parametrize(
    ("key", "value"),
    [("ca_rpm", 0.0), ("ca_rpm", -5.0), ("ca_rpm", 1e9), ("ca_in", 0), ("ca_out", 10**9), ("ca_ttft", -1.0)],
)
def test_a_field_that_makes_no_sense_says_so_and_nothing_is_calculated(lab: Lab, key: str, value: float) -> None:
    at = opened()
    at.number_input(key=key).set_value(value).run()
    assert not at.exception
    assert "Nothing is calculated until" in said(at)
    assert any(":material/error:" in one.value for one in at.caption)


def test_an_address_brings_back_the_whole_state(lab: Lab) -> None:
    at = opened(rpm="7", **{"in": "1234", "out": "77"}, shape="office", batch="0.25", ttft="2")
    assert (number(at, "ca_rpm"), number(at, "ca_in"), number(at, "ca_out")) == (7, 1234, 77)
    assert number(at, "ca_batch") == 25 and number(at, "ca_ttft") == 2


def test_a_preset_fills_the_fields(lab: Lab) -> None:
    at = opened()
    other = presets.PRESETS[2]
    at.session_state["ca_preset_pick"] = other.id
    at.run()
    assert not at.exception
