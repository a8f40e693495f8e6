"""The list of runs: found, opened, starred, tagged, and deleted only after a question."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from streamlit.testing.v1 import AppTest

from app.runs.page import tidy
from app.widgets.filters import day_edges, tell_apart
from tests.pages.lab import Lab, buttons, page, said


def _select(at: AppTest, row: int) -> None:
    at.session_state["rn_table"] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    at.run()


def _prompts(at: AppTest) -> list[Any]:
    return list(at.dataframe[0].value["prompt"])


def test_an_empty_list_says_what_will_be_there_and_has_one_button(lab: Lab) -> None:
    at = page("runs").run()
    assert not at.exception
    assert "The runs appear here" in said(at)
    assert "Go to the playground" in buttons(at)


def test_the_list_names_prompt_deployments_and_how_the_calls_ended(lab: Lab) -> None:
    lab.record("Why is the sky blue?")
    lab.record("Why is it dark?", state="failed")
    at = page("runs").run()
    assert not at.exception
    assert _prompts(at) == ["Why is it dark?", "Why is the sky blue?"]
    assert list(at.dataframe[0].value["ended"]) == ["2 failed", "2 done"]
    assert "SmolLM2 · chat, SmolLM2 · messages" in list(at.dataframe[0].value["deployments"])
    assert "2 runs · times in UTC" in said(at)


def test_a_search_finds_prompts_and_answers(lab: Lab) -> None:
    lab.record("Sky?", answers=["Rayleigh scattering", "Blue"])
    lab.record("Sea?", answers=["Salt", "Water"])
    at = page("runs", q="rayleigh").run()
    assert _prompts(at) == ["Sky?"]
    at.text_input(key="q").set_value("nothing like it").run()
    assert "No run matches" in said(at)


def test_filters_narrow_the_list_and_are_in_the_address(lab: Lab) -> None:
    lab.record("Local one", ids=["local-chat"])
    lab.record("Local two", ids=["local-one-thread"], starred=True)
    at = page("runs").run()
    at.multiselect(key="deployment").set_value(["SmolLM2 · 1 thread"]).run()
    assert _prompts(at) == ["Local two"]
    at.multiselect(key="deployment").set_value([]).run()
    at.toggle(key="starred").set_value(True).run()
    assert _prompts(at) == ["Local two"]


def test_a_long_list_is_paged(lab: Lab) -> None:
    for n in range(23):
        lab.record(f"Prompt {n}", ids=["local-chat"])
    at = page("runs").run()
    assert len(at.dataframe[0].value) == 20
    assert "23 runs" in said(at)


def test_a_selected_run_opens_in_the_playground(lab: Lab) -> None:
    run_id = lab.record("Open me")
    at = page("runs").run()
    _select(at, 0)
    at.button(key="rn_open").click().run()
    assert not at.exception
    assert at.session_state["pg_run"] == run_id
    assert at.text_area(key="pg_prompt").value == "Open me"


@pytest.mark.slow
def test_a_run_is_starred_and_tagged_by_the_engine(lab: Lab) -> None:
    lab.record("Star me")
    at = page("runs").run()
    _select(at, 0)
    at.button(key="rn_star").click().run()
    assert list(at.dataframe[0].value["starred"]) == ["★"]
    at.multiselect[-1].set_value(["workshop"]).run()
    assert list(at.dataframe[0].value["tags"]) == ["workshop"]


@pytest.mark.slow
def test_deleting_asks_first_and_then_deletes(lab: Lab) -> None:
    run_id = lab.record("Delete me")
    at = page("runs").run()
    _select(at, 0)
    at.button(key="rn_delete").click().run()
    assert not at.exception
    assert not [a for a in lab.asked if a[0] == "delete_runs"]
    assert "This cannot be undone" in said(at)
    at.button(key="rn_delete_now").click().run()
    assert ("delete_runs", [run_id]) in lab.asked
    assert "The runs appear here" in said(at)


@pytest.mark.slow
def test_a_run_can_be_kept_after_the_question(lab: Lab) -> None:
    lab.record("Keep me")
    at = page("runs").run()
    _select(at, 0)
    at.button(key="rn_delete").click().run()
    at.button(key="rn_keep").click().run()
    assert not lab.asked
    assert "This cannot be undone" not in said(at)


def test_a_viewer_may_open_but_not_change(lab: Lab) -> None:
    lab.record("Look at me")
    lab.close_doors()
    at = page("runs").run()
    _select(at, 0)
    assert "Open" in buttons(at)
    assert not set(buttons(at)) & {"Star", "Delete"}


@pytest.mark.slow
def test_a_refusal_of_the_engine_is_shown_as_its_sentence(lab: Lab) -> None:
    lab.record("Star me")
    at = page("runs").run()
    _select(at, 0)
    lab.down = True
    at.button(key="rn_star").click().run()
    assert not at.exception
    assert "The engine does not answer" in said(at)


def test_days_are_days_of_the_readers_time_zone() -> None:
    since, until = day_edges(date(2026, 11, 1), date(2026, 11, 1), ZoneInfo("Europe/Berlin"))
    assert since == datetime(2026, 10, 31, 23, tzinfo=UTC)
    assert until == datetime(2026, 11, 1, 23, tzinfo=UTC)


def test_two_deployments_of_one_name_are_told_apart_by_their_ids() -> None:
    assert tell_apart([("a", "Llama"), ("b", "Llama"), ("c", "Haiku")]) == {
        "a": "Llama (a)",
        "b": "Llama (b)",
        "c": "Haiku",
    }


def test_tags_are_one_line_and_none_twice() -> None:
    assert tidy(["a\nb", "a b", "  ", "x" * 99]) == ["a b", "x" * 39 + "…"]


def test_a_blind_run_keeps_its_figures_to_itself_until_the_vote(lab: Lab) -> None:
    lab.record("Blind?", blind=True)
    at = page("runs").run()
    _select(at, 0)
    assert "once you have voted" in said(at)
    assert len(at.dataframe) == 1
    assert "Export JSON" not in [b.label for b in at.get("download_button")]
