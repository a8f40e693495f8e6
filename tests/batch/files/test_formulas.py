"""Formulas of a workbook: Excel keeps their results, and a program that made the workbook did not."""

from __future__ import annotations

import io
import re
import zipfile

import openpyxl

from services.batch.files.tables import any_formula
from tests.batch.files.made import checked, prompts, put, read


def workbook(*rows: list) -> bytes:
    """As openpyxl makes it: formulas without results."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    kept = io.BytesIO()
    book.save(kept)
    return kept.getvalue()


def saved(data: bytes, results: dict[str, str]) -> bytes:
    """The same after Excel saved it: results by cell, each a text."""
    kept = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            part = old.read(name).decode() if name.endswith(".xml") else ""
            if name.startswith("xl/worksheets/"):
                for cell, text in results.items():
                    part, n = re.subn(
                        rf'<c r="{cell}"([^>]*)>(<f>.*?</f>)<v ?/?>(</v>)?</c>',
                        rf'<c r="{cell}"\1 t="str">\2<v>{text}</v></c>',
                        part,
                    )
                    assert n == 1, part
                new.writestr(name, part)
            else:
                new.writestr(name, old.read(name))
    return kept.getvalue()


def test_a_prompt_that_nobody_computed_is_a_fault_of_its_row_that_says_what_to_do(tmp_path):
    data = workbook(["id", "prompt"], ["a", "fine"], ["b", '="Say "&A3'], ["c", '="Say "&A4'])
    found = checked(tmp_path, data, "a.xlsx")
    assert [(fault.line, fault.code, fault.field) for fault in found.faults] == [
        (3, "formula", "prompt"),
        (4, "formula", "prompt"),
    ]
    assert found.faults[0].text == (
        "Row 3: 'prompt' holds a formula whose result is not in the file. Open the workbook in Excel, save it, and "
        "upload it again."
    )
    assert (found.n_valid, found.n_blank) == (1, 0)


def test_after_excel_saved_it_every_row_is_read(tmp_path):
    data = workbook(["id", "prompt", "note"], ["a", '="Say "&A2', '=""'], ["b", '="Say "&A3', "x"])
    found = read(tmp_path, saved(data, {"B2": "Say a", "C2": "", "B3": "Say b"}), "a.xlsx")
    assert prompts(found) == ["Say a", "Say b"]
    assert [one.original["note"] for one in found] == [None, "x"], "a result that is an empty text is none that lacks"


def test_a_row_of_nothing_but_formulas_is_no_blank_row(tmp_path):
    found = checked(tmp_path, workbook(["prompt"], ["=A1"], ["b"]), "a.xlsx")
    assert (found.n_records, found.n_blank, found.n_faults, found.n_valid) == (2, 0, 1, 1)


def test_an_id_or_a_name_of_a_column_that_nobody_computed_is_told_too(tmp_path):
    found = checked(tmp_path, workbook(["id", "prompt"], ["=1+1", "a"], ["x", "b"]), "a.xlsx")
    assert [fault.text for fault in found.faults] == [
        "Row 2: 'id' holds a formula whose result is not in the file. Open the workbook in Excel, save it, and upload "
        "it again."
    ]
    found = checked(tmp_path, workbook(["id", '="prom"&"pt"'], ["a", "b"]), "a.xlsx")
    assert found.refused is not None and found.refused.startswith("Row 1: the names of the columns hold a formula")


def test_a_formula_that_no_template_uses_is_noticed_and_stops_nobody(tmp_path):
    found = checked(tmp_path, workbook(["id", "prompt", "sum"], ["a", "b", "=1+1"], ["c", "d", 2]), "a.xlsx")
    assert (found.n_faults, found.n_valid) == (0, 2)
    assert "In 1 record a column that no template uses holds a formula" in " ".join(found.notices)


def test_only_a_workbook_with_formulas_is_read_twice(tmp_path):
    plain = put(tmp_path, workbook(["id", "prompt"], ["a", "f(x) and <f>"]), "plain.xlsx")
    assert not any_formula(plain)
    assert any_formula(put(tmp_path, workbook(["prompt"], ["=1"]), "formula.xlsx"))
    assert not any_formula(put(tmp_path, b"PK\x03\x04 broken", "broken.xlsx"))
