"""What one scheduler step of a replica costs, by the roofline; roofline.py and steady.py build on it.

A step with p prompt tokens and B decoding sequences takes (calculator.md D 4 to D 6)

    max(weights / (n·BW·η), FLOP_p/(n·F·μ_p) + FLOP_B/(n·F·μ_d)) + 0.3·min(weights, FLOP_p) + KV read / (n·BW·η)
    + 2·L·(hop + 2(n-1)/n · (p+B)·h·2 / link) + L·launch + step + B·sequence

Reading weights and multiplying overlap (one kernel does both); the KV cache is read by kernels of its own. The fast
case takes every factor at its fast end, the slow case at its slow end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from services.calculator import efficiency, kv, memory
from services.calculator.types import Efficiency, Precision, Range, Serving

CASES = ("low", "mid", "high")  # of seconds: "low" is the fast one
# Reading the weights and multiplying the prompt do not overlap wholly: so much of the shorter comes on top. 128 tokens
# of Qwen3-32B take 2.6 ms more than a decode step (aiconfigurator fpm_golden_runs/fpm_upfront_qwen32: 16.0, 13.4 ms).
APART = 0.3
_OPPOSITE = {"low": "high", "mid": "mid", "high": "low"}


@dataclass(frozen=True, slots=True)
class Case:
    """One serving with every factor at one bound, as seconds per unit: what a step costs is then a few products."""

    chunk: int  # prompt tokens a step, at most
    weights_s: float  # reading what every step reads
    experts_s: float  # reading all experts
    miss: float  # share of the experts that one token leaves alone
    prompt_s: float  # a prompt token's matrix products
    token_s: float  # a decoded token's matrix products
    pair_s: float  # a (query, key) pair of attention, all layers
    wide_layers: float  # share of the layers that see everything
    window: float
    kv_s: float  # reading one byte of KV cache
    wire_s: float  # all-reduce traffic of one token
    hops_s: float
    fixed_s: float  # launches and scheduler, a step
    sequence_s: float  # sampling and streaming, a decoding sequence a step
    request_s: float

    def pairs(self, prompt: float, before: float) -> float:
        """(query, key) pairs of a causal prompt after ``before`` tokens, as a mean over the layers."""
        every = prompt * before + prompt * prompt / 2
        if self.wide_layers < 1:
            return every * self.wide_layers + min(every, prompt * self.window) * (1 - self.wide_layers)
        return every

    def parts(self, prompt: float, pairs: float, batch: float, kv_bytes: float) -> tuple[float, float, float, float]:
        """Seconds of one step by limit: weights read, compute, KV read, wires."""
        tokens = prompt + batch
        read = self.weights_s
        if self.experts_s:
            read += self.experts_s * (1.0 - self.miss**tokens)
        compute = prompt * self.prompt_s + batch * self.token_s + pairs * self.pair_s
        return read, compute, kv_bytes * self.kv_s, tokens * self.wire_s + self.hops_s

    def step(self, prompt: float, pairs: float, batch: float, kv_bytes: float) -> float:
        read, compute, cache, wires = self.parts(prompt, pairs, batch, kv_bytes)
        apart = APART * min(read, prompt * self.prompt_s) if prompt else 0.0
        return max(read, compute) + apart + cache + wires + self.fixed_s + batch * self.sequence_s

    def prefill(self, tokens: float, pairs: float, batch: float, kv_bytes: float) -> tuple[float, int]:
        """Seconds of the steps that prefill ``tokens`` beside a running batch, and how many steps those are."""
        steps = max(1, math.ceil(tokens / self.chunk))
        return steps * self.step(tokens / steps, pairs / steps, batch, kv_bytes), steps


@lru_cache(maxsize=4096)
def cases(serving: Serving) -> tuple[Case, Case, Case]:
    """The fast, the middle and the slow case of a serving."""
    factors = serving.efficiency or efficiency.of(serving.gpu.name, serving.precision)
    low, mid, high = (_case(serving, factors, name) for name in CASES)
    return low, mid, high


def _case(serving: Serving, factors: Efficiency, name: str) -> Case:
    llm, gpu, n = serving.llm, serving.gpu, serving.tp

    def share(value: Range) -> float:
        return float(getattr(value, _OPPOSITE[name]))

    def delay(value: Range) -> float:
        return float(getattr(value, name))

    flops = n * peak(serving) * 1e12
    bandwidth = n * gpu.bandwidth_gb_s * 1e9 * share(factors.bandwidth)
    experts = memory.expert_bytes(serving)
    touched = llm.experts_per_token / llm.experts if llm.experts else 0.0
    table = llm.vocab * llm.hidden  # the embedding is looked up, not multiplied; the head serves the last token only
    body = max(llm.active_b * 1e9 - table * (1 if llm.tied else 2), llm.active_b * 1e9 / 4)
    launch = delay(factors.layer_s) + (delay(factors.experts_layer_s) if llm.experts else 0.0)
    link = gpu.link_gb_s * 1e9 * share(factors.link)
    return Case(
        chunk=max(1, serving.step_tokens),
        weights_s=max(0.0, memory.read_bytes(serving, 1) - experts * touched) / bandwidth,
        experts_s=experts / bandwidth,
        miss=1 - touched,
        prompt_s=2 * body / (flops * share(factors.prefill)),
        token_s=2 * (body + table) / (flops * share(factors.decode_compute)),
        pair_s=4 * llm.layers * llm.heads * llm.head_dim / (n * gpu.tflops_bf16 * 1e12 * share(factors.prefill)),
        wide_layers=1 - llm.window_layers / llm.layers if llm.window else 1.0,
        window=float(llm.window),
        kv_s=1 / bandwidth,
        wire_s=2 * llm.layers * 2 * (n - 1) / n * llm.hidden * 2 / link if n > 1 else 0.0,
        hops_s=2 * llm.layers * delay(factors.hop_s) if n > 1 else 0.0,
        fixed_s=llm.layers * launch + delay(factors.step_s),
        sequence_s=delay(factors.sequence_s),
        request_s=delay(factors.request_s),
    )


def peak(serving: Serving) -> float:
    """Dense TFLOP/s at which the matrix products run: weight-only formats are computed in bf16."""
    gpu = serving.gpu
    if serving.precision is Precision.FP8 and gpu.tflops_fp8:
        return gpu.tflops_fp8
    if serving.precision is Precision.MXFP4 and gpu.tflops_fp4:
        return gpu.tflops_fp4
    return gpu.tflops_bf16


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of one request, and the bytes of KV cache it reads a step: ``kv`` at the middle of its answer."""

    input: float
    output: float
    cached: float
    kv: float
    kv_cached: float

    @property
    def fresh(self) -> float:
        """Prompt tokens that have to be computed: at least one."""
        return max(1.0, self.input - self.cached)


def lengths(serving: Serving, input_tokens: float, output_tokens: float, cached: float = 0) -> Lengths:
    middle = kv.read_bytes(serving, input_tokens + output_tokens / 2)
    before = kv.read_bytes(serving, cached) if cached else 0.0
    return Lengths(max(1.0, input_tokens), max(1.0, output_tokens), cached, middle, before)


@dataclass(frozen=True, slots=True)
class Load:
    """One case at one batch, in seconds. ``prefill``: alone. ``first``: from the start of the prefill to the first
    token. ``extra``: what one prefill adds to the steps it runs in. ``wait``: before the prefill, in the closed system,
    ``crowd``: the same when all arrive together."""

    batch: float
    prefill: float
    step: float
    extra: float
    first: float
    wait: float
    crowd: float
    tpot: float
    e2e: float


def load(case: Case, size: Lengths, batch: float) -> Load:
    """The closed system: ``batch`` requests always under way. In the life of one, each of the others is prefilled once,
    in its wait or between its tokens (shares 1/o and (o-1)/o), so that with x = (B-1)·extra/o
    e2e = request + x + T_p + (o-1)·(T_d + x)."""
    running = max(1.0, batch)
    others = running - 1
    pairs = case.pairs(size.fresh, size.input - size.fresh)
    alone, _ = case.prefill(size.fresh, pairs, 0, size.kv_cached)
    step = case.step(0, 0, running, running * size.kv)
    beside = case.step(0, 0, others, others * size.kv) if others else step
    # With answers shorter than the batch is wide, several prompts begin in every step and share it.
    prompts = max(1.0, others / size.output)
    first, steps = case.prefill(
        prompts * size.fresh, prompts * pairs, others, others * size.kv + prompts * size.kv_cached
    )
    extra = max(0.0, first - steps * beside) / prompts
    stolen = others * extra / size.output
    wait = stolen + (step / 2 if others else 0.0)
    e2e = case.request_s + wait + first + (size.output - 1) * (step + stolen)
    together = max(1.0, min(running, case.chunk / size.fresh))  # prompts that fit into one step
    crowd = ((running + together) / 2 - 1) * extra
    return Load(batch, alone, step, extra, first, wait, max(wait, crowd), step + stolen, e2e)


def static_load(case: Case, size: Lengths, batch: float, longest: float | None = None) -> Load:
    """Without continuous batching: ``batch`` requests are prefilled together, then decoded together until the longest
    answer (default: all are equal) is done."""
    running = max(1.0, batch)
    pairs = case.pairs(size.fresh, size.input - size.fresh)
    alone, _ = case.prefill(size.fresh, pairs, 0, size.kv_cached)
    first, _ = case.prefill(running * size.fresh, running * pairs, 0, running * size.kv_cached)
    step = case.step(0, 0, running, running * size.kv)
    e2e = case.request_s + first + (max(size.output, longest or 0.0) - 1) * step
    return Load(batch, alone, step, 0.0, first, 0.0, 0.0, step, e2e)
