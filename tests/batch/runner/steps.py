"""What a worker does for a batch at a service, step after step in this process: no workflows, no other process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from db import batches
from services.batch.jobs import Jobs
from services.batch.runner import Around, LineCalls
from services.batch.types import Route
from services.batch.worker import WorkflowSteps
from services.deployments.registry import Registry
from services.types import Deployment
from tests.batch.runner.desk import Desk

MOST = 40  # steps of one kind for one job


class Steps:
    """``route``: where the batch goes; ``deployment``: what it is sent to, None for the desk's own."""

    def __init__(
        self, desk: Desk, route: Any, monkeypatch: pytest.MonkeyPatch, deployment: Deployment | None = None
    ) -> None:
        monkeypatch.setenv("LAB_BATCH_POLL", "0.0001")
        self.desk = desk
        registry = Registry(desk.writer, desk.reader, desk.file)
        calls = cast(LineCalls, None)  # of our own runner, which is not asked here
        self.works = WorkflowSteps(Around("worker-t", desk.writer, desk.reader, registry, calls, Counter(alive=1)))
        self._deployment = deployment
        self.works.jobs = Jobs(
            writer=desk.writer,
            reader=desk.reader,
            data=desk.folder,
            get=lambda _name: cast(Route, route),
            wanted_of=lambda batch_id: str(desk.row(batch_id)["wanted"]),
            deployment_of=self._deployment_of,
        )

    def _deployment_of(self, row: dict[str, Any]) -> Deployment:
        return self._deployment or self.works.deployment_of(row)

    def folder(self, batch_id: str) -> Path:
        return self.desk.folder / "batches" / batch_id

    def want(self, batch_id: str, wanted: str, **values: Any) -> None:
        self.desk.do(batches.set_batch, batch_id=batch_id, wanted=wanted, **values)

    def cancel(self, batch_id: str) -> None:
        self.want(batch_id, "cancel", state="cancelling")

    def plan(self, batch_id: str) -> list[int]:
        """From the start to the jobs."""

        async def first() -> list[int]:
            assert (await self.works.begin(batch_id))["go"] == "jobs"
            return await self.works.plan_jobs(batch_id)

        return asyncio.run(first())

    def submit(self, batch_id: str, no: int = 1) -> float | None:
        """One try."""
        return asyncio.run(self.works.submit_job(batch_id, no))

    def poll(self, batch_id: str, no: int = 1) -> float | None:
        """One look."""
        return asyncio.run(self.works.poll_job(batch_id, no))

    def finish(self, batch_id: str, no: int = 1) -> None:
        """Everything that is left of a job, in the order of `flow.run_job`."""

        async def all_of_it() -> None:
            for step in (self.works.submit_job, self.works.poll_job, self.works.collect_job):
                for _ in range(MOST):
                    wait = await step(batch_id, no)
                    if wait is None:
                        break
                    await asyncio.sleep(wait)
                else:
                    raise AssertionError(f"{step.__name__} does not end: {self.job(batch_id, no)}")

        asyncio.run(all_of_it())

    def settle(self, batch_id: str) -> dict[str, Any]:
        """The batch at its end."""
        asyncio.run(self.works.settle(batch_id))
        return self.desk.row(batch_id)

    def through(self, batch_id: str) -> dict[str, Any]:
        """From the start to the end."""
        for no in self.plan(batch_id):
            self.finish(batch_id, no)
        return self.settle(batch_id)

    def job(self, batch_id: str, no: int = 1) -> dict[str, Any]:
        return next(job for job in batches.jobs(self.desk.reader, batch_id) if job["no"] == no)

    def counts(self, batch_id: str) -> dict[str, int]:
        return batches.counts(self.desk.reader, batch_id)

    def until(self, batch_id: str, step: Callable[[str], float | None], state: str) -> None:
        """Take a step again and again until the job is in a state."""
        for _ in range(MOST):
            if self.job(batch_id)["state"] == state:
                return
            step(batch_id)
        raise AssertionError(f"it did not come to “{state}”: {self.job(batch_id)}")
