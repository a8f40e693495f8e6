"""What the page chose is what is sent: no option is lost between the two."""

from __future__ import annotations

from dataclasses import fields

import pytest

from services.batch.service import options_of, spec_of
from services.batch.types import Options, options_of_json, options_to_json
from services.request_fields import Refused, RequestFields

EVERY = Options(
    format="openai",
    encoding="cp1252",
    delimiter=";",
    id_column="key",
    prompt="{{a}}",
    system="{{b}}",
    params={"max_tokens": 5},
    suffix_ids=True,
    sheet="Two",
    leave_out=True,
    only_model="gpt-a",
)


def test_every_option_is_set_in_this_test() -> None:
    assert all(getattr(EVERY, one.name) != getattr(Options(), one.name) for one in fields(Options))


def test_options_come_through_a_request_and_through_the_records_unchanged() -> None:
    assert options_of(RequestFields(options_to_json(EVERY))) == EVERY
    assert options_of_json(options_to_json(EVERY)) == EVERY
    assert options_of(RequestFields(options_to_json(Options()))) == Options() == options_of_json({})


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "...", "a/b.csv", "/etc/passwd", "a\\b.csv", "a\0.csv", "a\n.csv"]
)
def test_what_is_no_name_of_a_file_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(Refused) as raised:
        spec_of(RequestFields({"deployment_id": "d", "sha256": "0" * 64, "file_name": name}))
    assert str(raised.value).startswith("“file_name” has to be the name of a file") and "\0" not in str(raised.value)


@pytest.mark.parametrize("name", ["a.csv", ".hidden.csv", "Fragen und Antworten (3).xlsx", "質問.jsonl"])
def test_names_of_files_are_kept_as_they_are(name: str) -> None:
    assert spec_of(RequestFields({"deployment_id": "d", "sha256": "0" * 64, "file_name": name})).file_name == name


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a\0b\x07 c", "ab c"),
        ("one\ntwo\tthree", "one two three"),
        ("\u202eback", "back"),
        ("\0", ""),
        ("質問 é", "質問 é"),
    ],
)
def test_the_name_of_a_batch_is_one_line_without_control_characters(name: str, kept: str) -> None:
    body = {"deployment_id": "d", "sha256": "0" * 64, "file_name": "a.csv", "name": name}
    assert spec_of(RequestFields(body)).name == kept
