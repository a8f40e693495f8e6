"""What was written is what comes out, whatever the texts are, in every format."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import openpyxl
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from services.batch.files import check, records
from services.batch.files.errors import LineFault
from services.batch.files.json import parse
from services.batch.files.source import lines
from services.batch.types import Options

pytestmark = pytest.mark.slow

LETTERS = st.one_of(
    st.characters(codec="utf-8", exclude_characters="\0"), st.sampled_from(list("\"',;\t|\n\r\\{}[]:é\u2028\x85= "))
)
TEXT = st.text(LETTERS, min_size=1, max_size=30).filter(lambda text: text.strip())
ANY = st.text(LETTERS, max_size=20)
TABLE = st.lists(st.tuples(TEXT, ANY), min_size=1, max_size=12)
SETTINGS = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("round")


def back(folder: Path, name: str, data: bytes, **options) -> list[tuple[str, str, object]]:
    path = folder / name
    path.write_bytes(data)
    found = check(path, Options(**options))
    assert (found.refused, found.faults) == (None, ())
    read = list(records(path, found.options))
    assert len(read) == found.n_valid == found.n_records
    return [(one.id, one.ask.messages[0].text, one.original["other"]) for one in read]


def table(rows, delimiter: str, end: str) -> bytes:
    kept = io.StringIO(newline="")
    # Python's writer leaves a lone \r without quotes, which every other program takes for the end of a line.
    bare = not any("\r" in text + other for text, other in rows)
    quoting = csv.QUOTE_MINIMAL if bare else csv.QUOTE_ALL
    writer = csv.writer(kept, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(["id", "prompt", "other"])
    for no, (text, other) in enumerate(rows):
        writer.writerow([f"r{no}", text, other])
    return kept.getvalue().encode()


def wanted(rows):
    return [(f"r{no}", text, other) for no, (text, other) in enumerate(rows)]


@SETTINGS
@given(TABLE, st.sampled_from(["\n", "\r\n"]))
def test_csv(folder, rows, end):
    assert back(folder, "a.csv", table(rows, ",", end)) == wanted(rows)


@SETTINGS
@given(TABLE)
def test_tsv(folder, rows):
    assert back(folder, "a.tsv", table(rows, "\t", "\n")) == wanted(rows)


@SETTINGS
@given(TABLE, st.booleans())
def test_json_lines_and_arrays(folder, rows, ascii_only):
    made = [{"id": f"r{no}", "prompt": text, "other": other} for no, (text, other) in enumerate(rows)]
    plain = [json.dumps(one, ensure_ascii=ascii_only) for one in made]
    assert back(folder, "a.jsonl", "\n".join(plain).encode()) == wanted(rows)
    assert back(folder, "a.json", json.dumps(made, indent=1).encode(), format="json") == wanted(rows)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | ANY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3),
    max_leaves=8,
)


@SETTINGS
@given(st.lists(JSON, min_size=1, max_size=5))
def test_any_json_value_in_another_column_stays_what_it_is(folder, values):
    made = [{"id": f"r{no}", "prompt": "p", "other": value} for no, value in enumerate(values)]
    data = "\n".join(json.dumps(one) for one in made).encode()
    assert [other for _, _, other in back(folder, "a.jsonl", data)] == values


@SETTINGS
@given(TABLE)
def test_parquet(folder, rows):
    kept = io.BytesIO()
    ids, texts, others = ([row[place] for row in wanted(rows)] for place in range(3))
    pq.write_table(pa.table({"id": ids, "prompt": texts, "other": others}), kept, row_group_size=3)
    assert back(folder, "a.parquet", kept.getvalue()) == wanted(rows)


# What a cell of Excel can hold: no other control characters; XML makes one kind of line end of three; an escape of its
# own for the others; and a text that begins with “=” would be a formula.
EXCEL = (
    st.tuples(TEXT, ANY)
    .map(
        lambda row: tuple(
            ILLEGAL_CHARACTERS_RE.sub("", text).replace("\r", "").replace("_x", "x").lstrip("=") for text in row
        )
    )
    .filter(lambda row: row[0].strip() and not any(letter in "\ufffe\uffff" for letter in row[0] + row[1]))
)


@settings(SETTINGS, max_examples=40)
@given(st.lists(EXCEL, min_size=1, max_size=8))
def test_excel(folder, rows):
    book = openpyxl.Workbook()
    book.active.append(["id", "prompt", "other"])
    for no, (text, other) in enumerate(rows):
        book.active.append([f"r{no}", text, other])
        for cell in book.active[book.active.max_row]:
            cell.data_type = "s"
    kept = io.BytesIO()
    book.save(kept)
    assert [(a, b, c or "") for a, b, c in back(folder, "a.xlsx", kept.getvalue())] == wanted(rows)


@SETTINGS
@given(st.binary(max_size=60), st.integers(1, 7), st.integers(3, 20))
def test_lines_are_those_of_an_editor_wherever_the_chunks_are_cut(data, size, limit):
    data = data.replace(b"a", b"\n").replace(b"\0", b"\r").replace(b"\1", b"\r\n")
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    assert list(lines(chunks, limit=1000)) == data.splitlines(keepends=True)
    short = [line if len(line) <= limit else line[:limit] for line in data.splitlines(keepends=True)]
    cut = list(lines(chunks, limit=limit))
    assert len(cut) == len(short)
    assert all(line.startswith(want[:limit]) for line, want in zip(cut, short, strict=True))


MARKS = [*orjson.dumps({"prompt": 'a"\\\n', "b": [1, {"c": None}]}).decode(), "\n", "1e9", '{"prompt": "']


@SETTINGS
@given(st.lists(st.sampled_from(MARKS), max_size=40).map("".join))
def test_no_heap_of_json_marks_breaks_the_check(folder, text):
    for name in ("a.jsonl", "a.json", "a.csv"):
        path = folder / name
        path.write_text(text)
        for form in (None, "jsonl", "json", "csv"):
            check(path, Options(format=form))


@SETTINGS
@given(st.binary(max_size=200))
def test_no_bytes_break_the_check(folder, data):
    for start in (b"", b"\x1f\x8b\x08\0\0\0\0\0\0\3", b"PAR1", b"PK\x03\x04", b'{"prompt": "', b"id,prompt\n"):
        path = folder / "a.csv"
        path.write_bytes(start + data)
        found = check(path, Options())
        assert found.sha256
        assert found.n_bytes == len(start + data)
        if found.refused is None and found.n_valid:
            assert len(list(records(path, found.options))) == found.n_valid


@settings(SETTINGS, max_examples=600)
@given(
    st.lists(st.sampled_from([*MARKS, "\\ud800", "\\u0000", "9" * 30, "9" * 400, "NaN", "\x01", '"a":']), max_size=12)
)
def test_a_line_that_is_only_counted_is_refused_like_one_that_is_told(marks):
    def taken(raw: bytes, brief: bool):
        try:
            return parse(raw, brief=brief)
        except LineFault:
            return None

    for raw in ("".join(marks).encode(), ('{"x": ' + "".join(marks) + "}").encode()):
        assert taken(raw, brief=True) == taken(raw, brief=False)
