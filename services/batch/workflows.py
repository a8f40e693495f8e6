"""The DBOS workflows of batches: which chunk or job comes next survives any crash.

Nothing here decides about a line: what a step returns only says where to continue, all data is in our own tables, and
every step may be repeated. Loading DBOS takes over a second, so only a worker imports this.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypedDict, TypeVar

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, WorkflowHandleAsync
from sqlalchemy.engine import make_url

from db.batch_rows import BatchRow
from db.engine import sqlite_file

T = TypeVar("T")

NAME = "inference-lab"

SCHEMA = "lab_batches"  # beside our own tables, in the same PostgreSQL database

FILE = "dbos.sqlite3"

LIVE = ("PENDING", "ENQUEUED", "DELAYED")

LOOK_EVERY_S = 5.0

LONGEST_WAIT_S = 60.0

CLEAR_EVERY_S, CLEARED_AT_ONCE = 5.0, 200


class Durable:
    """The durable side of one worker; ``place`` is its executor id."""

    def __init__(self, steps: Steps, data: Path, url: str, place: str) -> None:
        self._place = place
        self._url = system_database(data, url)
        self._looked: dict[str, float] = {}
        self._unfinished: set[str] = set()
        self._over: set[str] = set()
        self._cleared = 0.0
        self.launched = False
        bind(steps)

    async def launch(self) -> None:
        """Begin; from a coroutine, so that the workflows run on that loop. Takes over what this place left behind."""
        from dbos import DBOS, DBOSConfig

        config: DBOSConfig = {
            "name": NAME,
            "system_database_url": self._url,
            "dbos_system_schema": SCHEMA,
            "application_version": VERSION,
            "executor_id": self._place,
            "log_level": "WARNING",
            "enable_otlp": False,
            "use_listen_notify": False,
            "sys_db_pool_size": 10,
        }
        DBOS(config=config)
        quiet = logging.getLogger("dbos")
        quiet.handlers = []
        quiet.propagate = True
        DBOS.launch()
        await register()
        self.launched = True

    async def start_missing(self, rows: Sequence[BatchRow]) -> None:
        """Give every batch that is to go on a workflow, unless it has one. Several workers may do this at once."""
        batch_ids = {row["id"] for row in rows}
        self._over |= self._unfinished - batch_ids
        self._unfinished = batch_ids
        self._looked = {batch_id: looked_at for batch_id, looked_at in self._looked.items() if batch_id in batch_ids}
        await self._clear_away()
        for row in rows:
            if not row["n_lines"] or (row["state"] == "paused" and row["wanted"] == "pause"):
                self._looked.pop(row["id"], None)
                continue
            if time.monotonic() - self._looked.get(row["id"], 0.0) < LOOK_EVERY_S and row["state"] != "queued":
                continue
            self._looked[row["id"]] = time.monotonic()
            try:
                await self._ensure(row["id"])
            except Exception:
                log.exception("batch %s could not be started", row["id"])

    async def _ensure(self, batch_id: str) -> None:
        from dbos import DBOS, SetWorkflowID

        started = await DBOS.list_workflows_async(
            workflow_id_prefix=f"{batch_id}.", name=BATCH, load_input=False, load_output=False
        )
        if any(workflow.status in LIVE for workflow in started):
            return
        broken = [workflow for workflow in started if workflow.status != "SUCCESS"]
        if broken:
            last = max(workflow.updated_at or 0 for workflow in broken) / 1000
            if time.time() - last < min(LONGEST_WAIT_S, 2.0 ** len(broken)):
                return
        with SetWorkflowID(f"{batch_id}.{len(started)}"):
            await DBOS.enqueue_workflow_async(BATCHES, run_batch, batch_id)

    async def _clear_away(self) -> None:
        """Forget the workflows of batches that are over: a large one has thousands, and all is in our own tables."""
        from dbos import DBOS

        if not self._over or time.monotonic() - self._cleared < CLEAR_EVERY_S:
            return
        self._cleared = time.monotonic()
        for batch_id in list(self._over):
            try:
                parts = await DBOS.list_workflows_async(
                    workflow_id_prefix=f"{batch_id}.", load_input=False, load_output=False
                )
                if any(workflow.status in LIVE for workflow in parts):
                    continue  # its notice is being sent
                ids = [workflow.workflow_id for workflow in parts]
                for start in range(0, len(ids), CLEARED_AT_ONCE):
                    await DBOS.delete_workflows_async(ids[start : start + CLEARED_AT_ONCE])
            except Exception:
                log.exception("the workflows of batch %s could not be cleared away", batch_id)
            self._over.discard(batch_id)

    async def take_over(self, alive: Collection[str]) -> int:
        """Have what dead workers were at done by whoever is free; ``alive`` are places. Returns how many workflows."""
        from dbos import DBOS

        pending = await DBOS.list_workflows_async(
            status="PENDING",
            name=[BATCH, CHUNK, JOB],
            load_input=False,
            load_output=False,
        )
        orphans = [workflow.workflow_id for workflow in pending if workflow.executor_id not in alive]
        if orphans:
            log.warning("%d parts of batches are taken over from workers that are gone", len(orphans))
            await DBOS.resume_workflows_async(orphans)
        return len(orphans)


def system_database(data: Path, url: str) -> str:
    """Where DBOS keeps its workflows: a file of its own, or a schema of its own in our PostgreSQL database."""
    if sqlite_file(url) is not None:
        return f"sqlite:///{data / 'batches' / FILE}"
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


log = logging.getLogger(__name__)

BATCHES, CHUNKS, JOBS = "batches", "chunks", "jobs"

BATCH, CHUNK, JOB = "lab_batch", "lab_chunk", "lab_job"

VERSION = "1"  # of these workflows; pinned, because DBOS would make one of their code and strand what is under way

CHUNKS_AT_ONCE = 8  # of one batch in one worker

JOBS_AT_ONCE = 8

WINDOW = 64  # chunks that wait or are under way, for all workers

POLL_S = float(os.environ.get("LAB_WORKER_POLL", "0.25"))  # tests look more often

BETWEEN_ROUNDS_S, LONGEST_BETWEEN_S = 0.5, 60.0


class Beginning(TypedDict):
    """How a batch goes on (DBOS stores it): the step that is next, and how many lines a chunk has."""

    go: Literal["chunks", "jobs", "settle", "leave"]
    size: int


class Steps(Protocol):
    """What a worker does for the workflows. Every one of these may be asked for again after a crash."""

    async def begin(self, batch_id: str) -> Beginning:
        """Take a batch up."""

    async def groups(self, batch_id: str, size: int) -> list[int]:
        """The chunks that have lines which are not over."""

    async def chunk(self, batch_id: str, group: int, size: int) -> bool:
        """Send the lines of a chunk; False when sending was stopped."""

    async def settle(self, batch_id: str) -> str:
        """What comes next: "again", "over", or "leave" (paused, or somebody else's)."""

    async def plan_jobs(self, batch_id: str) -> list[int]:
        """Cut the batch into jobs of its service; their numbers."""

    async def submit_job(self, batch_id: str, no: int) -> float | None:
        """Submit a job: None when there is nothing to submit any more, else seconds until it is tried again."""

    async def poll_job(self, batch_id: str, no: int) -> float | None:
        """Ask how a job stands: None when it is over, else seconds until it is asked again."""

    async def collect_job(self, batch_id: str, no: int) -> float | None:
        """Read what came back: None when everything is recorded, else seconds until it is tried again."""

    async def notify(self, batch_id: str) -> None:
        """Send the notice, if one was asked for and not sent yet."""


_steps: Steps | None = None


def bind(steps: Steps) -> None:
    """From now on the workflows of this process are done by ``steps``."""
    global _steps
    _steps = steps


async def register() -> None:
    """Declare the queues; after the launch."""
    await DBOS.register_queue_async(BATCHES, polling_interval_sec=POLL_S, on_conflict="always_update")
    await DBOS.register_queue_async(
        CHUNKS, partition_worker_concurrency=CHUNKS_AT_ONCE, polling_interval_sec=POLL_S, on_conflict="always_update"
    )
    await DBOS.register_queue_async(
        JOBS, worker_concurrency=JOBS_AT_ONCE, polling_interval_sec=POLL_S, on_conflict="always_update"
    )


def steps() -> Steps:
    """Who does the work of this process."""
    assert _steps is not None
    return _steps


@DBOS.workflow(name=BATCH, max_recovery_attempts=None)
async def run_batch(batch_id: str) -> str:
    """A whole batch, from its first line to its notice, or until it is paused."""
    begun = await _begin(batch_id)
    state = "settle"
    if begun["go"] == "leave":
        return "leave"
    if begun["go"] == "jobs":
        await _all_jobs(batch_id, 0)
    elif begun["go"] == "chunks":
        await _all_chunks(batch_id, begun["size"], 0)
    rounds = 0
    while (state := await _settle(batch_id)) == "again":
        rounds += 1
        await DBOS.sleep_async(min(LONGEST_BETWEEN_S, BETWEEN_ROUNDS_S * 2 ** min(rounds - 1, 10)))
        if begun["go"] == "jobs":
            await _all_jobs(batch_id, rounds)
        else:
            await _all_chunks(batch_id, begun["size"] or 50, rounds)
    if state == "over":
        await _notify(batch_id)
    return state


async def _all_chunks(batch_id: str, size: int, rounds: int) -> None:
    handles: deque[WorkflowHandleAsync[bool]] = deque()
    for group in await _groups(batch_id, size):
        with (
            SetWorkflowID(f"{DBOS.workflow_id}.{rounds}.{group}"),
            SetEnqueueOptions(queue_partition_key=batch_id),
        ):
            handles.append(await DBOS.enqueue_workflow_async(CHUNKS, run_chunk, batch_id, group, size))
        if len(handles) >= WINDOW and not await _end_of(handles.popleft(), POLL_S):
            break
    for handle in handles:
        await _end_of(handle, POLL_S)


async def _end_of(handle: WorkflowHandleAsync[T], poll_s: float) -> bool:
    """Wait for a part. One that broke is no end of the batch: what it left is found again when the batch is settled."""
    try:
        return bool(await handle.get_result(polling_interval_sec=poll_s))
    except Exception:
        log.exception("a part of a batch broke off")
        return False


async def _all_jobs(batch_id: str, rounds: int) -> None:
    handles = []
    for no in await _plan_jobs(batch_id):
        with SetWorkflowID(f"{DBOS.workflow_id}.{rounds}.job.{no}"):
            handles.append(await DBOS.enqueue_workflow_async(JOBS, run_job, batch_id, no))
    for handle in handles:
        await _end_of(handle, POLL_S * 4)


@DBOS.workflow(name=CHUNK, max_recovery_attempts=None)
async def run_chunk(batch_id: str, group: int, size: int) -> bool:
    """Some lines, one after the other in as many lanes as there are."""
    return await _chunk(batch_id, group, size)


@DBOS.workflow(name=JOB, max_recovery_attempts=None)
async def run_job(batch_id: str, no: int) -> None:
    """One job of a service: submit it once, wait for days if it takes days, read what came back."""
    while (wait := await _submit_job(batch_id, no)) is not None:
        await DBOS.sleep_async(wait)
    while (wait := await _poll_job(batch_id, no)) is not None:
        await DBOS.sleep_async(wait)
    while (wait := await _collect_job(batch_id, no)) is not None:
        await DBOS.sleep_async(wait)


# --- steps ---------------------------------------------------------------------------------------------------------
@DBOS.step(name="begin")
async def _begin(batch_id: str) -> Beginning:
    return await steps().begin(batch_id)


@DBOS.step(name="groups")
async def _groups(batch_id: str, size: int) -> list[int]:
    return await steps().groups(batch_id, size)


@DBOS.step(name="chunk")
async def _chunk(batch_id: str, group: int, size: int) -> bool:
    return await steps().chunk(batch_id, group, size)


@DBOS.step(name="settle")
async def _settle(batch_id: str) -> str:
    return await steps().settle(batch_id)


@DBOS.step(name="plan_jobs")
async def _plan_jobs(batch_id: str) -> list[int]:
    return await steps().plan_jobs(batch_id)


@DBOS.step(name="submit_job")
async def _submit_job(batch_id: str, no: int) -> float | None:
    return await steps().submit_job(batch_id, no)


@DBOS.step(name="poll_job")
async def _poll_job(batch_id: str, no: int) -> float | None:
    return await steps().poll_job(batch_id, no)


@DBOS.step(name="collect_job")
async def _collect_job(batch_id: str, no: int) -> float | None:
    return await steps().collect_job(batch_id, no)


@DBOS.step(name="notify")
async def _notify(batch_id: str) -> None:
    await steps().notify(batch_id)
