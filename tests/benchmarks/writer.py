"""Rows acknowledged per second, each durable before its acknowledgement, beside a commit per row."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from sqlmodel import Session

from db import runs
from db.engine import make_engine
from db.migrate import upgrade
from db.writer import Writer
from tests.benchmarks.report import num, pct, table
from tests.db.rows import call_row, run_row

AT_ONCE = (1, 8, 64)
HEADER = ("", "at once", "calls/s", "ack p50", "p99 ms", "× one commit each")
One = Callable[[int], Awaitable[None]]


def main(*, quick: bool = False) -> None:
    """A call is two writes: its row before the request, its end after it."""
    calls = 200 if quick else 1500
    rows = []
    for at_once in AT_ONCE:
        slow = asyncio.run(_measure(_one_commit_each, at_once, calls))
        fast = asyncio.run(_measure(_group_commit, at_once, calls))
        rows.append(["one commit each", str(at_once), num(slow[0], 0), num(slow[1]), num(slow[2]), "1.00"])
        rows.append(["ours", str(at_once), num(fast[0], 0), num(fast[1]), num(fast[2]), num(fast[0] / slow[0])])
    table(f"{calls} calls on SQLite, WAL, synchronous=FULL", HEADER, rows)


async def _measure(
    way: Callable[[Path, Callable[[One], Awaitable[None]]], Awaitable[None]], at_once: int, calls: int
) -> tuple[float, float, float]:
    took: list[float] = []
    wall = 0.0

    async def work(one: One) -> None:
        nonlocal wall
        numbers = iter(range(calls))

        async def worker() -> None:
            for number in numbers:
                begin = time.perf_counter()
                await one(number)
                took.append((time.perf_counter() - begin) * 1000 / 2)

        begin = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(at_once)))
        wall = time.perf_counter() - begin

    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        upgrade(f"sqlite:///{folder}/lab.sqlite3", Path(folder))
        await way(Path(folder), work)
    return calls / wall, pct(took, 0.5), pct(took, 0.99)


async def _group_commit(folder: Path, work: Callable[[One], Awaitable[None]]) -> None:
    writer = Writer(f"sqlite:///{folder}/lab.sqlite3")
    writer.start()
    await writer.write(lambda session: runs.insert_run(session=session, values=run_row("run")))

    async def one(number: int) -> None:
        await writer.write(partial(_begin, number))
        await writer.write(partial(_end, number))

    await work(one)
    writer.close()


async def _one_commit_each(folder: Path, work: Callable[[One], Awaitable[None]]) -> None:
    """The plain way: a session and a COMMIT for every write, from the event loop itself."""
    engine = make_engine(f"sqlite:///{folder}/lab.sqlite3")
    with Session(engine) as session:
        runs.insert_run(session=session, values=run_row("run"))
        session.commit()

    async def one(number: int) -> None:
        for step in (_begin, _end):
            with Session(engine) as session:
                step(number, session)
                session.commit()
            await asyncio.sleep(0)

    await work(one)
    engine.dispose()


def _begin(number: int, session: Session) -> None:
    runs.insert_calls(session=session, rows=[call_row(f"call {number}", "run")])


def _end(number: int, session: Session) -> None:
    runs.finish_call(
        session=session,
        call_id=f"call {number}",
        values={"state": "succeeded", "outcome": "ok", "ttft_ms": 210.0, "answer": "word " * 300},
    )
