"""The efficiency factors by name, and which of them a serving leans on most."""

from __future__ import annotations

from dataclasses import replace

from services.calculator import efficiency, roofline
from services.calculator.types import Efficiency, Range, Serving

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
    base = serving.efficiency or efficiency.of(serving.gpu.name, serving.precision)

    def swing(factor: str) -> float:
        value: Range = getattr(base, factor)
        times = [
            roofline.point(
                replace(serving, efficiency=at_bound(base, factor, bound)), BATCH, input_tokens, output_tokens
            ).e2e_s.mid
            for bound in (value.low, value.high)
        ]
        return abs(times[1] - times[0])

    return max(FACTORS, key=lambda one: swing(one[0]))[1]
