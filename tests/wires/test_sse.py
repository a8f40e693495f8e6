"""The event-stream grammar, and the three places where model servers break it."""

from __future__ import annotations

import json
import re

import pytest

from services.wire.framing import MAX_EVENT_BYTES, MAX_LINE_BYTES, ServerEvent, SSEDecoder, StreamTooLarge


def _all(raw: bytes) -> list[ServerEvent]:
    sse = SSEDecoder()
    return sse.feed(raw) + sse.flush()


def test_several_data_lines_are_one_event_joined_by_line_feeds() -> None:
    assert _all(b"data: one\ndata:  two\ndata\n\n") == [ServerEvent("", b"one\n two\n")]


def test_an_event_is_complete_at_its_blank_line_and_not_before() -> None:
    sse = SSEDecoder()
    assert sse.feed(b"event: a\ndata: {}\n") == []
    assert sse.feed(b"\n") == [ServerEvent("a", b"{}")]


def test_comments_are_counted_as_keepalives_and_are_no_events() -> None:
    sse = SSEDecoder()
    assert sse.feed(b": ping\n\n:\n\n: ping\n\n") == []
    assert sse.keepalives == 3


def test_a_line_feed_after_a_carriage_return_at_a_chunk_border_is_no_blank_line() -> None:
    sse = SSEDecoder()
    assert sse.feed(b"data: x\r") + sse.feed(b"\n") == []
    assert sse.feed(b"\r") + sse.feed(b"\n") == [ServerEvent("", b"x")]


def test_an_empty_chunk_between_the_two_halves_of_a_line_end_is_harmless() -> None:
    sse = SSEDecoder()
    assert sse.feed(b"data: x\r") + sse.feed(b"") + sse.feed(b"\n") == []
    assert sse.feed(b"\n") == [ServerEvent("", b"x")]


def test_a_bom_cut_in_pieces_does_not_lose_the_first_event() -> None:
    sse = SSEDecoder()
    got = sse.feed(b"\xef") + sse.feed(b"\xbb") + sse.feed(b"\xbfdata: {}\n\n")
    assert got == [ServerEvent("", b"{}")]


def test_pretty_printed_json_over_several_lines_is_not_torn_apart() -> None:
    body = json.dumps({"a": {"b": 1}, "c": [{}, {}]}, indent=1)
    raw = "".join(f"data: {line}\n" for line in body.splitlines()) + "\n"
    assert [json.loads(event.data) for event in _all(raw.encode())] == [json.loads(body)]


def test_two_whole_objects_without_a_blank_line_are_two_events_with_their_own_names() -> None:
    raw = b'event: a\ndata: {"n":1}\nevent: b\ndata: {"n":2}\ndata: [DONE]\n\n'
    assert _all(raw) == [ServerEvent("a", b'{"n":1}'), ServerEvent("b", b'{"n":2}'), ServerEvent("", b"[DONE]")]


def test_an_event_line_after_its_data_names_that_event() -> None:
    assert _all(b"data: {}\nevent: late\n\n") == [ServerEvent("late", b"{}")]


def test_an_event_cut_in_its_middle_is_dropped_at_the_end_and_a_whole_one_is_not() -> None:
    assert _all(b'data: {"a":') == []
    assert _all(b"data: {}") == [ServerEvent("", b"{}")]
    assert _all(b"data: [DONE]") == [ServerEvent("", b"[DONE]")]


def test_an_error_field_and_bare_json_are_kept_as_fields() -> None:
    assert _all(b'error: {"code":500}\n\n{"error":1}\n\n') == [
        ServerEvent("", b"", (("error", b'{"code":500}'),)),
        ServerEvent("", b"", (("", b'{"error":1}'),)),
    ]


@pytest.mark.parametrize("step", [1_000, 65_536, 2_000_000])
def test_a_line_without_end_is_refused_at_one_megabyte(step: int) -> None:
    sse = SSEDecoder()
    with pytest.raises(StreamTooLarge, match=r"1,000,000 bytes"):
        for _ in range(MAX_LINE_BYTES // step + 2):
            sse.feed(b"x" * step)


def test_a_line_of_one_megabyte_in_a_single_chunk_with_its_end_is_refused_too() -> None:
    with pytest.raises(StreamTooLarge):
        SSEDecoder().feed(b"data: " + b"x" * MAX_LINE_BYTES + b"\n")


def test_an_event_without_end_is_refused() -> None:
    sse = SSEDecoder()
    with pytest.raises(StreamTooLarge, match=re.escape(f"{MAX_EVENT_BYTES:,}")):
        for _ in range(6):
            sse.feed(b"data: " + b"x" * 900_000 + b"\n")
