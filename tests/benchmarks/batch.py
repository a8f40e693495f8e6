"""Our runner against a server of known capacity, beside fixed numbers of lanes; its cost a line; memory at 10⁶ lines.

``LAB_BENCH_LINES`` sets the lines of the memory test.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from db import batch_queries, batches
from tests.batch.runner.desk import Desk
from tests.benchmarks.house import cpu_s
from tests.benchmarks.report import num, pct, table
from tests.fake.fixture import ROOT

SLOTS, SERVICE_S = 16, 0.25
HEADER = ("", "lines", "lines a second", "of the capacity %", "aim", "once settled, %", "time to last token p50 ms")


def main(*, quick: bool = False) -> None:
    """One run: fixed lanes, gather, ours; then what a line costs, and the memory of a long file."""
    lines = 600 if quick else 2_400
    capacity = SLOTS / SERVICE_S
    rows = []
    with _truth(SLOTS, SERVICE_S) as url:
        for name, lanes in (
            ("openai SDK, 1 lane", 1),
            ("openai SDK, 8 lanes", 8),
            ("openai SDK, 64 lanes", 64),
            ("openai SDK, gather", 0),
        ):
            n = 40 if lanes == 1 else lines
            took, settled, latencies = asyncio.run(_sdk(url, n, lanes or n))
            rows.append(_row(name, n, took, settled, latencies, capacity))
        rows.append(_ours(url, lines, capacity))
    table(f"a server of {SLOTS} slots, {SERVICE_S:g} s a line: {capacity:g} lines a second at most", HEADER, rows)
    _overhead(300 if quick else 2_000)
    lines = int(os.environ.get("LAB_BENCH_LINES", "50000" if quick else "1000000"))
    _memory(lines)
    _long_queue(lines)


@contextlib.contextmanager
def _truth(slots: int, service_s: float) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.truth", str(slots), str(service_s)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().decode().strip()
    finally:
        process.terminate()
        process.wait(10)


def _row(name: str, n: int, took: float, settled: float, latencies: list[float], capacity: float) -> list[str]:
    reached = n / took / capacity * 100
    goal = ("≥ 95 met" if settled >= 95 else "≥ 95 MISSED") if name == "our runner" else ""
    return [name, f"{n:,}", num(n / took, 1), num(reached, 1), goal, num(settled, 1), num(pct(latencies, 0.5), 0)]


def _settled(ends: list[float], capacity: float) -> float:
    """Percent of the capacity over the second half of the lines, when the number of lanes has been found."""
    ends = sorted(ends)
    half = ends[len(ends) // 2 :]
    return (len(half) - 1) / max(half[-1] - half[0], 1e-9) / capacity * 100


async def _sdk(url: str, n: int, lanes: int) -> tuple[float, float, list[float]]:
    import httpx
    from openai import AsyncOpenAI

    limits = httpx.Limits(max_connections=None)
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=3600) as client:
        client._client._limits = limits  # type: ignore[attr-defined]  # the SDK's own limit is 1,000
        gate, ends, latencies = asyncio.Semaphore(lanes), [], []

        async def one(no: int) -> None:
            async with gate:
                begin = time.perf_counter()
                await client.chat.completions.create(model="t", messages=[{"role": "user", "content": f"line {no}"}])
                ends.append(time.perf_counter())
                latencies.append((ends[-1] - begin) * 1000)

        begin = time.perf_counter()
        await asyncio.gather(*(one(no) for no in range(n)))
        return max(ends) - begin, _settled(ends, SLOTS / SERVICE_S), latencies


def _ours(url: str, lines: int, capacity: float) -> list[str]:
    """The worker as it is in production: rows, prices, leases and all; it is told nothing of the server."""
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder, Desk(Path(folder)) as desk:
        desk.deploy("truth", url)
        batch = desk.batch(lines)
        desk.worker()
        desk.until_over(batch, 600)
        rows = list(batches.each_line(desk.reader, batch))
        wrong = [row for row in rows if row["state"] != "succeeded"]
        assert not wrong, wrong[:3]
        ends = [_seconds(row["ended_at"]) for row in rows]
        started = _seconds(desk.row(batch)["started_at"])
        latencies = [float(row["ttlt_ms"] or 0) for row in rows]
    return _row("our runner", lines, max(ends) - started, _settled(ends, capacity), latencies, capacity)


def _seconds(moment: datetime) -> float:
    return moment.timestamp()


def _overhead(lines: int) -> None:
    """A server that answers at once: all that is left is ours."""
    with _truth(64, 0.0) as url, tempfile.TemporaryDirectory(prefix="lab-bench-") as folder, Desk(Path(folder)) as desk:
        desk.deploy("truth", url)
        batch = desk.batch(lines)
        worker = desk.worker()
        before, begin = cpu_s(worker.pid), time.monotonic()
        row = desk.until_over(batch, 600)
        spent, took = cpu_s(worker.pid) - before, time.monotonic() - begin
        peak = _peak_mb(worker.pid)
    assert row["state"] == "ended", row
    table(
        "what a line costs us: a server that answers at once",
        ("", "lines", "lines a second", "CPU ms a line", "worker's peak MB"),
        [["our runner", f"{lines:,}", num(lines / took, 1), num(spent / lines * 1000), num(peak, 0)]],
    )


def _long_queue(lines: int, watch_s: float = 20) -> None:
    """A worker in the middle of a very long batch: what it holds must not grow with the lines that wait."""
    rows = []
    for n in (lines // 100, lines):
        with (
            _truth(64, 0.0) as url,
            tempfile.TemporaryDirectory(prefix="lab-bench-") as folder,
            Desk(Path(folder)) as desk,
        ):
            desk.deploy("truth", url)
            batch = desk.batch(n)
            worker = desk.worker()
            time.sleep(watch_s)
            done = batch_queries.counts(desk.reader, batch).get("succeeded", 0)
            size = (Path(folder) / "lab.sqlite3").stat().st_size / 1e6
            rows.append([f"{n:,} lines", num(size, 0), f"{done:,}", num(_peak_mb(worker.pid), 0)])
    table(f"{watch_s:g} s of work on a long batch", ("", "database MB", "lines answered", "worker's peak MB"), rows)


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


CHECK = """
import resource, sys, time
from pathlib import Path
from services.batch import files
from services.batch.types import Options
if sys.argv[2] != "0":
    begin = time.perf_counter()
    found = files.check(Path(sys.argv[2]), Options(prompt="{{prompt}}"))
    assert found.n_valid == int(sys.argv[1]), (found.n_valid, found.refused, found.faults[:2])
    print(time.perf_counter() - begin, end=" ")
else:
    print(0, end=" ")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def _memory(lines: int) -> None:
    """A file of a kilobyte a line is checked in a process of its own; beside it the same process without a file."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        for n in (0, lines // 10, lines):
            file = Path(folder) / "lines.jsonl"
            with file.open("wb") as out:
                filler = b"x" * 950
                out.writelines(b'{"id": "a%d", "prompt": "%d %s"}\n' % (no, no, filler) for no in range(n))
            said = subprocess.run(
                [sys.executable, "-c", CHECK, str(n), str(file) if n else "0"],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()
            mb = file.stat().st_size / 1e6
            rows.append([f"{n:,} lines", num(mb, 0), num(float(said[0]), 1), num(float(said[1]), 0)])
    table("checking a file, line by line", ("", "file MB", "seconds", "peak MB of the process"), rows)
    print(f"  this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")
