"""What a worker does for the workflows of `workflows`: begin a batch, send a chunk of it, see what comes next.

Each of these may be asked for again after a crash, by the same worker or by another, and then changes nothing that is
settled already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlmodel import Session

from db import batches
from services.batch import notice
from services.batch.jobs import Jobs
from services.batch.line_calls import written
from services.batch.runner import Around, Sender
from services.deployments import config
from services.runs.spec import new_id
from services.security.keys import scrub
from services.types import Deployment

Row = dict[str, Any]
SMALLEST_CHUNK, LARGEST_CHUNK, CHUNKS_WANTED = 20, 128, 40  # lines, lines, chunks of a batch


class Works:
    """The work of one worker. ``senders``: of the batches that it sends through our own runner."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self._writer, self._reader = around.writer, around.reader
        self.senders: dict[str, Sender] = {}
        self.jobs: Jobs  # set by the worker, which knows the services
        self.closing = False

    def deployment_of(self, batch: Row) -> Deployment:
        """The deployment of a batch as it is called now; as it was at the submit where it is not known any more."""
        try:
            return self._around.registry.calling(batch["deployment_id"])
        except ValueError:
            return config.from_json(batch["deployment"])

    async def begin(self, batch_id: str) -> dict[str, Any]:
        """Take a batch up."""
        batch = await self._batch(batch_id)
        if batch is None or batch["state"] in batches.OVER:
            return {"go": "leave", "size": 0}
        size = max(SMALLEST_CHUNK, min(LARGEST_CHUNK, -(-batch["n_lines"] // CHUNKS_WANTED)))
        runner = batch["route"] == "runner"
        values: Row = {"state": "running" if runner else batch["state"]} | ({"said": None} if runner else {})
        if batch["started_at"] is None:
            values["started_at"] = datetime.now(UTC)
        states = ["queued", "running"] if runner else [batch["state"]]
        moving = partial(_move, batch_id, states, "run" if runner else batch["wanted"], values)
        if not await written(self._writer, moving):
            return {"go": "settle", "size": size}
        return {"go": "chunks" if runner else "jobs", "size": size}

    async def groups(self, batch_id: str, size: int) -> list[int]:
        """The chunks that have lines which are not over."""
        await self._go_on()
        return await asyncio.to_thread(batches.open_groups, self._reader, batch_id, size)

    async def chunk(self, batch_id: str, group: int, size: int) -> bool:
        """Send the lines of a chunk; False when sending was stopped."""
        await self._go_on()
        sender = await self._sender(batch_id)
        if sender is None:
            return False
        await sender.send(group * size + 1, (group + 1) * size)
        await self._go_on()
        return not sender.turns.closed

    async def _sender(self, batch_id: str) -> Sender | None:
        """The sender of a batch; None when nothing is to be sent of it."""
        known = self.senders.get(batch_id)
        if known is not None and not known.turns.closed:
            return known
        if known is not None:
            await known.settled()
        await self._around.registry.refresh()
        batch = await self._batch(batch_id)
        if batch is None or batch["state"] in batches.OVER or batch["wanted"] != "run":
            return None
        known = self.senders.get(batch_id)  # another chunk may have been quicker
        if known is None or known.turns.closed:
            known = self.senders[batch_id] = Sender(self._around, batch, self.deployment_of(batch))
        return known

    async def settle(self, batch_id: str) -> str:
        """What comes next for a batch: "again", "over" or "leave"."""
        await self._go_on()
        if (known := self.senders.get(batch_id)) is not None:
            await known.settled()
        batch = await self._batch(batch_id)
        if batch is None or batch["state"] in batches.OVER:
            return "leave"
        if batch["wanted"] == "cancel":
            ended = await self._end(batch, "cancelled", "cancelled")
            return "over" if ended else "leave"
        if batch["wanted"] == "pause":
            states = ["queued", "running", "pausing", "paused"]
            pausing = partial(_move, batch_id, states, "pause", {"state": "paused"})
            return "leave" if await written(self._writer, pausing) else "again"
        counted = await asyncio.to_thread(batches.counts, self._reader, batch_id)
        if any(counted.get(state) for state in batches.OPEN):
            return "again"
        state, left = await self._how(batch)
        return "over" if await self._end(batch, state, left) else "leave"

    async def _how(self, batch: Row) -> tuple[str, str]:
        """How a batch whose lines are all over has ended, from its jobs."""
        states = {job["state"] for job in await asyncio.to_thread(batches.jobs, self._reader, batch["id"])}
        if "expired" in states:
            return "expired", "expired"
        if states and states <= {"failed"}:
            return "failed", "failed"
        if states and states <= {"cancelled"}:
            return "cancelled", "cancelled"
        return "ended", "missing"

    async def _end(self, batch: Row, state: str, left: str) -> bool:
        counted = await asyncio.to_thread(batches.counts, self._reader, batch["id"])
        jobs = await asyncio.to_thread(batches.jobs, self._reader, batch["id"])
        more = [job["said"] for job in jobs if job["said"]]
        tally = notice.tally(notice.closed(counted, left))
        said = " ".join([f"{tally[:1].upper()}{tally[1:]}.", *dict.fromkeys(more[:3])])
        return await written(self._writer, partial(_end, batch["id"], state, said, left))

    async def plan_jobs(self, batch_id: str) -> list[int]:
        """Cut a batch into jobs."""
        batch = await self._batch(batch_id)
        if batch is None:
            return []
        try:
            return await self.jobs.plan(batch)
        except ValueError as error:  # no job can be made of it: the batch ends, and says why
            await written(self._writer, partial(_refused, batch, scrub(str(error))))
            return []

    async def submit_job(self, batch_id: str, no: int) -> float | None:
        """Submit a job, or say in how many seconds that is tried again."""
        return await self._job(self.jobs.submit, batch_id, no)

    async def poll_job(self, batch_id: str, no: int) -> float | None:
        """Ask how a job stands, or say in how many seconds it is asked again."""
        return await self._job(self.jobs.poll, batch_id, no)

    async def collect_job(self, batch_id: str, no: int) -> float | None:
        """Read what came back, or say in how many seconds that is tried again."""
        return await self._job(self.jobs.collect, batch_id, no)

    async def _job(self, do: Callable[[Row, int], Awaitable[float | None]], batch_id: str, no: int) -> float | None:
        await self._go_on()
        batch = await self._batch(batch_id)
        return None if batch is None else await do(batch, no)

    async def notify(self, batch_id: str) -> None:
        """Send the notice of a batch that is over."""
        batch = await self._batch(batch_id)
        if batch is None or not batch["notify"] or batch["notified"]:
            return
        counted = await asyncio.to_thread(batches.counts, self._reader, batch_id)
        spent = await asyncio.to_thread(batches.spent, self._reader, batch_id)
        told = await asyncio.to_thread(notice.send, batch["notify"], notice.sentence(batch, counted, spent))
        await written(self._writer, partial(_notified, batch_id, told))

    async def _batch(self, batch_id: str) -> Row | None:
        return await asyncio.to_thread(batches.batch, self._reader, batch_id)

    async def _go_on(self) -> None:
        """A worker that is being stopped begins nothing: the step is done by whoever comes next."""
        if self.closing:
            await asyncio.Event().wait()


def _move(batch_id: str, states: list[str], while_wanted: str, values: Row, session: Session) -> bool:
    return batches.move(session=session, batch_id=batch_id, states=states, while_wanted=while_wanted, **values)


def _end(batch_id: str, state: str, said: str, left: str, session: Session) -> bool:
    return batches.end_batch(session=session, batch_id=batch_id, state=state, said=said, left=left)


def _notified(batch_id: str, told: str, session: Session) -> None:
    batches.set_batch(session=session, batch_id=batch_id, unless_over=False, notified=told)


def _refused(batch: Row, said: str, session: Session) -> None:
    batches.insert_jobs(session=session, rows=[{
        "batch_id": batch["id"], "no": 1, "token": f"lab-{new_id()}", "first_no": 1, "last_no": batch["n_lines"],
        "n_lines": batch["n_lines"], "state": "failed", "said": said, "ended_at": datetime.now(UTC),
    }])  # fmt: skip
    batches.close_lines(session=session, batch_id=batch["id"], state="failed", message=said)
