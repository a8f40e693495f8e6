"""Seconds and rates of one replica by the roofline: prefill, decode step, mixed step, and the steady state at a batch.

The arithmetic of a step and its sources are in steps.py; the factors in efficiency.py.

A step with p prompt tokens and B decoding sequences takes

    max(weights / (n·BW·η), FLOP_p/(n·F·μ_p) + FLOP_B/(n·F·μ_d)) + 0.3·min(weights, FLOP_p) + KV read / (n·BW·η)
    + 2·L·(hop + 2(n-1)/n · (p+B)·h·2 / link) + L·launch + step + B·sequence

Reading weights and multiplying overlap (one kernel does both); the KV cache is read by kernels of its own. The fast
case takes every factor at its fast end, the slow case at its slow end.

Literature: model FLOP utilisation in prefill 0.45 / 0.38 / 0.32 and in decode 0.30 / 0.18 / 0.08 on H100 / A100 / L40S
(inference-sim, hardware_config.json); 0.8 of peak memory bandwidth (aiconfigurator, systems/*.yaml); 0.55-0.8 in
practice (Pope et al. 2022; Databricks, "LLM inference performance engineering", 2023).

Set on the "fit" rows of tests/calculator/measurements.csv, one set of factors for a generation, none for a row. Median
errors on the "check" rows (2026-11-24): TPOT 8 %, throughput 13 %, TTFT 39 %; the ranges cover 100, 98 and 94 % of
them. They were not blind: the check rows' errors of an earlier version were seen, and both sets share their pages.
Weakly supported: "turing", "ada" (one L4 series, no L40S), "blackwell" (one Qwen3-32B series), weight-only formats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from services.calculator import memory as calculator_memory
from services.calculator.types import Efficiency, Point, Precision, Range, Serving

FACTORS = (
    ("bandwidth", "memory bandwidth reached"),
    ("prefill", "compute reached in prefill"),
    ("decode_compute", "compute reached in decode"),
    ("link", "interconnect reached"),
    ("hop_s", "latency of an all-reduce"),
    ("layer_s", "launch time of a layer"),
    ("step_s", "scheduler time of a step"),
)

BATCH = 16  # sequences at once: between a replica at rest and a full one


def at_bound(base: Efficiency, factor: str, bound: float) -> Efficiency:
    """The factors with one of them certain."""
    return replace(base, **{factor: Range(bound, bound, bound)})


def widest(serving: Serving, input_tokens: float, output_tokens: float) -> str:
    """The factor whose bounds move the time of a request most, in words."""
    base = serving.efficiency or of(serving.gpu.name, serving.precision)

    def swing(factor: str) -> float:
        value: Range = getattr(base, factor)
        times = [
            point(
                replace(serving, efficiency=at_bound(base, factor, bound)), BATCH, input_tokens, output_tokens
            ).e2e_s.mid
            for bound in (value.low, value.high)
        ]
        return abs(times[1] - times[0])

    return max(FACTORS, key=lambda entry: swing(entry[0]))[1]


def prefill_s(serving: Serving, tokens: int, cached: int = 0) -> Range:
    """Seconds to prefill ``tokens``, of which ``cached`` are in the prefix cache, alone on the replica."""
    size = lengths(serving, tokens, 1, cached)
    return ordered([load(case, size, 1).prefill for case in cases(serving)])


def step_s(serving: Serving, batch: float, context: float) -> Range:
    """Seconds of one decode step of ``batch`` sequences that have ``context`` tokens each."""
    read = batch * calculator_memory.kv_read_bytes(serving, context)
    return ordered([case.step(0, 0, batch, read) for case in cases(serving)])


def point(
    serving: Serving,
    batch: float,
    input_tokens: float,
    output_tokens: float,
    cached: float = 0,
    *,
    static: bool | None = None,
) -> Point:
    """One replica with ``batch`` requests always under way; ``static`` (default: as the serving is): all prefilled
    together, then decoded together."""
    fixed = not serving.continuous if static is None else static
    size = lengths(serving, input_tokens, output_tokens, cached)
    three = cases(serving)
    make = static_load if fixed else load
    low, mid, high = (make(case, size, batch) for case in three)
    return of_loads((low, mid, high), three, size, bound(serving, size, mid))


def of_loads(loads: tuple[Load, Load, Load], three: tuple[Case, Case, Case], size: Lengths, limit: str) -> Point:
    """The point of three loads, whose batches may differ (at one rate the slow case runs more at once)."""
    _, mid_case, high_case = loads
    # A request waits least when the others come evenly spread, most when all come together; in between they clump, and
    # one finds half a prefill ahead of it.
    waits = (0.0, mid_case.wait + (mid_case.extra / 2 if mid_case.batch > 1 else 0.0), high_case.crowd)
    ttft = [case.request_s + item.first + wait for item, case, wait in zip(loads, three, waits, strict=True)]
    low, mid, high = sorted(item.batch / item.e2e for item in loads)
    return Point(
        batch=loads[1].batch,
        prefill_s=ordered([item.prefill for item in loads]),
        step_s=ordered([item.step for item in loads]),
        ttft_s=ordered(ttft),
        tpot_s=ordered([item.tpot for item in loads]),
        e2e_s=ordered([item.e2e for item in loads]),
        output_tok_s=Range(low * size.output, mid * size.output, high * size.output),
        rpm=Range(low * 60, mid * 60, high * 60),
        bound=limit,
    )


def bound(serving: Serving, size: Lengths, load: Load) -> str:
    """What takes most of the time at this load; "memory" when no more sequences fit."""
    if load.batch >= most(serving, size.input, size.output) > 0:
        return "memory"
    case = cases(serving)[1]
    running = max(1.0, load.batch)
    read, compute, cache, wires = case.parts(0, 0, running, running * size.kv)
    parts = {
        "bandwidth": (read if read >= compute else 0.0) + cache,
        "compute": (compute if compute > read else 0.0) + running * load.extra / size.output,
        "interconnect": wires,
        "overhead": case.fixed_s,
    }
    return max(parts, key=lambda name: parts[name])


@lru_cache(maxsize=8192)
def most(serving: Serving, input_tokens: float, output_tokens: float) -> int:
    """The most sequences of these lengths that run at once: the KV cache's or the scheduler's limit."""
    return max(0, min(calculator_memory.of(serving, input_tokens, output_tokens).sequences, serving.max_seqs))


def batches(limit: int) -> list[int]:
    """1, 2, 4 … and the limit itself; none when nothing fits."""
    doubled = [2**power for power in range(limit.bit_length())] if limit > 0 else []
    return doubled if not doubled or doubled[-1] == limit else [*doubled, limit]


def curve(serving: Serving, input_tokens: int, output_tokens: int, cached: int = 0) -> list[Point]:
    """The latency-throughput curve at batch 1, 2, 4 … up to the most sequences. Empty: the model does not fit."""
    limit = most(serving, input_tokens, output_tokens)
    return [point(serving, batch, input_tokens, output_tokens, cached) for batch in batches(limit)]


def ordered(values: list[float]) -> Range:
    """The range of three cases."""
    low, mid, high = sorted(values)
    return Range(low, mid, high)


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

    def pairs(self, prompt: float, cached: float) -> float:
        """(query, key) pairs of a causal prompt after ``cached`` tokens, as a mean over the layers."""
        every = prompt * cached + prompt * prompt / 2
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
    factors = serving.efficiency or of(serving.gpu.name, serving.precision)
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
    experts = calculator_memory.expert_bytes(serving)
    touched = llm.experts_per_token / llm.experts if llm.experts else 0.0
    table = llm.vocab * llm.hidden  # the embedding is looked up, not multiplied; the head serves the last token only
    body = max(llm.active_b * 1e9 - table * (1 if llm.tied else 2), llm.active_b * 1e9 / 4)
    launch = delay(factors.layer_s) + (delay(factors.experts_layer_s) if llm.experts else 0.0)
    link = gpu.link_gb_s * 1e9 * share(factors.link)
    return Case(
        chunk=max(1, serving.step_tokens),
        weights_s=max(0.0, calculator_memory.weights_read_bytes(serving, 1) - experts * touched) / bandwidth,
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
    middle = calculator_memory.kv_read_bytes(serving, input_tokens + output_tokens / 2)
    before = calculator_memory.kv_read_bytes(serving, cached) if cached else 0.0
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
    n_others = running - 1
    pairs = case.pairs(size.fresh, size.input - size.fresh)
    alone, _ = case.prefill(size.fresh, pairs, 0, size.kv_cached)
    step = case.step(0, 0, running, running * size.kv)
    beside = case.step(0, 0, n_others, n_others * size.kv) if n_others else step
    # With answers shorter than the batch is wide, several prompts begin in every step and share it.
    prompts = max(1.0, n_others / size.output)
    first, steps = case.prefill(
        prompts * size.fresh, prompts * pairs, n_others, n_others * size.kv + prompts * size.kv_cached
    )
    extra = max(0.0, first - steps * beside) / prompts
    stolen = n_others * extra / size.output
    wait = stolen + (step / 2 if n_others else 0.0)
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


_PCIE_HOP = Range(15e-6, 30e-6, 60e-6)  # an all-reduce through host memory: no peer-to-peer on these instances

_BY_GENERATION: dict[str, Efficiency] = {
    "turing": Efficiency(bandwidth=Range(0.55, 0.72, 0.88), prefill=Range(0.25, 0.38, 0.55), hop_s=_PCIE_HOP),
    # Measured prefills pass the 70 TFLOP/s that some sources print for the A10G (125 in others): hence above 1.
    "a10g": Efficiency(
        bandwidth=Range(0.70, 0.88, 0.97),
        prefill=Range(0.70, 1.00, 1.35),
        decode_compute=Range(0.45, 0.75, 1.10),
        hop_s=_PCIE_HOP,
        step_s=Range(0.5e-3, 1.2e-3, 3e-3),
    ),
    "ada": Efficiency(
        bandwidth=Range(0.68, 0.82, 0.95),
        prefill=Range(0.32, 0.48, 0.68),
        decode_compute=Range(0.22, 0.36, 0.55),
        hop_s=_PCIE_HOP,
        step_s=Range(0.5e-3, 1.2e-3, 3e-3),
    ),
    "ampere": Efficiency(
        bandwidth=Range(0.65, 0.82, 0.93),
        prefill=Range(0.42, 0.57, 0.72),
        decode_compute=Range(0.28, 0.46, 0.65),
        step_s=Range(0.7e-3, 1.6e-3, 3.5e-3),
    ),
    "hopper": Efficiency(
        bandwidth=Range(0.58, 0.75, 0.88),
        prefill=Range(0.30, 0.46, 0.64),
        decode_compute=Range(0.25, 0.42, 0.60),
        step_s=Range(0.6e-3, 1.4e-3, 3e-3),
    ),
    "blackwell": Efficiency(
        bandwidth=Range(0.50, 0.66, 0.85),
        prefill=Range(0.32, 0.50, 0.66),
        decode_compute=Range(0.22, 0.40, 0.60),
        step_s=Range(0.6e-3, 1.4e-3, 3e-3),
    ),
    "other": Efficiency(),
}

_NAMES = (  # first that is found in the upper-case name
    ("T4", "turing"),
    ("A10", "a10g"),
    ("L40", "ada"),
    ("L4", "ada"),
    ("RTX PRO", "blackwell"),
    ("B200", "blackwell"),
    ("B300", "blackwell"),
    ("H100", "hopper"),
    ("H200", "hopper"),
    ("GH200", "hopper"),
    ("A100", "ampere"),
)


def generation(gpu_name: str) -> str:
    """The generation whose factors a GPU of this name gets; "other" when none is known."""
    name = gpu_name.upper()
    if "A100" in name:
        return "ampere"
    return next((kind for fragment, kind in _NAMES if fragment in name), "other")


@cache
def of(gpu_name: str, precision: Precision = Precision.BF16) -> Efficiency:
    """The default factors for a GPU by its name. Weights that are unpacked before use reach less of both peaks."""
    efficiency = _BY_GENERATION[generation(gpu_name)]
    if precision is Precision.FP8 and generation(gpu_name) in ("hopper", "ada", "blackwell"):
        return replace(efficiency, prefill=_times(efficiency.prefill, 1.1))  # TensorRT-LLM's tables: 0.57 on H100
    if precision in (Precision.W4, Precision.W8, Precision.MXFP4):
        return replace(
            efficiency,
            bandwidth=_times(efficiency.bandwidth, 0.85),
            decode_compute=_times(efficiency.decode_compute, 0.8),
        )
    return efficiency


def _times(old: Range, factor: float) -> Range:
    return Range(old.low * factor, old.mid * factor, old.high * factor)
