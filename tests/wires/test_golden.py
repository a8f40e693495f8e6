"""Whole streams, real and hand-written true to the wires: what they mean, wherever they are cut."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.outcomes import FINISH, STATE_OF, judge
from services.providers.anthropic import STOPS
from services.providers.openai import FINISHES
from services.wire.framing import SSEDecoder
from tests.wires.helpers import DECODERS, FOLDER, GOLDENS, Golden, read

BY_NAME = pytest.mark.parametrize("golden", GOLDENS, ids=lambda g: g.name)
_TERMINAL = {"messages": b'"message_stop"}', "responses": b"event: response."}


def test_every_stored_stream_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.sse")} == {golden.name for golden in GOLDENS}


@BY_NAME
def test_a_stream_is_read_as_what_it_says(golden: Golden) -> None:
    got = read(golden.wire, [golden.raw])
    usage = got.decoder.usage
    assert (got.text("answer"), got.text("reasoning"), got.text("tool")) == (
        golden.answer,
        golden.reasoning,
        golden.tool,
    )
    assert (got.outcome, got.decoder.finish_raw) == (golden.outcome, golden.finish)
    counts = usage and (
        usage.uncached_input,
        usage.cache_read,
        usage.cache_write_5m,
        usage.cache_write_1h,
        usage.reasoning_output,
        usage.answer_output,
    )
    assert counts == golden.counts
    assert got.decoder.server_ms == pytest.approx(golden.server_ms)
    assert got.decoder.model_reported
    assert got.decoder.response_id


@BY_NAME
def test_the_parts_of_the_usage_sum_to_the_services_own_total(golden: Golden) -> None:
    usage = read(golden.wire, [golden.raw]).decoder.usage
    if golden.total is None:
        assert usage is None or usage.source == "partial"
    else:
        assert usage is not None
        assert usage.source == "provider"
        assert (usage.input_total or 0) + (usage.output_total or 0) == golden.total


def _end_of_terminal(golden: Golden) -> int:
    """Offset behind the terminal signal's own line (its data whole, line end not needed)."""
    raw = golden.raw
    if golden.wire == "chat":
        done = raw.index(b"[DONE]") + len(b"[DONE]")
        usage = raw.rfind(b'"choices":[]')
        return done if usage < 0 else min(done, len(raw[: raw.index(b"\n", usage)].rstrip(b"\r")))
    # Both other wires end with their terminal event, or with the error that stands in its place.
    assert _TERMINAL[golden.wire] in raw or b"event: error" in raw
    return len(raw.rstrip())


@pytest.mark.slow
@BY_NAME
def test_cut_at_any_byte_before_its_terminal_signal_a_stream_never_succeeded(golden: Golden) -> None:
    sse, decoder = SSEDecoder(), DECODERS[golden.wire]()
    end, saw = _end_of_terminal(golden), False
    for cut, byte in enumerate(golden.raw):  # the bytes before `cut` have arrived, and then the connection closes
        late_sse, late = copy.deepcopy(sse), copy.deepcopy(decoder)
        said = [delta for event in late_sse.flush() for delta in late.feed(event)]
        outcome, _ = judge(late, saw_content=saw or bool(said), eof=True)
        if cut < end:
            assert not late.terminal, f"cut at {cut} of {end}"
            assert STATE_OF[outcome] not in ("succeeded", "refused"), f"{outcome} when cut at {cut} of {end}"
        else:
            assert outcome == golden.outcome
        for event in sse.feed(bytes([byte])):
            saw = bool(decoder.feed(event)) or saw
    assert judge(decoder, saw_content=saw, eof=True)[0] == golden.outcome


@given(golden=st.sampled_from(GOLDENS), data=st.data())
@settings(max_examples=150, deadline=None)
def test_how_the_bytes_are_chunked_changes_nothing(golden: Golden, data: st.DataObject) -> None:
    raw = golden.raw
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=40)))
    chunks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert read(golden.wire, chunks).facts == read(golden.wire, [raw]).facts


@BY_NAME
def test_one_byte_at_a_time_changes_nothing(golden: Golden) -> None:
    assert read(golden.wire, [bytes([b]) for b in golden.raw]).facts == read(golden.wire, [golden.raw]).facts


@BY_NAME
@pytest.mark.parametrize("line_end", [b"\r\n", b"\r", b"\n"], ids=["crlf", "cr", "lf"])
def test_any_line_ending_and_a_bom_change_nothing(golden: Golden, line_end: bytes) -> None:
    raw = b"\xef\xbb\xbf" + golden.raw.replace(b"\r\n", b"\n").replace(b"\n", line_end)
    assert read(golden.wire, [raw]).facts == read(golden.wire, [golden.raw]).facts


@BY_NAME
def test_a_stream_without_its_last_line_ends_still_counts(golden: Golden) -> None:
    assert read(golden.wire, [golden.raw.rstrip()]).facts == read(golden.wire, [golden.raw]).facts


@BY_NAME
def test_events_run_together_without_blank_lines_are_still_told_apart(golden: Golden) -> None:
    lines = [line for line in golden.raw.replace(b"\r\n", b"\n").split(b"\n") if line]
    merged, whole = read(golden.wire, [b"\n".join(lines) + b"\n\n"]), read(golden.wire, [golden.raw])
    assert merged.facts == whole.facts


def test_every_finish_word_a_decoder_accepts_has_a_meaning() -> None:
    assert set(FINISH) >= STOPS | FINISHES


@pytest.mark.parametrize("wire", list(DECODERS))
@given(raw=st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_random_bytes_never_raise_and_never_succeed(wire: str, raw: bytes) -> None:
    assert STATE_OF[read(wire, [raw]).outcome] != "succeeded"  # type: ignore[arg-type]


@given(golden=st.sampled_from(GOLDENS), at=st.floats(0, 1), junk=st.binary(min_size=1, max_size=6), swap=st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_stream_with_bytes_damaged_never_raises(golden: Golden, at: float, junk: bytes, swap: bool) -> None:
    raw = golden.raw
    place = int(at * len(raw))
    got = read(golden.wire, [raw[:place] + junk + raw[place + (len(junk) if swap else 0) :]])
    assert all(delta.text for delta in got.deltas)


_KEYS = st.sampled_from(
    [
        "type",
        "delta",
        "choices",
        "content",
        "text",
        "usage",
        "error",
        "finish_reason",
        "message",
        "response",
        "output",
        "tool_calls",
        "function",
        "arguments",
        "timings",
        "prompt_ms",
        "stop_reason",
        "status",
        "id",
        "model",
        "thinking",
        "cache_creation",
        "completion_tokens",
        "prompt_tokens",
        "prompt_tokens_details",
        "item",
        "code",
        "details",
    ]
)
_WORDS = st.sampled_from(
    [
        "message_start",
        "message_delta",
        "message_stop",
        "content_block_start",
        "content_block_delta",
        "error",
        "stop",
        "response.completed",
        "response.failed",
        "response.output_item.added",
        "text_delta",
        "failed",
        "message",
        "",
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=25,
)


@pytest.mark.slow
@pytest.mark.parametrize("wire", list(DECODERS))
@given(bodies=st.lists(st.dictionaries(_KEYS, _JSON, max_size=6), min_size=1, max_size=4))
@settings(max_examples=80, deadline=None)
def test_json_of_any_shape_never_raises(wire: str, bodies: list[dict[str, object]]) -> None:
    raw = b"".join(b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies)
    got = read(wire, [raw])  # type: ignore[arg-type]
    assert all(isinstance(delta.text, str) and delta.text for delta in got.deltas)
    usage = got.decoder.usage
    assert usage is None or all(v is None or v >= 0 for v in (usage.input_total, usage.output_total))
