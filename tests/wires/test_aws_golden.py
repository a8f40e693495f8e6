"""Whole streams of the AWS wires: what they mean, wherever their bytes are cut, and what they end in when cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.outcomes import FINISH, STATE_OF
from services.providers import bedrock, sagemaker
from services.wire.framing import EventStreamFramer, FramingError, SageMakerFramer
from tests.wires.aws_goldens import AWS_GOLDENS, AwsGolden, read_aws
from tests.wires.helpers import FOLDER

BY_NAME = pytest.mark.parametrize("golden", AWS_GOLDENS, ids=lambda g: g.name)


def test_every_stored_event_stream_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.eventstream")} == {golden.name for golden in AWS_GOLDENS}


@BY_NAME
def test_a_stream_is_read_as_what_it_says(golden: AwsGolden) -> None:
    got = read_aws(golden, [golden.raw])
    decoder = got.decoder
    assert (got.text("answer"), got.text("reasoning"), got.text("tool")) == (
        golden.answer,
        golden.reasoning,
        golden.tool,
    )
    assert (got.outcome, decoder.finish_raw) == (golden.outcome, golden.finish)
    usage = decoder.usage
    counts = usage and (
        usage.uncached_input,
        usage.cache_read,
        usage.cache_write_5m,
        usage.cache_write_1h,
        usage.reasoning_output,
        usage.answer_output,
    )
    assert counts == golden.counts
    assert usage is None or (usage.input_total or 0) + (usage.output_total or 0) == golden.total
    assert decoder.server_ms == golden.server_ms
    assert (decoder.facts, decoder.served_tier) == (dict(golden.facts), golden.tier)


@pytest.mark.slow
@BY_NAME
def test_cut_at_any_byte_before_its_terminal_signal_a_stream_never_succeeded(golden: AwsGolden) -> None:
    raw = golden.raw
    for cut in range(len(raw)):
        got = read_aws(golden, [raw[:cut]])
        assert not got.decoder.terminal, f"cut at {cut} of {len(raw)}"
        assert STATE_OF[got.outcome] not in ("succeeded", "refused"), f"{got.outcome} when cut at {cut} of {len(raw)}"


@BY_NAME
def test_the_bytes_of_a_stream_may_come_one_by_one(golden: AwsGolden) -> None:
    raw = golden.raw
    assert read_aws(golden, (raw[i : i + 1] for i in range(len(raw)))).facts == read_aws(golden, [raw]).facts


@BY_NAME
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_chunking_gives_the_same_events(golden: AwsGolden, data: st.DataObject) -> None:
    raw = golden.raw
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=40)))
    chunks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert read_aws(golden, chunks).facts == read_aws(golden, [raw]).facts


def test_what_was_whole_before_a_damaged_frame_is_not_lost_with_it() -> None:
    raw = AWS_GOLDENS[0].raw
    broken = raw[:-1] + bytes([raw[-1] ^ 1])
    with pytest.raises(FramingError, match="damaged") as caught:
        EventStreamFramer().feed(broken)
    assert [event.name for event in caught.value.events][-1] == "messageStop"
    chat = next(golden for golden in AWS_GOLDENS if golden.name == "sagemaker_chat").raw
    with pytest.raises(FramingError) as inner:
        SageMakerFramer().feed(chat[:-1] + bytes([chat[-1] ^ 1]))
    assert " ok" in inner.value.events[-1].data.decode()


def test_every_stop_reason_that_ends_a_call_has_an_outcome() -> None:
    for stops in (bedrock.STOPS, sagemaker.STOPS, bedrock._STOPS, bedrock._TITAN_STOPS):
        assert stops <= FINISH.keys()


def test_the_converse_wires_stop_reasons_are_those_of_botocore() -> None:
    import botocore.session

    shape = botocore.session.get_session().get_service_model("bedrock-runtime").shape_for("StopReason")
    assert set(shape.enum) == bedrock.STOPS
