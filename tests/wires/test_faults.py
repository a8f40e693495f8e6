"""The catalogue of faults (A1–A3) as far as a decoder sees them: each ends in its own outcome."""

from __future__ import annotations

import json

import pytest

from services.outcomes import STATE_OF
from services.types import Outcome, Wire
from tests.wires.helpers import read


def _data(*bodies: object, end: str = "\n\n") -> bytes:
    return "".join(f"data: {b if isinstance(b, str) else json.dumps(b)}{end}" for b in bodies).encode()


def _named(*bodies: dict[str, object]) -> bytes:
    return "".join(f"event: {b['type']}\ndata: {json.dumps(b)}\n\n" for b in bodies).encode()


def _delta(text: str = "", finish: str | None = None, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}], **more}


HI = _delta("Hi")
STOP = _delta(finish="stop")
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}
START: dict[str, object] = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}
TEXT: dict[str, object] = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}
CREATED: dict[str, object] = {"type": "response.created", "response": {"status": "in_progress"}}
OUT: dict[str, object] = {"type": "response.output_text.delta", "delta": "Hi"}
MSTOP: dict[str, object] = {"type": "message_stop"}


def _mdelta(reason: str | None, tokens: int = 2) -> dict[str, object]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": tokens}}


def _merror(kind: str, **more: object) -> bytes:
    return _named(START, TEXT, {"type": "error", "error": {"type": kind, "message": "Sorry", **more}})


ROWS: list[tuple[str, Wire, bytes, Outcome]] = [
    ("01 overloaded inside a 200 stream", "messages", _merror("overloaded_error"), "overloaded"),
    ("01 rate limit inside a 200 stream", "messages", _merror("rate_limit_error"), "throttled"),
    ("01 api_error inside a 200 stream", "messages", _merror("api_error"), "stream_error"),
    (
        "12 spend limit inside a 200 stream",
        "messages",
        _merror("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}),
        "quota_exhausted",
    ),
    ("02 an error event without data", "messages", _named(START, TEXT) + b"event: error\n\n", "stream_error"),
    ("02 an error event whose data is not JSON's", "messages", b"event: error\ndata: {}\n\n", "stream_error"),
    ("02 unknown events only", "messages", _named({"type": "hello"}), "truncated"),
    ("03 data: error mid-stream", "chat", _data(HI, {"error": {"type": "server_error", "code": "x"}}), "stream_error"),
    ("03 rate limit mid-stream", "chat", _data(HI, {"error": {"code": "rate_limit_exceeded"}}), "throttled"),
    ("03 error as a text", "chat", _data(HI, {"error": "CUDA out of memory"}), "stream_error"),
    ("03 error with a numeric code", "chat", _data(HI, {"error": {"code": 429, "message": "slow"}}), "throttled"),
    ("03 vLLM's older shape", "chat", _data(HI, {"object": "error", "message": "bad", "code": 400}), "stream_error"),
    ("03 error, then DONE as if nothing was", "chat", _data(HI, {"error": {"message": "x"}}, "[DONE]"), "stream_error"),
    (
        "04 top-level error event",
        "responses",
        _named(CREATED, OUT, {"type": "error", "code": "server_error", "message": "x", "param": None}),
        "stream_error",
    ),
    (
        "04 error event with an error object",
        "responses",
        _named(CREATED, {"type": "error", "error": {"type": "insufficient_quota", "message": "x"}}),
        "quota_exhausted",
    ),
    (
        "04 response.failed",
        "responses",
        _named(
            CREATED,
            OUT,
            {
                "type": "response.failed",
                "response": {"status": "failed", "error": {"code": "server_error", "message": "x"}},
            },
        ),
        "stream_error",
    ),
    ("04 response.failed saying nothing", "responses", _named({"type": "response.failed"}), "stream_error"),
    (
        "04 incomplete by the filter",
        "responses",
        _named(
            OUT,
            {
                "type": "response.incomplete",
                "response": {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            },
        ),
        "filtered",
    ),
    (
        "04 completed in name, failed in status",
        "responses",
        _named(OUT, {"type": "response.completed", "response": {"status": "failed", "error": {"code": "x"}}}),
        "stream_error",
    ),
    (
        "04 cancelled by the service",
        "responses",
        _named(OUT, {"type": "response.cancelled", "response": {"status": "cancelled"}}),
        "truncated",
    ),
    ("08 llama.cpp's error field", "chat", _data(HI) + b'error: {"code":500,"message":"x"}\n\n', "stream_error"),
    ("08 the same on the Messages wire", "messages", _named(START) + b'error: {"code":503}\n\n', "overloaded"),
    ("08 a bare JSON line", "chat", _data(HI) + b'{"error":{"message":"boom"}}\n', "stream_error"),
    ("09 vLLM abort", "chat", _data(HI, _delta(finish="abort"), "[DONE]"), "truncated"),
    ("09 vLLM abort with usage", "chat", _data(HI, _delta(finish="abort"), USAGE, "[DONE]"), "truncated"),
    ("09 an unknown stop reason", "messages", _named(START, TEXT, _mdelta("tired"), MSTOP), "truncated"),
    ("10 DONE without a finish reason", "chat", _data(HI, "[DONE]"), "truncated"),
    ("10 a null finish reason, then usage", "chat", _data(HI, _delta(finish=None), USAGE), "truncated"),
    ("10 message_stop without a stop reason", "messages", _named(START, TEXT, _mdelta(None), MSTOP), "truncated"),
    ("23 clean end after text", "chat", _data(HI), "truncated"),
    ("23 clean end after the finish reason", "chat", _data(HI, STOP), "truncated"),
    ("23 clean end after the stop reason", "messages", _named(START, TEXT, _mdelta("end_turn")), "truncated"),
    ("23 clean end without response.completed", "responses", _named(CREATED, OUT), "truncated"),
    ("26 nothing at all", "chat", b"", "empty"),
    ("26 keep-alives only", "messages", b": ping\n\n: ping\n\n", "empty"),
    ("28 empty data is skipped", "chat", _data(HI, "", STOP, "  ", "[DONE]"), "ok"),
    ("29 malformed JSON", "chat", _data(HI, '{"choices": [}'), "protocol_error"),
    ("29 JSON that is no object", "responses", _data("[1, 2]"), "protocol_error"),
    ("29 invalid UTF-8", "messages", b'data: {"type": "\xff\xfe"}\n\n', "protocol_error"),
    ("30 DONE without a line end", "chat", _data(HI, STOP) + b"data: [DONE]", "ok"),
    ("32 no blank lines", "chat", _data(HI, STOP, "[DONE]", end="\n"), "ok"),
    ("40 tool_calls but no call", "chat", _data(_delta(finish="tool_calls"), "[DONE]"), "empty"),
    ("44 zero tokens and end_turn", "messages", _named(START, _mdelta("end_turn", 0), MSTOP), "empty"),
    (
        "44 the limit spent on reasoning",
        "chat",
        _data({"choices": [{"delta": {"reasoning": "Hm"}}]}, _delta(finish="length"), "[DONE]"),
        "empty",
    ),
    ("45 a refusal", "messages", _named(START, _mdelta("refusal"), MSTOP), "refused"),
    ("45 a content filter", "chat", _data(_delta(finish="content_filter"), "[DONE]"), "filtered"),
    (
        "45 context window",
        "messages",
        _named(START, TEXT, _mdelta("model_context_window_exceeded"), MSTOP),
        "max_tokens",
    ),
    ("finish and usage, no DONE", "chat", _data(HI, STOP, USAGE), "ok"),
    ("finish, null usage, no DONE", "chat", _data(HI, {**STOP, "usage": None}), "truncated"),
]


@pytest.mark.parametrize(("wire", "raw", "outcome"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_each_fault_ends_in_its_own_outcome(wire: Wire, raw: bytes, outcome: Outcome) -> None:
    got = read(wire, [raw])
    assert got.outcome == outcome
    assert (STATE_OF[got.outcome] == "succeeded") == got.decoder.terminal or outcome in ("empty", "refused", "filtered")


def test_text_that_came_before_an_error_is_kept() -> None:
    got = read("messages", [_merror("overloaded_error")])
    assert got.text("answer") == "Hi"
    assert got.decoder.error is not None
    assert (got.decoder.error.type, got.decoder.error.message) == ("overloaded_error", "Sorry")


def test_the_raw_finish_reason_of_an_aborted_answer_is_kept() -> None:
    got = read("chat", [_data(HI, _delta(finish="abort"), "[DONE]")])
    assert got.decoder.finish_raw == "abort"
    assert "abort" in (got.detail or "")


def test_a_protocol_error_says_where_it_is() -> None:
    got = read("chat", [_data(HI, HI, '{"choices": [}')])
    assert got.detail == "event 3 is not valid JSON (at its byte 13)"


def test_after_an_error_nothing_more_is_taken() -> None:
    got = read("chat", [_data(HI, {"error": {"message": "x"}}, HI, STOP, "[DONE]")])
    assert got.text("answer") == "Hi"
    assert not got.decoder.terminal


def test_a_role_only_first_chunk_and_empty_deltas_are_no_content() -> None:
    role = {"choices": [{"delta": {"role": "assistant", "content": None}}]}
    empty = {"choices": [{"delta": {"content": ""}}]}
    assert [d.text for d in read("chat", [_data(role, empty, HI)]).deltas] == ["Hi"]


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_is_read_under_either_name_and_once_when_both_are_sent(field: str) -> None:
    one = {"choices": [{"delta": {field: "Hm"}}]}
    both = {"choices": [{"delta": {"reasoning": "Hm", "reasoning_content": "Hm"}}]}
    assert read("chat", [_data(one)]).text("reasoning") == "Hm"
    assert read("chat", [_data(both)]).text("reasoning") == "Hm"


def test_typed_content_parts_are_told_apart() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "Yes"}]
    got = read("chat", [_data({"choices": [{"delta": {"content": parts}}]})])
    assert (got.text("reasoning"), got.text("answer")) == ("Hm", "Yes")


def test_a_tool_call_without_arguments_is_an_answer() -> None:
    call = {"choices": [{"delta": {"tool_calls": [{"function": {"name": "now", "arguments": ""}}]}}]}
    assert read("chat", [_data(call, _delta(finish="tool_calls"), "[DONE]")]).outcome == "ok"


def test_a_server_that_sends_its_text_only_at_the_end_is_understood() -> None:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}]
    last: dict[str, object] = {"type": "response.completed", "response": {"status": "completed", "output": output}}
    got = read("responses", [_named(CREATED, last)])
    assert (got.text("answer"), got.outcome) == ("Hi", "ok")
    assert read("responses", [_named(CREATED, OUT, last)]).text("answer") == "Hi"


def test_a_lone_surrogate_does_not_end_the_call() -> None:
    got = read("chat", [b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n' + _data(STOP, "[DONE]")])
    assert (got.text("answer"), got.outcome) == ("a?", "ok")


def test_terminal_is_said_at_the_usage_chunk_without_waiting_for_done() -> None:
    assert read("chat", [_data(HI, STOP, USAGE)]).decoder.terminal
    assert not read("chat", [_data(HI, USAGE)]).decoder.terminal
