"""How true our times are: stamp lag, TTFT and ITL error and CPU, beside other ways to read the same streams."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.report import aim, num, pct, table
from tests.fake.fixture import ROOT, FakeServerProcess

COUNTS = (1, 8, 64, 160)
ORDER = ("ours", "our reader", "bare aiohttp", "bare httpx", "openai SDK")
# streams: (lag p99 ms, TTFT error p99 ms); CPU as a multiple of the bare aiohttp loop's
AIMS = {64: (1.0, 10.0), 160: (3.0, 30.0)}
CPU_AIM = 1.3
HEADER = (
    "",
    "lag p50",
    "p99 ms",
    "aim",
    "TTFT err p50",
    "p99 ms",
    "aim",
    "ITL err p50",
    "p99 ms",
    "µs/chunk",
    "× aiohttp",
    "aim",
)


def main(*, quick: bool = False) -> None:
    """Print one table for each number of streams."""
    tokens = int(os.environ.get("LAB_BENCH_TOKENS", "60" if quick else "150"))
    model = f"fake?tokens={tokens}&itl=20&ttft=300"
    counts = [int(c) for c in os.environ.get("LAB_BENCH_STREAMS", "").split(",") if c] or list(COUNTS)
    order = [c for c in os.environ.get("LAB_BENCH_CONTENDERS", "").split(",") if c] or list(ORDER)
    print(f"\nstreams: {tokens} tokens at 50 tok/s, the first after 300 ms; pages are being rerun beside them")
    with pages_beside() as beside:
        for count in counts:
            found = {name: contender(name, count, model) for name in order}
            yardstick = found.get("bare aiohttp", {}).get("us", float("nan"))
            title = f"{count} stream{'s' if count > 1 else ''}"
            table(title, HEADER, [_row(name, count, figures, yardstick) for name, figures in found.items()])
            if "ours" in found:
                print(f"  marked by our own self-lag: {found['ours']['marked']} of {count} calls")
    print(f"  beside: {beside['reruns']} page reruns, {beside['mean_ms']:.0f} ms each")


def contender(name: str, streams: int, model: str) -> dict[str, Any]:
    """Measure one contender against a fresh server; both in processes of their own."""
    with FakeServerProcess() as server:
        command = [sys.executable, "-m", "tests.benchmarks.contenders", name, server.url, str(streams), model]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
        said = json.loads(done.stdout.splitlines()[-1])
        requests = {r["json"]["seed"]: r for r in server.control("requests")["requests"] if r["wire"]}
    lag: list[float] = []
    ttft: list[float] = []
    itl: list[float] = []
    for stream in said["streams"]:
        record = requests[stream["seed"]]
        writes = [ns for ns, mark, _ in record["writes"] if mark == "answer"]
        mine = stream["deltas"]
        if len(mine) != len(writes):
            raise RuntimeError(f"{name} saw {len(mine)} of {len(writes)} deltas")
        lag += [(a - b) / 1e6 for a, b in zip(mine, writes, strict=True)]
        ttft.append(abs((mine[0] - stream["t0"]) - (writes[0] - record["first_byte_ns"])) / 1e6)
        itl += [abs((mine[i] - mine[i - 1]) - (writes[i] - writes[i - 1])) / 1e6 for i in range(1, len(mine))]
    return {
        "lag": lag,
        "ttft": ttft,
        "itl": itl,
        "us": said["cpu_ns"] / 1000 / len(lag),
        "marked": sum(1 for s in said["streams"] if s.get("marked")),
    }


def _row(name: str, count: int, f: dict[str, Any], yardstick: float) -> list[str]:
    lag, ttft, ratio = pct(f["lag"], 0.99), pct(f["ttft"], 0.99), f["us"] / yardstick
    lag_aim, ttft_aim = AIMS.get(count, (None, None)) if name == "ours" else (None, None)
    return [
        name,
        num(pct(f["lag"], 0.5)),
        num(lag),
        aim(lag, lag_aim) if lag_aim else "",
        num(pct(f["ttft"], 0.5)),
        num(ttft),
        aim(ttft, ttft_aim) if ttft_aim else "",
        num(pct(f["itl"], 0.5)),
        num(pct(f["itl"], 0.99)),
        num(f["us"], 1),
        num(ratio),
        aim(ratio, CPU_AIM) if name in ("ours", "our reader") and ratio == ratio else "",
    ]


@contextlib.contextmanager
def pages_beside() -> Iterator[dict[str, Any]]:
    """Rerun pages for the time of this block; afterwards the yielded dict says how many reruns there were."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.reruns"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said: dict[str, Any] = {}
    try:
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("the pages that are to be rerun did not start")
        yield said
    finally:
        process.terminate()
        last = process.stdout.read().strip().splitlines()
        process.wait(10)
        said |= json.loads(last[-1]) if last else {}
