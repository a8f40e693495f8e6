"""Usage payloads as the services send them: five disjoint counts that sum to the service's own total."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.providers.usage import from_messages, from_openai
from tests.wires.helpers import read


def _parts(usage: Any) -> tuple[int | None, ...]:
    return (
        usage.uncached_input,
        usage.cache_read,
        usage.cache_write_5m,
        usage.cache_write_1h,
        usage.reasoning_output,
        usage.answer_output,
    )


N = None
OPENAI: list[tuple[str, dict[str, Any], tuple[int | None, ...]]] = [
    ("plain", {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}, (9, N, N, N, N, 4)),
    (
        "null details",
        {
            "prompt_tokens": 9,
            "completion_tokens": 4,
            "total_tokens": 13,
            "prompt_tokens_details": None,
            "completion_tokens_details": {"reasoning_tokens": None},
        },
        (9, N, N, N, N, 4),
    ),
    (
        "cached inside the prompt, reasoning inside the completion",
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920},
            "completion_tokens_details": {"reasoning_tokens": 256},
        },
        (86, 1920, N, N, 256, 44),
    ),
    (
        "explicit zeros stay zeros",
        {
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "total_tokens": 0,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        (0, 0, N, N, 0, 0),
    ),
    (
        "Responses with cache writes",
        {
            "input_tokens": 100,
            "output_tokens": 10,
            "total_tokens": 110,
            "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 50},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
        (30, 20, 50, N, 0, 10),
    ),
    (
        "DeepSeek's own cache names",
        {
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "total_tokens": 110,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
        },
        (36, 64, N, N, N, 10),
    ),
    (
        "reasoning counted beside the completion",
        {
            "prompt_tokens": 20,
            "completion_tokens": 9,
            "total_tokens": 129,
            "completion_tokens_details": {"reasoning_tokens": 100},
        },
        (20, N, N, N, 100, 9),
    ),
    (
        "reasoning counted beside a larger completion",
        {
            "prompt_tokens": 20,
            "completion_tokens": 500,
            "total_tokens": 620,
            "completion_tokens_details": {"reasoning_tokens": 100},
        },
        (20, N, N, N, 100, 500),
    ),
]


@pytest.mark.parametrize(("raw", "parts"), [r[1:] for r in OPENAI], ids=[r[0] for r in OPENAI])
def test_openai_usage_is_split_into_disjoint_counts(raw: dict[str, Any], parts: tuple[int | None, ...]) -> None:
    usage = from_openai(raw)
    assert usage is not None
    assert _parts(usage) == parts
    assert (usage.input_total or 0) + (usage.output_total or 0) == raw["total_tokens"]
    assert usage.raw == raw


@pytest.mark.parametrize("raw", [{}, {"total_tokens": 3}, {"prompt_tokens": None}, {"prompt_tokens": True}, {"x": 1}])
def test_an_object_without_counts_is_no_usage(raw: dict[str, Any]) -> None:
    assert from_openai(raw) is None


@pytest.mark.parametrize("bad", [-1, 1.5, "7", True, 2**60, [1]])
def test_a_count_that_is_none_is_unknown_and_not_zero(bad: object) -> None:
    usage = from_openai({"prompt_tokens": bad, "completion_tokens": 4})
    assert usage is not None
    assert (usage.uncached_input, usage.answer_output) == (None, 4)


@given(
    prompt=st.integers(0, 10**6),
    completion=st.integers(0, 10**6),
    cached=st.floats(0, 1),
    thought=st.floats(0, 1),
)
def test_openai_parts_always_sum_to_the_total(prompt: int, completion: int, cached: float, thought: float) -> None:
    usage = from_openai(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": int(prompt * cached)},
            "completion_tokens_details": {"reasoning_tokens": int(completion * thought)},
        }
    )
    assert usage is not None
    assert usage.input_total == prompt
    assert usage.output_total == completion


MESSAGES: list[tuple[str, dict[str, Any], tuple[int | None, ...]]] = [
    ("plain", {"input_tokens": 9, "output_tokens": 4}, (9, N, N, N, N, 4)),
    (
        "cache counts stand beside the input",
        {"input_tokens": 3, "cache_read_input_tokens": 1800, "cache_creation_input_tokens": 0, "output_tokens": 4},
        (3, 1800, 0, N, N, 4),
    ),
    (
        "writes split by their time to live",
        {
            "input_tokens": 3,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 350,
            "output_tokens": 4,
            "cache_creation": {"ephemeral_5m_input_tokens": 250, "ephemeral_1h_input_tokens": 100},
        },
        (3, 0, 250, 100, N, 4),
    ),
    (
        "writes without a split are five-minute ones",
        {"input_tokens": 3, "cache_creation_input_tokens": 350, "output_tokens": 4},
        (3, N, 350, N, N, 4),
    ),
    (
        "thinking is part of the output",
        {"input_tokens": 3, "output_tokens": 61, "output_tokens_details": {"thinking_tokens": 40}},
        (3, N, N, N, 40, 21),
    ),
]


@pytest.mark.parametrize(("raw", "parts"), [r[1:] for r in MESSAGES], ids=[r[0] for r in MESSAGES])
def test_messages_usage_is_split_into_disjoint_counts(raw: dict[str, Any], parts: tuple[int | None, ...]) -> None:
    usage = from_messages(raw, final=True)
    assert _parts(usage) == parts
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
    assert (usage.input_total or 0) + (usage.output_total or 0) == sum(raw.get(name, 0) for name in names)


def test_the_placeholder_of_message_start_is_not_the_usage() -> None:
    raw = b'data: {"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}}\n\n'
    usage = read("messages", [raw]).decoder.usage
    assert usage is not None
    assert (usage.source, usage.uncached_input, usage.output_total) == ("partial", 7, None)


def test_message_delta_corrects_the_input_of_message_start_and_keeps_what_it_leaves_out() -> None:
    raw = (
        b'data: {"type":"message_start","message":{"usage":{"input_tokens":7,"cache_read_input_tokens":5,'
        b'"output_tokens":1}}}\n\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        b'"usage":{"input_tokens":8,"cache_read_input_tokens":null,"output_tokens":3}}\n\n'
    )
    usage = read("messages", [raw]).decoder.usage
    assert usage is not None
    assert (usage.source, usage.uncached_input, usage.cache_read, usage.answer_output) == ("provider", 8, 5, 3)


def _chunk(usage: str, finish: str = "null") -> bytes:
    return b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":%s}],"usage":%s}\n\n' % (
        finish.encode(),
        usage.encode(),
    )


def test_usage_in_every_chunk_is_a_running_count_until_the_end_and_the_last_wins() -> None:
    running = _chunk('{"prompt_tokens":5,"completion_tokens":1}') + _chunk('{"prompt_tokens":5,"completion_tokens":2}')
    cut = read("chat", [running]).decoder.usage
    assert cut is not None
    assert (cut.source, cut.answer_output) == ("partial", 2)
    whole = read("chat", [running + _chunk("null", '"stop"') + b"data: [DONE]\n\n"]).decoder.usage
    assert whole is not None
    assert (whole.source, whole.answer_output) == ("provider", 2)


def test_no_usage_at_all_is_unknown_and_not_zero() -> None:
    assert read("chat", [_chunk("null", '"stop"') + b"data: [DONE]\n\n"]).decoder.usage is None
