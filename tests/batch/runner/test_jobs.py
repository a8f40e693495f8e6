"""Batches that go to a service: cut, submitted once whatever happens, asked after, collected, and accounted for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import text

from db import batches
from services import paths
from tests.batch.runner.desk import Desk

pytestmark = pytest.mark.slow


class Service:
    """The folder that `fake_service` lies in, and workers that know it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.folder = desk.folder / "service"
        self.folder.mkdir()

    def plan(self, **values: Any) -> None:
        for mark in self.folder.glob("did-*"):
            mark.unlink()
        (self.folder / "jobs.json").unlink(missing_ok=True)
        (self.folder / "plan.json").write_text(json.dumps(values))

    def jobs(self) -> list[dict[str, Any]]:
        found = json.loads((self.folder / "jobs.json").read_text())
        return [one for one in found.values() if isinstance(one, dict)]

    def worker(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "LAB_BATCH_POLL": "0.005", "LAB_WORKER_POLL": "0.05"}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.batch.runner.fake_service", str(self.desk.folder), str(self.desk.file)],
            cwd=paths.ROOT,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.desk.processes.append(process)
        assert process.stdout is not None
        assert b"worker" in process.stdout.readline()
        return process

    def batch(self, n: int, **values: Any) -> str:
        return self.desk.batch(n, route="openai", **values)

    def calls(self, batch_id: str) -> list[dict[str, Any]]:
        with self.desk.reader.connect() as connection:
            found = connection.execute(text("SELECT * FROM call WHERE run_id = :r"), {"r": f"run-{batch_id}"})
            return [dict(row) for row in found.mappings()]


@pytest.fixture
def service(desk: Desk) -> Service:
    return Service(desk)


def test_every_line_of_a_service_is_accounted_for_and_what_is_strange_is_said(service: Service, desk: Desk) -> None:
    service.plan(
        per_job=30,
        polls=2,
        leave_out=[7],
        double=[9, 70],
        strange=True,
        failed=[11],
        untakeable=[3],
        later=2,
        trouble=True,
        **{"break": True},
    )
    batch_id = service.batch(80)
    service.worker()
    row = desk.until_over(batch_id)
    assert row["state"] == "ended", row
    counts = batches.counts(desk.reader, batch_id)
    assert counts == {"succeeded": 77, "failed": 2, "missing": 1}, counts
    jobs = batches.jobs(desk.reader, batch_id)
    assert [(job["n_lines"], job["state"]) for job in jobs] == [(30, "ended"), (30, "ended"), (19, "ended")]
    assert len(service.jobs()) == 3
    assert "further answer" in row["said"] and "belongs to no line" in row["said"]
    assert sum(sum(job["facts"]["strays"].values()) for job in jobs) == 2 + 3 + 3
    calls = service.calls(batch_id)
    assert len(calls) == 78, "every line that was answered has a call, and no other"
    for call in calls:
        assert call["ttft_ms"] is None and call["end_ms"] is None and call["source"] == "batch"
        assert call["ended_at"] >= call["created_at"]
    line = batches.lines(desk.reader, batch_id, text="9 of")[0][0]
    assert line["answer"] == "to r0000000009", "the first answer is kept"
    refused = batches.lines(desk.reader, batch_id, states=["failed"])[0]
    assert {one["message"] for one in refused} == {"The folder cannot take this line.", "It did not like it."}

    # In the same worker: refused as a whole, expired, and cancelled.
    service.plan(refuse=True)
    bad = service.batch(10)
    row = desk.until_over(bad)
    assert row["state"] == "failed" and "does not like this file" in row["said"]
    assert batches.counts(desk.reader, bad) == {"failed": 10}
    service.plan(end="expired", leave_out=[1, 2, 3])
    late = service.batch(10)
    assert desk.until_over(late)["state"] == "expired"
    assert batches.counts(desk.reader, late) == {"succeeded": 7, "expired": 3}
    service.plan(polls=10_000)
    stopped = service.batch(10)
    desk.until(lambda: desk.row(stopped)["state"] == "running")
    desk.do(batches.set_batch, batch_id=stopped, wanted="cancel", state="cancelling")
    assert desk.until_over(stopped)["state"] == "cancelled"
    assert batches.counts(desk.reader, stopped) == {"succeeded": 5, "cancelled": 5}


def test_a_worker_that_dies_after_a_submit_and_again_among_the_results_makes_no_second_job(
    service: Service, desk: Desk
) -> None:
    service.plan(lose_answer=True, die_in_results=True)
    desk.deploy("fake", price='{ provider = "openai", model = "gpt-4o" }')
    batch_id = service.batch(600)
    first = service.worker()
    assert first.wait(30) == -9
    assert len(service.jobs()) == 1
    assert batches.jobs(desk.reader, batch_id)[0]["vendor_id"] is None, "its answer was lost"
    second = service.worker()
    assert second.wait(30) == -9
    assert 200 <= desk.done(batch_id) < 600, "it died among the results"
    service.worker()
    row = desk.until_over(batch_id)
    assert (row["state"], row["said"]) == ("ended", "600 answered of 600 lines.")
    assert len(service.jobs()) == 1
    assert len(service.calls(batch_id)) == 600
    # gpt-4o in a batch: $1.25 and $5 a million; 10 tokens in and 5 out.
    assert desk.ledger(batch_id)["cost"] == desk.line_costs(batch_id) == 600 * (10 * 1250 + 5 * 5000)
    assert {call["plain_nanousd"] for call in service.calls(batch_id)} == {2 * (10 * 1250 + 5 * 5000)}
