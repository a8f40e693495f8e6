"""The calculator's page: fields, words on them, the answer, its address."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import update
from sqlmodel import col
from streamlit.testing.v1 import AppTest

from app import auth as app_session
from app.calculator import assumptions
from db import models, runs, small_tables
from services.calculator import catalog, measured, presets, serialization
from services.calculator.assumptions import Assumptions
from tests.db.rows import run_row
from tests.pages.lab import Lab, page, said
from tests.pages.test_history_page import FORM
from tests.pages.test_prices_page import only

pytestmark = pytest.mark.slow


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


def test_lines_as_they_are_in_the_data_files_are_not_yours_and_a_changed_one_is() -> None:
    name, _, cls, needed = assumptions.TABLES[1]
    rows = catalog.base().instances
    frame = pd.DataFrame([serialization.to_plain(one, whole=True) for one in rows.values()])
    errors: list[serialization.FieldError] = []
    assert assumptions.changed(frame, cls, rows, needed, name, errors) == ()
    frame.loc[frame["name"] == "g5.xlarge", "usd_per_hour"] = 0.5
    (found,) = assumptions.changed(frame, cls, rows, needed, name, errors)
    assert (found.name, found.usd_per_hour, errors) == ("g5.xlarge", 0.5, [])
    frame.loc[len(frame)] = {"name": "my-box", "way": "container"}
    assert len(assumptions.changed(frame, cls, rows, needed, name, errors)) == 1
    assert errors[0].sentence == "my-box: fill in gpu, count, usd_per_hour too."


def test_models_that_won_votes_can_be_taken_as_good_enough(lab: Lab) -> None:
    only(lab, replace(FORM, id="d0", name="Mine", model="meta-llama/Llama-3.1-8B-Instruct"))
    lab.write(runs.insert_run, values=run_row("r0", prompt="Which?"))
    for number in range(2):
        lab.write(
            runs.insert_vote,
            values={
                "id": f"v{number}",
                "run_id": "r0",
                "person": f"p{number}",
                "created_at": datetime.now(UTC),
                "blind": False,
                "choice": "a",
                "column_a": 0,
                "column_b": 1,
                "deployment_a": "d0",
                "deployment_b": "d1",
                "winner": "d0",
                "repetition": 1,
            },
        )
    assert measured.wins(lab.database()) == {"Llama-3.1-8B": 2}
    at = opened()
    next(one for one in at.button if one.label == "Those that won votes here").click().run()
    assert not at.exception
    assert "models" in at.query_params and at.query_params["models"] == "Llama-3.1-8B"
    assert "Votes won: Llama-3.1-8B (2)." in said(at)


def test_a_limit_can_be_cleared(lab: Lab) -> None:
    at = opened(preset="chat")
    at.number_input(key="ca_ttft").set_value(None).run()
    assert not at.exception and "Nothing is calculated until" not in said(at)
    assert at.query_params["ttft"] == "none"


def test_assumptions_that_make_no_sense_can_be_undone_where_they_are_said(lab: Lab) -> None:
    at = opened(preset="chat")
    at.session_state["ca_assumed"] = replace(Assumptions(), headroom=-1.0)
    at.session_state["ca_assume"] = True
    at.run()
    assert "Nothing is calculated until" in said(at)
    assert any("Assumptions" in one.label for one in at.expander)


def test_a_changed_preset_is_no_longer_marked_as_one(lab: Lab) -> None:
    at = opened(preset="rag")
    assert at.query_params["preset"] == "rag"
    at.number_input(key="ca_rpm").set_value(61.0).run()
    assert "preset" not in at.query_params and number(at, "ca_in") == presets.BY_ID["rag"].workload.input_tokens.median
    assert at.query_params["shape"] == "office"


def test_an_output_that_no_option_gives_is_answered_and_not_a_dead_page(lab: Lab) -> None:
    at = opened(rpm="60", **{"in": "1000", "out": "150000"})
    assert "could not be drawn" not in said(at)


def test_a_damaged_scenario_is_passed_over(lab: Lab) -> None:
    for number, state in enumerate(([1, 2], {"rpm": None}, {"rpm": "9"})):
        row = {
            "scenario_id": f"s{number}",
            "name": f"S {number}",
            "state": {},
            "person": "ada",
            "at": datetime.now(UTC),
        }
        lab.write(small_tables.save_scenario, **row)
        lab.write(_damage, scenario_id=f"s{number}", state=state)
    at = opened()
    at.multiselect(key="ca_scenario_shown").set_value(["S 0", "S 1", "S 2"]).run()
    assert not at.exception and "could not be drawn" not in said(at)


def _damage(*, session: Any, scenario_id: str, state: Any) -> None:
    session.execute(update(models.Scenario).where(col(models.Scenario.id) == scenario_id).values(state=state))
