"""The roofline: orders that must hold for every serving, and hand-computed facts."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.calculator import catalog
from services.calculator import roofline as calculator_roofline
from services.calculator.types import Efficiency, Precision, Range, Serving
from tests.calculator.formulas import mixed_s

LLMS = ("Llama-3.1-8B", "Qwen2.5-7B", "Mixtral-8x7B", "gpt-oss-20b", "Gemma-3-12B", "DeepSeek-V3")
GPUS = ("A10G", "L4", "L40S", "A100-80GB-SXM", "H100-SXM", "H200-SXM")
ONE = Range(1.0, 1.0, 1.0)
NOTHING = Range(0.0, 0.0, 0.0)
IDEAL = Efficiency(ONE, ONE, ONE, ONE, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)


def serving(llm: str = "Llama-3.1-8B", gpu: str = "H100-SXM", **more: object) -> Serving:
    return Serving(catalog.llms()[llm], catalog.gpus()[gpu], **more)  # type: ignore[arg-type]


servings = st.builds(
    serving,
    st.sampled_from(LLMS),
    st.sampled_from(GPUS),
    tp=st.sampled_from((1, 2, 4, 8)),
    precision=st.sampled_from(list(Precision)),
)


def ordered(value: Range) -> bool:
    return 0 <= value.low <= value.mid <= value.high


@settings(max_examples=60, deadline=None)
@given(servings, st.integers(1, 255), st.integers(1, 30_000), st.integers(1, 64), st.integers(1, 4_000))
def test_a_step_never_gets_faster_with_batch_or_context(
    one: Serving, batch: int, context: int, more: int, longer: int
) -> None:
    at = calculator_roofline.step_s(one, batch, context)
    assert ordered(at)
    for slower in (
        calculator_roofline.step_s(one, batch + more, context),
        calculator_roofline.step_s(one, batch, context + longer),
    ):
        assert (slower.low, slower.mid, slower.high) >= (at.low, at.mid, at.high)
        assert slower.low >= at.low and slower.mid >= at.mid and slower.high >= at.high


@settings(max_examples=60, deadline=None)
@given(servings, st.integers(1, 30_000), st.integers(1, 8_000), st.floats(0, 0.95))
def test_a_prefill_never_gets_faster_with_tokens_and_never_slower_with_a_cached_prefix(
    one: Serving, tokens: int, more: int, share: float
) -> None:
    at = calculator_roofline.prefill_s(one, tokens)
    assert ordered(at)
    assert calculator_roofline.prefill_s(one, tokens + more).mid >= at.mid
    # Reading a cached prefix costs its KV bytes, which for a small model may pass what computing it costs.
    read = catalog_read(one, tokens)
    assert calculator_roofline.prefill_s(one, tokens, int(tokens * share)).mid <= at.mid * 1.001 + read


def catalog_read(one: Serving, tokens: int) -> float:
    return calculator_roofline.step_s(one, 1, tokens).mid - calculator_roofline.step_s(one, 1, 1).mid


@settings(max_examples=60, deadline=None)
@given(servings, st.integers(1, 256), st.integers(1, 8_000), st.integers(1, 2_000))
def test_a_point_is_ordered_and_its_throughput_is_littles(one: Serving, batch: int, i: int, o: int) -> None:
    point = calculator_roofline.point(one, batch, i, o)
    for value in (
        point.prefill_s,
        point.step_s,
        point.ttft_s,
        point.tpot_s,
        point.e2e_s,
        point.output_tok_s,
        point.rpm,
    ):
        assert ordered(value)
    assert point.rpm.mid / 60 * point.e2e_s.mid == pytest.approx(batch)
    assert point.output_tok_s.mid == pytest.approx(point.rpm.mid / 60 * o)
    assert point.tpot_s.mid >= point.step_s.mid
    assert point.bound in {"bandwidth", "compute", "memory", "interconnect", "overhead"}


@settings(max_examples=30, deadline=None)
@given(servings, st.integers(1, 8_000), st.integers(8, 2_000))
def test_throughput_never_falls_along_the_curve(one: Serving, i: int, o: int) -> None:
    # A fall of 5 % was seen: of several prompts in one step, only one hides the reading of the weights.
    rates = [point.output_tok_s.mid for point in calculator_roofline.curve(one, i, o)]
    assert all(after >= before * 0.92 for before, after in pairwise(rates))


@settings(max_examples=40, deadline=None)
@given(servings, st.integers(0, 2048), st.integers(0, 128), st.integers(1, 4_000))
def test_a_mixed_step_lies_above_its_parts(one: Serving, prompt: int, batch: int, context: int) -> None:
    mixed = mixed_s(one, prompt, 0, batch, context)
    assert mixed >= mixed_s(one, 0, 0, batch, context)
    assert mixed >= mixed_s(one, prompt, 0, 0, context)
    fast, slow = (mixed_s(one, prompt, 0, batch, context, which) for which in ("low", "high"))
    assert fast <= mixed <= slow


def test_without_losses_a_decode_step_is_the_bytes_over_the_bandwidth() -> None:
    one = serving(efficiency=IDEAL)
    weights = 2 * (8.03026e9 - 128256 * 4096)  # the input embedding is not read
    cache = 4 * 131_072 * 1000
    assert calculator_roofline.step_s(one, 4, 1000).mid == pytest.approx((weights + cache) / 3350e9, rel=1e-3)


def test_without_losses_a_long_prefill_is_the_flops_over_the_peak() -> None:
    one = serving(efficiency=IDEAL)
    body = 8.03026e9 - 2 * 128256 * 4096
    flops = 2 * body * 8192 + 2 * 32 * 4096 * 8192**2
    weights = 2 * (body + 128256 * 4096) / 3350e9
    assert calculator_roofline.prefill_s(one, 8192).mid == pytest.approx(flops / 989e12 + 0.3 * weights, rel=0.01)


def test_a_8b_model_on_an_a10g_takes_about_30_ms_a_token() -> None:
    assert calculator_roofline.step_s(serving(gpu="A10G"), 1, 600).mid == pytest.approx(0.030, rel=0.1)


def test_two_gpus_halve_the_reading_and_add_the_wires() -> None:
    one, two = serving(efficiency=IDEAL), serving(efficiency=IDEAL, tp=2)
    assert calculator_roofline.step_s(two, 1, 1).mid == pytest.approx(
        calculator_roofline.step_s(one, 1, 1).mid / 2, rel=0.02
    )
    slow = serving(tp=2, gpu="L4", llm="Llama-3.1-70B", precision=Precision.W4)
    assert (
        calculator_roofline.prefill_s(slow, 4000).mid
        > calculator_roofline.prefill_s(serving(tp=2, gpu="H100-SXM"), 4000).mid
    )


def test_a_mixture_reads_more_experts_with_a_larger_batch() -> None:
    one = serving("Mixtral-8x7B", efficiency=IDEAL, tp=2)
    steps = [calculator_roofline.step_s(one, batch, 1).mid for batch in (1, 2, 8, 64)]
    assert steps[0] * 2 < steps[2] < steps[3] * 1.01


def test_fp8_does_not_speed_up_the_arithmetic_of_a_gpu_without_it() -> None:
    def long(gpu: str, precision: Precision) -> float:
        return calculator_roofline.prefill_s(serving(gpu=gpu, precision=precision), 8000).mid

    assert long("A100-80GB-SXM", Precision.FP8) == pytest.approx(long("A100-80GB-SXM", Precision.BF16), rel=0.05)
    assert long("H100-SXM", Precision.FP8) < 0.7 * long("H100-SXM", Precision.BF16)


def test_static_batches_prefill_together_and_decode_without_interruption() -> None:
    moving, fixed = (
        calculator_roofline.point(serving(), 32, 1000, 300),
        calculator_roofline.point(serving(), 32, 1000, 300, static=True),
    )
    assert fixed.tpot_s.mid < moving.tpot_s.mid
    assert fixed.ttft_s.mid > 10 * moving.prefill_s.mid


def test_a_model_that_fits_nowhere_has_no_curve_and_no_sequences() -> None:
    one = serving("Llama-3.1-70B", "L4")
    assert calculator_roofline.most(one, 1000, 300) == 0
    assert calculator_roofline.curve(one, 1000, 300) == []


def test_the_curve_ends_at_the_most_sequences_and_says_that_memory_binds() -> None:
    curve = calculator_roofline.curve(serving(gpu="L4"), 2000, 500)
    assert curve[-1].bound == "memory"
    assert curve[-1].batch == calculator_roofline.most(serving(gpu="L4"), 2000, 500)
    assert curve[0].bound == "bandwidth"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("A100-40GB-SXM", "ampere"),
        ("A10G", "a10g"),
        ("L40S", "ada"),
        ("L4", "ada"),
        ("H200-SXM", "hopper"),
        ("B200-SXM", "blackwell"),
        ("GB200", "blackwell"),
        ("T4", "turing"),
        ("TPUv4", "other"),
    ],
)
def test_a_gpu_gets_the_factors_of_its_generation(name: str, kind: str) -> None:
    assert calculator_roofline.generation(name) == kind
    found = calculator_roofline.of(name)
    assert all(ordered(value) for value in (found.bandwidth, found.prefill, found.decode_compute, found.step_s))
    assert math.isfinite(found.hop_s.high)
