"""What a GPU holds besides weights and KV cache when vLLM has measured itself.

vLLM runs the model once on ``max_num_batched_tokens`` tokens and its sampler once on ``max_num_seqs`` rows, notes the
peak, and gives the rest of ``gpu_memory_utilization`` to the KV cache. So the peak is the larger of the two runs, plus
what PyTorch's allocator does not see. CUDA graphs are not in it up to vLLM 0.20 (they come after, outside the budget).

Constants are fitted to published start-up logs; tests/calculator/vllm_logs.csv has the rows with their sources, one
half fitted and one half only checked. What is known to differ: from about 0.17 the sampler's peak is smaller (22
bytes an entry), and from 0.21 an estimate of the CUDA graphs is counted; at 256 sequences the two about cancel. Until
0.9.1 the V1 engine also counted the CUDA context (0.5 GiB a GPU).
"""

from __future__ import annotations

from services.calculator.types import Serving

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
        one = max(2.0 * llm.expert_ffn / tp, float(llm.hidden)) + llm.expert_ffn / tp
        return max(attention, llm.experts_per_token * one)
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
