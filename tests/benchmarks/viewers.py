"""Forty viewers of four streaming columns: what the board delivers, beside a fragment that ticks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from bisect import bisect_left
from itertools import accumulate
from pathlib import Path
from typing import Any

from services.runs.spec import ColumnSpec, RunSpec
from tests.benchmarks.house import House, cpu_s, house
from tests.benchmarks.report import aim, num, pct, table
from tests.fake.fixture import ROOT
from tests.fake.scripts import truth

VIEWERS = 40
COLUMNS = 4
DELAY_AIM_MS = 100.0
CPU_AIM = 0.5
FRAGMENT_APP = Path(__file__).with_name("fragment_app.py")
HEADER = (
    "",
    "viewers",
    "updates/s each",
    "delay p50",
    "p95 ms",
    "aim",
    "p99 ms",
    "lost",
    "UI cores",
    "aim",
    "engine cores",
)


def main(*, quick: bool = False) -> None:
    """Print the two ways side by side."""
    tokens = 200 if quick else 600
    fragment = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(FRAGMENT_APP),
        "--server.port",
        "{port}",
        "--server.headless",
        "true",
    ]
    rows = [
        _row("ours: a board fed over its own WebSocket", *_measure("board", tokens, None), ours=True),
        _row("a fragment that ticks every 200 ms", *_measure("fragment", tokens, fragment), ours=False),
    ]
    table(f"{VIEWERS} viewers of {COLUMNS} columns at 50 tok/s, {tokens} tokens each", HEADER, rows)


def _measure(way: str, tokens: int, command: list[str] | None) -> tuple[dict[str, Any], dict[str, float]]:
    model = f"fake?tokens={tokens}&itl=20&ttft=4000"  # time enough for all viewers to be there before the first word
    with house({"fake": model}, command) as at:
        columns = tuple(ColumnSpec("fake", use_shared_params=False, params={"seed": i + 1}) for i in range(COLUMNS))
        run_id = at.engine.start_run(RunSpec("Count.", columns))
        watchers = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.watchers", way, at.url, run_id, str(VIEWERS), str(COLUMNS)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert watchers.stdout is not None
        watchers.stdout.readline()  # all are there
        wall, ui, engine = time.monotonic(), cpu_s(at.ui_pid), cpu_s(at.engine_pid)
        while at.engine.live(run_id):
            time.sleep(0.2)
        spent = {
            "wall": time.monotonic() - wall,
            "ui": cpu_s(at.ui_pid) - ui,
            "engine": cpu_s(at.engine_pid) - engine,
        }
        said = json.loads(watchers.communicate(timeout=60)[0].splitlines()[-1])
        return _delays(at, said, model, tokens), spent


def _delays(at: House, said: dict[str, Any], model: str, tokens: int) -> dict[str, Any]:
    requests = {r["json"]["seed"] - 1: r for r in at.fake.control("requests")["requests"] if r["wire"]}
    writes = {c: [ns for ns, mark, _ in requests[c]["writes"] if mark == "answer"] for c in range(COLUMNS)}
    ends = list(accumulate(len(delta.text) for delta in truth(model, "chat").deltas))
    delays: list[float] = []
    lost = 0
    for seen in said["seen"]:
        for column in range(COLUMNS):
            mine = [(chars, ns) for c, chars, ns in seen if c == column and chars]
            if not mine or max(chars for chars, _ in mine) != ends[-1]:
                lost += 1
            newest = 0
            for chars, ns in mine:
                if chars > newest:
                    newest = chars
                    delays.append((ns - writes[column][bisect_left(ends, chars)]) / 1e6)
    return {"delays": delays, "lost": lost, "tokens": tokens}


def _row(name: str, found: dict[str, Any], spent: dict[str, float], *, ours: bool) -> list[str]:
    delays = found["delays"]
    streaming_s = found["tokens"] * 0.020
    p95, ui = pct(delays, 0.95), spent["ui"] / spent["wall"]
    return [
        name,
        str(VIEWERS),
        num(len(delays) / VIEWERS / COLUMNS / streaming_s, 1),
        num(pct(delays, 0.5), 0),
        num(p95, 0),
        aim(p95, DELAY_AIM_MS) if ours else "",
        num(pct(delays, 0.99), 0),
        str(found["lost"]),
        num(ui),
        aim(ui, CPU_AIM) if ours else "",
        num(spent["engine"] / spent["wall"]),
    ]
