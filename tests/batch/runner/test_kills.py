"""kill −9 at random moments. With LAB_KILLS=20 at full size: 2,000 lines, 20 kills, on both databases."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from db import batches
from tests.batch.runner.desk import Desk

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("LAB_KILLS", "3"))
LINES = 2000 if KILLS >= 20 else 70 * KILLS
LANES = 6
MODEL = "fake?tokens=2&ttft=15&itl=1"
SEED = int(os.environ.get("LAB_SEED", "0")) or random.randrange(10**6)


def _moments() -> list[int]:
    """After how many answered lines it is killed next: spread over the run, at random."""
    rnd = random.Random(SEED)
    step = LINES // (KILLS + 1)
    return sorted(min(LINES - 10, step * at + rnd.randrange(step)) for at in range(KILLS))


def _judge(desk: Desk, batch_id: str, kills: int, lanes: int) -> None:
    asked, ledger = desk.asked(batch_id), desk.ledger(batch_id)
    repeats = sum(asked.values()) - len(asked)
    told = f"seed {SEED}, {kills} kills, {repeats} repeats, {ledger}, {batches.counts(desk.reader, batch_id)}"
    print(told)
    assert desk.row(batch_id)["state"] == "ended", told
    assert batches.counts(desk.reader, batch_id) == {"succeeded": LINES}, told
    assert len(asked) == LINES, told
    assert repeats <= lanes * kills, told
    assert ledger["lines_answered"] == ledger["succeeded"] == LINES, f"each line has one answer that counts: {told}"
    assert ledger["running"] == 0, told
    assert ledger["calls"] <= LINES + lanes * kills, told
    assert ledger["cost"] == desk.line_costs(batch_id), told


def test_killed_at_random_moments_it_answers_every_line_and_repeats_only_what_was_in_flight(desk: Desk) -> None:
    desk.deploy(MODEL)
    batch_id = desk.batch(LINES, max_lanes=LANES)
    rnd = random.Random(SEED + 1)
    loading = desk.start()
    time.sleep(rnd.uniform(0.3, 1.6))
    desk.kill(loading)
    for moment in _moments():
        worker = desk.worker()
        desk.until(lambda moment=moment: desk.done(batch_id) >= moment, every_s=0.01)
        time.sleep(rnd.uniform(0, 0.03))
        desk.kill(worker)
    desk.worker()
    desk.until_over(batch_id, 120)
    _judge(desk, batch_id, KILLS, LANES)


@pytest.mark.postgres
def test_three_workers_share_a_batch_while_one_after_the_other_is_killed(shared: Desk) -> None:
    shared.deploy(MODEL)
    batch_id = shared.batch(LINES, max_lanes=3 * LANES)
    rnd = random.Random(SEED + 2)
    folders = [shared.folder / f"machine{number}" for number in range(3)]
    workers: list[subprocess.Popen[bytes]] = [shared.start(folder) for folder in folders]
    for moment in _moments():
        shared.until(lambda moment=moment: shared.done(batch_id) >= moment, every_s=0.01)
        time.sleep(rnd.uniform(0, 0.03))
        number = rnd.randrange(3)
        shared.kill(workers[number])
        workers[number] = shared.start(folders[number])
    shared.until_over(batch_id, 120)
    # Until the workers know of each other each has the lanes of the whole batch.
    _judge(shared, batch_id, KILLS, 3 * LANES)


@pytest.mark.postgres
def test_what_a_worker_had_that_never_comes_back_is_done_by_another(
    shared: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_WORKER_LEASE", "2")
    shared.deploy("fake?tokens=2&ttft=60&itl=1")
    batch_id = shared.batch(120, max_lanes=12)
    gone, other = (shared.start(Path(shared.folder / name)) for name in ("gone", "other"))
    assert gone.stdout is not None and other.stdout is not None
    gone.stdout.readline(), other.stdout.readline()
    shared.until(lambda: shared.done(batch_id) >= 20)
    shared.kill(gone)
    row = shared.until_over(batch_id)
    assert row["state"] == "ended"
    assert batches.counts(shared.reader, batch_id) == {"succeeded": 120}
    asked, ledger = shared.asked(batch_id), shared.ledger(batch_id)
    assert sum(asked.values()) - len(asked) <= 12
    assert (ledger["lines_answered"], ledger["succeeded"], ledger["running"]) == (120, 120, 0)
