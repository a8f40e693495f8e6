"""Single replicas: what may be said of one, and that the figures hang together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.calculator import memory, workload_file
from services.calculator.serialization import FieldError

LLAMA = {"model": "Llama-3.1-8B", "gpu": "H100-80GB-SXM"}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def _read(given: dict[str, Any], folder: Path | None = None) -> tuple[workload_file.PointSpec | None, dict[str, str]]:
    errors: list[FieldError] = []
    made = workload_file.read_point(given, "points[1]", errors, folder=folder)
    return made, {one.field.removeprefix("points[1]."): one.sentence for one in errors}


def _worked(**given: Any) -> dict[str, Any]:
    made, errors = _read(LLAMA | given)
    assert errors == {}
    assert made is not None
    return workload_file.work_out(made)


def test_every_figure_is_a_range_in_order_and_json_takes_them() -> None:
    figures = _worked(batch=8)
    for name in workload_file.TIMES:
        assert 0 < figures[name]["low"] <= figures[name]["mid"] <= figures[name]["high"]
    assert json.loads(json.dumps(figures)) == figures


def test_the_slots_are_those_of_the_memory_and_kv_bytes_are_the_papers() -> None:
    made, _ = _read(dict(LLAMA))
    assert made is not None
    figures = workload_file.work_out(made)
    assert figures["kv_slots"] == memory.of(made.serving, 1000, 300).slots
    assert figures["kv_bytes_per_token"] == 131_072  # 2 · 32 layers · 8 heads · 128 · 2 bytes


def test_half_a_byte_a_kv_element_doubles_the_slots() -> None:
    assert _worked(kv_bytes=1.0)["kv_slots"] == pytest.approx(2 * _worked()["kv_slots"], rel=0.01)


def test_what_vllm_calls_things_is_understood() -> None:
    assert _worked(tensor_parallel_size=2, concurrency=4, input_tokens=500) == _worked(tp=2, batch=4, input=500)


def test_more_than_fits_waits_and_the_throughput_stays() -> None:
    full, over = _worked(batch=64, max_num_seqs=64), _worked(batch=128, max_num_seqs=64)
    assert over["running"] == 64
    assert over["output_tokens_per_s"] == full["output_tokens_per_s"]
    rate = over["requests_per_min"]["mid"] / 60
    assert over["e2e_s"]["mid"] == pytest.approx(full["e2e_s"]["mid"] + 64 / rate)


def test_a_model_that_does_not_fit_has_no_figures_and_says_why() -> None:
    figures = _worked(model="Llama-3.1-70B", gpu="L4")
    assert figures["infeasible"].startswith("Llama-3.1-70B in bf16 does not fit on 1 × L4")
    assert all(figures[name] is None for name in workload_file.TIMES)
    assert figures["kv_slots"] == 0


def test_a_config_of_hugging_face_is_the_model_that_it_describes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    made, errors = _read({"config": "config.json", "gpu": "H100-80GB-SXM"}, tmp_path)
    assert errors == {}
    assert made is not None
    assert workload_file.work_out(made)["kv_slots"] == pytest.approx(_worked()["kv_slots"], rel=0.001)


def test_a_gpu_and_a_model_in_line_are_taken() -> None:
    made, _ = _read(dict(LLAMA))
    assert made is not None
    gpu = {
        "name": "Mine",
        "memory_gib": 80,
        "bandwidth_gb_s": 3350,
        "tflops_bf16": 989,
        "tflops_fp8": "none",
        "tflops_fp4": "none",
        "link": "none",
        "link_gb_s": 0,
        "source": "yours",
        "date": "",
    }
    own, errors = _read({"model": "Llama-3.1-8B", "gpu": gpu})
    assert errors == {}
    assert own is not None and own.serving.gpu.name == "Mine"


@pytest.mark.parametrize(
    ("given", "field", "word"),
    [
        ({"model": "Llama-9"}, "model", "catalogue has no model"),
        ({"gpu": "H900"}, "gpu", "catalogue has no GPU"),
        ({"instance": "g5.xlarge"}, "gpu", "Name a GPU"),
        ({"batch": 0}, "batch", "from 1"),
        ({"batch": 2.5}, "batch", "whole"),
        ({"batch": float("nan")}, "batch", "nan"),
        ({"input": 10**9}, "input", "10,000,000"),
        ({"output": 200_000}, "output", "131,072"),
        ({"cached": 2_000}, "cached", "only 1,000"),
        ({"precision": "int3"}, "precision", "bf16"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization", "to 1"),
        ({"tpp": 2}, "tpp", "tp"),
        ({"model": {"name": "x"}}, "model.layers", "needed"),
        ({"model": None, "config": "/no/such/config.json"}, "config", "cannot be read"),
    ],
)
def test_what_cannot_be_is_said_at_its_field(given: dict[str, Any], field: str, word: str) -> None:
    asked = {name: value for name, value in (LLAMA | given).items() if value is not None}
    made, errors = _read(asked)
    assert made is None
    assert field in errors
    assert word in errors[field]


def test_what_is_not_said_is_as_vllm_serve_takes_it_for_the_gpu():
    usual, said = (
        _worked(gpu="H100-80GB-SXM"),
        _worked(gpu="H100-80GB-SXM", max_num_seqs=1024, max_num_batched_tokens=8192),
    )
    assert usual["kv_slots"] == said["kv_slots"] < _worked(gpu="H100-80GB-SXM", max_num_seqs=256)["kv_slots"]
    small = _worked(gpu="L4", max_num_seqs=256, max_num_batched_tokens=2048)
    assert _worked(gpu="L4")["kv_slots"] == small["kv_slots"]
