"""What was sent comes back in the file's own columns, in every format, and nothing in it runs or tells a key."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.batch import export
from services.batch.export import Kind, Written
from tests.batch.results.rows import line, priced

KINDS: tuple[Kind, ...] = ("csv", "jsonl", "parquet", "excel")
# What a database keeps: no NUL, no lone surrogate (`db.types.storable`).
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
# What Excel keeps too.
plain_texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), max_size=40)
names = st.lists(texts.filter(bool), min_size=1, max_size=4, unique_by=str.casefold)


def written(rows: Any, columns: list[str], kind: Kind, **more: Any) -> tuple[bytes, Written]:
    target = io.BytesIO()
    done = export.write(rows, columns, kind, target, **more)
    return target.getvalue(), done


def table(data: bytes, kind: Kind) -> tuple[list[str], list[list[Any]]]:
    """A written file as its reader gives it back."""
    if kind == "csv":
        rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
        return rows[0], rows[1:]
    if kind == "jsonl":
        found = [json.loads(one) for one in data.decode().split("\n") if one]
        return list(found[0]), [list(one.values()) for one in found]
    if kind == "parquet":
        read = pq.read_table(io.BytesIO(data))
        return read.column_names, [list(row) for row in zip(*(c.to_pylist() for c in read.columns), strict=True)]
    sheet = openpyxl.load_workbook(io.BytesIO(data), read_only=True).active
    assert sheet is not None
    rows = [[cell if cell is not None else "" for cell in row] for row in sheet.iter_rows(values_only=True)]
    # Its reader leaves empty cells at the end of a line out.
    return rows[0], [[*row, *[""] * (len(rows[0]) - len(row))] for row in rows[1:]]


def made(columns: list[str], values: list[list[Any]]) -> list[dict[str, Any]]:
    return [line(no, original=dict(zip(columns, row, strict=True))) for no, row in enumerate(values, 1)]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_texts_come_back_as_they_were_in_their_columns_and_order(kind: Kind, data: Any) -> None:
    columns = data.draw(names)
    values = data.draw(st.lists(st.lists(texts, min_size=len(columns), max_size=len(columns)), min_size=1, max_size=5))
    head, rows = table(written(made(columns, values), columns, kind, escape=False)[0], kind)
    assert head[: len(columns)] == columns
    assert [row[: len(columns)] for row in rows] == values
    assert len({name.casefold() for name in head}) == len(head)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_texts_come_back_from_excel_as_they_were(data: Any) -> None:
    columns = data.draw(st.lists(plain_texts.filter(bool), min_size=1, max_size=4, unique_by=str.casefold))
    row = st.lists(plain_texts, min_size=len(columns), max_size=len(columns))
    values = data.draw(st.lists(row, min_size=1, max_size=4))
    head, rows = table(written(made(columns, values), columns, "excel", escape=False)[0], "excel")
    assert list(head[: len(columns)]) == columns
    assert [found[: len(columns)] for found in rows] == values


scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), texts)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.lists(st.dictionaries(texts.filter(bool), json_values, max_size=4), min_size=1, max_size=4))
@example([{"lab_state": 1, "LAB_STATE_2": 2, "state": 3}])
def test_jsonl_is_exact_whatever_the_records_hold(originals: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for one in originals for name in one))
    data, _ = written([line(n, original=one) for n, one in enumerate(originals, 1)], columns, "jsonl")
    for found, original in zip(map(json.loads, data.decode().split("\n")[:-1]), originals, strict=True):
        assert {name: found[name] for name in original} == original
        assert len(found) == len(original) + len(export.RESULTS)


@settings(max_examples=60, deadline=None)
@given(st.lists(scalars, min_size=1, max_size=6))
def test_parquet_keeps_a_column_of_one_kind_typed_and_loses_nothing_of_a_mixed_one(values: list[Any]) -> None:
    data, _ = written([line(n, original={"x": one}) for n, one in enumerate(values, 1)], ["x"], "parquet")
    _, rows = table(data, "parquet")
    found = [row[0] for row in rows]
    kinds = {type(one) for one in values if one is not None}
    if kinds <= {bool} or kinds <= {int} or kinds <= {float} or kinds <= {str}:
        assert found == values
    elif kinds <= {int, float} and all(abs(one) <= 2**53 for one in values if type(one) is int):
        assert all(math.isclose(a, b) if b is not None else a is None for a, b in zip(found, values, strict=True))
    else:
        assert found == [one if one is None else str(export.flat(one)) for one in values]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_same_lines_and_result_columns(kind: Kind) -> None:
    rows = [priced(1, 54_399_000, answer="four"), line(2, "failed", outcome="throttled", message="429")]
    data, done = written(rows, ["id", "prompt"], kind)
    head, found = table(data, kind)
    assert list(head) == list(done.names)
    by_name = [dict(zip(head, row, strict=True)) for row in found]
    assert (done.n, len(found)) == (2, 2)
    assert by_name[0]["lab_answer"] == "four"
    assert float(by_name[0]["lab_cost_usd"]) == 0.054399
    assert str(by_name[0]["lab_input_tokens"]) == "100"
    assert by_name[1]["lab_state"] == "failed"
    assert by_name[1]["lab_error"] == "429"
    assert by_name[1]["lab_cost_usd"] in ("", None), "a cost that is not known is empty, not 0"


RISKY = ["=1+1", "+1+1", "-1+cmd", "@SUM(A1)", "\t=1", "\r=1", "＝1+1"]


@pytest.mark.parametrize("risky", RISKY)
def test_a_text_that_a_spreadsheet_would_run_is_escaped_unless_a_machine_reads_it(risky: str) -> None:
    rows = [line(1, answer=risky, original={risky: risky})]
    head, found = table(written(rows, [risky], "csv")[0], "csv")
    assert (head[0], found[0][0], found[0][head.index("lab_answer")]) == (f"'{risky}",) * 3
    _, found = table(written(rows, [risky], "csv", escape=False)[0], "csv")
    assert found[0][0] == risky
    _, found = table(written(rows, [risky], "jsonl")[0], "jsonl")
    assert found[0][0] == risky


@pytest.mark.parametrize("escape", [True, False])
@pytest.mark.parametrize("risky", ["=1+1", "#N/A", '=HYPERLINK("http://x")', "12", "TRUE"])
def test_no_cell_of_excel_is_a_formula_or_anything_but_text(risky: str, escape: bool) -> None:
    data, _ = written([line(1, answer=risky)], [], "excel", escape=escape)
    book = openpyxl.load_workbook(io.BytesIO(data))
    cell = book.active["D2"]  # type: ignore[index]  # lab_answer
    assert cell.data_type == "s"
    assert cell.value == (f"'{risky}" if escape and risky.startswith("=") else risky)


def test_control_characters_that_excel_refuses_are_replaced_and_counted() -> None:
    data, done = written([line(1, answer="a\x00b\x0bc\x1bd\ufffee")], [], "excel")
    assert table(data, "excel")[1][0][3] == "a�b�c�d�e"
    assert any("control characters" in note for note in done.notes)


def test_a_text_longer_than_a_cell_of_excel_is_cut_and_said() -> None:
    data, done = written([line(1, answer="é😀" * 20_000)], [], "excel")
    cell = table(data, "excel")[1][0][3]
    assert cell.endswith("…")
    assert len(cell.encode("utf-16-le")) // 2 <= 32_767
    assert any("32,767" in note for note in done.notes)


@pytest.mark.parametrize("number", [2**53 + 1, 10**15, -(2**62), 1e300])
def test_excel_loses_no_digit_of_a_number(number: float) -> None:
    _, rows = table(written([line(1, original={"x": number})], ["x"], "excel", escape=False)[0], "excel")
    assert type(number)(rows[0][0]) == number


def test_more_lines_than_a_sheet_holds_are_refused_in_words_before_any_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> Iterator[Any]:
        raise AssertionError("read")
        yield

    with pytest.raises(ValueError, match="1,048,575 lines"):
        written(never(), [], "excel", n=1_048_576)
    monkeypatch.setattr(export, "EXCEL_ROWS", 5)
    target = io.BytesIO()
    with pytest.raises(ValueError, match="take CSV"):
        export.write((line(n) for n in range(6)), [], "excel", target)
    assert target.getvalue() == b""
    with pytest.raises(ValueError, match="columns"):
        written([], [str(n) for n in range(17_000)], "excel")


def test_a_refused_sheet_leaves_no_file_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(export, "EXCEL_ROWS", 5)
    with pytest.raises(ValueError, match="take CSV"):
        written((line(n) for n in range(6)), [], "excel")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_key_leaves_in_any_column_and_other_cells_stay_as_they_are(kind: Kind) -> None:
    secret = "sk-ant-api03-abcdefgh12345678"
    rows = [
        line(1, answer=f"it is {secret}", original={"a": f"x {secret}", "b": {"deep": [secret]}, "key": "customer-17"}),
        line(2, answer="fine", original={"a": "x", "b": 3, "key": "customer-18"}),
    ]
    data, _ = written(rows, ["a", "b", "key"], kind)
    _, found = table(data, kind)
    assert secret not in str(found)
    assert secret.encode() not in data
    assert found[0][2] == "customer-17", "a column of the person's that is called key holds no key"
    assert found[1][0] == "x"


def test_names_of_ours_never_collide_with_the_files_and_a_new_name_is_said() -> None:
    columns = ["lab_answer", "Lab_State", "lab_state_2"]
    _, done = written([line(1, original=dict.fromkeys(columns, "x"))], columns, "csv")
    assert "lab_answer_2" in done.names
    assert "lab_state_3" in done.names
    assert len({name.casefold() for name in done.names}) == len(done.names)
    assert any("“lab_answer”" in note for note in done.notes)


def test_fields_that_are_no_column_are_said_and_are_in_jsonl() -> None:
    rows = [line(1, original={"a": 1, "odd": 2})]
    assert any("JSONL has them" in note for note in written(rows, ["a"], "csv")[1].notes)
    assert json.loads(written(rows, ["a"], "jsonl")[0])["odd"] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_lines_gives_a_file_that_opens(kind: Kind) -> None:
    data, done = written([], ["a"], kind)
    assert done.n == 0
    if kind != "jsonl":
        assert table(data, kind)[0][0] == "a"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_memory_does_not_grow_with_the_batch(kind: Kind) -> None:
    def rows(n: int) -> Iterator[dict[str, Any]]:
        return (line(no, answer="x" * 2000) for no in range(n))

    written(rows(10), ["id"], kind)
    tracemalloc.start()
    with tempfile.TemporaryFile() as target:
        export.write(rows(5000), ["id"], kind, target)  # type: ignore[arg-type]  # a binary file all the same
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000  # the lines are 10 MB
