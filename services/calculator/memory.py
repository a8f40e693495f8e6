"""Where a replica's GPU memory goes: weights, paged KV cache, the rest (calculator.md D 1–3).

``Gpu.memory_gib`` has to be what the driver shows (79.2 GiB for an H100, not 80): vLLM's share is of that.
"""

from __future__ import annotations

import math

from services.calculator import kv, overheads
from services.calculator.kv import kv_bytes, kv_bytes_per_token
from services.calculator.types import Llm, Memory, Precision, Serving

__all__ = ["fits_context", "kv_bytes", "kv_bytes_per_token", "of", "read_bytes", "sequences", "weights_bytes"]

BILLION = 1e9
SIXTEEN_BIT = 2.0
# Bytes a weight of a quantised linear layer, its scales included: FP8 has one scale a tensor or channel; AWQ and GPTQ
# in groups of 128 keep a 16-bit scale and a 4-bit zero (4.16 bit); MXFP4 an 8-bit scale for 32 weights (4.25 bit).
LINEAR_BYTES = {
    Precision.BF16: SIXTEEN_BIT,
    Precision.FP8: 1.0,
    Precision.W8: 1.0 + 2.0 / 128,
    Precision.W4: (4.0 + 20.0 / 128) / 8,
    Precision.MXFP4: 4.25 / 8,
}
MXFP4_TILE = 256  # vLLM pads an expert's width to whole tiles (gpt-oss: 2,880 → 3,072; 64.4 GiB logged for 120b)


def embedding_params(llm: Llm) -> float:
    """Parameters of one vocabulary table."""
    return float(llm.vocab * llm.hidden)


def kept_params(serving: Serving) -> float:
    """Parameters that stay 16-bit: the vocabulary tables; with MXFP4 everything but the experts."""
    llm = serving.llm
    total = llm.params_b * BILLION
    if serving.precision is Precision.BF16:
        return total
    if serving.precision is Precision.MXFP4 and llm.experts:
        return total - llm.expert_params_b * BILLION
    return min(total, embedding_params(llm) * (1 if llm.tied else 2))


def weights_bytes(serving: Serving) -> float:
    """Bytes of the weights over the replica."""
    kept = kept_params(serving)
    packed = serving.llm.params_b * BILLION - kept
    return kept * SIXTEEN_BIT + packed * LINEAR_BYTES[serving.precision] * _padding(serving)


def _padding(serving: Serving) -> float:
    width = serving.llm.expert_ffn
    if serving.precision is not Precision.MXFP4 or not width:
        return 1.0
    return math.ceil(width / MXFP4_TILE) * MXFP4_TILE / width


def expert_bytes(serving: Serving) -> float:
    """Bytes of all experts' weights over the replica."""
    if not serving.llm.experts:
        return 0.0
    return serving.llm.expert_params_b * BILLION * LINEAR_BYTES[serving.precision] * _padding(serving)


def read_bytes(serving: Serving, batch: float) -> float:
    """Bytes of weights that one decode step of ``batch`` sequences reads over the replica.

    Of the input embedding only single rows are read, so it does not count unless it is also the output layer. Experts:
    each is read once if any sequence is sent to it, ``1 − ((E − t)/E)^B`` of them.
    """
    llm = serving.llm
    lookup = 0.0 if llm.tied else embedding_params(llm) * SIXTEEN_BIT
    experts = expert_bytes(serving)
    touched = 0.0
    if experts:
        touched = 1.0 - ((llm.experts - llm.experts_per_token) / llm.experts) ** max(batch, 1.0)
    return max(weights_bytes(serving) - lookup - experts, 0.0) + experts * touched


def sequences(serving: Serving, kv_space: float, context: float) -> int:
    """Sequences of ``context`` tokens that fit into so many bytes of KV, at most ``max_seqs``."""
    one = kv_bytes(serving, context)
    if kv_space <= 0:
        return 0
    return min(serving.max_seqs, int(kv_space // one)) if one else serving.max_seqs


def fits_context(serving: Serving, input_tokens: float, output_tokens: float) -> bool:
    """Whether prompt and answer stay within what the model was made for."""
    return input_tokens + output_tokens <= serving.llm.max_context


def of(serving: Serving, input_tokens: float, output_tokens: float) -> Memory:
    """The replica's memory, and how many sequences of these lengths never have to be preempted.

    ``fits``: the weights and the rest leave room for one such sequence. Bytes over all GPUs.
    """
    total = serving.tp * serving.gpu.memory_gib * overheads.GIB
    weights = weights_bytes(serving)
    activations = serving.tp * overheads.activation_bytes(serving)
    kv_space = max(total * serving.memory_share - weights - activations, 0.0)
    slots = math.floor(kv_space / (kv.slot_bytes(serving) * serving.block)) * serving.block
    held = sequences(serving, kv_space, input_tokens + output_tokens)
    return Memory(
        total=total,
        weights=weights,
        activations=activations,
        kv=kv_space,
        reserve=total * (1.0 - serving.memory_share),
        kv_per_token=kv_bytes_per_token(serving),
        slots=slots,
        sequences=held,
        fits=held > 0,
    )
