"""Forty people change the filter of the History page while forty playground runs at a time are being written."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from db import run_queries
from db.engine import database_url, reader
from services.processes.output import write_whole
from services.runs.spec import ColumnSpec, RunSpec
from tests.benchmarks.histories import make
from tests.benchmarks.house import TICKS_PER_S, House, cpu_s, house
from tests.benchmarks.report import aim, num, pct, table
from tests.fake.fixture import ROOT

VIEWERS, RUNS, THINK_S = 40, 40, 30.0
REDRAW_AIM_MS = 1000.0
RANGES = ("7d", "30d", "24h", "90d", "mtd")
HEADER = (
    "",
    "redraws",
    "p50",
    "p95 ms",
    "aim",
    "worst ms",
    "failed",
    "calls written",
    "lost or locked",
    "UI cores",
    "engine cores",
    "machine cores",
)


def main(*, quick: bool = False) -> None:
    """Half of the time nobody writes, half of it forty runs at a time are under way."""
    logging.disable(logging.WARNING)
    calls, seconds = (10_000, 30.0) if quick else (100_000, 90.0)
    with house({"fake": "fake?tokens=120&itl=20&ttft=300"}) as at:
        make(database_url(at.data), at.data, calls)
        rows = [_row("nobody writes", at, seconds, runs=0), _row(f"{RUNS} runs at a time", at, seconds, runs=RUNS)]
    title = f"{VIEWERS} people on the History page of {calls:,} calls, a change of filter every {THINK_S:g} s each"
    table(title, HEADER, rows)


def _row(name: str, at: House, seconds: float, *, runs: int) -> list[str]:
    stop = threading.Event()
    started: list[str] = []
    writers = [threading.Thread(target=_write, args=(at, stop, started), daemon=True) for _ in range(runs)]
    watchers = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.crowd", at.url, str(seconds)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert watchers.stdout is not None
    watchers.stdout.readline()
    wall, ui, engine, machine = time.monotonic(), cpu_s(at.ui_pid), cpu_s(at.engine_pid), _machine_s()
    for writer in writers:
        writer.start()
    said = json.loads(watchers.communicate(timeout=seconds + 120)[0].splitlines()[-1])
    spent = time.monotonic() - wall
    stop.set()
    for writer in writers:
        writer.join(30)
    read = reader(database_url(at.data))
    found = [call for run_id in started for call in run_queries.calls_of_run(read, run_id)]
    wrong = len(started) - len(found) + sum(call["state"] != "succeeded" for call in found)
    p95 = pct(said["ms"], 0.95)
    return [
        name,
        str(len(said["ms"])),
        num(pct(said["ms"], 0.5), 0),
        num(p95, 0),
        aim(p95, REDRAW_AIM_MS),
        num(max(said["ms"], default=float("nan")), 0),
        str(said["failed"]),
        f"{len(found):,}",
        str(wrong),
        num((cpu_s(at.ui_pid) - ui) / spent),
        num((cpu_s(at.engine_pid) - engine) / spent),
        num((_machine_s() - machine) / spent),
    ]


def _machine_s() -> float:
    """Seconds that all processors of this machine have worked: what tells a crowded run from a quiet one."""
    user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    return (int(user) + int(nice) + int(system)) / TICKS_PER_S


def _write(at: House, stop: threading.Event, started: list[str]) -> None:
    """One participant who sends a prompt, waits for its end, and sends the next."""
    while not stop.is_set():
        run_id = at.engine.start_run(RunSpec("Count.", (ColumnSpec("fake"),)))
        started.append(run_id)
        while at.engine.live(run_id):
            time.sleep(0.25)


async def _viewer(
    session: aiohttp.ClientSession, url: str, until: float, there: asyncio.Event
) -> tuple[list[float], int]:
    """One Streamlit session on the History page: milliseconds from each change of filter to the end of its rerun."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

    took: list[float] = []
    failed = 0
    dice = random.Random()
    socket_url = f"{url}/_stcore/stream"
    async with session.ws_connect(socket_url, origin=url, protocols=["streamlit"], max_msg_size=0) as socket:
        while time.monotonic() < until or not took:
            ask = BackMsg()
            ask.rerun_script.query_string = f"range={dice.choice(RANGES)}&deployments=dep-{dice.randrange(8)}"
            ask.rerun_script.page_name = "history"
            begin = time.perf_counter()
            await socket.send_bytes(ask.SerializeToString())
            charts, begun = 0, False
            while True:
                message = await socket.receive(timeout=60)
                if message.type is not aiohttp.WSMsgType.BINARY:
                    return took, failed + 1
                told: Any = ForwardMsg.FromString(message.data)
                kind = told.WhichOneof("type")
                begun = begun or kind == "new_session"  # what comes before it belongs to the run before
                charts += kind == "delta" and told.delta.new_element.WhichOneof("type") == "vega_lite_chart"
                if begun and kind == "script_finished" and told.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                    break
            if there.is_set():
                took.append((time.perf_counter() - begin) * 1000)
                failed += charts < 3
            there.set()
            await _think(socket, dice.uniform(0.5, 1.5) * THINK_S)
    return took, failed


async def _think(socket: aiohttp.ClientWebSocketResponse, seconds: float) -> None:
    """Look at the page: what comes meanwhile is read, as a browser does, or the server's pings are never answered."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                pass
            await asyncio.sleep(seconds)


async def _crowd() -> None:
    url, seconds = sys.argv[1], float(sys.argv[2])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        there = [asyncio.Event() for _ in range(VIEWERS)]
        until = time.monotonic() + seconds + 15
        work = [asyncio.create_task(_viewer(session, url, until, event)) for event in there]
        await asyncio.gather(*(event.wait() for event in there))
        print("there", flush=True)
        found = await asyncio.gather(*work)
    print(json.dumps({"ms": [ms for took, _ in found for ms in took], "failed": sum(bad for _, bad in found)}))


if __name__ == "__main__":
    write_whole()
    uvloop.run(_crowd())
