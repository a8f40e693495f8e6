"""A run at its address: everything as it was, for those who may send and for those who may only look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from app.playground.results import cell_text
from db import run_queries
from db.models import Call
from services.client import EngineClient, EngineError
from services.runs.compare import Cell, CompareRow
from services.runs.spec import Attachment, ColumnSpec, RunSpec
from tests.pages.lab import Lab, buttons, page, said


def _rich(lab: Lab) -> str:
    spec = RunSpec(
        "Explain {{thing}}",
        (ColumnSpec("local-messages"), ColumnSpec("local-chat", False, {"temperature": 0.9, "stop": ["END"]})),
        system="Be brief.",
        params={"max_tokens": 64, "temperature": 1},
        repetitions=2,
        start="sequential",
        variables={"thing": "rain"},
        attachments=(Attachment("facts.txt", "Rain is water."),),
    )
    return lab.record(spec.render(), ["local-messages", "local-chat"], spec=spec)


@pytest.mark.slow
def test_an_address_brings_back_prompt_settings_and_columns(lab: Lab) -> None:
    at = page(run=_rich(lab)).run()
    assert not at.exception
    assert at.text_area(key="pg_prompt").value == "Explain {{thing}}"
    assert at.text_input(key="pg_var_thing").value == "rain"
    assert at.text_area(key="pg_system").value == "Be brief."
    assert at.multiselect(key="pg_deployments").value == ["local-messages", "local-chat"]
    assert at.number_input(key="pg_param_temperature").value == 1.0
    assert at.number_input(key="pg_param_max_tokens").value == 64
    assert at.toggle(key="pg_own_local-chat").value is True
    assert at.number_input(key="pg_own_local-chat_temperature").value == 0.9
    assert at.multiselect(key="pg_own_local-chat_stop").value == ["END"]
    assert at.number_input(key="pg_repetitions").value == 2
    assert any("facts.txt" in label for label in buttons(at))


def test_a_reopened_run_sends_the_same_run_again(lab: Lab) -> None:
    at = page(run=_rich(lab)).run()
    at.button(key="pg_send").click().run()
    assert not at.exception
    sent = lab.specs[0]
    assert sent.render().startswith("Explain rain")
    assert sent.attachments == (Attachment("facts.txt", "Rain is water."),)
    assert (sent.system, sent.repetitions, sent.start) == ("Be brief.", 2, "sequential")
    assert sent.columns[1].params == {"temperature": 0.9, "stop": ["END"]}


def test_a_viewer_sees_the_run_and_no_way_to_change_anything(lab: Lab) -> None:
    run_id = lab.record("What is rain?", answers=["Water.", "Drops."])
    lab.close_doors("ana@example.com")
    at = page(run=run_id).run()
    assert not at.exception
    assert "What is rain?" in said(at)
    assert "You can look at runs here but not send prompts" in said(at)
    offered = set(buttons(at))
    assert not offered & {"Send", "Stop all", "Continue", "New conversation", "Tie", "Both are bad"}
    assert not any("Retry" in label or "better" in label for label in offered)


def test_nothing_in_the_address_raises_a_role(lab: Lab) -> None:
    lab.close_doors()
    at = page(role="admin", person="ana@example.com").run()
    assert "Send" not in buttons(at)


def test_an_address_without_a_run_says_so(lab: Lab) -> None:
    at = page(run="no-such-run").run()
    assert not at.exception
    assert "There is no run at this address" in said(at)
    assert "Send" in buttons(at)


def test_a_finished_run_opens_while_the_engine_is_down(lab: Lab) -> None:
    run_id = lab.record("What is rain?")
    lab.down = True
    at = page(run=run_id).run()
    assert not at.exception
    assert at.text_area(key="pg_prompt").value == "What is rain?"


def test_hostile_names_and_texts_are_not_read_as_markdown(lab: Lab) -> None:
    evil = "![x](http://canary.invalid/a.png) <img src=http://canary.invalid/b> :red[x]"
    run_id = lab.record(evil, answers=[evil, evil], state="succeeded")
    at = page(run=run_id).run()
    assert not at.exception
    drawn = [e.value for kind in (at.caption, at.markdown, at.warning, at.error) for e in kind]
    drawn += [b.label for b in at.button] + [e.label for e in at.expander]
    assert not [text for text in drawn if "](http" in str(text) or "<img" in str(text)]


@pytest.mark.slow
def test_a_run_that_is_continued_is_named_as_the_parent_and_starts_with_an_empty_prompt(lab: Lab) -> None:
    first = lab.record("First question")
    at = page(run=first).run()
    at.button(key="pg_continue_button").click().run()
    assert at.text_area(key="pg_prompt").value == ""
    assert "each deployment sees its own answers" in said(at)
    at.text_area(key="pg_prompt").set_value("And then?").run()
    at.button(key="pg_send").click().run()
    assert lab.specs[0].parent_run_id == first
    assert any("Turn 1: First question" in e.label.replace("\\", "") for e in at.expander)


def test_a_deployment_that_joins_a_conversation_is_said_to_begin_anew(lab: Lab) -> None:
    at = page(run=lab.record("First question")).run()
    at.button(key="pg_continue_button").click().run()
    at.multiselect(key="pg_deployments").set_value(["local-chat", "local-one-thread"]).run()
    assert "SmolLM2 · 1 thread was not in it and begins anew" in said(at)


def test_a_new_conversation_leaves_the_run_and_keeps_the_prompt(lab: Lab) -> None:
    at = page(run=lab.record("Keep this")).run()
    at.button(key="pg_new").click().run()
    assert at.session_state["pg_run"] is None
    assert "run" not in at.query_params
    assert at.text_area(key="pg_prompt").value == "Keep this"


def test_a_pair_can_be_voted_on_once_and_the_vote_is_shown(lab: Lab) -> None:
    run_id = lab.record()
    at = page(run=run_id).run()
    at.button(key="pg_vote_b").click().run()
    name, voted_on, ballot = lab.asked[-1]
    assert (name, voted_on) == ("vote", run_id)
    assert (ballot["choice"], ballot["winner"], ballot["column_b"]) == ("b", "local-messages", 1)
    assert "You preferred SmolLM2 · messages" in said(at)
    assert not any("better" in label for label in buttons(at))


def test_of_three_answers_the_best_is_starred(lab: Lab) -> None:
    at = page(run=lab.record(ids=["local-chat", "local-messages", "local-responses"])).run()
    at.button(key="pg_vote_best_2").click().run()
    ballot = lab.asked[-1][2]
    assert (ballot["choice"], ballot["winner"], ballot["column_a"]) == ("best", "local-responses", 2)


def test_a_blind_run_shows_no_name_and_no_figure_before_the_vote_and_both_after(lab: Lab) -> None:
    run_id = lab.record(blind=True)
    at = page(run=run_id).run()
    below = said(at).split("Which answer is better?")[1]
    assert "SmolLM2" not in below
    assert "Answer A is better" in buttons(at)
    assert not at.dataframe
    at.button(key="pg_vote_a").click().run()
    assert lab.asked[-1][2]["blind"] is True
    assert "You preferred SmolLM2 · chat without knowing the names" in said(at)
    assert at.dataframe


def test_names_can_be_shown_without_a_vote(lab: Lab) -> None:
    at = page(run=lab.record(blind=True)).run()
    at.button(key="pg_reveal").click().run()
    assert at.dataframe
    assert not lab.asked


def test_the_comparison_marks_nothing_twice_and_shows_the_figures_of_the_records(lab: Lab) -> None:
    at = page(run=lab.record()).run()
    table = at.dataframe[0].value.set_index("name")
    assert table.loc["SmolLM2 · chat", "ttft"] == "0.10 s"
    assert table.loc["SmolLM2 · messages", "ttft"] == "0.15 s · +50 %"
    assert table.loc["SmolLM2 · chat", "succeeded"] == "1 of 1"


def test_two_answers_can_be_compared_word_by_word(lab: Lab) -> None:
    at = page(run=lab.record(answers=["The sky is blue.\nAlways.", "The sky is [red](http://x.invalid).\nAlways."]))
    at.session_state["pg_diff"] = True
    at.run()
    assert not at.exception
    merged = next(m.value for m in at.markdown if ":green-background" in m.value)
    assert "](http" not in merged
    assert ":red-background[~~blue~~]" in merged


def test_call_details_show_every_figure_with_its_definition_and_what_was_not_sent(lab: Lab) -> None:
    at = page(run=lab.record())
    at.session_state["pg_details"] = True
    at.run()
    assert not at.exception
    table = next(t.value for t in at.table if "What it means" in t.value.columns).set_index("Figure")
    assert table.loc["**First token**", "Value"].replace("\\", "") == "0.10 s"
    assert all(table["What it means"].str.len() > 20)


def test_a_request_is_copied_as_code_with_the_key_as_a_variable(lab: Lab) -> None:
    at = page(run=lab.record())
    at.session_state["pg_copy"] = True
    at.run()
    assert not at.exception
    codes = [c.value for c in at.code]
    assert any(code.startswith("curl") for code in codes)
    assert any("import openai" in code for code in codes)


def test_a_finished_column_can_be_retried(lab: Lab) -> None:
    at = page(run=lab.record()).run()
    assert any("Retry a column" in str(e.proto) for e in at.get("menu_button"))


def test_a_cost_that_is_no_number_is_said_in_words_and_late_clocks_are_said_once(lab: Lab) -> None:
    at = page(run=lab.record()).run()
    assert list(at.dataframe[0].value["cost"]) == ["free", "free"]
    late = CompareRow(0, "X", "x", {"ttft": Cell("–", None, beside="late"), "out": Cell("5", 5.0)}, "1 of 1", "1 late")
    assert cell_text(late, "ttft") == "–"


@pytest.mark.slow
def test_stop_all_stops_every_run_of_this_visit(lab: Lab) -> None:
    at = page().run()
    for _ in range(3):
        at.button(key="pg_send").click().run()
    snapshot = {"type": "snapshot", "seq": 0, "live": True, "blind": False, "columns": []}
    known = run_queries.search_runs(lab.database(), run_queries.RunFilter()).rows
    lab.living = {row["id"]: {**snapshot, "run": row["id"]} for row in known}
    at.run()
    at.button(key="pg_stop").click().run()
    stopped = [asked[1] for asked in lab.asked if asked[0] == "stop"]
    assert len(stopped) == len(set(stopped)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("address", ["../deployments", "%00%ff", "a\r\nb", ".", "a/stop", "<script>", "x" * 500])
def test_an_address_that_is_no_id_says_that_there_is_no_such_run(lab: Lab, address: str) -> None:
    at = page(run=address).run()
    assert not at.exception
    assert "There is no run at this address" in said(at)
    with pytest.raises(EngineError, match="no run at this address"):
        EngineClient(Path("/nowhere")).live(address)


def test_a_run_whose_engine_is_away_waits_for_it_instead_of_standing_still(lab: Lab) -> None:
    run_id = lab.record("What is rain?")
    lab.write(_running, run_id=run_id)
    lab.down = True
    at = page(run=run_id).run()
    assert not at.exception
    assert not at.button(key="pg_stop").disabled, "it is taken for a run that lives"


def _running(*, session: Any, run_id: str) -> None:
    session.execute(update(Call).where(col(Call.run_id) == run_id).values(state="running"))
