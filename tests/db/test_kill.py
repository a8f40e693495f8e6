"""What was acknowledged is there after `kill -9`, and nothing stays "running" behind a dead engine."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from db import runs
from tests.db.rows import ask, do

pytestmark = pytest.mark.slow

KILLS = 3
ROOT = Path(__file__).parents[2]


def kill_in_the_middle(url: str, acks: Path, owner: str, lines: int) -> None:
    """Start the child, let it acknowledge ``lines`` writes more, and kill it."""
    wanted = lines + (acks.read_bytes().count(b"\n") if acks.exists() else 0)
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.db.child", url, str(acks), owner],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 60
    while child.poll() is None and not (acks.exists() and acks.read_bytes().count(b"\n") >= wanted):
        assert time.monotonic() < deadline, "the child wrote nothing for a minute"
        time.sleep(0.01)
    assert child.poll() is None, "the child ended by itself"
    child.send_signal(signal.SIGKILL)
    child.wait()


def test_acknowledged_writes_survive_kills_and_no_call_stays_running(url, tmp_path, open_writer):
    acks = tmp_path / "acks"
    for number in range(KILLS):
        kill_in_the_middle(url, acks, f"dead{number}", random.randint(20, 200))
    whole = [line.split() for line in acks.read_text().split("\n")[:-1]]
    called = {call for kind, call in whole if kind == "call"}
    done = {call for kind, call in whole if kind == "done"}
    assert done and called

    after = open_writer(url)
    found = {row.id: row for row in ask(url, 'SELECT id, state, answer, owner FROM "call"')}
    assert called <= found.keys()
    assert all(found[call].state == "succeeded" and found[call].answer == call * 20 for call in done)
    running = {row.id for row in found.values() if row.state == "running"}

    do(after, runs.adopt_owner, owner_id="alive", pid=1, host="here")
    lost = do(after, runs.mark_lost, owner_id="alive", stale_after_s=-1, single_owner=url.startswith("sqlite"))
    assert set(lost) == running
    states = {row.id: row for row in ask(url, 'SELECT id, state, outcome, message, cost_state FROM "call"')}
    assert {row.state for row in states.values()} <= {"succeeded", "lost"}
    assert all(states[call].state == "succeeded" for call in done)
    assert all(states[call].outcome == "lost" and states[call].message.endswith(".") for call in lost)

    assert not ask(url, 'SELECT id FROM "call" WHERE run_id NOT IN (SELECT id FROM run)')
    if url.startswith("sqlite"):
        assert ask(url, "PRAGMA integrity_check")[0][0] == "ok"
        assert ask(url, "PRAGMA foreign_key_check") == []
