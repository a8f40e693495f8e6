"""Templates, differences, escapes and exports: text that people and spreadsheets get to see."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from services import formatting
from services.call_record import from_row
from services.runs import compare, record, spec
from services.runs.record import of_call
from tests.db.rows import call_row, run_row

KEY = "sk-ant-api03-of-the-export-tests-0123456789"


def test_variables_are_found_once_each_and_in_order() -> None:
    text = "{{b}} {{ a }} {{b}} {c} {{}} {{1x}} {{ two words }} {{{{d}}}}"
    assert spec.variables(text) == ["b", "a", "two words", "d"]


def test_values_are_put_in_and_never_looked_into_again() -> None:
    assert spec.render("{{a}}-{{b}}", {"a": "{{b}}", "b": r"\1 {{a}}"}) == r"{{b}}-\1 {{a}}"


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ValueError, match=r"value for a, c; fill them in\."):
        spec.render("{{a}}{{b}}{{c}}", {"b": "x", "c": "  "})


@given(st.text(), st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_any_text_is_rendered_or_refused_in_words(text: str, values: dict[str, str]) -> None:
    try:
        assert isinstance(spec.render(text, values), str)
    except ValueError as error:
        assert str(error).endswith(".")


@pytest.mark.parametrize(
    ("content", "words_"),
    [(b"\xff\xfeh", "not UTF-8"), (b"a\0b", "not a text"), (b"x" * 1_000_001, "larger than 1 MB")],
)
def test_what_is_no_text_file_is_refused_by_name(content: bytes, words_: str) -> None:
    with pytest.raises(ValueError, match=words_) as refused:
        spec.decode_file("notes.txt", content)
    assert str(refused.value).startswith("notes.txt")


def test_a_file_with_a_byte_order_mark_is_read() -> None:
    assert spec.decode_file("n.txt", b"\xef\xbb\xbfhi") == "hi"


@given(st.text(max_size=300), st.text(max_size=300))
def test_a_difference_gives_back_both_texts(first: str, second: str) -> None:
    found = compare.diff(first, second)
    assert "".join(s.text for s in found.segments if s.kind != "insert") == first
    assert "".join(s.text for s in found.segments if s.kind != "delete") == second
    assert found.same == (first == second)


def test_long_texts_are_compared_by_line_and_longer_ones_as_wholes() -> None:
    long = "\n".join(f"line {i} of many words here" for i in range(3000))
    found = compare.diff(long, long.replace("line 7 ", "line VII "))
    assert found.unit == "line"
    assert sum(s.kind == "equal" for s in found.segments) >= 2
    huge = "a b\n" * 50_000
    assert len(compare.diff(huge, huge + "c").segments) == 2


@given(st.text(max_size=200))
def test_an_escaped_text_is_nothing_but_text_to_a_markdown_reader(text: str) -> None:
    tokens = MarkdownIt("js-default", {"html": True, "linkify": False}).parse(formatting.md_escape(text))
    inline = [child.type for token in tokens for child in token.children or ()]
    assert set(inline) <= {"text", "text_special"}
    assert {token.type for token in tokens} <= {"paragraph_open", "inline", "paragraph_close"}


@pytest.mark.parametrize(
    "payload",
    [
        "![x](http://c/1)",
        "<img src=//c/2>",
        ":material/bolt:",
        "$\\\\url{x}$",
        "# a",
        "1. a",
        "    code",
        ":red[x]",
        "http://c/3",
        "- a",
        "| a |\n|-|",
        "a\n\nb",
    ],
)
def test_nothing_of_a_payload_is_left_to_interpret(payload: str) -> None:
    escaped = formatting.md_escape(payload)
    assert "\n" not in escaped
    assert all(escaped[i - 1] == "\\" for i, letter in enumerate(escaped) if letter in "![]()<>:$#*_`|~" and i)


def test_figures_are_written_with_their_units() -> None:
    assert [formatting.seconds(ms) for ms in (None, 3.21, 9.949, 12.4, 99.9, 412, 12_345)] == [
        "–",
        "3.2 ms",
        "9.9 ms",
        "12 ms",
        "100 ms",
        "0.41 s",
        "12.35 s",
    ]
    assert [formatting.rate(v) for v in (None, 3.21, 93.4, 1234.5)] == ["–", "3.2 tok/s", "93 tok/s", "1,234 tok/s"]
    assert formatting.count(None) == "–"
    assert formatting.count(1234, "~") == "~1,234"


HOSTILE = ["=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=1", "＝1"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_spreadsheet_runs_nothing_of_an_export(text: str) -> None:
    row = call_row("c", "r", answer=text, message=text, deployment={"id": "one", "name": text})
    lines = list(csv.DictReader(io.StringIO(record.run_csv([row]), newline="")))
    for column in ("answer", "message", "deployment"):
        assert lines[0][column].startswith("'")
        assert lines[0][column][1:] == text


def test_numbers_of_an_export_stay_numbers() -> None:
    row = call_row("c", "r", ttft_ms=12.5, cost_nanousd=-5, answer="-12.5")
    line = next(csv.DictReader(io.StringIO(record.run_csv([row]))))
    assert line["ttft_ms"] == "12.5"
    assert line["answer"] == "-12.5"


def test_an_export_agrees_with_the_rows_and_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    done: dict[str, Any] = {
        "state": "succeeded",
        "ttft_ms": 412.25,
        "ttlt_ms": 1000.5,
        "uncached_input": 10,
        "cache_read": 5,
        "answer_output": 7,
        "cost_nanousd": 123_456_789,
        "cost_state": "exact",
        "answer": f"grüße 🙂 {KEY}",
        "started_at": datetime(2026, 11, 24, tzinfo=UTC),
    }
    calls = [call_row("c", "r", **done)]
    whole = record.run_json(run_row("r", prompt=f"say {KEY}"), calls, [])
    assert KEY not in whole
    assert KEY not in record.run_csv(calls)
    said = json.loads(whole)["calls"][0]
    assert said == json.loads(json.dumps(of_call(from_row(calls[0])) | {"text": None}, default=str)) | said
    line = next(csv.DictReader(io.StringIO(record.run_csv(calls))))
    assert (line["ttft_ms"], line["input_tokens"], line["output_tokens"], line["cost_usd"]) == (
        "412.25",
        "15",
        "7",
        "0.123456789",
    )
    assert "grüße 🙂" in line["answer"]


def test_a_file_name_holds_nothing_but_letters_and_digits() -> None:
    name = record.file_name({"id": "../../a b_-é", "created_at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC)}, "csv")
    assert name == "inference-lab-20260102-0304-ab.csv"
