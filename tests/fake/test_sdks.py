"""The real SDKs read the fake server's healthy streams, and its errors, as the services' own."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from tests.fake.fixture import FakeServer, FakeServerThread, fake_server
from tests.fake.scripts import Script, truth, with_fault

__all__ = ["fake_server"]  # a fixture, used by name
RICH = Script(tokens=9, reasoning=4, cached=30, cache_write=5, text="utf8", itl=1.0, ttft=3.0)


async def test_the_anthropic_sdk_reads_the_text_and_usage_that_the_truth_names(fake_server: FakeServer) -> None:
    expected = truth(RICH, "messages")
    client = anthropic.AsyncAnthropic(api_key="k", base_url=fake_server.url, max_retries=0)
    async with client.messages.stream(
        model=RICH.model(), max_tokens=9, messages=[{"role": "user", "content": "hi"}]
    ) as stream:
        pieces = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    assert pieces == [d.text for d in expected.deltas if d.kind == "answer"]
    assert [getattr(b, "thinking", getattr(b, "text", "")) for b in final.content] == [
        expected.reasoning,
        expected.answer,
    ]
    usage = final.usage
    assert expected.usage is not None
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (
        expected.usage.uncached_input,
        expected.usage.cache_read,
        expected.usage.cache_write_5m,
    )
    assert usage.output_tokens == expected.usage.output_total == 13
    assert final.stop_reason == "end_turn"
    await client.close()


async def test_the_openai_sdk_reads_the_same_chat(fake_server: FakeServer) -> None:
    expected = truth(RICH, "chat")
    client = openai.AsyncOpenAI(api_key="k", base_url=f"{fake_server.url}/v1", max_retries=0)
    stream = await client.chat.completions.create(
        model=RICH.model(),
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    deltas = [c.choices[0].delta for c in chunks if c.choices]
    assert "".join(d.content or "" for d in deltas) == expected.answer
    assert "".join((d.model_extra or {}).get("reasoning_content", "") for d in deltas) == expected.reasoning
    assert chunks[-2].choices[0].finish_reason == "stop"
    usage = chunks[-1].usage
    assert usage is not None and expected.usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (expected.usage.input_total, expected.usage.output_total)
    assert usage.prompt_tokens_details is not None and usage.prompt_tokens_details.cached_tokens == 30
    await client.close()


async def test_the_openai_sdk_reads_the_same_response(fake_server: FakeServer) -> None:
    expected = truth(RICH, "responses")
    client = openai.AsyncOpenAI(api_key="k", base_url=f"{fake_server.url}/v1", max_retries=0)
    async with client.responses.stream(model=RICH.model(), input="hi") as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == expected.answer
    assert "".join(e.delta for e in events if e.type == "response.reasoning_text.delta") == expected.reasoning
    assert final.output_text == expected.answer and final.status == "completed"
    assert final.usage is not None and expected.usage is not None
    assert final.usage.input_tokens == expected.usage.input_total == 47
    assert final.usage.output_tokens_details.reasoning_tokens == expected.usage.reasoning_output == 4
    await client.close()


def test_the_sdks_get_the_same_answer_without_streaming_and_list_the_models() -> None:
    with FakeServerThread() as running:
        chat = openai.OpenAI(api_key="k", base_url=f"{running.url}/v1", max_retries=0)
        claude = anthropic.Anthropic(api_key="k", base_url=running.url, max_retries=0)
        expected = truth(RICH, "chat").answer
        user: Any = [{"role": "user", "content": "hi"}]
        assert chat.chat.completions.create(model=RICH.model(), messages=user).choices[0].message.content == expected
        assert chat.responses.create(model=RICH.model(), input="hi").output_text == expected
        message = claude.messages.create(model=RICH.model(), max_tokens=9, messages=user)
        assert message.content[-1].text == expected  # type: ignore[union-attr]  # the last block is the text
        assert [m.id for m in chat.models.list()] == [m.id for m in claude.models.list()] == ["fake"]
        with pytest.raises(openai.NotFoundError):
            chat.models.retrieve("no-such-model")
        assert running.hits() == 3


async def test_tool_calls_reach_both_sdks_as_arguments_that_parse(fake_server: FakeServer) -> None:
    model = with_fault("tool_only").model()
    claude = anthropic.AsyncAnthropic(api_key="k", base_url=fake_server.url, max_retries=0)
    async with claude.messages.stream(model=model, max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream:
        final = await stream.get_final_message()
    assert final.stop_reason == "tool_use"
    assert final.content[0].input == json.loads(truth(model, "messages").tool)  # type: ignore[union-attr]  # a tool block
    client = openai.AsyncOpenAI(api_key="k", base_url=f"{fake_server.url}/v1", max_retries=0)
    async with client.responses.stream(model=model, input="hi") as responses:
        async for _ in responses:
            pass
        output = (await responses.get_final_response()).output
    assert json.loads(output[0].arguments) == final.content[0].input  # type: ignore[union-attr, arg-type]  # as above
    await claude.close()
    await client.close()


async def test_an_sdk_gets_the_errors_that_the_services_send(fake_server: FakeServer) -> None:
    claude = anthropic.AsyncAnthropic(api_key="k", base_url=fake_server.url, max_retries=0)
    user: Any = [{"role": "user", "content": "hi"}]
    for fault, status in (("http_429", 429), ("http_529", 529), ("http_401", 401), ("error_overloaded", 200)):
        with pytest.raises(anthropic.APIStatusError) as caught:
            async with claude.messages.stream(model=with_fault(fault).model(), max_tokens=9, messages=user) as stream:
                await stream.get_final_message()
        assert caught.value.status_code == status
    assert fake_server.requests[0].headers["authorization"] == "Bearer k" and fake_server.hits("messages") == 4
    await claude.close()
