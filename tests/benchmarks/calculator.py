"""The calculator: the time of a full answer after a change, the simulation's speed, and both beside the real thing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from services.calculator import queueing, rank, simulation
from services.calculator.assumptions import Assumptions
from services.calculator.types import Gpu, Llm, Objectives, Precision, Serving, Spread, Workload
from tests.benchmarks import calculator_real
from tests.benchmarks.report import aim, num, pct, table

LIMIT_MS = 150.0
CHANGES = 30
OFFICE = tuple(0.3 if hour < 7 or hour > 19 else 1.0 + 0.1 * (hour % 6) for hour in range(24))
WORKLOAD = Workload(
    rpm=120,
    input_tokens=Spread(1000, 0.6),
    output_tokens=Spread(300, 0.6),
    shape=OFFICE,
    prefix_share=0.4,
    batch_share=0.2,
)
Asked = tuple[str, Workload, Objectives, Assumptions]

LLAMA = Llm("Llama-3.1-8B", 8.03, 8.03, 32, 4096, 32, 8, 128, 131072, 128256, ffn=14336)
H100 = Gpu("H100 SXM", 79.1, 3350, 989, 1979, None, "NVLink 4", 450, "data sheet", "2026-01-01")
SERVING = Serving(LLAMA, H100, precision=Precision.FP8)
LOADS = (0.1, 0.3, 0.5, 0.7, 0.85, 0.95, 1.2)


def main(*, quick: bool = False) -> None:
    """All three, one after the other."""
    _ranking(6 if quick else CHANGES)
    _simulating(500 if quick else 2000)
    calculator_real.main(quick=quick)


def _ranking(changes: int) -> None:
    """Each change is one that was not made before, so that no kept answer answers it."""
    begin = time.perf_counter()
    first = rank.calculate(WORKLOAD, Objectives(), assumptions=Assumptions())
    cold_ms = 1000 * (time.perf_counter() - begin)
    took: dict[str, list[float]] = {}
    for _, (kind, workload, objectives, assumptions) in zip(range(changes), _changes(), strict=False):
        begin = time.perf_counter()
        rank.calculate(workload, objectives, assumptions=assumptions)
        took.setdefault(kind, []).append(1000 * (time.perf_counter() - begin))
    every = [one for some in took.values() for one in some]
    rows = [[kind, str(len(some)), num(pct(some, 0.5), 1), num(max(some), 1), ""] for kind, some in took.items()]
    rows.append(["all", str(len(every)), num(pct(every, 0.5), 1), num(max(every), 1), aim(pct(every, 0.5), LIMIT_MS)])
    feasible = sum(one.infeasible is None for one in first.options)
    title = f"All {len(first.options)} options ({feasible} feasible), 24-hour shape; the first took {cold_ms:.0f} ms"
    table(title, ("changed", "n", "median ms", "slowest ms", "aim"), rows)


def _changes() -> Iterator[Asked]:
    step = 0
    while True:
        step += 1
        kept = Objectives(), Assumptions()
        yield "requests a minute", replace(WORKLOAD, rpm=120 + 7.0 * step), *kept
        yield "prompt tokens", replace(WORKLOAD, input_tokens=Spread(1000 + 37 * step, 0.6)), *kept
        yield "answer tokens", replace(WORKLOAD, output_tokens=Spread(300 + 11 * step, 0.6)), *kept
        yield "burstiness", replace(WORKLOAD, burstiness=1 + 0.25 * step), *kept
        yield "objective", WORKLOAD, Objectives(ttft_s=3 - 0.2 * step, ttlt_s=30 - step), Assumptions()
        yield "headroom", WORKLOAD, Objectives(), Assumptions(headroom=0.2 + 0.03 * step)


def _simulating(requests: int) -> None:
    """Both at shares of one replica's full rate, as the closed form has it."""
    given, answer = Spread(1000, 0.5), Spread(300, 0.5)
    full = 1000 / queueing.at(SERVING, 1000, queueing.mean(given), queueing.mean(answer)).utilisation.mid
    rows = []
    for load in LOADS:
        begin = time.perf_counter()
        waits = simulation.run(SERVING, load * full, given, answer, requests=requests)
        took = time.perf_counter() - begin
        closed = queueing.quantiles(SERVING, load * full, given, answer)
        assert closed is not None
        rows.append(
            [
                f"{load:.0%} of {full:,.0f} rpm",
                num(took),
                num(requests / took, 0),
                num(1000 * waits.ttft_p95_s, 0),
                num(1000 * closed.ttft_p95_s.mid, 0),
                num(waits.ttlt_p50_s),
                num(closed.ttlt_p50_s.mid),
                num(waits.ttlt_p95_s),
                num(closed.ttlt_p95_s.mid),
                "grows" if waits.overloaded else "holds",
            ]
        )
    header = (
        "load",
        "simulated in s",
        "requests/s",
        "TTFT p95 ms",
        "closed",
        "TTLT p50 s",
        "closed",
        "TTLT p95 s",
        "closed",
        "queue",
    )
    table(f"{requests:,} requests of 1,000 + 300 tokens (spread 0.5) on Llama-3.1-8B, one H100, FP8", header, rows)
