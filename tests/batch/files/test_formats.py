"""Excel, Parquet, gzip and names: what a file is, is known by its first bytes, and nothing is unpacked blindly."""

from __future__ import annotations

import gzip
import io
import zipfile
from datetime import date, datetime
from decimal import Decimal

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.batch.files import check
from services.batch.types import Options
from tests.batch.files.made import checked, jsonl, prompts, read

CSV = b"id,prompt\n1,a\n2,b\n"


def workbook(*sheets: tuple[str, list[list]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets:
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    kept = io.BytesIO()
    book.save(kept)
    return kept.getvalue()


def parquet(columns: dict, **how) -> bytes:
    kept = io.BytesIO()
    pq.write_table(pa.table(columns), kept, **how)
    return kept.getvalue()


def zipped(**files: str) -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), text)
    return kept.getvalue()


def test_a_workbook_is_read_by_its_rows(tmp_path):
    rows = [
        [],
        ["id", "prompt", "n", "day"],
        [1, 'hi\n"there"', 1.5, date(2026, 1, 2)],
        [],
        [2, "", 7, None],
        [3.0, 2026, None, None],
    ]
    found = checked(tmp_path, workbook(("A", rows)), "a.xlsx")
    assert (found.format, found.n_records, found.n_blank) == ("excel", 3, 1)
    assert found.columns == ("id", "prompt", "n", "day")
    assert found.options.sheet == "A"
    assert [fault.text for fault in found.faults] == [
        "Row 5: the prompt is empty: column 'prompt' has nothing in it. Fill it in.",
        "Row 6: prompt is 2026, not text. Put it in quotes.",
    ]
    assert found.preview[0].original == {"id": 1, "prompt": 'hi\n"there"', "n": 1.5, "day": "2026-01-02"}
    assert (found.preview[0].line, found.preview[0].id) == (3, "1")


def test_cells_beyond_the_header_are_a_fault(tmp_path):
    found = checked(tmp_path, workbook(("A", [["prompt"], ["a", "stray"], ["b"]])), "a.xlsx")
    assert [fault.text for fault in found.faults] == [
        "Row 2: 2 fields, header has 1. Give every column a name in the header."
    ]
    assert found.n_valid == 1


def test_other_sheets_are_offered_and_a_wrong_one_is_refused_by_name(tmp_path):
    data = workbook(("A", [["prompt"], ["a"]]), ("B", [["prompt"], ["b"], ["c"]]))
    found = checked(tmp_path, data, "a.xlsx")
    assert "The workbook has 2 sheets; “A” was read." in found.notices
    assert check(tmp_path / "a.xlsx", found.choices[0].options).n_valid == 2
    assert checked(tmp_path, data, "a.xlsx", sheet="C").refused == "No sheet 'C'. Found: A, B."


@pytest.mark.parametrize("sheets", [(("A", []),), (("A", [["id", "prompt"]]),)])
def test_an_empty_sheet_has_no_records(tmp_path, sheets):
    assert checked(tmp_path, workbook(*sheets), "a.xlsx").refused.startswith("No records found.")


@pytest.mark.slow
def test_a_zip_bomb_is_refused_by_what_it_declares(tmp_path):
    data = zipped(xl__workbook_dot_xml="<a/>", xl__worksheets__sheet1_dot_xml="\0" * 200_000_000)
    assert len(data) < 300_000
    found = checked(tmp_path, data, "a.xlsx")
    assert found.refused.startswith("The workbook unpacks to 200 MB, more than 100 times its size; it was not opened.")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (zipped(a_dot_csv="id,prompt"), "a zip archive. Unpack it and upload the file inside, or save"),
        (zipped(xl__workbook_dot_bin="x"), "a binary Excel workbook (.xlsb). Save it as CSV UTF-8"),
        (zipped(mimetype="x", content_dot_xml="y"), "an OpenDocument file. Save it as CSV UTF-8"),
        (zipped(word__document_dot_xml="y"), "a Word document. Save it as CSV UTF-8"),
        (workbook(("A", [["prompt"]]))[:-100], "a damaged zip or Excel file. Upload it again"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "an Excel 97 workbook (.xls), or one with a password"),
        (b"%PDF-1.7\n", "a PDF."),
        (b"\x89PNG\r\n\x1a\n", "a picture."),
        (b"\x28\xb5\x2f\xfdxxxx", "compressed with zstd."),
        (b"BZh91AY", "compressed with bzip2."),
        (bytes(range(256)) * 20, "binary, not text."),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.xlsx"])
def test_what_is_no_table_is_named_by_its_first_bytes(tmp_path, data, said, name):
    found = checked(tmp_path, data, name)
    assert found.refused.startswith("The file is ")
    assert said in found.refused


def test_a_workbook_that_is_damaged_inside_is_refused_in_words(tmp_path):
    found = checked(tmp_path, zipped(xl__workbook_dot_xml="<a/>"), "a.xlsx")
    assert found.refused.startswith("The Excel workbook is damaged and cannot be read")


def test_a_wrong_extension_is_told_and_harmless(tmp_path):
    found = checked(tmp_path, workbook(("A", [["prompt"], ["a"]])), "a.csv")
    assert "The file is named a.csv but is an Excel workbook; it was read as that." in found.notices
    found = checked(tmp_path, jsonl({"prompt": "a"}), "a.csv")
    assert (found.format, found.n_valid) == ("jsonl", 1)
    assert "The file is named a.csv but is JSON Lines; it was read as that." in found.notices
    found = checked(tmp_path, CSV, "a.jsonl")
    assert (found.format, found.n_valid) == ("csv", 2)
    assert checked(tmp_path, CSV, "a.csv").notices == ()


def test_a_format_that_was_asked_for_and_is_not_there_is_refused_with_the_way_out(tmp_path):
    found = checked(tmp_path, workbook(("A", [["prompt"], ["a"]])), "a.csv", format="csv")
    assert found.refused.startswith("The file is an Excel workbook, not a CSV file.")
    assert check(tmp_path / "a.csv", found.choices[0].options).n_valid == 1
    found = checked(tmp_path, CSV, "a.csv", format="excel")
    assert found.refused.startswith("The file is text, not an Excel workbook.")
    assert check(tmp_path / "a.csv", found.choices[0].options).n_valid == 2


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv", "a.gz"])
def test_gzip_of_a_text_is_read(tmp_path, name):
    assert prompts(read(tmp_path, gzip.compress(CSV), name)) == ["a", "b"]
    assert prompts(read(tmp_path, gzip.compress(CSV) + gzip.compress(b"3,c\n") + b"\0" * 100, name)) == ["a", "b", "c"]


@pytest.mark.slow
def test_a_gzip_bomb_is_stopped_by_its_ratio_and_a_tight_text_is_not(tmp_path):
    found = checked(tmp_path, gzip.compress(b"id,prompt\n" + b"1,aaaaaaaaaaaaa\n" * 4_000_000), "a.csv.gz")
    assert found.refused.startswith("The gzip file unpacks to more than 100 times its size")
    assert found.sha256
    zeros = checked(tmp_path, gzip.compress(b"\0" * 20_000_000), "a.csv.gz")
    assert "binary" in zeros.refused
    rows = b"prompt\n" + b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n" * 100_000
    assert checked(tmp_path, gzip.compress(rows), "a.csv.gz").n_valid == 100_000


@pytest.mark.slow
def test_more_than_the_cap_of_unpacked_bytes_is_refused(tmp_path, monkeypatch):
    from services.batch.files import source

    monkeypatch.setattr(source, "MAX_UNPACKED", 1_000_000)
    found = checked(tmp_path, gzip.compress(b"prompt\n" + b"hello there\n" * 100_000), "a.csv.gz")
    assert "unpacks to more than" in found.refused


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(CSV)[:-4], "The gzip file ends in the middle."),
        (gzip.compress(CSV)[:15] + b"\xff\xff" + gzip.compress(CSV)[17:], "The gzip file is damaged"),
        (gzip.compress(CSV) + b"garbage", "The gzip file is damaged"),
        (gzip.compress(gzip.compress(CSV)), "The file is packed with gzip twice."),
        (gzip.compress(b"PAR1" + b"x" * 100), "Only texts can be packed with gzip"),
        (gzip.compress(b"%PDF-1.4"), "The file in the gzip is a PDF."),
        (gzip.compress("id,prompt\n1,a\n".encode("utf-16")), "File looks like UTF-16"),
        (gzip.compress(b""), "No records found. The file is empty."),
    ],
    # gzip writes the second it was made: named by its bytes, a case has another name in each worker.
    ids=["cut", "damaged", "more after it", "packed twice", "parquet", "pdf", "utf-16", "empty"],
)
def test_a_gzip_that_cannot_be_read_says_why(tmp_path, data, said):
    found = checked(tmp_path, data, "a.csv.gz")
    assert said in found.refused


def test_parquet_is_read_with_types_as_json_knows_them(tmp_path):
    columns = {
        "id": ["a", "b", "c"],
        "prompt": ['x\n"q"', "", "z"],
        "share": [1.5, float("nan"), 2.0],
        "when": [datetime(2026, 1, 1, 3, 4)] * 3,
        "price": [Decimal("1.10"), None, Decimal("2.20")],
        "raw": [b"text", b"\xff\x00", None],
        "tags": [["x"], [], None],
    }
    found = checked(tmp_path, parquet(columns, row_group_size=1), "a.parquet")
    assert (found.format, found.n_records, found.n_valid) == ("parquet", 3, 2)
    assert found.faults[0].text.startswith("Row 2: the prompt is empty")
    assert found.preview[0].original == {
        "id": "a",
        "prompt": 'x\n"q"',
        "share": 1.5,
        "when": "2026-01-01 03:04:00",
        "price": "1.10",
        "raw": "text",
        "tags": ["x"],
    }
    assert found.preview[1].line == 3


def test_parquet_can_hold_conversations(tmp_path):
    talk = [[{"role": "system", "content": "S"}, {"role": "user", "content": "u"}], [{"role": "bot", "content": "x"}]]
    found = checked(tmp_path, parquet({"id": ["a", "b"], "messages": talk}), "a.parquet")
    assert found.preview[0].ask.system == "S"
    assert found.faults[0].text.startswith("Row 2: message 1 has the role 'bot'")


def test_what_cannot_be_sent_is_found_in_typed_files_too(tmp_path):
    found = checked(tmp_path, parquet({"prompt": ["a\0b", "c"]}), "a.parquet")
    assert [fault.code for fault in found.faults] == ["nul"]


@pytest.mark.parametrize("cut", [slice(None, -20), slice(None, 4), slice(None, 300)])
def test_a_parquet_file_that_was_cut_is_refused_in_words(tmp_path, cut):
    data = parquet({"prompt": [f"text {i}" for i in range(100)]})
    found = checked(tmp_path, data[cut], "a.parquet")
    assert found.refused.startswith("The Parquet file is damaged or cut short")


def test_a_parquet_file_that_is_damaged_inside_is_refused_in_words(tmp_path):
    data = bytearray(parquet({"prompt": [f"text {i * 7919}" for i in range(1000)]}, compression="zstd"))
    data[100:400] = bytes(300)
    assert checked(tmp_path, bytes(data), "a.parquet").refused.startswith("The Parquet file is damaged")


def test_parquet_with_a_column_twice_or_no_rows_is_refused(tmp_path):
    kept = io.BytesIO()
    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"]), kept)
    assert "stands twice in the header" in checked(tmp_path, kept.getvalue(), "a.parquet").refused
    empty = checked(tmp_path, parquet({"prompt": pa.array([], pa.string())}), "a.parquet")
    assert empty.refused.startswith("No records found.")


def test_excels_own_hint_of_the_delimiter_is_taken(tmp_path):
    found = checked(tmp_path, "sep=;\r\nid;prompt\r\n1;a, b\r\n", "a.csv")
    assert (found.options.delimiter, found.columns, found.n_valid) == (";", ("id", "prompt"), 1)
    assert found.preview[0].line == 3


def test_the_options_that_come_back_leave_nothing_open(tmp_path):
    found = checked(tmp_path, "nr\tCustom_ID\tSystem\tQuestion\n1\tx\tbe kind\tq\n", "a.tsv")
    settled = found.options
    assert (settled.format, settled.delimiter, settled.id_column) == ("tsv", "\t", "Custom_ID")
    assert (settled.prompt, settled.system) == ("{{Question}}", "{{System}}")
    assert check(tmp_path / "a.tsv", settled).options == settled
    assert found.preview[0].ask.system == "be kind"
    assert check(tmp_path / "a.tsv", Options(system="")).preview[0].ask.system is None
