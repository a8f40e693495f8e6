"""The final judgement's words, and the parameters' ranges."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from services.outcomes import STATE_OF, finish_norm, sentence
from services.params import PARAMS, clean
from services.types import Outcome, State

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def test_every_outcome_has_a_state_and_every_state_is_one_of_ours() -> None:
    assert set(STATE_OF) == set(OUTCOMES)
    assert set(STATE_OF.values()) <= set(get_args(State))
    assert {o for o, s in STATE_OF.items() if s == "succeeded"} == {"ok", "max_tokens"}


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("tokens", [None, 37])
def test_every_outcome_has_one_sentence_that_says_what_failed_what_was_kept_and_what_to_do(
    outcome: Outcome, tokens: int | None
) -> None:
    said = sentence(outcome, name="My model", tokens=tokens, seconds=60, status=429, detail="x\x00y.\n", model="m-1")
    assert said.startswith("My model")
    assert said.endswith(".")
    assert "\n" not in said
    assert "\x00" not in said
    assert "None" not in said
    assert ".." not in said
    if outcome != "ok":
        assert ("37 tokens received were kept" if tokens else "no text to keep") in said
        assert ": " in said  # what to do next


def test_a_sentence_names_what_the_reader_has_to_look_at() -> None:
    assert "OPENAI_API_KEY" in sentence("unauthorised", name="X", key_env="OPENAI_API_KEY", status=401)
    assert "“gpt-9”" in sentence("not_found", name="X", model="gpt-9", status=404)
    assert "after 60 s" in sentence("timeout_idle", name="X", seconds=60)
    assert "in 12 s" in sentence("throttled", name="X", retry_after_s=12, status=429)
    assert "(429: slow down)" in sentence("throttled", name="X", status=429, detail="slow down")
    assert "200" not in sentence("overloaded", name="X", status=200, detail="Overloaded")


@pytest.mark.parametrize(
    ("raw", "outcome"),
    [
        ("stop", "ok"),
        ("end_turn", "ok"),
        ("length", "max_tokens"),
        ("abort", "truncated"),
        (None, "truncated"),
        ("", "truncated"),
        ("refusal", "refused"),
        ("content_filter", "filtered"),
        ("STOP", "truncated"),
    ],
)
def test_only_known_finish_words_are_ends(raw: str | None, outcome: Outcome) -> None:
    assert finish_norm(raw) == outcome


def test_parameters_are_cleaned_to_their_own_types_in_their_own_order() -> None:
    got = clean({"stop": "END", "max_tokens": "12", "temperature": "0.5", "seed": 3.0, "top_p": None, "top_k": ""})
    assert got == {"temperature": 0.5, "max_tokens": 12, "stop": ["END"], "seed": 3}
    assert list(got) == [name for name in PARAMS if name in got]
    assert isinstance(got["seed"], int)


def test_zero_is_a_value_and_not_nothing() -> None:
    assert clean({"temperature": 0, "seed": 0}) == {"temperature": 0.0, "seed": 0}


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"temprature": 1}, "is not a parameter here"),
        ({"temperature": 2.1}, "goes from 0 to 2"),
        ({"temperature": "hot"}, "is a number"),
        ({"temperature": float("nan")}, "is a number"),
        ({"max_tokens": 0}, "goes from 1 to 200,000"),
        ({"max_tokens": 1.5}, "whole number"),
        ({"max_tokens": True}, "whole number"),
        ({"top_k": [3]}, "whole number"),
        ({"reasoning_effort": "huge"}, "is one of none, minimal"),
        ({"reasoning_effort": ["low"]}, "is one of"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "at most 4"),
        ({"stop": [1]}, "list of texts"),
        ({"stop": 5}, "list of"),
        ({"seed": 10**400}, "whole number"),
    ],
)
def test_a_parameter_that_cannot_be_sent_is_refused_in_words(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        clean(params)


@pytest.mark.parametrize("spec", PARAMS.values(), ids=lambda s: s.name)
def test_every_parameter_explains_itself_and_its_default_is_valid(spec: Any) -> None:
    assert len(spec.help) > 40
    assert spec.label
    assert spec.default is None or clean({spec.name: spec.default}) == {spec.name: spec.default}
