"""The real SDKs and our own reader on the same streams: they must understand the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import pytest

from services.calls.stream import Progress, attempt, opened_session
from services.providers import kind_of
from services.types import Ask, Deployment, Message, Wire
from tests.fake.fixture import FakeServer
from tests.fake.scripts import WIRES, Script, with_fault

KINDS = {"messages": "anthropic", "responses": "openai", "chat": "openai-compatible"}


@dataclass
class Understood:
    """What a client made of a stream."""

    answer: str = ""
    input_tokens: int | None = None
    cached: int | None = None
    output_tokens: int | None = None
    finish: str | None = None
    failed: bool = False


async def ours(url: str, wire: Wire, model: str) -> Understood:
    to = Deployment("d", "D", KINDS[wire], model, url if wire == "messages" else f"{url}/v1", wire)
    kind = kind_of(to)
    progress = Progress(kind.decoder(to), to.limits)
    ask = Ask((Message("user", "Hi"),), params={"max_tokens": 500})
    async with opened_session(None, 5) as session:
        ending = await attempt(session, kind, kind.request(to, ask), "none", progress)
    assert progress.decoder is not None
    usage = progress.decoder.usage
    return Understood(
        "".join(progress.answer),
        usage and usage.input_total,
        usage and usage.cache_read,
        usage and usage.output_total,
        progress.decoder.finish_raw,
        ending.outcome not in ("ok", "max_tokens"),
    )


async def messages_sdk(url: str, model: str) -> Understood:
    got = Understood()
    try:
        async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as client:
            asked: list[Any] = [{"role": "user", "content": "Hi"}]
            async with client.messages.stream(model=model, max_tokens=500, messages=asked) as stream:
                async for text in stream.text_stream:
                    got.answer += text
                final = await stream.get_final_message()
    except anthropic.APIError:
        got.failed = True
        return got
    usage = final.usage
    got.cached = usage.cache_read_input_tokens
    got.input_tokens = usage.input_tokens + (got.cached or 0) + (usage.cache_creation_input_tokens or 0)
    got.output_tokens, got.finish = usage.output_tokens, final.stop_reason
    return got


async def chat_sdk(url: str, model: str) -> Understood:
    got = Understood()
    try:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "Hi"}],
                stream=True,
                stream_options={"include_usage": True},
                max_tokens=500,
            )
            async for chunk in stream:
                for choice in chunk.choices:
                    got.answer += choice.delta.content or ""
                    got.finish = choice.finish_reason or got.finish
                if chunk.usage:
                    details = chunk.usage.prompt_tokens_details
                    got.input_tokens, got.output_tokens = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
                    got.cached = details.cached_tokens if details else None
    except openai.APIError:
        got.failed = True
    return got


async def responses_sdk(url: str, model: str) -> Understood:
    got = Understood()
    try:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            stream = await client.responses.create(model=model, input="Hi", stream=True, max_output_tokens=500)
            async for event in stream:
                if event.type == "response.output_text.delta":
                    got.answer += event.delta
                elif event.type in ("response.completed", "response.incomplete"):
                    usage = event.response.usage
                    got.finish = event.response.status
                    if usage:
                        got.input_tokens, got.output_tokens = usage.input_tokens, usage.output_tokens
                        got.cached = usage.input_tokens_details.cached_tokens
                elif event.type in ("response.failed", "error"):
                    got.failed = True
    except openai.APIError:
        got.failed = True
    return got


SDKS: dict[str, Callable[[str, str], Any]] = {
    "messages": messages_sdk,
    "responses": responses_sdk,
    "chat": chat_sdk,
}
WHOLE = {
    "plain": Script(tokens=12),
    "reasoning": Script(tokens=6, reasoning=5),
    "cached": Script(tokens=4, cached=7),
    "any bytes": Script(tokens=10, text="utf8", chunk="3-1-7"),
    "long": Script(tokens=300, itl=0.1),
    "at the limit": with_fault("max_tokens"),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("name", sorted(WHOLE))
async def test_a_whole_stream_means_the_same_to_the_sdk_and_to_us(name: str, wire: Wire) -> None:
    model = WHOLE[name].model()
    async with FakeServer() as fake:
        mine, theirs = await ours(fake.url, wire, model), await SDKS[wire](fake.url, model)
    assert not mine.failed
    assert not theirs.failed
    assert mine.answer
    assert (mine.answer, mine.input_tokens, mine.output_tokens) == (
        theirs.answer,
        theirs.input_tokens,
        theirs.output_tokens,
    )
    assert (mine.cached or 0) == (theirs.cached or 0)
    if wire != "responses":
        assert mine.finish == theirs.finish


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", ["http_401", "http_429", "http_500", "error_overloaded", "error_api"])
async def test_what_fails_for_the_sdk_fails_for_us(fault: str, wire: Wire) -> None:
    model = with_fault(fault).model()
    async with FakeServer() as fake:
        mine, theirs = await ours(fake.url, wire, model), await SDKS[wire](fake.url, model)
    assert theirs.failed
    assert mine.failed
    assert mine.answer == theirs.answer or mine.answer.startswith(theirs.answer), "we keep at least as much"


@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_without_its_terminal_signal_is_no_success_for_us_whatever_the_sdk_makes_of_it(
    wire: Wire,
) -> None:
    model = with_fault("clean_eof").model()
    async with FakeServer() as fake:
        mine = await ours(fake.url, wire, model)
    assert mine.failed
    assert mine.answer
