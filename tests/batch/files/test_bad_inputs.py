"""Rows 1 to 12 of batch.md D (and what 15 says of tables): each answered in words that a person can act on."""

from __future__ import annotations

import pytest

from services.batch.files import MAX_RECORD_BYTES, check
from tests.batch.files.made import checked, jsonl, prompts, read

FINE = b'{"prompt": "fine"}\n'
CSV = "id,prompt\n"


# 1 ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "data"),
    [("a.csv", "id,prompt\n1,x\n"), ("a.jsonl", '{"id": 1, "prompt": "x"}\n'), ("a.tsv", "id\tprompt\n1\tx\n")],
)
def test_a_byte_order_mark_is_never_part_of_the_first_name(tmp_path, name, data):
    found = checked(tmp_path, b"\xef\xbb\xbf" + data.encode(), name)
    assert found.columns == ("id", "prompt")
    assert (found.n_valid, found.n_faults, found.notices) == (1, 0, ())


# 2 ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-16", "File looks like UTF-16 (first bytes FF FE). Save as UTF-8."),
        ("utf-32", "File looks like UTF-32 (first bytes FF FE 00 00). Save as UTF-8."),
        ("utf-16-le", "File looks like UTF-16 (every other byte is 00). Save as UTF-8."),
        ("utf-16-be", "File looks like UTF-16 (every other byte is 00). Save as UTF-8."),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_wide_encodings_are_named(tmp_path, encoding, said, name):
    found = checked(tmp_path, (CSV + "1,hello\n" * 30).encode(encoding), name)
    assert found.refused == said
    assert not found.sendable
    assert [fault.text for fault in found.faults] == [said]


# 3 ---------------------------------------------------------------------------------------------------------------
def test_the_byte_that_is_not_utf8_is_named_and_windows_1252_is_offered(tmp_path):
    data = CSV.encode() + b"1,good\n2,caf\xe9\n3,caf\xc3\xa9\n"
    found = checked(tmp_path, data, "a.csv")
    assert [(fault.line, fault.record, fault.code) for fault in found.faults] == [(3, 2, "not_utf8")]
    assert found.faults[0].text == (
        "Line 3, byte 6: not UTF-8 (0xE9). Looks like Windows-1252: convert the file, or press “Read as Windows-1252”."
    )
    assert found.faults[0].found == "2,café"
    assert found.n_valid == 2
    choice = found.choices[0]
    assert choice.label == "Read as Windows-1252"
    again = check(tmp_path / "a.csv", choice.options)
    assert [one.ask.messages[0].text for one in again.preview] == ["good", "café", "cafÃ©"]
    assert again.n_faults == 0
    assert "The file was read as Windows-1252." in again.notices


def test_json_lines_in_windows_1252_are_read_when_asked(tmp_path):
    data = b'{"prompt": "caf\xe9"}\n'
    found = checked(tmp_path, data)
    assert found.faults[0].text.startswith("Line 1, byte 16: not UTF-8 (0xE9). Looks like Windows-1252")
    assert prompts(read(tmp_path, data, encoding="cp1252")) == ["café"]


def test_a_byte_that_windows_1252_has_not_either_is_not_called_so(tmp_path):
    found = checked(tmp_path, CSV.encode() + b"1,\x81\n2,x\n", "a.csv")
    assert found.faults[0].text == "Line 2, byte 3: not UTF-8 (0x81). Save the file as UTF-8."
    assert found.choices == ()
    found = checked(tmp_path, CSV.encode() + b"1,\x81\n2,x\n", "a.csv", encoding="cp1252")
    assert found.faults[0].text.startswith("Line 2, byte 3: 0x81 is no letter of Windows-1252 either.")


def test_a_byte_deep_in_a_record_of_several_lines_names_its_own_line(tmp_path):
    found = checked(tmp_path, CSV.encode() + b'1,"a\nb\xe9"\n2,x\n', "a.csv")
    assert found.faults[0].text.startswith("Line 2, byte 2 of line 3: not UTF-8 (0xE9).")
    assert found.n_valid == 1


def test_a_header_that_is_not_utf8_is_refused_with_the_way_out(tmp_path):
    found = checked(tmp_path, b"id,pr\xe9nom,prompt\n1,a,b\n", "a.csv")
    assert found.refused.startswith("Line 1, byte 6: not UTF-8 (0xE9).")
    assert check(tmp_path / "a.csv", found.choices[0].options).columns == ("id", "prénom", "prompt")


# 4 ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_every_kind_of_line_end_is_accepted(tmp_path, end, last):
    rows = ["id,prompt", "1,a", "2,b", "3,c"]
    found = read(tmp_path, end.join(rows) + (end if last else ""), "a.csv")
    assert (prompts(found), [one.line for one in found]) == (["a", "b", "c"], [2, 3, 4])
    lines = ['{"prompt": "a"}', "", '{"prompt": "b"}']
    found = read(tmp_path, end.join(lines) + (end if last else ""))
    assert (prompts(found), [one.line for one in found]) == (["a", "b"], [1, 3])


def test_line_ends_inside_quotes_are_kept_byte_by_byte(tmp_path):
    text = "one\r\ntwo\nthree\rfour\n\r\n"
    found = read(tmp_path, f'id,prompt\r\n1,"{text}"\n2,b\r3,c\r\n', "a.csv")
    assert prompts(found) == [text, "b", "c"]
    assert [one.line for one in found] == [2, 8, 9]


# 5, 6 ------------------------------------------------------------------------------------------------------------
def test_blank_lines_are_passed_over_and_counted(tmp_path):
    found = checked(tmp_path, b'\n{"prompt": "a"}\n   \t\n\r\n{"prompt": "b"}')
    assert (found.n_records, found.n_valid, found.n_blank) == (2, 2, 3)
    assert "3 blank lines were passed over." in found.notices
    assert [one.line for one in found.preview] == [2, 5]
    found = checked(tmp_path, "id,prompt\n\n1,a\n , \n,\n2,b", "a.csv")
    assert (found.n_valid, found.n_blank, found.n_faults) == (2, 3, 0)


@pytest.mark.parametrize(
    ("data", "name", "why"),
    [
        (b"", "a.csv", "The file is empty."),
        (b"\xef\xbb\xbf", "a.jsonl", "The file is empty."),
        (b"\n \n\n", "a.jsonl", "The file has only blank lines."),
        (b"\n\n", "a.csv", "The file has only blank lines."),
        (b"id,prompt\n", "a.csv", "The file has a header and no rows."),
        (b"id,prompt\n\n \n", "a.csv", "The file has a header and no rows."),
        (b"[]", "a.json", "The JSON array is empty."),
    ],
)
def test_a_file_without_records_says_so(tmp_path, data, name, why):
    found = checked(tmp_path, data, name)
    assert found.refused == f"No records found. {why}"
    assert not found.sendable


# 7, 8 ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("letter", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_only_line_ends_end_lines(tmp_path, letter):
    text = f"a{letter}b"
    found = read(tmp_path, f'id,prompt\n1,{text}\n2,"{text}\n{text}"\n', "a.csv")
    assert prompts(found) == [text, f"{text}\n{text}"]
    if letter > " ":  # control characters cannot stand unescaped in JSON
        assert prompts(read(tmp_path, f'{{"prompt": "{text}"}}\n{{"prompt": "{text}"}}\n')) == [text, text]


def test_quoted_newlines_and_doubled_quotes_are_one_record_with_its_physical_line(tmp_path):
    found = read(tmp_path, 'id,prompt\n1,"a ""b""\nc"\n2,"d\n\n\ne"\n3,f\n', "a.csv")
    assert prompts(found) == ['a "b"\nc', "d\n\n\ne", "f"]
    assert [one.line for one in found] == [2, 4, 8]


# 9 ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('1,"hello\n2,b\n3,c\n', 2),
        ('1,a\n2,"b ""x""\n3,c', 3),
        ('1,a\n"2\n3",ok\n4,"open\n', 5),
        ('"1\n2\n3","open\n4,b\n', 4),
        ('1,"he said "hi", and then\nmore",x\n', 2),
    ],
)
def test_a_quote_that_is_never_closed_is_told_with_the_line_where_it_opened(tmp_path, rows, line):
    found = checked(tmp_path, CSV + rows, "a.csv")
    assert found.refused.startswith(f"Quote opened on line {line} is never closed.")
    assert (found.faults[0].line, found.faults[0].code) == (line, "unclosed_quote")
    assert not found.sendable


def test_a_quote_that_swallows_more_than_a_record_may_hold_is_told_without_reading_all_of_it(tmp_path):
    rows = "1,a\n" + '2,"open\n' + "3,some more text\n" * (MAX_RECORD_BYTES // 10)
    found = checked(tmp_path, CSV + rows, "a.csv")
    assert found.refused.startswith("Quote opened on line 3 is never closed, at least not in 6,291,456 bytes")


def test_a_quote_that_is_not_doubled_costs_its_line_only(tmp_path):
    found = checked(tmp_path, CSV + '1,"he said "hi" there"\n2,b\n3,"c \\"x\\" y"\n4,d\n', "a.csv")
    assert [fault.line for fault in found.faults] == [2, 4]
    assert 'Write "" for each quote that belongs to the text' in found.faults[0].text
    assert "backslash" in found.faults[1].text
    assert found.n_valid == 2


def test_where_the_end_of_a_broken_record_cannot_be_known_nothing_is_sent(tmp_path):
    found = checked(tmp_path, 'prompt\n"a\nb "c" d\ne"\nf\n', "a.csv", leave_out=True)
    assert found.refused.startswith("The quote opened on line 2 is closed on line 3 in the middle of a text")
    assert not found.sendable


# 10 --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("mark", "said", "label"),
    [
        (";", "Only one column 'id;prompt'. Delimiter ';'?", "Read with a semicolon as the delimiter"),
        ("\t", "Only one column 'id\\tprompt'. Delimiter tab?", "Read with a tab as the delimiter"),
        ("|", "Only one column 'id|prompt'. Delimiter '|'?", "Read with a bar as the delimiter"),
    ],
)
def test_a_wrong_delimiter_is_a_question_with_a_choice(tmp_path, mark, said, label):
    found = checked(tmp_path, f"id{mark}prompt\n1{mark}a, b\n", "a.csv")
    assert found.refused == said
    assert [choice.label for choice in found.choices] == [label]
    assert prompts(
        read(tmp_path, f"id{mark}prompt\n1{mark}a, b\n", "a.csv", delimiter=found.choices[0].options.delimiter)
    ) == ["a, b"]


def test_one_column_without_another_delimiter_is_no_question(tmp_path):
    assert prompts(read(tmp_path, "prompt\na; b\n", "a.csv")) == ["a; b"]


# 11 --------------------------------------------------------------------------------------------------------------
def test_a_misspelt_column_is_named_with_its_nearest_and_offered(tmp_path):
    found = checked(tmp_path, "id,promt\n1,a\n2,b\n", "a.csv")
    assert found.faults[0].text.startswith("No column 'prompt'. Found: id, promt. Did you mean promt?")
    assert (found.faults[0].code, found.n_records, found.n_valid) == ("no_prompt", 2, 0)
    assert [choice.label for choice in found.choices] == ["Use column “promt” as the prompt"]
    assert check(tmp_path / "a.csv", found.choices[0].options).n_valid == 2


def test_a_template_with_an_unknown_column_is_one_fault_of_the_file(tmp_path):
    for data, name in (("id,text\n1,a\n2,b\n", "a.csv"), (jsonl({"id": 1, "text": "a"}, {"id": 2, "text": "b"}), "b")):
        found = checked(tmp_path, data, name, prompt="Say {{txt}} now")
        assert found.n_faults == 1
        assert found.faults[0].line is None
        assert found.faults[0].text.startswith("No column 'txt'. Found: id, text. Did you mean text?")
        assert found.choices[0].options.prompt == "Say {{text}} now"


def test_a_column_twice_is_refused_by_name_and_place(tmp_path):
    found = checked(tmp_path, "id,prompt, prompt \n1,a,b\n", "a.csv")
    assert found.refused.startswith("The column 'prompt' stands twice in the header (places 2 and 3). Rename one")


def test_an_id_column_that_is_not_there_is_refused_with_its_nearest(tmp_path):
    found = checked(tmp_path, "nr,prompt\n1,a\n", "a.csv", id_column="nro")
    assert found.refused.startswith("No column 'nro'. Found: nr, prompt. Did you mean nr?")
    assert found.choices[0].options.id_column == "nr"


# 12 --------------------------------------------------------------------------------------------------------------
def test_rows_of_another_width_are_told_by_their_fields(tmp_path):
    found = checked(tmp_path, 'a,b,prompt\n1,2,x\n"1\n",2,3,4\n5,6\n', "a.csv")
    assert [(fault.line, fault.record) for fault in found.faults] == [(3, 2), (5, 3)]
    assert found.faults[0].text.startswith("Line 3: 4 fields, header has 3.")
    assert found.faults[0].found == "1\\n,2,3,4"
    assert found.faults[1].text.startswith("Line 5: 2 fields, header has 3.")


# 15 ------------------------------------------------------------------------------------------------------------------
def test_a_long_field_passes_and_nul_in_a_table_does_not(tmp_path):
    long = "x" * 200_000  # the csv module's own limit is 131,072
    found = checked(tmp_path, f"id,prompt\n1,{long}\n2,a\0b\n3,c\n", "a.csv")
    assert [(fault.line, fault.code) for fault in found.faults] == [(3, "nul")]
    assert found.longest == 200_000
    found = checked(tmp_path, f"id,prompt\n1,{'x' * (MAX_RECORD_BYTES + 100_000)}\n2,b\n", "a.csv")
    assert found.refused.startswith("Line 2: longer than 6,291,456 bytes")


def test_too_many_columns_are_refused(tmp_path):
    found = checked(tmp_path, ",".join(f"c{i}" for i in range(1001)) + "\n1\n", "a.csv")
    assert found.refused.startswith("The header has 1,001 columns; at most 1,000 are read.")
