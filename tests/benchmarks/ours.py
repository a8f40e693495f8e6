"""The real engine as a contender: rows on SQLite, frames for one watcher per run, deadlines and heartbeat."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from db.engine import reader
from db.migrate import upgrade
from db.writer import Writer
from services.calls.clock import settle
from services.calls.live import LiveRun
from services.deployments.registry import Registry
from services.embedded import EmbeddedPool
from services.engine.engine import Engine
from services.runs.spec import ColumnSpec, RunSpec
from tests.benchmarks.contenders import BETWEEN_S, TOGETHER, WARM


async def measure(url: str, streams: int, model: str) -> dict[str, Any]:
    """Start runs of eight columns (or fewer), watch each, and take the stamps that the engine kept."""
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        data = Path(folder)
        file = data / "deployments.toml"
        file.write_text(_deployment("fake", model, url) + _deployment("warm", WARM, url))
        database = f"sqlite:///{data / 'lab.sqlite3'}"
        await asyncio.to_thread(upgrade, database, data)
        writer = Writer(database)
        writer.start()
        read = reader(database)
        pool = EmbeddedPool((), log_dir=data)
        engine = Engine(writer=writer, reader=read, registry=Registry(writer, read, file), pool=pool, single_owner=True)
        await engine.start()
        try:
            return await _runs(engine, streams)
        finally:
            await engine.close()
            writer.close()


async def _runs(engine: Engine, streams: int) -> dict[str, Any]:
    await _run(engine, "warm", [0])
    settle()  # as services/engine_process/__main__.py does
    cpu, wall = time.process_time_ns(), perf_counter_ns()

    async def later(start: int) -> LiveRun:
        await asyncio.sleep(start // TOGETHER * BETWEEN_S)
        return await _run(engine, "fake", [i + 1 for i in range(start, min(start + TOGETHER, streams))])

    runs = await asyncio.gather(*(later(start) for start in range(0, streams, TOGETHER)))
    cpu, wall = time.process_time_ns() - cpu, perf_counter_ns() - wall
    found = []
    for run in runs:
        for column in run.columns:
            call = column.call
            assert call is not None and call.final is not None
            assert call.final.state == "succeeded", call.final.outcome.message
            found.append(
                {
                    "seed": call.ask.params["seed"],
                    "t0": call.progress.t0,
                    "deltas": call.progress.delta_ns.tolist(),
                    "self_lag_ms": call.final.timing.self_lag_ms,
                    "marked": call.final.timing.lag_marked,
                }
            )
    return {"cpu_ns": cpu, "wall_ns": wall, "streams": found}


async def _run(engine: Engine, deployment: str, seeds: list[int]) -> LiveRun:
    columns = tuple(ColumnSpec(deployment, use_shared_params=False, params={"seed": seed}) for seed in seeds)
    run = engine.runs[await engine.start_run(RunSpec("Count.", columns), "bench")]
    frames = run.watch()
    while (line := await frames.get()) is not None:
        if line.startswith(b'{"type":"end"'):
            break
    return run


def _deployment(name: str, model: str, url: str) -> str:
    return (
        f'[[deployment]]\nname = "{name}"\nid = "{name}"\nkind = "openai-compatible"\nmodel = "{model}"\n'
        f'base_url = "{url}/v1"\nprice = {{ input = 1.0, output = 2.0 }}\n\n'
    )
