"""One replica under a rate: Little's law, queueing limits, the capacity under objectives."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.calculator import catalog, queueing, roofline
from services.calculator.types import Objectives, Precision, Serving, Spread, Workload
from tests.calculator.test_roofline import servings

H100 = Serving(catalog.llms()["Llama-3.1-8B"], catalog.gpus()["H100-SXM"])
A10G = Serving(catalog.llms()["Llama-3.1-8B"], catalog.gpus()["A10G"])
TOO_LARGE = Serving(catalog.llms()["Llama-3.1-70B"], catalog.gpus()["L4"])
CHAT = Workload(60, Spread(1000, 0.5), Spread(300, 0.5))
lengths = st.tuples(st.integers(1, 6_000), st.integers(1, 1_500))


@settings(max_examples=60, deadline=None)
@given(servings, lengths, st.floats(0.01, 0.97))
def test_littles_law_holds_for_what_runs(one: Serving, size: tuple[int, int], use: float) -> None:
    three = queueing.lines(one, *size)
    assume(three is not None)
    rpm = use * three[1].full * 60
    now = queueing.at(one, rpm, *size)
    state = queueing.state(three[1], rpm / 60, queueing.Traffic(*size, 0))
    running_s = state.first + (size[1] - 1) * state.tpot
    assert not now.overloaded
    assert now.batch == pytest.approx(rpm / 60 * running_s, rel=0.02)
    assert now.batch <= three[1].slots * 1.001


@settings(max_examples=40, deadline=None)
@given(servings, lengths, st.floats(0.01, 0.9), st.floats(1.01, 3.0))
def test_more_load_never_makes_anything_faster(one: Serving, size: tuple[int, int], use: float, more: float) -> None:
    three = queueing.lines(one, *size)
    assume(three is not None)
    rpm = use * three[1].full * 60
    calm, busy = queueing.at(one, rpm, *size), queueing.at(one, rpm * more, *size)
    assert busy.batch >= calm.batch * 0.999
    assert busy.wait_s.mid >= calm.wait_s.mid * 0.999
    assert busy.point.e2e_s.mid >= calm.point.e2e_s.mid * 0.999
    assert busy.utilisation.mid > calm.utilisation.mid


@settings(max_examples=30, deadline=None)
@given(servings, lengths)
def test_a_replica_is_overloaded_past_its_capacity_and_only_there(one: Serving, size: tuple[int, int]) -> None:
    three = queueing.lines(one, *size)
    assume(three is not None)
    full = three[1].full * 60
    assert not queueing.at(one, full * 0.98, *size).overloaded
    past = queueing.at(one, full * 1.02, *size)
    assert past.overloaded and math.isinf(past.wait_s.mid) and past.utilisation.mid > 1
    assert past.point.output_tok_s.mid == pytest.approx(three[1].full * size[1])


def test_the_full_rate_is_that_of_the_closed_system_with_every_slot_taken() -> None:
    most = roofline.most(H100, 1000, 300)
    closed = roofline.point(H100, most, 1000, 300)
    assert queueing.lines(H100, 1000, 300)[1].full * 60 == pytest.approx(closed.rpm.mid, rel=0.03)


def test_the_wait_before_one_prefill_is_that_of_m_d_1() -> None:
    """Answers of one token: the replica is a single server whose service is one prefill."""
    line = queueing.lines(H100, 8000, 1)[1]
    for use in (0.2, 0.5, 0.8):
        rate = use / line.alone
        m_d_1 = use * line.alone / (2 * (1 - use))
        now = queueing.state(line, rate, queueing.Traffic(8000, 1, 0))
        assert now.queue == pytest.approx(m_d_1, rel=0.2)


def test_bursts_wait_longer_and_regular_arrivals_shorter() -> None:
    waits = [queueing.at(H100, 500, 1000, 300, burstiness=burst).wait_s.mid for burst in (0.0, 1.0, 4.0)]
    assert waits[0] < waits[1] < waits[2]


def test_waits_blow_up_near_capacity() -> None:
    full = queueing.lines(H100, 1000, 300)[1].full * 60
    far, near = queueing.at(H100, full * 0.5, 1000, 300), queueing.at(H100, full * 0.999, 1000, 300)
    assert near.wait_s.mid > 100 * far.wait_s.mid


@settings(max_examples=40, deadline=None)
@given(servings, st.floats(0.05, 20.0), st.one_of(st.none(), st.floats(0.1, 60.0)), st.floats(0, 1.2))
def test_capacity_is_ordered_never_negative_and_never_above_the_full_rate(
    one: Serving, ttft: float, ttlt: float | None, sigma: float
) -> None:
    work = Workload(1, Spread(800, sigma), Spread(200, sigma))
    held = queueing.capacity_rpm(one, work, Objectives(ttft, ttlt))
    assert 0 <= held.low <= held.mid <= held.high
    three = queueing.lines(one, queueing.mean(work.input_tokens), queueing.mean(work.output_tokens))
    if three is None:
        assert held.high == 0
    else:
        assert held.high <= three[0].full * 60 * 1.01


def test_looser_objectives_never_carry_less() -> None:
    tight, loose, none = (queueing.capacity_rpm(H100, CHAT, Objectives(limit)) for limit in (0.15, 1.0, None))
    assert 0 < tight.mid < loose.mid <= none.mid


def test_at_the_capacity_the_objective_is_just_met() -> None:
    rpm = queueing.capacity_rpm(H100, CHAT, Objectives(0.2)).mid
    below = queueing.quantiles(H100, rpm * 0.98, CHAT.input_tokens, CHAT.output_tokens)
    above = queueing.quantiles(H100, rpm * 1.05, CHAT.input_tokens, CHAT.output_tokens)
    assert below.ttft_p95_s.mid <= 0.2 < above.ttft_p95_s.mid


def test_an_objective_shorter_than_one_prefill_is_never_met() -> None:
    assert queueing.capacity_rpm(A10G, CHAT, Objectives(0.05)).high == 0


def test_a_model_that_does_not_fit_carries_nothing_and_says_so() -> None:
    assert queueing.capacity_rpm(TOO_LARGE, CHAT, Objectives()).high == 0
    assert queueing.quantiles(TOO_LARGE, 1, CHAT.input_tokens, CHAT.output_tokens) is None
    assert queueing.largest_output(TOO_LARGE, 1, CHAT.input_tokens, CHAT.output_tokens, 3) is None
    with pytest.raises(ValueError, match="does not fit"):
        queueing.at(TOO_LARGE, 1, 1000, 300)


def test_the_later_quantile_is_never_the_shorter_one() -> None:
    times = queueing.quantiles(H100, 300, CHAT.input_tokens, CHAT.output_tokens)
    assert times.ttft_p50_s.mid < times.ttft_p95_s.mid < times.ttlt_p50_s.mid < times.ttlt_p95_s.mid


def test_300_tokens_in_3_s_are_too_much_for_an_a10g_and_not_for_an_h100_in_fp8() -> None:
    """It takes 9.8 ms a token, which an A10G (about 30) cannot and an H100 in FP8 can."""
    fixed = (Spread(1000), Spread(300))
    fast = Serving(H100.llm, H100.gpu, precision=Precision.FP8)
    assert queueing.largest_output(A10G, 6, *fixed, 3.0) < 150
    assert queueing.largest_output(fast, 6, *fixed, 3.0) > 300
    work = Workload(6, *fixed)
    assert queueing.capacity_rpm(A10G, work, Objectives(None, 3.0)).high == 0
    assert queueing.capacity_rpm(fast, work, Objectives(None, 3.0)).mid > 100


def test_no_answer_is_short_enough_when_the_first_token_is_late_or_the_replica_is_full() -> None:
    assert queueing.largest_output(A10G, 6, Spread(4000), Spread(100), 0.2) is None
    assert queueing.largest_output(A10G, 10_000, Spread(1000), Spread(300), 30) is None


def test_a_cached_prefix_raises_the_capacity() -> None:
    assert (
        queueing.capacity_rpm(H100, CHAT, Objectives(), 0.8).mid > queueing.capacity_rpm(H100, CHAT, Objectives()).mid
    )


def test_static_batches_carry_less_than_continuous_ones() -> None:
    fixed = Serving(H100.llm, H100.gpu, continuous=False)
    limits = Objectives(None, 30.0)
    assert queueing.capacity_rpm(fixed, CHAT, limits).mid < queueing.capacity_rpm(H100, CHAT, limits).mid
    slow = queueing.quantiles(fixed, 200, CHAT.input_tokens, CHAT.output_tokens)
    quick = queueing.quantiles(H100, 200, CHAT.input_tokens, CHAT.output_tokens)
    assert slow.ttft_p95_s.mid > quick.ttft_p95_s.mid
