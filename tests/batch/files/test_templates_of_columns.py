"""Templates over columns."""

from __future__ import annotations

import pytest

from services.batch.files.templates import Template
from tests.batch.files.made import checked, jsonl, prompts, read


def test_columns_are_filled_in_and_values_are_not_looked_into_again(tmp_path):
    data = "id,name,text\n1,Zoë,{{id}} and more\n"
    found = read(tmp_path, data, "a.csv", prompt="{{ name }}: {{text}} ({{name}})")
    assert prompts(found) == ["Zoë: {{id}} and more (Zoë)"]


def test_a_column_of_any_name_can_be_used_and_other_braces_are_text(tmp_path):
    data = "Frage (deutsch),prénom,n°\nWie?,Zoë,1\n"
    template = '{{prénom}} {{ Frage (deutsch) }} {{n°}} {{"json": 1}} {{}} {{{prénom}}}'
    assert prompts(read(tmp_path, data, "a.csv", prompt=template)) == ['Zoë Wie? 1 {{"json": 1}} {{}} {Zoë}']


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (5, "5"),
        (1.5, "1.5"),
        (2.0, "2"),
        (True, "true"),
        (None, ""),
        (["é", 1], '["é",1]'),
        ({"a": {"b": 2}}, '{"a":{"b":2}}'),
        (2**70, str(2**70)),
    ],
)
def test_values_that_are_no_text_are_written_as_json(tmp_path, value, text):
    import json

    data = json.dumps({"a": value, "b": "x"}).encode()
    assert prompts(read(tmp_path, data, prompt="<{{a}}> {{b}}")) == [f"<{text}> x"]


def test_some_columns_may_be_empty_but_not_all(tmp_path):
    found = checked(tmp_path, "id,a,b\n1,x,y\n2,,y\n3, ,\n", "a.csv", prompt="Compare {{a}} with {{b}}.")
    assert [fault.text for fault in found.faults] == [
        "Line 4: the prompt is empty: columns 'a' and 'b' have nothing in it. Fill it in."
    ]
    assert "In 1 record a column that the template uses is empty." in found.notices
    assert found.n_valid == 2


def test_a_record_without_a_column_of_the_template_is_a_fault_with_its_nearest(tmp_path):
    found = checked(tmp_path, jsonl({"text": "a"}, {"txet": "b"}, {"text": "c"}), prompt="Say {{text}}")
    assert found.faults[0].text.startswith("Line 2: No column 'text'. Found: txet. Did you mean txet?")
    assert (found.faults[0].field, found.n_valid) == ("text", 2)


def test_the_prompt_is_the_first_column_that_is_named_like_one(tmp_path):
    wanted = {"id,body,TEXT": "{{TEXT}}", "Question,input": "{{Question}}", "text,prompt": "{{prompt}}"}
    for header, want in wanted.items():
        found = checked(tmp_path, f"{header}\n{','.join('x' * len(header.split(',')))}\n", "a.csv")
        assert found.options.prompt == want


def test_system_templates_are_filled_and_an_empty_one_is_none(tmp_path):
    found = read(tmp_path, "prompt,style\na,kind\nb,\n", "a.csv", system="{{style}}")
    assert [one.ask.system for one in found] == ["kind", None]
    found = read(tmp_path, jsonl({"prompt": "a"}, {"prompt": "b", "system": "S"}))
    assert [one.ask.system for one in found] == [None, "S"]


def test_a_column_that_the_template_uses_is_data_whatever_its_name(tmp_path):
    data = jsonl({"text": "Berlin", "temperature": 31.5, "seed": 4})
    found = read(tmp_path, data, prompt="{{text}} at {{temperature}} °C")
    assert prompts(found) == ["Berlin at 31.5 °C"]
    assert dict(found[0].ask.params) == {"seed": 4}


def test_a_table_sets_no_parameters_and_says_so(tmp_path):
    found = checked(tmp_path, "prompt,temperature,max_tokens\na,31,5\n", "a.csv", params={"max_tokens": 7})
    assert dict(found.preview[0].ask.params) == {"max_tokens": 7}
    assert any("'temperature', 'max_tokens'" in text for text in found.notices)


def test_a_template_without_columns_is_said_and_an_empty_one_is_a_fault(tmp_path):
    found = checked(tmp_path, "a\nx\ny\n", "a.csv", prompt="Tell a joke")
    assert "The template uses no column: every record asks the same." in found.notices
    assert found.n_valid == 2
    found = checked(tmp_path, "a\nx\n", "a.csv", prompt=" ")
    assert found.faults[0].text.startswith("The template for the prompt is empty.")


def test_names_are_found_before_variables():
    template = Template("{{ a }}{{b}}{{not there}}{{1+1}}", {"a", "b"})
    assert template.columns == ("a", "b", "not there")
    assert template.unknown({"a", "b"}) == ["not there"]
    assert Template("{{a}}", {"a"}).only == "a"
    assert Template("{{a}} ", {"a"}).only is None


@pytest.mark.parametrize("name", ["system", "system_prompt", "System"])
@pytest.mark.parametrize("before", [{}, {"system_prompt": None}, {"system": None}])
def test_a_system_prompt_that_first_appears_late_in_the_file_is_asked_with(tmp_path, name, before):
    lines = [{"prompt": f"a{n}"} | before for n in range(300)] + [{"prompt": "b", name: "S"}]
    found = read(tmp_path, jsonl(*lines))
    assert [one.ask.system for one in found] == [None] * 300 + ["S"]


def test_a_late_system_prompt_that_is_no_text_is_a_fault_of_its_line(tmp_path):
    lines = [{"prompt": f"a{n}"} for n in range(50)] + [{"prompt": "b", "system": 5}]
    found = checked(tmp_path, jsonl(*lines))
    assert [(fault.line, fault.code) for fault in found.faults] == [(51, "system_not_text")]


def test_a_late_system_prompt_is_left_out_where_none_is_wanted_or_another_is_given_or_it_is_part_of_the_prompt(
    tmp_path,
):
    lines = jsonl(*({"prompt": f"a{n}"} for n in range(50)), {"prompt": "b", "system": "S"})
    assert {one.ask.system for one in read(tmp_path, lines, system="")} == {None}
    assert {one.ask.system for one in read(tmp_path, lines, system="Be brief.")} == {"Be brief."}
    used = jsonl(*({"q": f"a{n}", "system": None} for n in range(50)), {"q": "b", "system": "S"})
    assert read(tmp_path, used, prompt="{{system}} {{q}}")[-1].ask.messages[0].text == "S b"
