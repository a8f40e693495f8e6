"""The calculator's nouns: what goes in, what comes out. Plain frozen dataclasses; arithmetic is in the other files.

Units are in the names: tokens, seconds (``_s``), US dollars (``usd``), bytes, requests per minute (``rpm``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

HOURS_A_MONTH = 730.0  # 365 × 24 / 12, AWS's own month
FLAT = (1.0,) * 24


@dataclass(frozen=True, slots=True)
class Range:
    """A figure with what it may be: ``low`` ≤ ``mid`` ≤ ``high``. The three are equal where nothing is uncertain."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True, slots=True)
class Spread:
    """A number of tokens that differs from request to request: lognormal with this median; ``sigma`` of its logarithm
    (0: always the median)."""

    median: float
    sigma: float = 0.0


class Reuse(StrEnum):
    """How a repeated prefix comes again."""

    STEADY = "steady"  # at random, ``reuse_per_hour`` times for each distinct prefix
    BURST = "burst"  # in sessions of ``calls_per_session`` calls close together, then never again


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked of a deployment. ``rpm``: the mean over the day; ``shape``: 24 weights, hour 0 to 23, whose mean
    is taken as 1 (so the rate in hour h is rpm · shape[h] / mean). ``burstiness``: the squared coefficient of variation
    of the times between requests (1: Poisson). ``prefix_share``: share of the input that is a repeated prefix.
    ``batch_share``: share of the requests that may wait up to 24 h. ``peak_concurrency``: asked for beside the rate,
    None: what follows from the rate. ``months``: of commitment that may be signed (0, 1, 6, 12, 36)."""

    rpm: float
    input_tokens: Spread
    output_tokens: Spread
    shape: tuple[float, ...] = FLAT
    burstiness: float = 1.0
    prefix_share: float = 0.0
    reuse: Reuse = Reuse.STEADY
    reuse_per_hour: float = 60.0
    calls_per_session: float = 5.0
    batch_share: float = 0.0
    peak_concurrency: int | None = None
    months: int = 0


@dataclass(frozen=True, slots=True)
class Objectives:
    """What has to hold. Seconds at p95, of the requests that do not wait for batch; None: no limit. ``replicas``: at
    least so many at any hour. ``isolated``: no machine shared with other customers. ``own_weights``: a custom or
    fine-tuned model. ``models``: catalogue ids judged good enough; None: no judgement (then no ranking across models
    is called a choice: the page says so)."""

    ttft_s: float | None = 3.0
    ttlt_s: float | None = None
    replicas: int = 1
    isolated: bool = False
    own_weights: bool = False
    models: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """Hardware of one accelerator. Dense peaks in TFLOP/s, None: the format is not computed natively. ``link_gb_s``:
    one direction, between two of one instance. ``memory_gib``: what a driver shows as usable where known."""

    name: str
    memory_gib: float
    bandwidth_gb_s: float
    tflops_bf16: float
    tflops_fp8: float | None
    tflops_fp4: float | None
    link: str
    link_gb_s: float
    source: str
    date: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Llm:
    """The shape of a model. ``params_b``/``active_b``: 10^9 parameters in all / used for one token. ``window``: tokens
    of a sliding window, ``window_layers``: so many layers have it. ``mla_dim``: latent width per layer (DeepSeek's 512
    + 64) or 0. ``experts``: 0 for a dense model. ``native_bits``: bits a weight as shipped (MXFP4 about 4.25)."""

    name: str
    params_b: float
    active_b: float
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    max_context: int
    vocab: int
    tied: bool = False
    experts: int = 0
    experts_per_token: int = 0
    expert_params_b: float = 0.0  # 10^9 parameters that are in experts
    ffn: int = 0  # width of a dense feed-forward layer, 0: not known
    expert_ffn: int = 0  # width of one expert
    window: int = 0
    window_layers: int = 0
    mla_dim: int = 0
    native_bits: float = 16.0
    hf_id: str = ""
    source: str = ""
    date: str = ""
    note: str = ""


class Precision(StrEnum):
    BF16 = "bf16"
    FP8 = "fp8"  # weights and compute, where the GPU has it
    W8 = "w8"  # 8-bit weights only, computed in bf16
    W4 = "w4"  # 4-bit weights only, computed in bf16 (AWQ, GPTQ)
    MXFP4 = "mxfp4"


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The factors that a roofline cannot know, each with the range it is run at."""

    bandwidth: Range = Range(0.60, 0.75, 0.90)  # of peak memory bandwidth in decode
    prefill: Range = Range(0.35, 0.47, 0.60)  # of peak compute in prefill
    decode_compute: Range = Range(0.18, 0.30, 0.45)  # of peak compute in decode at large batch
    link: Range = Range(0.50, 0.70, 0.90)
    hop_s: Range = Range(5e-6, 10e-6, 20e-6)  # latency of one all-reduce
    layer_s: Range = Range(2e-6, 5e-6, 10e-6)  # kernel launches and the like, a layer
    step_s: Range = Range(0.5e-3, 1e-3, 3e-3)  # scheduler, sampling, a step
    request_s: Range = Range(5e-3, 20e-3, 60e-3)  # HTTP, tokenizer, a request
    sequence_s: Range = Range(2e-6, 12e-6, 40e-6)  # sampling, detokenizing and streaming, a sequence a step
    experts_layer_s: Range = Range(10e-6, 35e-6, 90e-6)  # routing and sorting by expert, a mixture-of-experts layer


@dataclass(frozen=True, slots=True)
class Serving:
    """One replica: a model on ``tp`` GPUs, as vLLM serves it."""

    llm: Llm
    gpu: Gpu
    tp: int = 1
    precision: Precision = Precision.BF16
    kv_bytes: float = 2.0  # a KV element
    memory_share: float = 0.90  # --gpu-memory-utilization
    activation_gib: float | None = None  # a GPU; None: by the formula of memory.py
    block: int = 16
    max_seqs: int = 256
    step_tokens: int = 8192  # --max-num-batched-tokens
    continuous: bool = True  # False: static batches, each as long as its longest answer
    efficiency: Efficiency | None = None  # None: what `efficiency.of` has for this GPU and precision


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes over all GPUs of a replica. ``sequences``: at most so many at once with the given lengths (0: none)."""

    total: float
    weights: float
    activations: float
    kv: float
    reserve: float
    kv_per_token: float
    slots: int  # tokens of KV cache, in whole blocks
    sequences: int
    fits: bool


@dataclass(frozen=True, slots=True)
class Point:
    """One replica at a batch of ``batch`` running sequences: seconds, tokens a second over the replica, and what binds
    ("bandwidth", "compute", "memory", "interconnect", "overhead")."""

    batch: float
    prefill_s: Range
    step_s: Range
    ttft_s: Range
    tpot_s: Range
    e2e_s: Range
    output_tok_s: Range
    rpm: Range
    bound: str


@dataclass(frozen=True, slots=True)
class Waits:
    """From the simulation: seconds. ``overloaded``: the queue grows without end. ``seed``: to repeat it."""

    ttft_p50_s: float
    ttft_p95_s: float
    ttft_p99_s: float
    ttlt_p50_s: float
    ttlt_p95_s: float
    ttlt_p99_s: float
    tpot_p50_s: float
    utilisation: float
    mean_running: float
    preempted: int
    overloaded: bool
    requests: int
    seed: int


class Way(StrEnum):
    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    BEDROCK = "bedrock"
    PROVISIONED = "bedrock_provisioned"
    SAGEMAKER = "sagemaker"
    EC2 = "ec2"
    CONTAINER = "container"  # a machine of one's own at a price of one's own


@dataclass(frozen=True, slots=True)
class Fact:
    """An assumption that decided something, and its source. ``kind``: "list", "measured", "estimated", "yours"."""

    name: str
    value: str
    source: str
    date: str
    kind: str


@dataclass(frozen=True, slots=True)
class Option:
    """One way to run the workload. Money a month in US dollars (730 hours). None: not known, and ``missing`` says why.

    ``drivers``: the monthly cost by driver ("input", "cache_read", "cache_write", "output", "batch", "hours").
    ``replicas``: 24 numbers, or None where nothing is counted in replicas. ``misses``: sentences, empty = meets all.
    ``infeasible``: why it cannot be done at all, else None. ``full_at_rpm``: the mean rate of this shape at which it is
    full as it stands (one replica fleet of the shape's peak), None: no limit is known."""

    id: str  # stable: "ec2/g6e.xlarge/Llama-3.1-8B/fp8/tp1", "anthropic/claude-haiku-5-5+cache+batch"
    way: Way
    title: str
    model: str  # catalogue id
    cached: bool
    batched: bool
    monthly_usd: Range | None
    per_1000_usd: Range | None
    per_mtok_usd: Range | None
    ttft_p50_s: Range | None
    ttft_p95_s: Range | None
    ttlt_p50_s: Range | None
    ttlt_p95_s: Range | None
    timed: str  # "measured, n 212", "estimated", "not known"
    utilisation: Range | None
    replicas: tuple[int, ...] | None
    full_at_rpm: float | None
    largest_output: int | None  # tokens that fit into the last-token limit at p95
    drivers: Mapping[str, float]
    misses: tuple[str, ...]
    infeasible: str | None
    missing: tuple[str, ...]
    would_win: str | None
    facts: tuple[Fact, ...]
    hourly_usd: float | None = None  # of one replica
    serving: Serving | None = None
    capacity_rpm: Range | None = None  # of one replica or unit with the objectives held
    replicas_a_machine: int = 1  # replicas are bought in machines of so many
    least_replicas: int = 1  # of the smallest fleet allowed
    headroom: float = 0.0  # share of the busiest rate that the fleet carries on top of it


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where two options cost the same. ``rpm`` None: nowhere in the range drawn. ``beyond``: the hour-priced one is
    full before it, so that it is no break-even."""

    first: str
    second: str
    rpm: float | None
    beyond: bool


@dataclass(frozen=True, slots=True)
class Swing:
    """One bar of the tornado: the chosen option's monthly cost (and its rank) with one assumption at its bounds."""

    assumption: str
    low_usd: float
    high_usd: float
    low_text: str
    high_text: str
    changes_choice: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What the calculator says. ``options``: best first, those that miss an objective after, the infeasible last.
    ``stable``: the first stays first inside all ranges. ``sentences``: three, plain."""

    workload: Workload
    objectives: Objectives
    options: tuple[Option, ...]
    chosen: str | None
    stable: bool
    unstable_because: str | None
    sentences: tuple[str, ...]
    made_on: date
