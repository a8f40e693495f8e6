"""How many layers of a model look only at a sliding window, by what a Hugging Face config.json says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
