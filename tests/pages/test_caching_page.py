"""The caching page: what it offers, what it starts, and what it says of a measurement in each of its states."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from db import runs
from services.providers import kind_of
from services.runs.spec import ColumnSpec, RunSpec
from services.types import Ask, Message
from tests.pages.lab import NEEDY, Lab, buttons, call_row, finished, page, run_row, said

pytestmark = pytest.mark.slow

WARM = {"cache_read": 1400, "uncached_input": 20}
COLD = {"cache_read": 0, "uncached_input": 1420}


def opened(run_id: str) -> AppTest:
    at = page("caching")
    at.query_params["run"] = run_id
    return at.run()


def measured(lab: Lab, *calls: dict[str, Any], d: str = "local-chat", repetitions: int | None = None) -> str:
    """A run of this page with these calls; a dict with ``state`` None is still running."""
    spec = RunSpec(
        "Why?",
        (ColumnSpec(d, cache="auto"),),
        system="Long.",
        repetitions=repetitions or len(calls) or 2,
        start="sequential",
        source="caching",
    )
    run = run_row(spec)
    lab.write(runs.insert_run, values=run)
    for n, call in enumerate(calls, 1):
        row = call_row(run, lab.deployment(d), 0, n)
        state = call.get("state", "succeeded")
        if state != "running":
            row |= finished("Yes.", 0, n, state)
        lab.write(runs.insert_calls, rows=[row | {"cache_mode": "auto"} | call])
    return str(run["id"])


@pytest.mark.slow
def test_a_first_visit_offers_one_local_deployment_and_a_prompt_that_fits_it(lab: Lab) -> None:
    at = page("caching").run()
    assert not at.exception
    assert at.multiselect(key="cc_deployments").value == ["local-chat"]
    assert at.selectbox(key="cc_sample").value == "About 1,400 tokens"
    assert "appears here" in said(at)
    assert "Measure" in buttons(at)
    assert "choose a shorter sample" not in said(at)


@pytest.mark.slow
def test_measure_starts_one_sequential_run_that_begins_with_a_line_of_its_own(lab: Lab) -> None:
    at = page("caching").run()
    at.selectbox(key="cc_mode").set_value("auto").run()
    at.number_input(key="cc_pause").set_value(3.0).run()
    at.button(key="cc_start").click().run()
    assert not at.exception
    (spec,) = lab.specs
    assert (spec.source, spec.start, spec.repetitions, spec.pause_s) == ("caching", "sequential", 5, 3.0)
    assert [(c.deployment_id, c.cache) for c in spec.columns] == [("local-chat", "auto")]
    assert spec.system is not None
    number, _, rest = spec.system.partition(" is the number of this measurement")
    assert len(number) == 16
    assert "Harbour Street Bicycles" in rest
    assert at.query_params["run"] == at.session_state["cc_run"]
    at.button(key="cc_start").click().run()
    assert lab.specs[1].system != spec.system, "no earlier run can have warmed it"


@pytest.mark.slow
def test_without_start_cold_the_prompt_is_sent_as_it_is(lab: Lab) -> None:
    at = page("caching").run()
    at.toggle(key="cc_cold").set_value(False).run()
    at.button(key="cc_start").click().run()
    assert (lab.specs[0].system or "").startswith("You answer questions")


@pytest.mark.slow
def test_the_same_calls_with_caching_off_are_a_second_column(lab: Lab) -> None:
    at = page("caching").run()
    at.toggle(key="cc_control").set_value(True).run()
    at.button(key="cc_start").click().run()
    assert [(c.deployment_id, c.cache) for c in lab.specs[0].columns] == [("local-chat", None), ("local-chat", "off")]


def test_a_mode_that_one_of_the_deployments_does_not_have_is_named_before_sending(lab: Lab) -> None:
    at = page("caching").run()
    at.multiselect(key="cc_deployments").set_value(["local-chat", "local-messages"]).run()
    at.selectbox(key="cc_mode").set_value("off").run()
    assert "Prompt caching is not sent to SmolLM2 · messages" in said(at)
    assert "Prompt caching is not sent to SmolLM2 · chat" not in said(at)
    assert "may share its cache" in said(at)


def test_a_prompt_that_is_too_long_for_a_deployment_is_named_before_sending(lab: Lab) -> None:
    at = page("caching").run()
    at.selectbox(key="cc_sample").set_value("About 3,000 tokens").run()
    assert "SmolLM2 · chat holds 2,048 tokens" in said(at)
    at.selectbox(key="cc_sample").set_value("About 570 tokens").run()
    assert "holds 2,048 tokens" not in said(at)


@pytest.mark.slow
def test_an_empty_prompt_and_an_engine_that_is_down_are_one_sentence_each(lab: Lab) -> None:
    at = page("caching").run()
    at.text_area(key="cc_system").set_value("  ").run()
    at.button(key="cc_start").click().run()
    assert "The system prompt is empty" in said(at)
    at.text_area(key="cc_system").set_value("Long.").run()
    lab.down = True
    at.button(key="cc_start").click().run()
    assert not at.exception
    assert "The engine does not answer" in said(at)
    assert at.text_area(key="cc_system").value == "Long."


@pytest.mark.slow
def test_a_run_before_its_first_end_has_a_progress_and_a_stop_button(lab: Lab) -> None:
    run_id = measured(lab, {"state": "running"}, repetitions=4)
    lab.living[run_id] = {"live": True}
    at = opened(run_id)
    assert not at.exception
    assert "The first call is under way" in said(at)
    assert "Stop" in buttons(at)
    assert at.button(key="cc_start").disabled
    at.button(key="cc_stop").click().run()
    assert ("stop", run_id) in lab.asked


@pytest.mark.slow
def test_a_running_measurement_is_drawn_as_far_as_it_has_come(lab: Lab) -> None:
    run_id = measured(lab, COLD | {"ttft_ms": 900.0}, {"state": "running"}, repetitions=4)
    lab.living[run_id] = {"live": True}
    at = opened(run_id)
    assert not at.exception
    assert "n = 1" in said(at)
    assert at.dataframe[0].value["cold"][0] == "0.90 s · n = 1"
    assert "instead of" not in said(at), "no conclusion before the end"


@pytest.mark.slow
def test_a_finished_measurement_shows_the_figures_of_its_rows(lab: Lab) -> None:
    calls = [COLD | {"ttft_ms": 900.0}, *(WARM | {"ttft_ms": ms} for ms in (90.0, 92.0, 94.0))]
    at = opened(measured(lab, *calls))
    assert not at.exception
    assert "92 ms instead of 0.90 s (medians of 3 warm and 1 cold)" in said(at)
    line = at.dataframe[0].value.iloc[0]
    assert line["cold"] == "0.90 s · n = 1"
    assert line["warm"].startswith("92 ms (")
    assert line["difference"] == "0.81 s · too few for an interval"
    assert (line["with"], line["without"]) == ("free", "free")
    assert not at.button(key="cc_start").disabled


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calls", "sentence"),
    [
        ([{"cache_read": None}] * 2, "does not report cached tokens"),
        ([{"state": "failed"}, {"state": "failed"}], "no call succeeded (2 failed)"),
        ([WARM, WARM], "start cold"),
        ([COLD, COLD], "nothing was cached, although the prompt had 1,420 tokens and this model has no minimum"),
    ],
)
def test_every_end_of_a_measurement_has_its_sentence(lab: Lab, calls: list[dict[str, Any]], sentence: str) -> None:
    at = opened(measured(lab, *calls))
    assert not at.exception
    assert sentence in said(at)


@pytest.mark.slow
def test_failed_calls_are_counted_beside_those_that_count(lab: Lab) -> None:
    at = opened(measured(lab, COLD, WARM, {"state": "failed"}))
    assert "1 failed; in no figure here" in said(at)
    assert "medians of 1 warm and 1 cold" in said(at)


def test_below_the_minimum_it_says_what_the_model_needs(lab: Lab) -> None:
    haiku = next(d for d in lab.listed if d.model == "claude-haiku-4-5")
    price = {"cost_state": "no_price", "cost_nanousd": None}
    short = price | {"cache_read": 0, "cache_write_5m": 0, "uncached_input": 1900}
    at = opened(measured(lab, short, short, d=haiku.id))
    assert "nothing was cached: this model needs 4,096 tokens and the prompt had 1,900." in said(at)


@pytest.mark.slow
def test_an_address_brings_back_the_run_and_its_inputs_and_survives_another_page(lab: Lab) -> None:
    run_id = measured(lab, COLD, WARM, WARM)
    at = opened(run_id)
    assert at.number_input(key="cc_calls").value == 3
    assert at.selectbox(key="cc_mode").value == "auto"
    assert at.text_area(key="cc_system").value == "Long."
    assert not at.toggle(key="cc_cold").value
    at.switch_page("../pages/runs.py").run()
    at.switch_page("../pages/caching.py").run()
    assert at.session_state["cc_run"] == run_id
    at.button(key="cc_new").click().run()
    assert at.session_state["cc_run"] is None
    assert "run" not in at.query_params


def test_an_unknown_address_is_one_sentence(lab: Lab) -> None:
    at = opened("nothing-here")
    assert not at.exception
    assert "There is no run at this address" in said(at)


def test_somebody_who_may_only_look_sees_the_measurement_and_no_button(lab: Lab) -> None:
    lab.close_doors("ada")
    at = opened(measured(lab, COLD, WARM))
    assert "Measure" not in buttons(at)
    assert "instead of" in said(at)


# --- the switch in the playground ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_switch_of_a_column_goes_with_its_run_and_comes_back_with_it(lab: Lab) -> None:
    at = page().run()
    assert at.selectbox(key="pg_cache_local-messages").options == ["Automatic"]
    at.selectbox(key="pg_cache_local-chat").set_value("off").run()
    at.button(key="pg_send").click().run()
    assert [c.cache for c in lab.specs[0].columns] == ["off", None, None]
    again = page(run=at.session_state["pg_run"]).run()
    assert not again.exception
    assert again.selectbox(key="pg_cache_local-chat").value == "off"
    assert again.selectbox(key="pg_cache_local-messages").value is None


def test_a_mode_that_a_reopened_column_cannot_have_is_said_and_not_sent(lab: Lab) -> None:
    spec = RunSpec("Hi", (ColumnSpec("local-messages", cache="1h"),))
    at = page(run=lab.record("Hi", ["local-messages"], spec=spec)).run()
    assert not at.exception
    assert "Prompt caching is not sent to SmolLM2 · messages: it can be “automatic” here" in said(at)
    deployment = lab.deployment("local-messages")
    assert "cache" not in str(kind_of(deployment).request(deployment, Ask((Message("user", "x"),), cache="1h")).body)


def test_a_service_with_several_modes_offers_them_all(lab: Lab) -> None:
    at = page().run()
    at.multiselect(key="pg_deployments").set_value([NEEDY.id]).run()
    options = at.selectbox(key=f"pg_cache_{NEEDY.id}").options
    assert options == ["Off", "Automatic", "Kept 5 minutes", "Kept 1 hour"]
