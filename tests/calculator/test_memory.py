"""Formulas of memory.py, kv.py and overheads.py against published figures and against what must always hold.

Logged figures without an address are from public repository files (see vllm_logs.csv and the dates beside them).
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.calculator import memory as calculator_memory
from services.calculator.types import Gpu, Llm, Precision, Serving

H100 = Gpu("H100-SXM", 79.19, 3350, 989, 1978, None, "NVLink4", 450, "vLLM log", "2025-09")
T4 = Gpu("T4", 14.56, 320, 65, None, None, "PCIe3", 16, "vLLM log", "2025-05")

LLAMA_8B = Llm("Llama-3.1-8B", 8.03, 8.03, 32, 4096, 32, 8, 128, 131072, 128256, ffn=14336)
LLAMA_70B = Llm("Llama-3.1-70B", 70.55, 70.55, 80, 8192, 64, 8, 128, 131072, 128256, ffn=28672)
QWEN3_8B = Llm("Qwen3-8B", 8.19, 8.19, 36, 4096, 32, 8, 128, 40960, 151936, ffn=12288)
QWEN3_235B = Llm("Qwen3-235B-A22B", 235, 22, 94, 4096, 64, 4, 128, 40960, 151936, False, 128, 8, 227, expert_ffn=1536)
QWEN3_NEXT = Llm("Qwen3-Next-80B-A3B", 80, 3, 48, 2048, 16, 2, 256, 262144, 151936, False, 512, 10, 77, expert_ffn=512)
MINISTRAL = Llm("Ministral-3-14B", 13.9, 13.9, 40, 5120, 32, 8, 128, 262144, 131072, ffn=16384)
DEEPSEEK = Llm(
    "DeepSeek-V3", 671, 37, 61, 7168, 128, 128, 128, 163840, 129280, False, 256, 8, 654, mla_dim=576, native_bits=8
)
GPT_OSS_20B = Llm("gpt-oss-20b", 20.9, 3.6, 24, 2880, 64, 8, 64, 131072, 201088, False, 32, 4, 19.1, 0, 2880, 128, 12)
GPT_OSS_120B = Llm(
    "gpt-oss-120b", 116.8, 5.1, 36, 2880, 64, 8, 64, 131072, 201088, False, 128, 4, 114.7, 0, 2880, 128, 18
)
GEMMA_3_4B = Llm("Gemma-3-4B", 4.3, 4.3, 34, 2560, 8, 4, 256, 131072, 262208, True, ffn=10240)
GEMMA_3_27B = Llm("Gemma-3-27B", 27.4, 27.4, 62, 5376, 32, 16, 128, 131072, 262208, True, window=1024, window_layers=52)
GIB = 2.0**30


def on(llm: Llm, gpu: Gpu = H100, tp: int = 1, precision: Precision = Precision.BF16) -> Serving:
    return Serving(llm, gpu, tp=tp, precision=precision)


@pytest.mark.parametrize(("llm", "wanted"), [(LLAMA_8B, 131_072), (LLAMA_70B, 327_680), (DEEPSEEK, 70_272)])
def test_a_token_takes_the_published_bytes(llm: Llm, wanted: int) -> None:
    assert calculator_memory.kv_bytes_per_token(on(llm)) == wanted


def test_an_eight_bit_cache_halves_a_token() -> None:
    assert calculator_memory.kv_bytes_per_token(replace(on(LLAMA_8B), kv_bytes=1.0)) == 65_536


def test_heads_are_shared_among_gpus_and_copied_once_there_are_more_gpus_than_heads() -> None:
    assert calculator_memory.kv_bytes_per_token(on(LLAMA_70B, tp=8)) == 327_680
    assert calculator_memory.kv_bytes_per_token(on(LLAMA_70B, tp=16)) == 2 * 327_680


def test_a_latent_cache_is_held_by_every_gpu() -> None:
    assert calculator_memory.kv_bytes_per_token(on(DEEPSEEK, tp=8)) == 8 * 70_272


def test_a_sequence_takes_whole_blocks() -> None:
    assert calculator_memory.kv_bytes(on(LLAMA_8B), 17) == 32 * 131_072
    assert calculator_memory.kv_bytes(on(LLAMA_8B), 0) == 0


def test_a_window_layer_forgets_what_is_behind_its_window() -> None:
    one_layer = 2 * 8 * 64 * 2
    long = calculator_memory.kv_bytes(on(GPT_OSS_20B), 100_000)
    assert long == 12 * 100_000 * one_layer + 12 * (128 + 16) * one_layer
    assert calculator_memory.kv_bytes(on(GPT_OSS_20B), 64) == 24 * 64 * one_layer


def test_a_step_reads_no_more_than_the_window_of_a_window_layer() -> None:
    one_layer = 2 * 8 * 64 * 2
    assert calculator_memory.kv_read_bytes(on(GPT_OSS_20B), 1000) == 12 * 1000 * one_layer + 12 * 128 * one_layer


def test_layers_are_paged_in_groups_of_equal_size() -> None:
    assert calculator_memory.grouped_layers(LLAMA_8B) == 32
    assert calculator_memory.grouped_layers(GPT_OSS_20B) == 24
    assert calculator_memory.grouped_layers(GEMMA_3_27B) == 70


@pytest.mark.parametrize(
    ("serving", "gib_a_gpu", "tokens"),
    [
        (on(GPT_OSS_120B), 8.99, 130_960),  # blog.huikang.dev, vLLM logs, 2025-12-28
        (on(MINISTRAL, tp=2), 52.36, 686_320),  # public start-up log, 2025-12-11
        (on(QWEN3_235B, tp=4), 10.65, 238_208),  # public start-up log, L40S, 2025-09-24
    ],
)
def test_logged_gib_hold_the_logged_tokens(serving: Serving, gib_a_gpu: float, tokens: int) -> None:
    assert gib_a_gpu * GIB * serving.tp / calculator_memory.slot_bytes(serving) == pytest.approx(tokens, rel=0.005)


@pytest.mark.parametrize(
    ("serving", "logged"),
    [
        (on(LLAMA_8B), 14.99),
        (on(QWEN3_8B), 15.27),
        (on(QWEN3_8B, precision=Precision.FP8), 8.8),
        (on(LLAMA_70B, precision=Precision.FP8), 67.7),
        (on(GPT_OSS_120B, precision=Precision.MXFP4), 64.38),  # vLLM issue 33155
        (on(GPT_OSS_20B, precision=Precision.MXFP4), 13.72),
        (on(QWEN3_235B, precision=Precision.FP8), 8 * 27.72),
    ],
)
def test_weights_are_what_vllm_says_loading_took(serving: Serving, logged: float) -> None:
    assert calculator_memory.weights_bytes(serving) / GIB == pytest.approx(logged, rel=0.025)


@pytest.mark.parametrize(
    ("serving", "logged"),
    [
        (Serving(GEMMA_3_4B, H100, max_seqs=1024, step_tokens=16384), 9.96),  # B200, vLLM PR 21489
        (Serving(QWEN3_NEXT, H100, tp=2, max_seqs=1024, step_tokens=8192), 5.58),  # H200 x 2, 2025-10-23
        (Serving(QWEN3_235B, H100, tp=4, max_seqs=256, step_tokens=2048), 1.40),  # L40S x 4, 2025-09-24
        (Serving(QWEN3_8B, H100, max_seqs=256, step_tokens=2048), 1.40),  # 2026-02-03
    ],
)
def test_the_peak_of_the_profile_run_is_the_logged_one(serving: Serving, logged: float) -> None:
    peak = max(calculator_memory.forward_bytes(serving), calculator_memory.sampler_bytes(serving))
    assert peak / GIB == pytest.approx(logged, rel=0.04)


def test_a_given_activation_replaces_the_formula() -> None:
    assert calculator_memory.activation_bytes(replace(on(LLAMA_8B), activation_gib=2.0)) == 2 * GIB


def test_more_sequences_or_longer_steps_never_leave_more_slots() -> None:
    base = calculator_memory.of(on(LLAMA_8B), 1000, 300).slots
    assert calculator_memory.of(replace(on(LLAMA_8B), max_seqs=1024), 1000, 300).slots < base
    assert calculator_memory.of(replace(on(LLAMA_8B), step_tokens=65536), 1000, 300).slots < base


def test_the_defaults_of_the_server_differ_for_large_cards_but_not_for_the_a100() -> None:
    assert calculator_memory.server_defaults("H100-SXM", 79.19) == (1024, 8192)
    assert calculator_memory.server_defaults("A100-80GB-SXM", 79.15) == (256, 2048)
    assert calculator_memory.server_defaults("L4", 22.03) == (256, 2048)


def test_the_parts_make_up_the_whole() -> None:
    found = calculator_memory.of(on(LLAMA_70B, tp=4), 1000, 300)
    assert found.total == pytest.approx(found.weights + found.activations + found.kv + found.reserve)
    assert found.fits


def test_a_model_that_does_not_fit_has_no_slots_and_never_fewer_than_none() -> None:
    found = calculator_memory.of(on(LLAMA_70B, T4), 1000, 300)
    assert (found.kv, found.slots, found.sequences, found.fits) == (0, 0, 0, False)


def test_weights_that_fit_without_room_for_one_sequence_do_not_count_as_fitting() -> None:
    small = replace(on(LLAMA_8B), memory_share=0.22)
    found = calculator_memory.of(small, 100_000, 20_000)
    assert found.slots > 0
    assert not found.fits


def test_sequences_all_have_room_to_their_end_and_are_at_most_max_seqs() -> None:
    few = calculator_memory.of(on(LLAMA_8B), 30_000, 1_000)
    assert few.sequences * calculator_memory.kv_bytes(on(LLAMA_8B), 31_000) <= few.kv
    assert (few.sequences + 1) * calculator_memory.kv_bytes(on(LLAMA_8B), 31_000) > few.kv
    assert calculator_memory.of(on(LLAMA_8B), 100, 100).sequences == 256


def test_windows_leave_room_for_more_sequences() -> None:
    with_windows = calculator_memory.of(on(GEMMA_3_27B), 20_000, 500)
    without = calculator_memory.of(on(replace(GEMMA_3_27B, window=0, window_layers=0)), 20_000, 500)
    assert with_windows.sequences > 2 * without.sequences > 0


def test_a_step_reads_all_of_a_dense_model_but_its_input_embedding() -> None:
    assert calculator_memory.weights_read_bytes(on(LLAMA_8B), 1) == pytest.approx(8.03e9 * 2 - 128256 * 4096 * 2)
    assert calculator_memory.weights_read_bytes(on(LLAMA_8B), 64) == calculator_memory.weights_read_bytes(
        on(LLAMA_8B), 1
    )
    tied = replace(LLAMA_8B, tied=True)
    assert calculator_memory.weights_read_bytes(on(tied), 1) == pytest.approx(8.03e9 * 2)


def test_one_sequence_reads_the_experts_of_one_token_and_many_read_all() -> None:
    one, many = (
        calculator_memory.weights_read_bytes(on(QWEN3_235B), 1),
        calculator_memory.weights_read_bytes(on(QWEN3_235B), 512),
    )
    dense = 8e9 * 2 - 151936 * 4096 * 2
    assert one == pytest.approx(dense + 227e9 * 2 * 8 / 128)
    assert many == pytest.approx(dense + 227e9 * 2)
    assert one < calculator_memory.weights_read_bytes(on(QWEN3_235B), 4) < many


def test_four_bit_weights_keep_their_vocabulary_in_sixteen() -> None:
    tables = 2 * 128256 * 4096
    wanted = (8.03e9 - tables) * 4.15625 / 8 + tables * 2
    assert calculator_memory.weights_bytes(on(LLAMA_8B, precision=Precision.W4)) == pytest.approx(wanted, rel=1e-3)
