"""Closed forms that the simulation and the roofline are held against."""

from __future__ import annotations

import math

from services.calculator import memory
from services.calculator.roofline import CASES, cases
from services.calculator.types import Serving


def mixed_s(
    serving: Serving, prefill_tokens: int, prefill_context: int, batch: float, context: float, which: str = "mid"
) -> float:
    """Seconds of one scheduler step: a chunk of ``prefill_tokens`` after ``prefill_context`` tokens, beside ``batch``
    decoding sequences of ``context`` tokens. ``which``: "low" (fast), "mid", "high"."""
    case = cases(serving)[CASES.index(which)]
    read = batch * memory.kv_read_bytes(serving, context) if batch else 0.0
    if prefill_context and prefill_tokens:
        read += memory.kv_read_bytes(serving, prefill_context)
    pairs = case.pairs(prefill_tokens, prefill_context) if prefill_tokens else 0.0
    return case.step(prefill_tokens, pairs, batch, read)


def md1_wait(rpm: float, service_s: float, *, burstiness: float = 1.0, quantile: float | None = None) -> float:
    """Seconds of waiting before one server whose every service takes ``service_s``; infinite at or past its capacity.

    The mean, ``ρT/(2(1−ρ))`` (Pollaczek and Khinchine; times ``(1 + burstiness)/2``, Kingman's bound for other
    gaps), or a ``quantile`` (0 to 1) of Erlang's distribution for Poisson arrivals,
    ``P(W ≤ t) = (1−ρ) Σ_k (λ(kT−t))^k e^(−λ(kT−t)) / k!`` over k ≤ t/T; its terms cancel, so not for ρ above 0.9.
    """
    rate = rpm / 60.0
    load = rate * service_s
    if load >= 1.0:
        return math.inf
    if quantile is None:
        return load * service_s / (2.0 * (1.0 - load)) * (1.0 + burstiness) / 2.0

    def below(wait_s: float) -> float:
        ahead = [rate * (k * service_s - wait_s) for k in range(int(wait_s / service_s) + 1)]
        return (1.0 - load) * math.fsum(
            arrivals**k * math.exp(-arrivals) / math.factorial(k) for k, arrivals in enumerate(ahead)
        )

    low, high = 0.0, service_s
    while below(high) < quantile:
        high *= 2.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if below(middle) < quantile else (low, middle)
    return high
