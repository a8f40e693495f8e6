"""What the catalogue holds beside models and GPUs: machines by the hour, units by the hour, services by the token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.calculator.types import Way


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
