"""Kill −9 in the middle of many calls, again and again: ``python -m tests.engine.kill [--kills 20] [--calls 1000]``.

What must hold after each kill and restart: every run that was acknowledged is in the records with all of its calls, no
call is left running, and what had ended before the kill is as it was. Exit code 0 only when it held every time.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from db.engine import database_url, reader
from services.client import EngineClient, EngineError
from services.runs.spec import ColumnSpec, RunSpec
from tests.engine.house import table
from tests.engine.process import EngineProcess, engine_process
from tests.fake.fixture import FakeServerProcess

COLUMNS = 8
SENDERS = 4


@dataclass
class Tally:
    """What one kill was like."""

    acknowledged: int = 0
    missing: int = 0
    running: int = 0
    changed: int = 0
    states: Counter[str] = field(default_factory=Counter)

    @property
    def held(self) -> bool:
        return not (self.missing or self.running or self.changed)


def main() -> None:
    """Do it, print one line per kill, and a closing line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    tallies = kill_often(given.kills, given.calls, given.seed, say=print)
    bad = sum(not tally.held for tally in tallies)
    total = sum(tally.acknowledged for tally in tallies)
    print(f"{len(tallies)} kills, {total} acknowledged calls: {bad} kills after which something did not hold")
    sys.exit(bool(bad))


def kill_often(kills: int, calls: int, seed: int = 1, say: object = None) -> list[Tally]:
    """Kill an engine ``kills`` times, each time somewhere in the middle of ``calls`` calls."""
    chance = random.Random(seed)
    tallies = []
    with tempfile.TemporaryDirectory(prefix="lab-kill-") as folder, FakeServerProcess() as fake:
        data = Path(folder)
        file = data / "deployments.toml"
        file.write_text(
            table("quick", "fake?tokens=12&itl=4&ttft=10", fake.url) + table("slow", "fake?tokens=60&itl=8", fake.url)
        )
        with engine_process(data, file) as engine:
            for number in range(1, kills + 1):
                tally = _one_kill(engine, calls, chance)
                tallies.append(tally)
                if callable(say):
                    states = ", ".join(f"{n} {state}" for state, n in sorted(tally.states.items()))
                    say(
                        f"kill {number:2}: {tally.acknowledged} acknowledged, {tally.missing} missing, "
                        f"{tally.running} left running, {tally.changed} changed; {states}"
                    )
    return tallies


def _one_kill(engine: EngineProcess, calls: int, chance: random.Random) -> Tally:
    engine.start().close()
    acknowledged: list[str] = []
    enough = threading.Event()
    senders = [
        threading.Thread(target=_send, args=(engine.client("admin"), calls // COLUMNS // SENDERS, acknowledged, enough))
        for _ in range(SENDERS)
    ]
    for sender in senders:
        sender.start()
    stop_at = chance.uniform(0.3, 0.9) * calls / COLUMNS
    while len(acknowledged) < stop_at and any(sender.is_alive() for sender in senders):
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.05))
    ended = _ended(engine.data)
    engine.kill()
    enough.set()
    for sender in senders:
        sender.join(30)
    engine.start().close()  # marks what was lost
    tally = _look(engine.data, acknowledged, ended)
    engine.stop()
    return tally


def _send(client: EngineClient, runs: int, acknowledged: list[str], enough: threading.Event) -> None:
    spec = RunSpec("Hi", tuple(ColumnSpec("slow" if i % 3 == 0 else "quick") for i in range(COLUMNS)))
    for _ in range(runs):
        if enough.is_set():
            return
        try:
            acknowledged.append(client.start_run(spec))
        except EngineError:
            return


def _ended(data: Path) -> dict[str, tuple[object, ...]]:
    """What has ended so far, as it stands in the records."""
    engine = reader(database_url(data))
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT id, state, answer, ttft_ms, ended_at FROM call WHERE state != 'running'")
        )
        return {row[0]: tuple(row) for row in rows}


def _look(data: Path, acknowledged: list[str], ended: dict[str, tuple[object, ...]]) -> Tally:
    engine = reader(database_url(data))
    with engine.connect() as connection:
        per_run = Counter(row[0] for row in connection.execute(text("SELECT run_id FROM call")))
        states = connection.execute(text("SELECT run_id, state FROM call")).all()
        running = connection.execute(text("SELECT count(*) FROM call WHERE state = 'running'")).scalar_one()
    now = _ended(data)
    mine = set(acknowledged)
    return Tally(
        acknowledged=len(acknowledged) * COLUMNS,
        missing=sum(COLUMNS - per_run[run_id] for run_id in acknowledged),
        running=running,
        changed=sum(now.get(call_id) != row for call_id, row in ended.items()),
        states=Counter(state for run_id, state in states if run_id in mine),
    )


if __name__ == "__main__":
    main()
