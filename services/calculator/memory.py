"""Where a replica's GPU memory goes: weights, paged KV cache, the rest.

``Gpu.memory_gib`` has to be what the driver shows (79.2 GiB for an H100, not 80): vLLM's share is of that.

vLLM runs the model once on ``max_num_batched_tokens`` tokens and its sampler once on ``max_num_seqs`` rows, notes the
peak, and gives the rest of ``gpu_memory_utilization`` to the KV cache. So the peak is the larger of the two runs, plus
what PyTorch's allocator does not see. CUDA graphs are not in it up to vLLM 0.20 (they come after, outside the budget).

Constants are fitted to published start-up logs; tests/calculator/vllm_logs.csv has the rows with their sources, one
half fitted and one half only checked. What is known to differ: from about 0.17 the sampler's peak is smaller (22
bytes an entry), and from 0.21 an estimate of the CUDA graphs is counted; at 256 sequences the two about cancel. Until
0.9.1 the V1 engine also counted the CUDA context (0.5 GiB a GPU).

Source: vLLM 0.11 ``v1/core/kv_cache_utils.py`` (layer groups, block counts).
"""

from __future__ import annotations

import math

from services.calculator.types import Llm, Memory, Precision, Serving

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
    params = kept_params(serving)
    packed = serving.llm.params_b * BILLION - params
    return params * SIXTEEN_BIT + packed * LINEAR_BYTES[serving.precision] * _padding(serving)


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


def weights_read_bytes(serving: Serving, batch: float) -> float:
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
    per_sequence = kv_bytes(serving, context)
    if kv_space <= 0:
        return 0
    return min(serving.max_seqs, int(kv_space // per_sequence)) if per_sequence else serving.max_seqs


def fits_context(serving: Serving, input_tokens: float, output_tokens: float) -> bool:
    """Whether prompt and answer stay within what the model was made for."""
    return input_tokens + output_tokens <= serving.llm.max_context


def of(serving: Serving, input_tokens: float, output_tokens: float) -> Memory:
    """The replica's memory, and how many sequences of these lengths never have to be preempted.

    ``fits``: the weights and the rest leave room for one such sequence. Bytes over all GPUs.
    """
    total = serving.tp * serving.gpu.memory_gib * GIB
    weights = weights_bytes(serving)
    activations = serving.tp * activation_bytes(serving)
    kv_space = max(total * serving.memory_share - weights - activations, 0.0)
    slots = math.floor(kv_space / (slot_bytes(serving) * serving.block)) * serving.block
    sequences_held = sequences(serving, kv_space, input_tokens + output_tokens)
    return Memory(
        total=total,
        weights=weights,
        activations=activations,
        kv=kv_space,
        reserve=total * (1.0 - serving.memory_share),
        kv_per_token=kv_bytes_per_token(serving),
        slots=slots,
        sequences=sequences_held,
        fits=sequences_held > 0,
    )


GIB = 2.0**30

ELEMENT = 2.0  # bytes of an activation


# Bytes for each (sequence, vocabulary entry): 2 the logits, 4 their float32 copy, 4 + 8 sorted values and indices, the
# same again as scratch of the sort, 4 + 4 probabilities and their sum. Logged: 38.4 (Llama-3.1-8B, 256 × 128,256,
# 1.19 GiB), 38.2 (Qwen3-8B, 1.40 GiB), 39.5 (Gemma-3-4B on a B200, 1,024 × 262,208, 9.96 GiB; vLLM PR 21489).
SAMPLER_ENTRY = 38.4


# Hidden states and feed-forward buffers alive at the widest point of a layer. Logged: Llama-8B 3.1·h + 3·ffn (vLLM
# issue 10517: 20,000 and 29,000 tokens), Qwen2.5 1.5B and 7B 4.0·h + 3·ffn (32,768 tokens).
HIDDEN_STATES = 3.5


FFN_BUFFERS = 3.0

FFN_BY_HIDDEN = 3.5  # where a model's width is not known


# GiB a GPU outside PyTorch's allocator. One GPU: 0.01–0.12 logged. Several over PCIe: 0.20–0.25 (4090 × 2, 3090 × 16,
# L40S × 4). Over NVLink 4 and newer, whose NVLS buffers are larger: 1.38 (H200 × 2), 1.84 (H100 × 4), 1.74 (H200 × 8).
# NVLink 3 (A100): what the vLLM paper's table 1 leaves; logs say 0.9 to 2.1 with V0.
ONE_GPU_GIB = 0.07


PCIE_GIB = 0.23

NVLINK3_GIB = 0.50

NVLINK4_GIB = 1.60

NVLS = 4  # the first generation whose switches add up by themselves

LARGE_GIB = 70.0


def activation_bytes(serving: Serving) -> float:
    """Bytes a GPU that are neither weights nor KV cache; ``Serving.activation_gib`` where the user gave it."""
    if serving.activation_gib is not None:
        return serving.activation_gib * GIB
    return max(forward_bytes(serving), sampler_bytes(serving)) + outside_bytes(serving)


def forward_bytes(serving: Serving) -> float:
    """Peak of the profile run's forward pass on one GPU."""
    llm = serving.llm
    return serving.step_tokens * ELEMENT * (HIDDEN_STATES * llm.hidden + _widest(serving))


def _widest(serving: Serving) -> float:
    """Elements a token that a layer's widest part holds on one GPU: routed experts, feed-forward or attention."""
    llm, tp = serving.llm, serving.tp
    attention = (2.0 * llm.heads + 2.0 * llm.kv_heads) * llm.head_dim / tp
    if llm.experts:
        # fused_moe: gate and up (or the result, in the same buffer), then the product, for each routed copy.
        per_expert = max(2.0 * llm.expert_ffn / tp, float(llm.hidden)) + llm.expert_ffn / tp
        return max(attention, llm.experts_per_token * per_expert)
    return max(attention, FFN_BUFFERS * (llm.ffn or FFN_BY_HIDDEN * llm.hidden) / tp)


def sampler_bytes(serving: Serving) -> float:
    """Peak of the sampler's run: every GPU has the whole vocabulary's logits, and the hidden states stay."""
    rows = min(serving.max_seqs, serving.step_tokens)
    return rows * serving.llm.vocab * SAMPLER_ENTRY + ELEMENT * serving.step_tokens * serving.llm.hidden


def outside_bytes(serving: Serving) -> float:
    """What PyTorch's allocator does not count: workspaces, and NCCL's buffers between GPUs."""
    return _outside_gib(serving) * GIB


def _outside_gib(serving: Serving) -> float:
    if serving.tp == 1:
        return ONE_GPU_GIB
    link = serving.gpu.link.lower().replace(" ", "")
    if not link.startswith("nvlink"):
        return PCIE_GIB
    generation = link.removeprefix("nvlink")[:1]
    return NVLINK4_GIB if generation.isdigit() and int(generation) >= NVLS else NVLINK3_GIB


def server_defaults(gpu_name: str, memory_gib: float) -> tuple[int, int]:
    """(``max_num_seqs``, ``max_num_batched_tokens``) that ``vllm serve`` takes when neither is given.

    1,024 and 8,192 on cards of at least 70 GiB except the A100, else 256 and 2,048 (vLLM 0.10 ``engine/arg_utils.py``,
    ``get_batch_defaults``). The 1,024 cost an H100 3.5 GiB of KV cache with a vocabulary of 128,256.
    """
    large = memory_gib >= LARGE_GIB and "a100" not in gpu_name.lower()
    return (1024, 8192) if large else (256, 2048)


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
    blocks_kept = min(blocks, math.ceil(llm.window / block) + 1) if windows else 0
    return layer_bytes(serving) * block * ((llm.layers - windows) * blocks + windows * blocks_kept)


def kv_read_bytes(serving: Serving, tokens: float) -> float:
    """Bytes of KV that one decode step of one sequence at this context reads over the replica (no block rounding)."""
    llm = serving.llm
    windows = llm.window_layers if llm.window else 0
    seen = (llm.layers - windows) * tokens + windows * min(tokens, llm.window)
    return layer_bytes(serving) * seen
