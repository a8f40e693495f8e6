"""The playground: what it offers, what it sends, and what it says when something cannot be sent."""

from __future__ import annotations

import pytest

from services.deployments.config import embedded_deployments
from services.runs.spec import MAX_PROMPT_CHARS, SUGGESTED
from tests.pages.lab import NEEDY, Lab, buttons, page, said

FIRST_THREE = [d.id for d in embedded_deployments()[:3]]


def test_a_first_visit_has_a_prompt_and_three_local_deployments_ready_to_send(lab: Lab) -> None:
    at = page().run()
    assert not at.exception
    assert at.text_area(key="pg_prompt").value.strip()
    assert at.multiselect(key="pg_deployments").value == FIRST_THREE
    assert "Send" in buttons(at)


def test_one_click_on_send_starts_one_run_and_puts_it_into_the_address(lab: Lab) -> None:
    at = page().run()
    at.button(key="pg_send").click().run()
    assert not at.exception
    assert [c.deployment_id for c in lab.specs[0].columns] == FIRST_THREE
    assert len(lab.specs) == 1
    assert at.query_params["run"] == at.session_state["pg_run"]


def test_the_engine_is_asked_before_the_page_is_drawn_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    at = page().run()
    order: list[str] = []
    engine = lab.engine
    monkeypatch.setattr(lab, "engine", lambda person: _Noting(engine(person), order))
    at.button(key="pg_send").click().run()
    assert order[0] == "start_run"


class _Noting:
    def __init__(self, engine: object, order: list[str]) -> None:
        self._engine, self._order = engine, order

    def __getattr__(self, name: str) -> object:
        self._order.append(name)
        return getattr(self._engine, name)


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("   ", "The prompt is empty"),
        ("x" * (MAX_PROMPT_CHARS + 1), "characters long and the limit is 1,000,000"),
        ("Explain {{thing}}", "needs a value for thing"),
    ],
)
def test_a_prompt_that_cannot_be_sent_gets_one_sentence_and_stays(lab: Lab, prompt: str, sentence: str) -> None:
    at = page().run()
    at.text_area(key="pg_prompt").set_value(prompt).run()
    at.button(key="pg_send").click().run()
    assert not at.exception
    assert sentence in said(at)
    assert at.text_area(key="pg_prompt").value == prompt
    assert not lab.specs


def test_no_deployment_gets_one_sentence_and_keeps_the_prompt(lab: Lab) -> None:
    at = page().run()
    at.text_area(key="pg_prompt").set_value("Hello").run()
    at.multiselect(key="pg_deployments").set_value([]).run()
    at.button(key="pg_send").click().run()
    assert "Choose between 1 and 8 deployments" in said(at)
    assert at.text_area(key="pg_prompt").value == "Hello"


def test_a_deployment_without_its_key_is_listed_with_what_it_needs_and_is_not_sent_to(lab: Lab) -> None:
    at = page().run()
    assert f"{NEEDY.name} · needs ANTHROPIC_API_KEY" in at.multiselect(key="pg_deployments").options
    at.multiselect(key="pg_deployments").set_value([NEEDY.id]).run()
    at.button(key="pg_send").click().run()
    assert "needs ANTHROPIC_API_KEY" in said(at)
    assert not lab.specs


@pytest.mark.slow
def test_the_chosen_deployments_are_kept_in_the_address_by_id(lab: Lab) -> None:
    at = page().run()
    at.multiselect(key="pg_deployments").set_value(["local-one-thread"]).run()
    assert at.query_params["d"] == "local-one-thread"
    again = page(d="local-one-thread,no-such-one").run()
    assert again.multiselect(key="pg_deployments").value == ["local-one-thread"]


def test_a_variable_in_the_prompt_gets_an_input_and_its_value_is_sent(lab: Lab) -> None:
    at = page().run()
    at.text_area(key="pg_prompt").set_value("Explain {{thing}} in a sentence").run()
    at.text_input(key="pg_var_thing").set_value("caching").run()
    at.button(key="pg_send").click().run()
    assert lab.specs[0].render() == "Explain caching in a sentence"


@pytest.mark.slow
def test_only_the_token_limit_is_sent_until_a_parameter_is_set(lab: Lab) -> None:
    at = page().run()
    at.button(key="pg_send").click().run()
    assert dict(lab.specs[0].params) == {"max_tokens": SUGGESTED.max_tokens}
    at.number_input(key="pg_param_temperature").set_value(0.5).run()
    at.button(key="pg_send").click().run()
    assert lab.specs[1].params["temperature"] == 0.5


@pytest.mark.slow
def test_a_column_that_opts_out_starts_from_the_shared_values_and_is_sent_its_own(lab: Lab) -> None:
    at = page().run()
    at.number_input(key="pg_param_temperature").set_value(0.5).run()
    at.toggle(key="pg_own_local-messages").set_value(True).run()
    at.number_input(key="pg_own_local-messages_temperature").set_value(0.9).run()
    at.button(key="pg_send").click().run()
    assert not at.exception
    shared, own, _ = lab.specs[0].columns
    assert shared.use_shared_params
    assert not own.use_shared_params
    assert dict(own.params) == {"temperature": 0.9, "max_tokens": SUGGESTED.max_tokens}
    assert lab.specs[0].params["temperature"] == 0.5


@pytest.mark.slow
def test_a_parameter_that_one_deployment_does_not_take_is_named_before_sending(lab: Lab) -> None:
    at = page().run()
    at.number_input(key="pg_param_seed").set_value(7).run()
    assert "Seed is not sent to SmolLM2 · messages" in said(at)
    assert "Seed is not sent to SmolLM2 · chat" not in said(at)


@pytest.mark.slow
def test_an_engine_that_is_down_is_one_sentence_and_loses_nothing(lab: Lab) -> None:
    at = page().run()
    at.text_area(key="pg_prompt").set_value("Keep me").run()
    lab.down = True
    at.button(key="pg_send").click().run()
    assert not at.exception
    assert "The engine does not answer" in said(at)
    assert at.text_area(key="pg_prompt").value == "Keep me"
    assert at.multiselect(key="pg_deployments").value


@pytest.mark.slow
def test_a_page_opened_while_the_engine_is_down_is_drawn(lab: Lab) -> None:
    lab.down = True
    at = page().run()
    assert not at.exception
    assert "The engine does not answer" in said(at)


@pytest.mark.slow
def test_a_local_server_in_trouble_is_one_sentence_with_a_restart_button(lab: Lab) -> None:
    lab.embedded["main"] = {"state": "unavailable", "sentence": "The model needs 400 MB of memory.", "restarts": 3}
    at = page().run()
    assert "The model needs 400 MB of memory." in said(at)
    at.button(key="restart_line_main").click().run()
    assert ("restart_embedded", "main") in lab.asked


def test_what_was_typed_survives_another_page(lab: Lab) -> None:
    at = page().run()
    at.text_area(key="pg_prompt").set_value("Still here?").run()
    at.switch_page("../pages/runs.py").run()
    at.switch_page("../pages/playground.py").run()
    assert at.text_area(key="pg_prompt").value == "Still here?"


@pytest.mark.slow
def test_the_shown_run_survives_another_page(lab: Lab) -> None:
    at = page().run()
    at.button(key="pg_send").click().run()
    run_id = at.session_state["pg_run"]
    at.switch_page("../pages/runs.py").run()
    at.switch_page("../pages/playground.py").run()
    assert at.session_state["pg_run"] == run_id
    assert at.query_params["run"] == run_id


@pytest.mark.slow
def test_a_text_file_goes_with_the_prompt_and_a_binary_one_is_refused_in_words(lab: Lab) -> None:
    at = page().run()
    at.file_uploader[0].upload("notes.md", b"# Facts").run()
    at.file_uploader[0].upload("data.txt", b"\xff\xfe\x00binary").run()
    assert "data.txt is not" in said(at)
    at.button(key="pg_send").click().run()
    assert [a.name for a in lab.specs[0].attachments] == ["notes.md"]
    assert "# Facts" in lab.specs[0].render()


@pytest.mark.slow
def test_a_blind_run_is_sent_blind_with_all_of_its_columns(lab: Lab) -> None:
    at = page().run()
    at.toggle(key="pg_blind").set_value(True).run()
    at.button(key="pg_send").click().run()
    assert lab.specs[0].blind
    assert sorted(c.deployment_id for c in lab.specs[0].columns) == sorted(FIRST_THREE)
