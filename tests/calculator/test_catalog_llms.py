"""Shapes of models: counted parameters against published sizes, and config.json files read as they come."""

import csv
import json
from pathlib import Path

import pytest

from scripts import refresh_llms
from services.calculator import catalog
from services.calculator.catalog import ConfigError

# Published sizes in 10^9 (safetensors metadata and model cards): in all, and for one token where that is less.
PUBLISHED = {
    "Llama-3.2-1B": (1.236, None),
    "Llama-3.2-3B": (3.213, None),
    "Llama-3.1-8B": (8.030, None),
    "Llama-3.1-70B": (70.55, None),
    "Llama-3.1-405B": (405.9, None),
    "Llama-2-7B": (6.738, None),
    "Llama-2-13B": (13.02, None),
    "Llama-2-70B": (68.98, None),
    "Mistral-7B-v0.3": (7.248, None),
    "Mistral-Nemo-12B": (12.25, None),
    "Mistral-Small-24B": (23.57, None),
    "Mixtral-8x7B": (46.7, 12.9),
    "Mixtral-8x22B": (140.6, 39.2),
    "Qwen2.5-1.5B": (1.54, None),
    "Qwen2.5-7B": (7.62, None),
    "Qwen2.5-72B": (72.7, None),
    "Qwen3-8B": (8.19, None),
    "Qwen3-32B": (32.76, None),
    "Qwen3-30B-A3B": (30.5, 3.35),
    "Qwen3-235B-A22B": (235.1, 22.2),
    "gpt-oss-20b": (20.9, 3.6),
    "gpt-oss-120b": (116.8, 5.13),
    "Gemma-2-2B": (2.614, None),
    "Gemma-2-9B": (9.242, None),
    "Gemma-2-27B": (27.23, None),
    "Phi-4": (14.66, None),
    "Phi-3-mini": (3.821, None),
    "Yi-34B": (34.39, None),
    "TinyLlama-1.1B": (1.100, None),
    "SmolLM2-135M": (0.1345, None),
    "DeepSeek-V3": (671.0, 37.5),
    "OPT-13B": (12.85, None),
    "OPT-66B": (65.7, None),
    "OPT-175B": (174.6, None),
    "Llama-4-Scout-17B-16E": (107.8, 17.2),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_counted_parameters_are_the_published_ones(name: str) -> None:
    total, active = PUBLISHED[name]
    found = catalog.llms()[name]
    assert found.params_b == pytest.approx(total, rel=0.005)
    assert found.active_b == pytest.approx(total if active is None else active, rel=0.01)


def test_kv_bytes_a_token_are_those_of_the_literature() -> None:
    for name, expected in {
        "Llama-3.1-8B": 131_072,
        "Llama-3.1-70B": 327_680,
        "OPT-13B": 819_200,
        "Qwen2.5-7B": 57_344,
        "Qwen3-30B-A3B": 98_304,
        "gpt-oss-20b": 49_152,
        "Gemma-3-27B": 507_904,
        "PaLM-540B": 120_832,
    }.items():
        one = catalog.llms()[name]
        assert 2 * one.layers * one.kv_heads * one.head_dim * 2 == expected, name
    deepseek = catalog.llms()["DeepSeek-V3"]
    assert deepseek.mla_dim * deepseek.layers * 2 == 70_272


def test_windows_experts_and_shared_tables_are_as_published() -> None:
    llms = catalog.llms()
    assert (llms["gpt-oss-120b"].window, llms["gpt-oss-120b"].window_layers) == (128, 18)
    assert (llms["Gemma-3-27B"].window, llms["Gemma-3-27B"].window_layers) == (1024, 52)
    assert (llms["Gemma-2-9B"].window, llms["Gemma-2-9B"].window_layers) == (4096, 21)
    assert llms["Qwen2.5-7B"].window == 0 and llms["Mistral-7B-v0.3"].window == 0
    assert llms["Llama-3.2-1B"].tied and not llms["Llama-3.1-8B"].tied
    assert (llms["Mixtral-8x7B"].experts, llms["Mixtral-8x7B"].experts_per_token) == (8, 2)
    assert llms["gpt-oss-20b"].native_bits == 4.25 and llms["DeepSeek-V3"].native_bits == 8


def test_every_shape_holds_together() -> None:
    for one in catalog.llms().values():
        assert 0 < one.active_b <= one.params_b, one.name
        assert one.heads % one.kv_heads == 0 and one.window_layers <= one.layers, one.name
        assert (one.experts > 0) == (one.expert_params_b > 0) == (one.experts_per_token > 0), one.name
        assert one.expert_params_b < one.params_b and one.vocab > 0 and one.max_context > 0, one.name


LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}


def test_a_config_json_becomes_a_model_of_ones_own() -> None:
    mine = catalog.llm_from_config(json.dumps(LLAMA), name="mine")
    assert (
        mine.name == "mine" and mine.params_b == pytest.approx(8.03, rel=0.001) and mine.source == "config.json, yours"
    )


def test_a_text_part_inside_a_multimodal_config_is_read_with_its_familys_defaults() -> None:
    text = {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    }
    found = catalog.llm_from_config({"model_type": "gemma3", "text_config": text, "tie_word_embeddings": True})
    assert found.params_b == pytest.approx(catalog.llms()["Gemma-3-4B"].params_b)
    assert (found.window, found.window_layers, found.head_dim) == (1024, 29, 256)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("not json", "not JSON"),
        ("[1]", "no settings"),
        ({"model_type": "mamba"}, '"mamba" cannot be read'),
        ({}, r"\(none\)"),
        ({k: v for k, v in LLAMA.items() if k != "vocab_size"}, 'lacks "vocab_size"'),
        ({**LLAMA, "num_attention_heads": 0}, "zero"),
        ({**LLAMA, "hidden_size": -1}, "positive"),
    ],
)
def test_a_config_json_that_cannot_be_read_says_why(config: object, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        catalog.llm_from_config(config)  # type: ignore[arg-type]


def test_refreshing_a_model_replaces_its_row_and_keeps_the_others(tmp_path: Path) -> None:
    file = tmp_path / "llms.csv"
    file.write_text(refresh_llms.FILE.read_text(encoding="utf-8"), encoding="utf-8")
    before = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    refresh_llms.put(catalog.llm_from_config(LLAMA, name="Llama-3.1-8B", source="new"), file)
    refresh_llms.put(catalog.llm_from_config(LLAMA, name="another"), file)
    after = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert [row["name"] for row in after] == [*(row["name"] for row in before), "another"]
    changed = [row["name"] for row, old in zip(after, before, strict=False) if row != old]
    assert changed == ["Llama-3.1-8B"] and after[2]["source"] == "new"
    assert after[2]["params_b"] == before[2]["params_b"]
