"""The second start of `lab run`: to a page that answers, and to the first token of the embedded model."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from services import paths
from services.client import EngineClient
from services.runs.spec import ColumnSpec, RunSpec
from tests.benchmarks.house import a_port, answers
from tests.benchmarks.report import aim, num, pct, table
from tests.fake.fixture import ROOT

AIM_S = 5.0
HEADER = ("", "n", "median s", "aim", "worst s")


def main(*, quick: bool = False) -> None:
    """Start once to set up the data, then measure."""
    pages: list[float] = []
    tokens: list[float] = []
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        _start(Path(folder))
        for _ in range(1 if quick else 5):
            page, token = _start(Path(folder))
            pages.append(page)
            tokens.append(token)
    rows = [
        ["page answers", str(len(pages)), num(pct(pages, 0.5)), aim(pct(pages, 0.5), AIM_S), num(max(pages))],
        ["first token of the embedded model", str(len(tokens)), num(pct(tokens, 0.5)), "", num(max(tokens))],
    ]
    table("second start of `lab run`", HEADER, rows)


def _start(data: Path) -> tuple[float, float]:
    port = a_port()
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "run", "--port", str(port), "--data", str(data), "--no-browser"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    client = EngineClient(paths.socket_path(data), person="bench", role="admin")
    try:
        answers(f"http://127.0.0.1:{port}/", 60)
        page = time.monotonic() - begin
        client.wait_until_up()
        local = next(s.deployment.id for s in client.deployments() if s.deployment.base_url.startswith("embedded://"))
        run_id = client.start_run(RunSpec("Hi", (ColumnSpec(local),), params={"max_tokens": 4}))
        with client.stream(run_id) as frames:
            for frame in frames:
                columns = frame.get("cols", frame.get("columns", []))
                if any(column.get("a") or column.get("answer") for column in columns):
                    break
        return page, time.monotonic() - begin
    finally:
        client.close()
        process.send_signal(signal.SIGINT)
        process.wait(30)
