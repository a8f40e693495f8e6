"""What the page chose is what is sent: no option is lost between the two."""

from __future__ import annotations

from dataclasses import fields

from services.batch.model import Options, options_of_json, options_to_json
from services.batch.submit import options_of
from services.given import Given

EVERY = Options(
    format="openai", encoding="cp1252", delimiter=";", id_column="key", prompt="{{a}}", system="{{b}}",
    params={"max_tokens": 5}, suffix_ids=True, sheet="Two", leave_out=True, only_model="gpt-a",
)  # fmt: skip


def test_every_option_is_set_in_this_test() -> None:
    assert all(getattr(EVERY, one.name) != getattr(Options(), one.name) for one in fields(Options))


def test_options_come_through_a_request_and_through_the_records_unchanged() -> None:
    assert options_of(Given(options_to_json(EVERY))) == EVERY
    assert options_of_json(options_to_json(EVERY)) == EVERY
    assert options_of(Given(options_to_json(Options()))) == Options() == options_of_json({})
