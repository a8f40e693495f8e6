"""What vLLM (and its kin) write differently on the chat wire.

Sources: https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html (stream_options.continuous_usage_stats,
stop_reason, reasoning), https://github.com/vllm-project/vllm/issues/57082 (engine-initiated aborts end with [DONE]).
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from services.outcomes import STATE_OF
from services.providers import KINDS
from tests.wires.helpers import read

BASE = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "meta-llama/Llama-3.1-8B-Instruct",
}


def usage(completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": 21,
        "total_tokens": 21 + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": None,
    }


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish, "stop_reason": None}
    return {
        **BASE,
        "choices": [choice | {k: v for k, v in more.items() if k == "stop_reason"}],
        **{k: v for k, v in more.items() if k != "stop_reason"},
    }


def stream(*chunks: dict[str, Any] | str) -> list[bytes]:
    lines = [c.encode() if isinstance(c, str) else orjson.dumps(c) for c in chunks]
    return [b"".join(b"data: " + line + b"\n\n" for line in lines)]


LAST = {**BASE, "choices": [], "usage": usage(3)}


def test_usage_in_every_chunk_is_a_running_count_and_the_last_one_counts() -> None:
    texts = [chunk({"content": text}, usage=usage(n)) for n, text in enumerate(("a", "b", "c"), 1)]
    whole = read("chat", stream(*texts, chunk(finish="stop", usage=usage(3)), LAST, "[DONE]"))
    assert (whole.outcome, whole.text("answer")) == ("ok", "abc")
    assert whole.decoder.usage is not None
    assert (whole.decoder.usage.uncached_input, whole.decoder.usage.answer_output) == (21, 3)
    assert (whole.decoder.usage.cache_read, whole.decoder.usage.source) == (None, "provider")
    cut = read("chat", stream(*texts))
    assert cut.outcome == "truncated"
    assert cut.decoder.usage is not None
    assert (cut.decoder.usage.source, cut.decoder.usage.answer_output) == ("partial", 3)


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_is_read_under_its_new_and_its_old_name(field: str) -> None:
    got = read(
        "chat", stream(chunk({field: "Hm. "}), chunk({field: None, "content": "42"}), chunk(finish="stop"), LAST)
    )
    assert (got.outcome, got.text("reasoning"), got.text("answer")) == ("ok", "Hm. ", "42")


@pytest.mark.parametrize("said", ["\n\n", 128009])
def test_the_stop_string_or_token_that_was_met_is_kept(said: Any) -> None:
    got = read("chat", stream(chunk({"content": "x"}), chunk(finish="stop", stop_reason=said), LAST, "[DONE]"))
    assert got.outcome == "ok"
    assert got.decoder.finish_raw == "stop"
    assert "stop_reason" in got.decoder.facts
    assert "stop_reason" not in read("chat", stream(chunk({"content": "x"}), chunk(finish="stop"), LAST)).decoder.facts


@pytest.mark.parametrize(("finish", "outcome"), [("abort", "truncated"), ("error", "stream_error")])
@pytest.mark.parametrize("ending", [("[DONE]",), (LAST, "[DONE]"), (LAST,), ()])
def test_an_answer_that_the_engine_gave_up_is_no_success(finish: str, outcome: str, ending: tuple[Any, ...]) -> None:
    got = read("chat", stream(chunk({"content": "x"}), chunk(finish=finish), *ending))
    assert STATE_OF[got.outcome] != "succeeded"
    assert got.outcome == (outcome if "[DONE]" in ending else "truncated")
    assert got.text("answer") == "x"


BROKEN = {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}
UNKNOWN = {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}
LONG = {"message": "This model's maximum context length is 4096 tokens.", "type": "BadRequestError", "code": 400}


@pytest.mark.parametrize("said", [{"error": BROKEN}, {"object": "error", **BROKEN}])
def test_an_error_object_inside_the_stream_ends_it(said: dict[str, Any]) -> None:
    got = read("chat", stream(chunk({"content": "x"}), said, "[DONE]"))
    assert STATE_OF[got.outcome] == "failed"
    assert got.text("answer") == "x"
    assert "EngineCore" in (got.detail or "")


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (404, UNKNOWN, "not_found"),
        (401, {"error": "Unauthorized"}, "unauthorised"),
        (400, {"error": LONG}, "http_error"),
    ],
)
def test_its_http_errors_are_told_apart(status: int, body: dict[str, Any], outcome: str) -> None:
    assert KINDS["openai-compatible"].http_error(status, {}, orjson.dumps(body)).outcome == outcome
