"""Rows 13 to 18 of batch.md D: records that cannot be read or asked, each answered in words to act on."""

from __future__ import annotations

import pytest

from services.batch.files import MAX_RECORD_BYTES, check
from services.batch.files.errors import excerpt
from services.batch.types import Options
from tests.batch.files.made import checked, jsonl, prompts, put, read

FINE = b'{"prompt": "fine"}\n'
CSV = "id,prompt\n"


# 13 --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "at", "said"),
    [
        (b'{"prompt": "a" "b"}', "column 16", "expecting ',' delimiter"),
        (b"{'prompt': 'a'}", "column 2", "double quotes, not single ones"),
        (b'{"prompt": "a",}', "column 16", "take the comma before the closing bracket away"),
        (b'{"prompt": True}', "column 12", "JSON writes true, false, null"),
        (b'{"prompt": "a"} {"prompt": "b"}', "column 17", "each line holds one"),
        (b'{"prompt": "abc', "column 12", "it ends in the middle"),
        (b'{"prompt": "a"', "column 15", "it ends in the middle"),
        (b"hello", "column 1", "expecting value"),
        ('{"é": "ü" x}'.encode(), "column 11", "expecting ',' delimiter"),
    ],
)
def test_malformed_json_is_told_with_line_and_column(tmp_path, line, at, said):
    found = checked(tmp_path, FINE + b"\n" + line + b"\n" + FINE)
    assert [(fault.line, fault.code) for fault in found.faults] == [(3, "not_json")]
    assert found.faults[0].text.startswith(f"Line 3, {at}: not JSON")
    assert said in found.faults[0].text
    assert found.n_valid == 2


def test_a_json_array_is_a_question_with_the_number_of_its_items(tmp_path):
    data = b"[\n" + b",\n".join(b'{"prompt": "p%d", "x": [1, {"y": "],["}]}' % i for i in range(120)) + b"\n]\n"
    for name in ("a.json", "a.jsonl"):
        found = checked(tmp_path, data, name)
        assert found.refused == "This is one JSON array of 120 items: convert to JSONL?"
        assert found.choices[0].options.format == "json"
    found = read(tmp_path, data, "a.json", format="json")
    assert prompts(found) == [f"p{i}" for i in range(120)]
    assert [one.line for one in found[:2]] == [2, 3]


def test_pretty_printed_objects_are_a_question_too(tmp_path):
    data = b'{\n  "prompt": "x"\n}\n{\n  "prompt": "y"\n}\n'
    found = checked(tmp_path, data)
    assert found.refused == "These are 2 JSON objects spread over several lines: convert to JSONL?"
    assert [(one.line, one.ask.messages[0].text) for one in read(tmp_path, data, format="json")] == [(1, "x"), (4, "y")]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'[{"prompt": "a"},\n{"prompt": "b"', "never closed: the file ends inside the record that begins on line 2"),
        (b'[{"prompt": "a"}]\nx', "Line 2: not JSON: there is more behind the end of the array."),
        (b'[{"prompt": "a"},\n,{}]', "Line 2: not JSON: “,” is not expected here."),
        (b'[{"prompt": "a"}\n}', "Line 2: not JSON: “}” is not expected here."),
    ],
)
def test_a_broken_array_is_told_by_line(tmp_path, data, said):
    assert said in checked(tmp_path, data, "a.json").refused


def test_an_item_of_an_array_is_faulted_like_a_line(tmp_path):
    data = b'[{"prompt": "a"},\n{"prompt": NaN},\n7,\n{"prompt": "b"}]'
    found = checked(tmp_path, data, "a.json", format="json")
    assert [(fault.line, fault.record, fault.code) for fault in found.faults] == [
        (2, 2, "not_a_number"),
        (3, 3, "not_object"),
    ]
    assert found.n_valid == 2


# 14, 15 ----------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (b"[1, 2]", "not_object", "this is a list, not an object"),
        (b'"text"', "not_object", "this is a text, not an object"),
        (b"7", "not_object", "this is a number, not an object"),
        (b"null", "not_object", "this is null, not an object"),
        (b'{"prompt": "a", "x": NaN}', "not_a_number", "NaN is not JSON"),
        (b'{"prompt": "a", "x": -Infinity}', "not_a_number", "-Infinity is not JSON"),
        (b'{"prompt": "a", "x": 1e999}', "number", "1e999 is too large a number"),
        (b'{"prompt": "a", "prompt": "b"}', "duplicate_key", "key 'prompt' stands twice"),
        (b'{"prompt": "a", "x": {"y": 1, "y": 1}}', "duplicate_key", "key 'y' stands twice"),
        (b'{"prompt" : "a\\":b", "prompt"\t:"c"}', "duplicate_key", "key 'prompt' stands twice"),
        (b'{"prompt": "a", "pro\\u006dpt": "b"}', "duplicate_key", "key 'prompt' stands twice"),
        (b'{"prompt": "a \\ud800 b"}', "surrogate", "lone surrogate (\\ud800)"),
        (b'{"prompt": "a \\udc00"}', "surrogate", "lone surrogate (\\udc00)"),
        (b'{"prompt": "a", "\\ud800": 1}', "surrogate", "lone surrogate"),
        (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep", "nested deeper than 64"),
        (b'{"prompt": "a", "x":' + b'{"a":' * 64 + b"1" + b"}" * 65, "too_deep", "nested deeper than 64"),
        (b"[" * 2_000, "too_deep", "nested deeper than 64"),
        (b'{"prompt": "a", "x": ' + b"9" * 5_000 + b"}", "number", "a whole number of 5,000 digits"),
        (b'{"prompt": "a\\u0000b"}', "nul", "NUL character (U+0000)"),
        (b'{"prompt": "a\0b"}', "nul", "NUL character (U+0000)"),
        (b'{"prompt": "' + b"x" * (MAX_RECORD_BYTES + 1) + b'"}', "too_long", "longer than 6,291,456 bytes"),
    ],
)
def test_what_servers_refuse_or_would_lose_is_refused_by_line_and_name(tmp_path, line, code, said):
    found = checked(tmp_path, FINE + line + b"\n" + FINE)
    assert [(fault.line, fault.code) for fault in found.faults] == [(2, code)]
    assert found.faults[0].text.startswith("Line 2")
    assert said in found.faults[0].text
    assert len(found.faults[0].found) <= 80
    assert (found.n_records, found.n_valid) == (3, 2)


def test_nesting_and_numbers_up_to_the_limit_pass(tmp_path):
    deep = b'{"prompt": "a", "x":' + b"[" * 63 + b"]" * 63 + b"}\n"
    whole = b'{"prompt": "a", "id": 12345678901234567890123}\n'
    colons = b'{"prompt": "a \\"x\\": 1, \\"x\\": 2", "y": {"x": ":", "z": [{"x": 1}, {"x": 2}]}}\n'
    found = read(tmp_path, deep + whole + colons, id_column="id")
    assert found[1].id == "12345678901234567890123"  # not 1.2345678901234568e+22
    assert prompts(found)[2] == 'a "x": 1, "x": 2'


# 16, 17 ----------------------------------------------------------------------------------------------------------
def test_double_ids_are_told_with_both_lines_and_suffixing_is_offered(tmp_path):
    rows = 'a1,x\nb,"y\ny"\nA1 ,z\nc,w\na1,v\n'
    found = checked(tmp_path, CSV + rows, "a.csv")
    assert [(fault.line, fault.record) for fault in found.faults] == [(5, 3), (7, 5)]
    assert found.faults[0].text.startswith("Line 5: id 'A1 ' on lines 2 and 5")
    assert found.faults[1].text.startswith("Line 7: id 'a1' on lines 2 and 7")
    assert (found.n_valid, found.sendable) == (3, False)
    assert [choice.label for choice in found.choices] == ["Make double ids different"]
    again = check(tmp_path / "a.csv", found.choices[0].options)
    assert (again.n_valid, again.n_faults) == (5, 0)
    assert [one.id for one in again.preview] == ["a1", "b", "A1-line5", "c", "a1-line7"]
    assert any(text.startswith("2 double ids were made different") for text in again.notices)


def test_a_suffixed_id_is_never_one_that_is_there(tmp_path):
    found = read(tmp_path, CSV + "a-line4,x\na,y\na,z\na-line4,w\n", "a.csv", suffix_ids=True)
    assert [one.id for one in found] == ["a-line4", "a", "a-line4-2", "a-line4-line5"]


@pytest.mark.parametrize("given", ["ä ß/\\#?%", "x" * 500, "a b", "0"])
def test_no_id_is_refused_for_its_letters_or_length(tmp_path, given):
    found = read(tmp_path, jsonl({"id": given, "prompt": "a"}, {"id": 7, "prompt": "b"}, {"prompt": "c"}))
    assert [one.id for one in found] == [given, "7", "line-3"]


def test_an_id_that_is_no_name_is_a_fault_and_without_a_column_the_line_counts(tmp_path):
    found = checked(tmp_path, jsonl({"id": [1], "prompt": "a"}, {"id": "x", "prompt": "b"}))
    assert found.faults[0].text == "Line 1: the id is [1]; it has to be a text or a number."
    assert [one.id for one in read(tmp_path, "prompt\n\na\nb\n", "a.csv")] == ["3", "4"]


# 18 --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("record", "code", "said"),
    [
        ({"prompt": ""}, "empty_prompt", "the prompt is empty: column 'prompt' has nothing in it"),
        ({"prompt": " \n\t"}, "empty_prompt", "the prompt is empty"),
        ({"prompt": None}, "empty_prompt", "the prompt is empty"),
        ({"prompt": 5}, "prompt_not_text", "prompt is 5, not text"),
        ({"prompt": ["a"]}, "prompt_not_text", 'prompt is ["a"], not text'),
        ({"question": "a"}, "unknown_column", "No column 'prompt'. Found: question."),
        (
            {"messages": [{"role": "bot", "content": "x"}]},
            "role",
            "message 1 has the role 'bot'; allowed are user, assistant, or system at the beginning",
        ),
        ({"messages": [{"content": "x"}]}, "role", "message 1 has no role; allowed are user, assistant"),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]},
            "role",
            "message 2 is of the role 'system', which can only stand at the beginning",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]},
            "first_role",
            "the first message is of the role 'assistant'; it has to be 'user'",
        ),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
            "last_role",
            "the last message is of the role 'assistant'; it has to be 'user'",
        ),
        ({"messages": [{"role": "user", "content": " "}]}, "empty_prompt", "message 1 (user) is empty"),
        ({"messages": [{"role": "user", "content": 3}]}, "content_not_text", "the content of message 1 is 3, not text"),
        ({"messages": [{"role": "system", "content": "x"}]}, "empty_prompt", "there is no message of the user"),
        ({"messages": []}, "messages", "messages is [], not a list of messages"),
        ({"messages": ["x"]}, "messages", "message 1 is not an object"),
        ({"prompt": "a", "temperature": 3}, "param", "Temperature goes from 0 to 2; 3 is outside"),
        ({"prompt": "a", "max_tokens": 0}, "param", "Max output tokens goes from 1 to 200,000; 0 is outside"),
        ({"prompt": "a", "params": {"depth": 1}}, "param", "“depth” is not a parameter here"),
        (
            {"prompt": "a", "params": 5},
            "param",
            'params is 5, not an object. Write it like {"max_tokens": 100}, or take it out',
        ),
        ({"prompt": "a", "params": "x"}, "param", "params is x, not an object"),
        ({"prompt": "a", "params": []}, "param", "params is [], not an object"),
        ({"prompt": "a", "params": False}, "param", "params is false, not an object"),
        ({"messages": [{"role": "user", "content": "x"}], "params": 5}, "param", "params is 5, not an object"),
        (
            {"messages": [{"role": "user", "content": "x"}], "system": 5},
            "content_not_text",
            "the system prompt is not text. Write it as one text.",
        ),
        (
            {"messages": None},
            "messages",
            "messages is null, not a list of messages with a role and a text, and there "
            "is no prompt either. Fill one of them in.",
        ),
        ({"messages": "hello"}, "messages", "messages is hello, not a list of messages"),
        ({"messages": None, "prompt": None}, "messages", "messages is null, not a list of messages"),
    ],
)
def test_what_cannot_be_asked_is_a_fault_of_its_line(tmp_path, record, code, said):
    found = checked(tmp_path, FINE + jsonl(record) + FINE)
    assert [(fault.line, fault.code) for fault in found.faults] == [(2, code)]
    assert said in found.faults[0].text
    assert found.n_valid == 2


@pytest.mark.parametrize(("given", "said"), [(5, "5"), (1.5, "1.5"), (True, "true")])
def test_a_system_prompt_that_is_no_text_is_a_fault_of_its_line(tmp_path, given, said):
    fine = {"prompt": "a", "system": "Be brief."}
    found = checked(tmp_path, jsonl(fine, {"prompt": "a", "system": given}, fine))
    assert [(fault.line, fault.code) for fault in found.faults] == [(2, "system_not_text")]
    assert found.faults[0].text == f"Line 2: system is {said}, not text. Put it in quotes."


def test_messages_that_are_null_give_way_to_a_prompt_and_null_parameters_to_none(tmp_path):
    found = read(tmp_path, jsonl({"prompt": "a", "messages": None, "params": None, "system": None}))
    assert prompts(found) == ["a"]
    assert (found[0].ask.system, dict(found[0].ask.params)) == (None, {})


def test_a_file_of_nothing_but_null_messages_says_so_line_by_line(tmp_path):
    found = checked(tmp_path, jsonl({"id": "a", "messages": None}, {"id": "b", "messages": None}))
    assert [fault.line for fault in found.faults] == [1, 2]
    assert all("messages is null" in fault.text for fault in found.faults)


def test_a_column_called_params_that_a_template_uses_is_data(tmp_path):
    found = read(tmp_path, jsonl({"params": "5 and 6"}), prompt="Add {{params}}")
    assert prompts(found) == ["Add 5 and 6"]


def test_only_the_first_twenty_faults_are_kept_and_all_are_counted(tmp_path):
    found = checked(tmp_path, FINE + b"x\n" * 500)
    assert (len(found.faults), found.n_faults, found.n_records, found.n_valid) == (20, 500, 501, 1)
    assert [fault.line for fault in found.faults] == list(range(2, 22))
    assert not found.sendable
    assert checked(tmp_path, FINE + b"x\n" * 500, leave_out=True).sendable


def test_what_was_found_is_short_escaped_and_without_keys(tmp_path):
    key = "sk-" + "abcdEFGH1234" * 3
    found = checked(tmp_path, FINE + f'{{"prompt": {key} \u202e\x1b[31m'.encode() + b"y" * 500 + b"\n")
    assert len(found.faults[0].found) <= 80
    assert all(letter.isprintable() for letter in found.faults[0].text + found.faults[0].found)
    assert key not in found.faults[0].text + found.faults[0].found


def test_a_file_that_is_not_there_is_told(tmp_path):
    path = tmp_path / "no.csv"
    assert check(path, Options()).refused == f"There is no file at {path}; check the path."
    assert "is a folder" in check(tmp_path, Options()).refused
    put(tmp_path, FINE)
    assert check(tmp_path / "a.jsonl", Options(params={"depth": 1})).refused.startswith("“depth” is not a parameter")


def test_of_a_key_that_is_cut_only_the_beginning_is_shown():
    key = "AbCd" + "x1Y2z3" * 30
    assert excerpt(f"the key {key}") == "the key AbCd…"
    assert excerpt("words and " * 30) == ("words and " * 30)[:79] + "…"
    assert excerpt("a\tb\u202e") == "a\\tb\\u202e"
