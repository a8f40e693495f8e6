"""What the calculator assumes beside workload and objectives, all of it editable: prices, discounts, speeds, quotas.

Everything is optional and empty as shipped: what is not stated here comes from the dated data files. A value of one's
own is marked "yours" wherever it decides something. Discounts are shares taken off (0.3: 30 % off); a key "*" stands
for every instance. ``model_ref`` is the name under which the price lists know a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.calculator.types import Efficiency, Gpu, Llm, Precision, Way


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine with its price: US dollars an hour, on demand. ``gpu``: a name of the GPU table, ``count`` of them;
    ``gpu_memory_gib``: of one, None when that GPU is not in the table."""

    name: str
    way: Way
    gpu: str
    count: int
    usd_per_hour: float
    source: str
    date: str
    region: str = "us-east-1"
    gpu_memory_gib: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of provisioned throughput: US dollars an hour (None: a quote is needed), tokens a minute that it carries
    (None: not published). ``commitment``: "none", "1-month", "6-month"."""

    provider: str
    model_id: str
    title: str
    commitment: str
    usd_per_hour: float | None
    input_tpm: int | None
    output_tpm: int | None
    source: str
    date: str
    note: str = ""
    family: str = ""
    region: str = "us"
    unit: str = "model unit"


@dataclass(frozen=True, slots=True)
class ApiModel:
    """A model that is paid by the token. ``provider`` and ``model_ref``: what `services.pricing.sources` is asked with;
    ``family``: the weights (the name of a row of ``llms.csv`` where they are public); ``contexts``: the ways to pay
    that a price list names, "standard" first ("batch", "flex", "priority"). Tokens: None where not known."""

    way: Way
    provider: str
    model_ref: str
    title: str
    family: str
    contexts: tuple[str, ...] = ("standard",)
    max_context: int | None = None
    max_output: int | None = None
    source: str = ""
    date: str = ""
    note: str = ""

    @property
    def context(self) -> int:
        """The longest context in tokens, 0 when it is not known."""
        return self.max_context or 0


# What `services.pricing.sources.listed` takes as ``context``.
PRICE_CONTEXTS: Mapping[str, Mapping[str, str]] = {
    "standard": {},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}


@dataclass(frozen=True, slots=True)
class AccountQuota:
    """What an account may ask of a model when nothing was raised: requests and tokens a minute, None: no such limit is
    published. ``tpm``: input and output together, where an output token counts as ``output_weight`` of them;
    ``input_tpm``, ``output_tpm``: where they are limited apart. ``model_ref`` with "*" at its end: every name that
    contains what stands before it."""

    way: Way
    model_ref: str
    rpm: float | None
    tpm: float | None
    output_weight: float = 1.0
    input_tpm: float | None = None
    output_tpm: float | None = None
    source: str = ""
    date: str = ""
    note: str = ""


ALL = "*"


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """US dollars per 10^6 tokens. None: not stated, so the list's own rate stays; where the list has none either, the
    rate is not known. ``batch_*``: of the batch API; ``above``: total input tokens from which the ``long_*`` rates
    hold for the whole request."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write_5m: float | None = None
    cache_write_1h: float | None = None
    batch_input: float | None = None
    batch_output: float | None = None
    above: int | None = None
    long_input: float | None = None
    long_output: float | None = None


@dataclass(frozen=True, slots=True)
class ApiSpeed:
    """How fast a service answers: seconds to the first token, output tokens a second. ``tok_s_p10``: nine of ten calls
    are at least so fast (it goes with the p95 of the last token). None: not known."""

    ttft_p50_s: float | None = None
    ttft_p95_s: float | None = None
    tok_s_p50: float | None = None
    tok_s_p10: float | None = None
    source: str = "yours"
    date: str = ""
    kind: str = "yours"  # "list", "measured", "yours"
    n: int | None = None  # calls measured


@dataclass(frozen=True, slots=True)
class Quota:
    """What the account may ask for: requests and tokens (input plus output) a minute. None: no limit known."""

    rpm: float | None = None
    tpm: float | None = None


@dataclass(frozen=True, slots=True)
class Own:
    """The user's own rows; one of the same name takes the place of ours."""

    llms: tuple[Llm, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    instances: tuple[Instance, ...] = ()
    units: tuple[Unit, ...] = ()
    api_models: tuple[ApiModel, ...] = ()


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Shares are 0 to 1, prices US dollars. ``autoscale``: replicas follow the hours of the day, else the fleet of the
    busiest hour stands all day; ``cold_start_min``: minutes until a new replica answers. ``ops_share``: added to
    machine hours (load balancer, storage, people). ``savings_discount``: savings plans by months of
    commitment (12, 36), used only when the workload may commit so long. ``models``: catalogue ids looked at, None: all.
    """

    token_prices: Mapping[str, TokenPrice] = field(default_factory=dict)  # by model_ref, or "way/model_ref"
    api_speeds: Mapping[str, ApiSpeed] = field(default_factory=dict)  # by model_ref, or "way/model_ref"
    quotas: Mapping[str, Quota] = field(default_factory=dict)  # by model_ref, or "way/model_ref"
    instance_prices: Mapping[str, float] = field(default_factory=dict)  # US dollars an hour by instance name
    unit_prices: Mapping[str, float] = field(default_factory=dict)  # an hour, by "model_id" or "model_id/commitment"
    unit_input_tpm: Mapping[str, float] = field(default_factory=dict)  # tokens a minute of one unit, by model_id
    unit_output_tpm: Mapping[str, float] = field(default_factory=dict)
    unit_rpm: Mapping[str, float] = field(default_factory=dict)  # measured requests a minute of one unit, by model_id
    spot_discount: Mapping[str, float] = field(default_factory=dict)  # by instance name or "*"
    savings_discount: Mapping[str, Mapping[int, float]] = field(default_factory=dict)  # name or "*" → months → share
    efficiency: Mapping[str, Efficiency] = field(default_factory=dict)  # by GPU name or "*"
    headroom: float = 0.20
    autoscale: bool = False
    cold_start_min: float = 8.0
    ops_share: float = 0.0
    region: str | None = None  # None: the US regions of the data files
    # 4-bit weights of a 16-bit model answer worse, so they are looked at only when asked for.
    precisions: tuple[Precision, ...] = (Precision.BF16, Precision.FP8, Precision.MXFP4)
    kv_bytes: float = 2.0
    memory_share: float = 0.90
    max_tp: int = 8
    max_seqs: int = 256
    step_tokens: int = 8192
    continuous: bool = True
    self_host_cache: bool = True  # vLLM's prefix cache: repeated prefixes cost no prefill
    ways: tuple[str, ...] | None = None  # values of Way, None: all
    models: tuple[str, ...] | None = None
    own: Own = field(default_factory=Own)


def token_price(assumptions: Assumptions, way: str, model_ref: str) -> TokenPrice | None:
    """The user's own token price of a model, the one for this way first; None: the list decides."""
    return assumptions.token_prices.get(f"{way}/{model_ref}") or assumptions.token_prices.get(model_ref)


def api_speed(assumptions: Assumptions, way: str, model_ref: str) -> ApiSpeed | None:
    """The user's own figures of a service's speed, those for this way first."""
    return assumptions.api_speeds.get(f"{way}/{model_ref}") or assumptions.api_speeds.get(model_ref)


def quota(assumptions: Assumptions, way: str, model_ref: str) -> Quota | None:
    """The user's own limits of an account, those for this way first."""
    return assumptions.quotas.get(f"{way}/{model_ref}") or assumptions.quotas.get(model_ref)


def efficiency_for(assumptions: Assumptions, gpu: str) -> Efficiency | None:
    """The user's own factors of a GPU; None: what efficiency.py has for its generation."""
    return assumptions.efficiency.get(gpu) or assumptions.efficiency.get(ALL)


def discount(assumptions: Assumptions, instance: str, months: int) -> tuple[float, str | None]:
    """The larger of spot and the savings plans that ``months`` of commitment allow, with its name (None: no discount).

    They do not add up: a spot machine is under no savings plan.
    """
    plans = assumptions.savings_discount.get(instance) or assumptions.savings_discount.get(ALL) or {}
    discounts: list[tuple[float, str]] = [
        (share, f"{term // 12}-year savings plan" if term % 12 == 0 else f"{term}-month savings plan")
        for term, share in plans.items()
        if term <= months
    ]
    spot = assumptions.spot_discount.get(instance, assumptions.spot_discount.get(ALL))
    if spot is not None:
        discounts.append((spot, "spot"))
    return max(discounts, default=(0.0, None), key=lambda entry: entry[0])
