"""Bytes of KV cache: of one token, of one sequence, and how vLLM pages them.

Sources: calculator.md D 2 and D 3; vLLM 0.11 ``v1/core/kv_cache_utils.py`` (layer groups, block counts).
"""

from __future__ import annotations

import math

from services.calculator.types import Llm, Serving

EVEN_GROUPS = 1.25  # vLLM makes one group of the larger kind of layer while it is less than this × the smaller kind


def layer_bytes(serving: Serving) -> float:
    """Bytes of KV one token takes in one layer, over all GPUs of the replica.

    GQA: ``2·g·d·b``, and once more for each GPU that has to hold a copy of a head (tp > g). MLA: one latent of
    ``mla_dim`` elements that every GPU holds.
    """
    llm, tp = serving.llm, serving.tp
    if llm.mla_dim:
        return llm.mla_dim * serving.kv_bytes * tp
    heads = max(llm.kv_heads, tp)
    return 2.0 * heads * llm.head_dim * serving.kv_bytes


def grouped_layers(llm: Llm) -> int:
    """Layers vLLM pages for: window and full layers are put into groups of equal size, the last one padded.

    Llama-8B: 32 of 32; gpt-oss-20b: 12 + 12; Gemma-3-27B: 10 full and 52 window layers in 7 groups of 10 = 70.
    """
    windows = llm.window_layers if llm.window else 0
    full = llm.layers - windows
    if not windows or not full:
        return llm.layers
    small, large = min(windows, full), max(windows, full)
    size = large if large < EVEN_GROUPS * small else small
    return size * (math.ceil(full / size) + math.ceil(windows / size))


def kv_bytes_per_token(serving: Serving) -> float:
    """Bytes one more token takes over the replica, in every layer (131,072 for Llama-8B in bf16 on one GPU)."""
    return layer_bytes(serving) * serving.llm.layers


def slot_bytes(serving: Serving) -> float:
    """Bytes behind one token of vLLM's "GPU KV cache size": as ``kv_bytes_per_token``, with padding layers."""
    return layer_bytes(serving) * grouped_layers(serving.llm)


def kv_bytes(serving: Serving, tokens: float) -> float:
    """Bytes one sequence of so many tokens holds over the replica, in whole blocks; a window layer forgets what is
    behind its window (and keeps one block more, since the window rarely starts on a block)."""
    llm, block = serving.llm, serving.block
    if tokens <= 0:
        return 0.0
    blocks = math.ceil(tokens / block)
    windows = llm.window_layers if llm.window else 0
    kept = min(blocks, math.ceil(llm.window / block) + 1) if windows else 0
    return layer_bytes(serving) * block * ((llm.layers - windows) * blocks + windows * kept)


def read_bytes(serving: Serving, tokens: float) -> float:
    """Bytes of KV that one decode step of one sequence at this context reads over the replica (no block rounding)."""
    llm = serving.llm
    windows = llm.window_layers if llm.window else 0
    seen = (llm.layers - windows) * tokens + windows * min(tokens, llm.window)
    return layer_bytes(serving) * seen
