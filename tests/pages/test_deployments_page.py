"""The Deployments page: what is listed, how one is added, and that a key never gets in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from app.deployments.detail import verdict
from app.deployments.form import price_of
from services.deployments import config
from services.types import Deployment, PriceRef
from tests.pages.lab import NEEDY, Lab, buttons, page, said

KEY = "sk-ant-api03-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"


def _select(at: AppTest, row: int) -> AppTest:
    at.session_state["dp_table"] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    return at.run()


def _fill(at: AppTest, **fields: str) -> AppTest:
    for name, value in fields.items():
        at.text_input(key=f"dp_add_{name}").set_value(value)
    return at


def _own(lab: Lab) -> Deployment:
    made = Deployment("mine", "Mine", "openai-compatible", "llama-8b", "https://llm.example.com/v1", origin="page")
    lab.listed.insert(0, made)
    return made


def test_every_deployment_is_listed_with_what_it_needs(lab: Lab) -> None:
    at = page("deployments").run()
    assert not at.exception
    table = at.dataframe[0].value.set_index("name")
    assert table.loc["SmolLM2 · chat · local", "state"] == "ready"
    assert table.loc[NEEDY.name, "state"] == "needs ANTHROPIC_API_KEY"
    assert table.loc["GPT-6 Luna", "state"] == "switched off"
    assert table.loc["GPT-6 Luna", "host"] == "api.openai.com"


@pytest.mark.slow
def test_a_local_deployment_says_that_its_server_is_starting(lab: Lab) -> None:
    lab.embedded["main"] = {"state": "starting", "restarts": 0}
    at = page("deployments").run()
    assert at.dataframe[0].value.set_index("name").loc["SmolLM2 · chat · local", "state"] == "local server: starting"


@pytest.mark.slow
def test_one_switch_turns_on_the_models_of_a_provider(lab: Lab) -> None:
    at = page("deployments").run()
    assert at.toggle(key="dp_catalogue_openai").value is False
    at.toggle(key="dp_catalogue_openai").set_value(True).run()
    assert ("catalogue", "openai", True) in lab.asked
    assert at.toggle(key="dp_catalogue_openai").value is True


@pytest.mark.slow
def test_a_deployment_is_added_with_the_name_of_its_key(lab: Lab) -> None:
    at = page("deployments").run()
    at.selectbox(key="dp_add_kind").set_value("openai-compatible").run()
    _fill(at, name="Llama 8B", model="llama-8b", base_url="https://llm.example.com/v1", key_env="")
    at.button(key="dp_add_save").click().run()
    assert not at.exception
    saved = lab.listed[-1]
    assert (saved.name, saved.model, saved.base_url, saved.key_env) == (
        "Llama 8B",
        "llama-8b",
        "https://llm.example.com/v1",
        None,
    )
    assert "Llama 8B is saved" in said(at)
    assert at.text_input(key="dp_add_name").value == ""


def test_a_pasted_key_is_refused_and_shown_nowhere(lab: Lab) -> None:
    at = page("deployments").run()
    before = list(lab.listed)
    _fill(at, name="Haiku", model="claude-haiku", key_env=KEY)
    at.button(key="dp_add_save").click().run()
    assert "takes the name of a variable" in said(at)
    assert KEY not in said(at)
    assert at.text_input(key="dp_add_key_env").value == ""
    assert KEY not in str(at.session_state.to_dict())
    assert lab.listed == before
    assert at.text_input(key="dp_add_name").value == "Haiku"


@pytest.mark.slow
def test_a_metadata_address_gets_one_sentence_and_nothing_is_saved(lab: Lab) -> None:
    at = page("deployments").run()
    before = list(lab.listed)
    at.selectbox(key="dp_add_kind").set_value("openai-compatible").run()
    _fill(at, name="Trap", model="x", base_url="http://169.254.169.254/latest", key_env="")
    at.button(key="dp_add_save").click().run()
    assert not at.exception
    assert "address that cannot be used" in said(at)
    assert lab.listed == before
    assert at.text_input(key="dp_add_name").value == "Trap"


@pytest.mark.slow
def test_a_missing_name_is_one_sentence(lab: Lab) -> None:
    at = page("deployments").run()
    at.button(key="dp_add_save").click().run()
    assert "The name is missing" in said(at)


@pytest.mark.slow
def test_a_deployment_of_the_file_is_not_edited_here_and_says_where(lab: Lab) -> None:
    lab.listed.insert(0, replace(_own(lab), id="filed", name="Filed", origin="file"))
    at = _select(page("deployments").run(), 0)
    assert "Declared in deployments.toml: change it there" in said(at)
    assert not set(buttons(at)) & {"Edit", "Remove"}


@pytest.mark.slow
def test_an_own_deployment_is_edited_in_place(lab: Lab) -> None:
    _own(lab)
    at = _select(page("deployments").run(), 0)
    at.button(key="dp_edit_mine").click().run()
    assert at.text_input(key="dp_edit_mine_model").value == "llama-8b"
    at.text_input(key="dp_edit_mine_model").set_value("llama-70b")
    at.button(key="dp_edit_mine_save").click().run()
    assert not at.exception
    assert lab.deployment("mine").model == "llama-70b"


@pytest.mark.slow
def test_removing_asks_first(lab: Lab) -> None:
    _own(lab)
    at = _select(page("deployments").run(), 0)
    at.button(key="dp_remove_mine").click().run()
    assert not lab.asked
    at.button(key="dp_remove_now").click().run()
    assert ("remove_deployment", "mine") in lab.asked


@pytest.mark.slow
def test_a_deployment_is_switched_off_and_shown_as_toml(lab: Lab) -> None:
    at = _select(page("deployments").run(), 0)
    assert "[[deployment]]" in at.code[0].value
    at.button(key="dp_switch_local-chat").click().run()
    assert lab.deployment("local-chat").enabled is False


def test_a_viewer_sees_the_list_and_no_switches(lab: Lab) -> None:
    lab.close_doors()
    at = _select(page("deployments").run(), 0)
    assert not at.exception
    assert not set(buttons(at)) & {"Test", "Switch off", "Add deployment", "Restart"}
    assert at.toggle(key="dp_catalogue_openai").disabled


def test_an_engine_that_is_down_is_one_sentence(lab: Lab) -> None:
    lab.down = True
    at = page("deployments").run()
    assert not at.exception
    assert "The engine does not answer" in said(at)


@pytest.mark.parametrize(
    ("fields", "price"),
    [
        ({"price": "own", "input": "0.25", "output": "$1.25"}, PriceRef(override={"input": "0.25", "output": "1.25"})),
        ({"price": "hour", "per_hour": "39.60"}, PriceRef(per_hour="39.60")),
        ({"price": "list"}, PriceRef(provider="anthropic", model="claude-x")),
        ({"price": "none"}, PriceRef()),
    ],
)
def test_a_price_has_one_of_four_forms(fields: dict[str, str], price: PriceRef) -> None:
    assert price_of(fields, kind_name="anthropic", model="claude-x") == price


def test_an_own_price_without_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="own price is empty"):
        price_of({"price": "own"}, kind_name="openai", model="m")


def test_a_test_result_says_which_question_was_not_reached() -> None:
    rows = verdict({"ok": False, "reachable": True, "authorised": False, "model_exists": None, "capabilities": None})
    assert rows == {"Reachable": "yes", "Authorised": "no", "Model exists": "not reached"}


def test_what_the_page_makes_passes_the_checks_of_the_file() -> None:
    made = Deployment("mine", "Mine", "openai-compatible", "llama-8b", "https://llm.example.com/v1", origin="page")
    config.validate(made, config.Config())
