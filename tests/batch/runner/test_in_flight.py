"""Batches that an older version left in flight go on.

`in_flight_7e780e4.sqlite3.gz` is the workflow database of a worker of commit 7e780e4 that was killed while it worked on
two batches. "by-chunks": chunk 0 was refused with an exception of that version (`services.batch.model.SubmitRefused`,
stored by its path), chunk 1 was under way. "by-jobs": job 1 ended with such an exception (`SubmitLater`), job 2 was
being asked after, the results of job 3 were being read.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services import paths

pytestmark = pytest.mark.slow

STORED = Path(__file__).with_name("in_flight_7e780e4.sqlite3.gz")
PLACE = "worker-old-mark-0"  # of the worker that was killed; a new one on the same machine takes it

EXPECTED = """\
chunk by-chunks 1
collect by-jobs 2
collect by-jobs 3
notify by-chunks
notify by-jobs
poll by-jobs 2
settle by-chunks
settle by-jobs
"""


class Works:
    """Notes which steps are asked for."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    async def begin(self, batch_id: str) -> dict[str, object]:
        raise AssertionError(f"{batch_id} was begun a second time")

    async def groups(self, batch_id: str, size: int) -> list[int]:
        raise AssertionError(f"{batch_id} was cut a second time")

    async def chunk(self, batch_id: str, group: int, size: int) -> bool:
        assert size == 20
        self.steps.append(f"chunk {batch_id} {group}")
        return True

    async def settle(self, batch_id: str) -> str:
        self.steps.append(f"settle {batch_id}")
        return "over"

    async def plan_jobs(self, batch_id: str) -> list[int]:
        raise AssertionError(f"{batch_id} was planned a second time")

    async def submit_job(self, batch_id: str, no: int) -> float | None:
        raise AssertionError(f"job {no} was submitted a second time")

    async def poll_job(self, batch_id: str, no: int) -> float | None:
        self.steps.append(f"poll {batch_id} {no}")
        return None

    async def collect_job(self, batch_id: str, no: int) -> float | None:
        self.steps.append(f"collect {batch_id} {no}")
        return None

    async def notify(self, batch_id: str) -> None:
        self.steps.append(f"notify {batch_id}")


def test_batches_that_an_older_version_left_in_flight_go_on(tmp_path: Path) -> None:
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches" / "dbos.sqlite3").write_bytes(gzip.decompress(STORED.read_bytes()))
    process = subprocess.run(
        [sys.executable, "-m", "tests.batch.runner.test_in_flight", str(tmp_path)],
        cwd=paths.ROOT,
        env={**os.environ, "LAB_WORKER_POLL": "0.05"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.stdout == EXPECTED, process.stderr


async def recover(data: Path) -> None:
    """Launch the workflows on the stored database and print the steps that were asked for until both batches ended."""
    from services.batch.workflows import Durable

    works = Works()
    durable = Durable(works, data, f"sqlite:///{data / 'lab.sqlite3'}", PLACE)
    await durable.launch()
    async with asyncio.timeout(60):
        while sum(step.startswith("notify") for step in works.steps) < 2:
            await asyncio.sleep(0.05)
    print("\n".join(sorted(works.steps)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(recover(Path(sys.argv[1])))
