"""Lines of OpenAI, Anthropic and Bedrock: recognised, converted, and what does not carry over is said."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.batch.files import check
from services.batch.files.messages import ConversionNotes
from services.batch.files.vendor_formats import bedrock
from services.providers.bedrock import conversation
from services.providers.model_families import llama_prompt, mistral_prompt
from services.types import Ask, Message
from tests.batch.files.made import checked, jsonl, read

TALK = (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Why?"))
PLAIN = [{"role": one.role, "content": one.text} for one in TALK]
BLOCKS = [{"role": one.role, "content": [{"text": one.text}]} for one in TALK]


def chat(custom_id="c1", url="/v1/chat/completions", **body):
    body = {"model": "gpt-a", "messages": [{"role": "system", "content": "Be kind."}, *PLAIN], **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def responses(**body):
    body = {"model": "gpt-a", "input": PLAIN, "instructions": "Be kind.", **body}
    return {"custom_id": "c1", "method": "POST", "url": "/v1/responses", "body": body}


def claude(custom_id="c1", **params):
    params = {"model": "claude-x", "system": "Be kind.", "messages": PLAIN, "max_tokens": 64, **params}
    return {"custom_id": custom_id, "params": params}


def converse(record_id="c1", **body):
    body = {"system": [{"text": "Be kind."}], "messages": BLOCKS, **body}
    return {"recordId": record_id, "modelInput": body}


@pytest.mark.parametrize(
    ("line", "form", "params"),
    [
        (
            chat(
                temperature=0.5,
                top_p=0.9,
                max_tokens=9,
                stop=["x"],
                seed=3,
                reasoning_effort="low",
                frequency_penalty=0.1,
                presence_penalty=-0.1,
            ),
            "openai",
            {
                "temperature": 0.5,
                "top_p": 0.9,
                "max_tokens": 9,
                "stop": ["x"],
                "seed": 3,
                "reasoning_effort": "low",
                "frequency_penalty": 0.1,
                "presence_penalty": -0.1,
            },
        ),
        (
            chat(max_completion_tokens=9, stop="x", n=1, stream=False, response_format={"type": "text"}),
            "openai",
            {"max_tokens": 9, "stop": ["x"]},
        ),
        (
            responses(max_output_tokens=9, reasoning={"effort": "high"}, temperature=1),
            "openai",
            {"temperature": 1, "max_tokens": 9, "reasoning_effort": "high"},
        ),
        (
            claude(temperature=0.5, top_p=0.9, top_k=5, stop_sequences=["x"], output_config={"effort": "low"}),
            "anthropic",
            {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "max_tokens": 64, "stop": ["x"], "reasoning_effort": "low"},
        ),
        (
            converse(
                inferenceConfig={"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["x"]},
                additionalModelRequestFields={"top_k": 7},
            ),
            "bedrock",
            {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "max_tokens": 9, "stop": ["x"]},
        ),
        (
            converse(schemaVersion="messages-v1", inferenceConfig={"max_new_tokens": 9, "topK": 7}),
            "bedrock",
            {"top_k": 7, "max_tokens": 9},
        ),
        (
            {
                "recordId": "c1",
                "modelInput": {
                    "anthropic_version": "bedrock-2023-05-31",
                    "max_tokens": 9,
                    "system": "Be kind.",
                    "messages": PLAIN,
                    "top_k": 2,
                },
            },
            "bedrock",
            {"top_k": 2, "max_tokens": 9},
        ),
        (
            {
                "recordId": "c1",
                "modelInput": {
                    "prompt": llama_prompt(Ask(TALK, "Be kind.")),
                    "max_gen_len": 9,
                    "temperature": 0.5,
                    "top_p": 0.9,
                },
            },
            "bedrock",
            {"temperature": 0.5, "top_p": 0.9, "max_tokens": 9},
        ),
        (
            {
                "recordId": "c1",
                "modelInput": {
                    "messages": [{"role": "system", "content": "Be kind."}, *PLAIN],
                    "max_tokens": 9,
                    "temperature": 0.5,
                },
            },
            "bedrock",
            {"temperature": 0.5, "max_tokens": 9},
        ),
    ],
)
def test_a_line_becomes_the_same_question(tmp_path, line, form, params):
    found = checked(tmp_path, jsonl(line))
    assert (found.format, found.faults) == (form, ())
    assert not any("carry over" in text for text in found.notices)
    record = found.preview[0]
    assert record.ask == Ask(TALK, "Be kind.", params)
    assert record.id == "c1"
    assert record.original == line
    assert found.max_tokens == params["max_tokens"]
    assert any(
        text.endswith("its lines were converted to requests to the deployment that you choose.")
        for text in found.notices
    )


def test_mistral_and_llama_2_and_bare_prompts_are_taken_apart(tmp_path):
    without = Ask(TALK)
    lines = [
        {"recordId": "1", "modelInput": {"prompt": mistral_prompt(without), "max_tokens": 5}},
        {"recordId": "2", "modelInput": {"prompt": "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nWhy? [/INST]"}},
        {"recordId": "3", "modelInput": {"prompt": "Once upon a time"}},
        {"recordId": "4", "modelInput": {"inputText": "Why?", "textGenerationConfig": {"maxTokenCount": 7, "topP": 1}}},
    ]
    found = read(tmp_path, jsonl(*lines))
    assert found[0].ask.messages == TALK
    assert found[1].ask == Ask((Message("user", "Why?"),), "Be kind.")
    assert found[2].ask.messages == (Message("user", "Once upon a time"),)
    assert found[3].ask == Ask((Message("user", "Why?"),), None, {"top_p": 1, "max_tokens": 7})


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="<>[]\0"), min_size=1, max_size=30).filter(
    lambda text: text.strip()
)


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=5).filter(lambda turns: len(turns) % 2), st.none() | TEXT)
def test_what_our_own_wires_write_is_read_back(turns, system):
    messages = tuple(Message("assistant" if n % 2 else "user", text) for n, text in enumerate(turns))
    ask = Ask(messages, system)
    assert bedrock({"prompt": llama_prompt(ask)}, ConversionNotes())[0] == ask
    assert bedrock(conversation(ask), ConversionNotes())[0] == ask


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (
            chat(
                stream=True,
                n=2,
                tools=[{"type": "function"}],
                response_format={"type": "json_object"},
                logprobs=True,
                user=None,
                logit_bias={},
            ),
            {"stream", "n", "tools", "response_format", "logprobs"},
        ),
        (
            responses(
                tools=[{"type": "web_search"}],
                stream=True,
                text={"format": {"type": "json_schema"}},
                previous_response_id="r",
                reasoning={"effort": "low", "summary": "auto"},
            ),
            {"tools", "stream", "text", "previous_response_id", "reasoning.summary"},
        ),
        (
            claude(stream=True, tools=[{"name": "x"}], thinking={"type": "enabled"}, metadata={"a": 1}),
            {"stream", "tools", "thinking", "metadata"},
        ),
        (
            claude(system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]),
            {"content.cache_control"},
        ),
        (
            converse(
                toolConfig={"tools": []},
                guardrailConfig={"guardrailIdentifier": "g"},
                inferenceConfig={"maxTokens": 5, "speed": 1},
            ),
            {"toolConfig", "guardrailConfig", "speed"},
        ),
        (converse(system=[{"text": "Be kind."}, {"cachePoint": {"type": "default"}}]), {"cachePoint"}),
    ],
)
def test_what_does_not_carry_over_is_listed_with_its_count(tmp_path, line, names):
    found = checked(tmp_path, jsonl(line, line), suffix_ids=True)
    assert found.n_valid == 2
    said = next(text for text in found.notices if text.startswith("What does not carry over: "))
    assert set(said.removeprefix("What does not carry over: ").rstrip(".").split(", ")) == {
        f"{name} (2 records)" for name in names
    }
    assert found.preview[0].ask.messages == TALK


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (
            chat(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]}]),
            "not_convertible",
            "message 1 holds a part of the kind 'image_url', which cannot be converted: only text can",
        ),
        (
            chat(messages=[PLAIN[0], {"role": "assistant", "content": "b", "tool_calls": [{"id": 1}]}, PLAIN[2]]),
            "not_convertible",
            "message 2 holds tool calls",
        ),
        (
            chat(messages=[{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]),
            "role",
            "message 2 has the role 'tool'; allowed are user, assistant, or system at the beginning",
        ),
        (
            responses(input=[{"type": "function_call_output", "output": "x"}]),
            "not_convertible",
            "message 1 is of the type 'function_call_output'",
        ),
        (
            responses(input=[{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]),
            "not_convertible",
            "'input_image'",
        ),
        (claude(messages=[{"role": "user", "content": [{"type": "tool_result"}]}]), "not_convertible", "'tool_result'"),
        (converse(messages=[{"role": "user", "content": [{"image": {"x": 1}}]}]), "not_convertible", "'image'"),
        (converse(messages=[{"role": "user", "content": [{"toolUse": {"x": 1}}]}]), "not_convertible", "'toolUse'"),
        ({"recordId": "1", "modelInput": {"texts": ["a"]}}, "model_input", "modelInput is of no kind that can be"),
        (chat(url="/v1/embeddings"), "url", "only /v1/chat/completions and /v1/responses can be converted"),
        (chat(messages=None), "messages", "body.messages is null, not a list"),
        (claude(max_tokens=0), "param", "Max output tokens goes from 1 to 200,000; 0 is outside"),
        (claude(messages=[*PLAIN, {"role": "assistant", "content": "Sure:"}]), "last_role", "it has to be 'user'"),
        (claude(system=7), "content_not_text", "the system prompt is not text"),
        (chat(stop=["a", "b", "c", "d", "e"]), "param", "at most 4 are taken, 5 were given"),
    ],
)
def test_what_cannot_be_converted_is_a_fault_of_its_line(tmp_path, line, code, said):
    good = {"body": chat, "params": claude, "modelInput": converse}[
        next(k for k in line if k in ("body", "params", "modelInput"))
    ]
    found = checked(tmp_path, jsonl(good("a"), line, good("b")))
    assert [(fault.line, fault.code) for fault in found.faults] == [(2, code)]
    assert said in found.faults[0].text
    assert found.n_valid == 2


def test_several_parts_of_text_become_one_and_it_is_said(tmp_path):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    found = checked(tmp_path, jsonl(chat(messages=[{"role": "user", "content": parts}])))
    assert found.preview[0].ask.messages == (Message("user", "a\n\nb"),)
    assert any(text.startswith("Messages of several parts of text became one") for text in found.notices)


def test_lines_of_several_models_are_counted_and_can_be_taken_apart(tmp_path):
    lines = [chat(f"c{n}", model="gpt-b" if n % 4 == 3 else "gpt-a") for n in range(120)]
    found = checked(tmp_path, jsonl(*lines))
    assert found.models == {"gpt-a": 90, "gpt-b": 30}
    assert "gpt-a 90 lines, gpt-b 30 lines: an OpenAI file takes one model. Split into 2?" in found.notices
    only = found.choices[1]
    assert only.label == "Only the 30 lines for gpt-b"
    again = checked(tmp_path, jsonl(*lines), only_model="gpt-b")
    assert (again.n_valid, again.n_faults, again.n_records) == (30, 0, 120)
    assert again.preview[0].id == "c3"
    assert "Only the lines for gpt-b were taken; 90 lines name another model." in again.notices
    assert check(tmp_path / "a.jsonl", only.options).n_valid == 30


def test_mixed_endpoints_and_missing_limits_are_said(tmp_path):
    found = checked(tmp_path, jsonl(chat("a", max_tokens=5), responses(), chat("b", max_tokens=5)))
    said = "/v1/chat/completions 2 lines, /v1/responses 1 line: an OpenAI file takes one endpoint."
    assert any(text.startswith(said) for text in found.notices)
    assert "1 record sets no max_tokens: the limit of the batch, or else of the service, holds." in found.notices
    assert found.max_tokens is None


@pytest.mark.parametrize(
    ("line", "asked", "said"),
    [
        (converse(), "openai", "This is a Bedrock batch file, not an OpenAI batch file; convert?"),
        (chat(), "anthropic", "This is an OpenAI batch file, not an Anthropic batch file; convert?"),
        (claude(), "bedrock", "This is an Anthropic batch file, not a Bedrock batch file; convert?"),
    ],
)
def test_the_wrong_vendors_format_is_recognised(tmp_path, line, asked, said):
    found = checked(tmp_path, jsonl(line), format=asked)
    assert found.refused.startswith(said)
    assert check(tmp_path / "a.jsonl", found.choices[0].options).n_valid == 1


def test_a_stray_line_of_another_vendor_is_a_fault(tmp_path):
    found = checked(tmp_path, jsonl(claude("a"), chat("x"), claude("b"), {"prompt": "y"}))
    assert [fault.text for fault in found.faults] == [
        "Line 2: not an Anthropic batch line: 'params' with 'messages' is missing. It looks like an OpenAI line.",
        "Line 4: not an Anthropic batch line: 'params' with 'messages' is missing.",
    ]


def test_two_names_that_are_not_there_are_missing(tmp_path):
    found = checked(tmp_path, jsonl(chat("a"), chat("b"), claude("x")))
    assert found.faults[0].text.startswith("Line 3: not an OpenAI batch line: 'body' and 'url' are missing.")


def test_an_array_of_vendor_lines_is_converted_too(tmp_path):
    import orjson

    found = read(tmp_path, orjson.dumps([claude("a"), claude("b")]), "a.json", format="json")
    assert [(one.id, one.ask.system) for one in found] == [("a", "Be kind."), ("b", "Be kind.")]


def test_our_own_lines_take_messages_system_and_parameters(tmp_path):
    lines = [
        {"id": "1", "messages": PLAIN, "system": "Be kind.", "temperature": 0, "stop": "x"},
        {"id": "2", "messages": [{"role": "developer", "content": "Be kind."}, {"role": "user", "text": "Hi"}]},
        {"id": "3", "prompt": "Hi", "system": "Be kind.", "max_tokens": "12", "params": {"seed": 1}},
    ]
    found = read(tmp_path, jsonl(*lines), params={"max_tokens": 99, "top_p": 1})
    assert found[0].ask == Ask(TALK, "Be kind.", {"temperature": 0.0, "top_p": 1.0, "max_tokens": 99, "stop": ["x"]})
    assert found[1].ask == Ask((Message("user", "Hi"),), "Be kind.", {"top_p": 1.0, "max_tokens": 99})
    assert found[2].ask == Ask((Message("user", "Hi"),), "Be kind.", {"top_p": 1.0, "max_tokens": 12, "seed": 1})
