"""A model's shape from its Hugging Face ``config.json``, with the parameters counted as its code lays them out.

The count is that of the transformers library's modules (attention, feed-forward, router, norms, embeddings); vision
towers and extra prediction layers (DeepSeek's MTP) are left out, as they are not run for a text token. Held against the
published sizes of every model of ``llms.csv`` in tests/calculator/test_catalog_llms.py (within 1 %).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.calculator.types import Llm

BILLION = 1e9

GATED = frozenset(
    {
        "llama",
        "mistral",
        "ministral3",
        "mistral3",
        "mixtral",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "gpt_oss",
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "deepseek_v3",
        "phi3",
        "smollm3",
        "granite",
        "llama4",
        "llama4_text",
    }
)

PLAIN = frozenset({"opt"})  # two matrices a layer instead of three, biases, learned positions

TIED_BY_DEFAULT = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text", "opt"})

HEAD_256_BY_DEFAULT = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text"})

QK_NORMED = frozenset({"qwen3", "qwen3_moe", "gemma3", "gemma3_text"})

FOUR_NORMS = frozenset({"gemma2", "gemma3", "gemma3_text"})


# transformers' Gemma3TextConfig: the files of the family leave out what is as here.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "gemma3": {
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "sliding_window": 4096,
        "max_position_embeddings": 131072,
    },
    "gemma2": {"sliding_window": 4096, "max_position_embeddings": 8192, "vocab_size": 256000},
}


QUANT_BITS: Mapping[str, float] = {"fp8": 8.0, "mxfp4": 4.25, "awq": 4.16, "gptq": 4.16}  # with their scales


class ConfigError(ValueError):
    """A config.json that does not say what is needed; the message is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class _Shape:
    kind: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    ffn: int
    expert_ffn: int
    experts: int
    per_token: int
    shared: int
    dense_layers: int
    tied: bool


def llm_from_config(
    config: Mapping[str, Any], *, name: str = "", hf_id: str = "", source: str = "", date: str = "", note: str = ""
) -> Llm:
    """The model a config.json describes. Raises `ConfigError` in words when it cannot be read."""
    text = {**config, **config["text_config"]} if isinstance(config.get("text_config"), Mapping) else dict(config)
    kind = str(text.get("model_type") or "").lower()
    if kind not in GATED | PLAIN:
        raise ConfigError(
            f'A model of the type "{kind or "(none)"}" cannot be read from its config.json yet; '
            f"known are {', '.join(sorted(GATED | PLAIN))}. Give its figures by hand instead."
        )
    text = {**DEFAULTS.get(kind.removesuffix("_text"), {}), **{k: v for k, v in text.items() if v is not None}}
    shape = _shape(text, kind)
    window, window_layers = windowed(text, kind, shape.layers)
    total, in_experts, active = _params(text, shape)
    label = name or str(config.get("_name_or_path") or hf_id).rpartition("/")[2] or kind
    return Llm(
        name=label,
        params_b=round(total / BILLION, 5),
        active_b=round(active / BILLION, 5),
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_context=_number(text, "max_position_embeddings"),
        vocab=shape.vocab,
        tied=shape.tied,
        experts=shape.experts,
        experts_per_token=shape.per_token,
        expert_params_b=round(in_experts / BILLION, 5),
        ffn=shape.ffn,
        expert_ffn=shape.expert_ffn,
        window=window,
        window_layers=window_layers,
        mla_dim=_mla_dim(text),
        native_bits=_bits(config),
        hf_id=hf_id,
        source=source,
        date=date,
        note=note,
    )


def _number(text: Mapping[str, Any], *keys: str, default: int | None = None) -> int:
    for key in keys:
        value = text.get(key)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _positive(keys[0], int(value))
    if default is None:
        raise ConfigError(f'The config.json lacks "{keys[0]}"; without it the model\'s memory cannot be computed.')
    return default


def _positive(key: str, value: int) -> int:
    if value < 0:
        raise ConfigError(f'The config.json has {value} for "{key}"; that has to be a positive number.')
    return value


def _shape(text: Mapping[str, Any], kind: str) -> _Shape:
    hidden, heads = _number(text, "hidden_size"), _number(text, "num_attention_heads")
    layers = _number(text, "num_hidden_layers")
    if not hidden or not heads or not layers:
        raise ConfigError("The config.json has a zero where the layers, heads or width should be.")
    experts = _number(text, "num_local_experts", "num_experts", "n_routed_experts", default=0)
    ffn = _number(text, "ffn_dim" if kind in PLAIN else "intermediate_size")
    step = _number(text, "interleave_moe_layer_step", "decoder_sparse_step", default=1) or 1
    dense = _number(text, "first_k_dense_replace", default=layers - layers // step) if experts else layers
    return _Shape(
        kind=kind,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=_number(text, "num_key_value_heads", default=heads),
        head_dim=_number(text, "head_dim", default=256 if kind in HEAD_256_BY_DEFAULT else hidden // heads),
        vocab=_number(text, "vocab_size"),
        ffn=_number(text, "intermediate_size_mlp", default=ffn),
        expert_ffn=_number(text, "moe_intermediate_size", default=ffn) if experts else 0,
        experts=experts,
        per_token=_number(text, "num_experts_per_tok", "experts_per_token", default=0) if experts else 0,
        shared=1 if kind.startswith("llama4") else _number(text, "n_shared_experts", default=0),
        dense_layers=dense,
        tied=bool(text.get("tie_word_embeddings", kind in TIED_BY_DEFAULT)),
    )


def _params(text: Mapping[str, Any], shape: _Shape) -> tuple[float, float, float]:
    """Parameters in all, in experts, and used for one token."""
    h = shape.hidden
    matrices = 2 if shape.kind in PLAIN else 3
    norms = h * (4 if shape.kind in FOUR_NORMS else 2) + (2 * shape.head_dim if shape.kind in QK_NORMED else 0)
    per_layer = _attention(text, shape) + norms
    dense = matrices * h * shape.ffn * shape.dense_layers
    moe_layers = shape.layers - shape.dense_layers
    biases = (2 * shape.expert_ffn + h) if shape.kind == "gpt_oss" else 0
    expert = 3 * h * shape.expert_ffn + biases
    router = moe_layers * (h * shape.experts + (shape.experts if shape.kind in ("gpt_oss", "deepseek_v3") else 0))
    common = moe_layers * shape.shared * 3 * h * shape.expert_ffn
    embeddings = shape.vocab * h * (1 if shape.tied else 2) + h
    if shape.kind in PLAIN:
        embeddings += h + 2 * h * shape.layers + (shape.ffn + h) * shape.layers
        embeddings += h * (_number(text, "max_position_embeddings") + 2)
    outside_layers = per_layer * shape.layers + dense + router + common + embeddings
    in_experts = float(moe_layers * shape.experts * expert)
    active = outside_layers + moe_layers * shape.per_token * expert
    if shape.kind == "gpt_oss":  # OpenAI counts 3.6 and 5.1 billion: without the table that is only looked up
        active -= shape.vocab * h
    return outside_layers + in_experts, in_experts, active


def _attention(text: Mapping[str, Any], shape: _Shape) -> float:
    h, queries, keys = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if text.get("kv_lora_rank"):
        return _latent_attention(text, shape)
    biased = shape.kind in PLAIN or bool(text.get("attention_bias"))
    bias = queries + 2 * keys if biased or shape.kind == "qwen2" else 0
    bias += h if biased else 0
    sinks = shape.heads if shape.kind == "gpt_oss" else 0
    return h * (queries + 2 * keys) + queries * h + bias + sinks


def _latent_attention(text: Mapping[str, Any], shape: _Shape) -> float:
    h, rank = shape.hidden, _number(text, "kv_lora_rank")
    nope, rope = _number(text, "qk_nope_head_dim"), _number(text, "qk_rope_head_dim")
    value, low = _number(text, "v_head_dim"), _number(text, "q_lora_rank", default=0)
    wide = shape.heads * (nope + rope)
    query = h * low + low + low * wide if low else h * wide
    return query + h * (rank + rope) + rank + rank * shape.heads * (nope + value) + shape.heads * value * h


def _mla_dim(text: Mapping[str, Any]) -> int:
    rank = _number(text, "kv_lora_rank", default=0)
    return rank + _number(text, "qk_rope_head_dim", default=0) if rank else 0


def _bits(config: Mapping[str, Any]) -> float:
    quant = config.get("quantization_config")
    method = str(quant.get("quant_method")) if isinstance(quant, Mapping) else ""
    return QUANT_BITS.get(method, 16.0)


# Layers for each full one where the file does not list its layers: transformers' defaults of these families.
EVERY = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "gpt_oss": 2}


UNUSED = frozenset({"qwen2", "qwen3", "qwen2_moe", "qwen3_moe"})  # have the key, use it only when switched on


def windowed(text: Mapping[str, Any], kind: str, layers: int) -> tuple[int, int]:
    """Tokens of the window and layers that have it; (0, 0) when there is none or it is as long as the context."""
    window = text.get("sliding_window")
    if not isinstance(window, int) or window <= 0 or _switched_off(text, kind):
        return 0, 0
    if window >= int(text.get("max_position_embeddings") or window + 1):
        return 0, 0
    listed = text.get("layer_types")
    if isinstance(listed, list):
        count = sum(1 for layer in listed if layer == "sliding_attention")
        return (window, count) if count else (0, 0)
    pattern = text.get("sliding_window_pattern")
    every = pattern if isinstance(pattern, int) and pattern > 0 else EVERY.get(kind)
    return window, layers if every is None else layers - layers // every


def _switched_off(text: Mapping[str, Any], kind: str) -> bool:
    return text.get("use_sliding_window") is False or (kind in UNUSED and not text.get("use_sliding_window"))
