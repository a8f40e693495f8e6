"""Seconds and rates of one replica: prefill, decode step, mixed step, and the steady state at a batch.

The arithmetic of a step and its sources are in steps.py; the factors in efficiency.py.
"""

from __future__ import annotations

from functools import lru_cache

from services.calculator import kv, memory
from services.calculator.steps import CASES, Case, Lengths, Load, cases, lengths, load, static_load
from services.calculator.types import Point, Range, Serving


def prefill_s(serving: Serving, tokens: int, cached: int = 0) -> Range:
    """Seconds to prefill ``tokens``, of which ``cached`` are in the prefix cache, alone on the replica."""
    size = lengths(serving, tokens, 1, cached)
    return ordered([load(case, size, 1).prefill for case in cases(serving)])


def step_s(serving: Serving, batch: float, context: float) -> Range:
    """Seconds of one decode step of ``batch`` sequences that have ``context`` tokens each."""
    read = batch * kv.read_bytes(serving, context)
    return ordered([case.step(0, 0, batch, read) for case in cases(serving)])


def mixed_s(
    serving: Serving, prefill_tokens: int, prefill_context: int, batch: float, context: float, which: str = "mid"
) -> float:
    """Seconds of one scheduler step: a chunk of ``prefill_tokens`` after ``prefill_context`` tokens, beside ``batch``
    decoding sequences of ``context`` tokens. ``which``: "low" (fast), "mid", "high"."""
    case = cases(serving)[CASES.index(which)]
    read = batch * kv.read_bytes(serving, context) if batch else 0.0
    if prefill_context and prefill_tokens:
        read += kv.read_bytes(serving, prefill_context)
    pairs = case.pairs(prefill_tokens, prefill_context) if prefill_tokens else 0.0
    return case.step(prefill_tokens, pairs, batch, read)


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


def bound(serving: Serving, size: Lengths, at: Load) -> str:
    """What takes most of the time at this load; "memory" when no more sequences fit."""
    if at.batch >= most(serving, size.input, size.output) > 0:
        return "memory"
    case = cases(serving)[1]
    running = max(1.0, at.batch)
    read, compute, cache, wires = case.parts(0, 0, running, running * size.kv)
    parts = {
        "bandwidth": (read if read >= compute else 0.0) + cache,
        "compute": (compute if compute > read else 0.0) + running * at.extra / size.output,
        "interconnect": wires,
        "overhead": case.fixed_s,
    }
    return max(parts, key=lambda name: parts[name])


@lru_cache(maxsize=8192)
def most(serving: Serving, input_tokens: float, output_tokens: float) -> int:
    """The most sequences of these lengths that run at once: the KV cache's or the scheduler's limit."""
    return max(0, min(memory.of(serving, input_tokens, output_tokens).sequences, serving.max_seqs))


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
