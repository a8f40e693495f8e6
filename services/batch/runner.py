"""One batch in the hands of one worker: its lines are sent through our own runner, and tried again where that helps."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Engine

from db import batches
from db.writer import Writer
from services.batch.concurrency import MOST, Lanes, Spacing
from services.batch.lease import LEASE_S
from services.batch.line_calls import Ends, LineCalls, Verdict, written
from services.batch.patience import WAITS, Patience, Tries
from services.batch.purse import Purse
from services.batch.turns import Turns
from services.batch.types import SOURCE, ask_of_json
from services.calls.live import LiveCall
from services.deployments.registry import Registry
from services.security.keys import scrub
from services.types import Ask, Deployment

log = logging.getLogger(__name__)
Row = dict[str, Any]
LOOK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Around:
    """What a worker has for all of its batches. ``workers``: how many workers are alive, this one included."""

    worker: str
    writer: Writer
    reader: Engine
    registry: Registry
    calls: LineCalls
    workers: Counter[str]


class Sender:
    """Everything of one batch that is under way in this worker. Made and used on the worker's loop."""

    def __init__(self, around: Around, batch: Row, deployment: Deployment) -> None:
        self._around = around
        self.batch = batch
        self.id: str = batch["id"]
        self.deployment = deployment
        self.lanes = Lanes(most=self._share(batch["max_lanes"]) or MOST, objective_ms=batch["objective_ms"])
        self.turns = Turns(self.lanes, Spacing(self._share(batch["per_minute"])))
        self.purse = Purse(batch, deployment, around.reader, around.workers)
        self.stopping: asyncio.Future[bool] | None = None
        self._cancelled = False
        self._patience = Patience(deployment.name, self.turns)
        self._live: set[LiveCall] = set()
        self._told: Row = {"lanes": None, "said": None}

    # --- what the worker tells it ----------------------------------------------------------------------------------

    def look(self, batch: Row | None) -> None:
        """The batch as it is in the records now; None when it is not there any more, or over."""
        wanted = "cancel" if batch is None else batch["wanted"]
        if batch is not None:
            self.batch = batch
            self.lanes.bound(self._share(batch["max_lanes"]) or MOST)
            self.turns.spacing.limit(self._share(batch["per_minute"]))
            self.purse.look(batch)
        if wanted != "run":
            self.turns.close()
        if wanted == "cancel" and not self._cancelled:
            self._cancelled = True
            self.abort()

    def abort(self, *, lab_stopped: bool = False) -> None:
        """End the calls under way. ``lab_stopped``: because the worker ends, not because a person wants it."""
        for call in list(self._live):
            if call.task is not None and call.progress.abort is None and not call.progress.over:
                call.lab_stopped = lab_stopped
                call.progress.abort = "cancelled"
                call.task.cancel()

    def news(self) -> Row:
        """What is another than the last time: ``concurrency``, how many there are; ``said``, whether the service is
        waited for."""
        now: Row = {"lanes": self.lanes.limit, "said": self._patience.said}
        changed = {name: value for name, value in now.items() if value != self._told[name]}
        self._told = now
        return changed

    @property
    def busy(self) -> bool:
        """Whether a line is under way."""
        return self.turns.in_use > 0

    def _share(self, whole: int | None) -> int | None:
        """A worker's part of what was allowed for the batch."""
        return max(1, whole // max(1, self._around.workers["alive"])) if whole else None

    # --- lines -----------------------------------------------------------------------------------------------------

    async def send(self, first: int, last: int) -> None:
        """Send the lines ``first`` to ``last`` that are not over. Returns when they are, or when sending was stopped.

        Lines that another worker has in hand are waited for: it may be dead, and its lease runs out.
        """
        left = await self._some(first, last, batches.OPEN)
        while left and not self.turns.closed:
            tasks: list[asyncio.Task[bool]] = []
            try:
                for row in left:
                    if not await self.turns.take():
                        break
                    if not await self._afford(row):
                        self.turns.release()
                        break
                    tasks.append(asyncio.create_task(self._line(row)))
                ours = await asyncio.gather(*tasks)
            except BaseException:
                for task in tasks:
                    task.cancel()
                raise
            if all(ours) or self.turns.closed:
                left = [] if self.turns.closed else await self._some(first, last, batches.OPEN)
                continue
            await self.turns.sleep(LOOK_AGAIN_S)
            left = await self._some(first, last, batches.OPEN)

    async def _some(self, first: int, last: int, states: tuple[str, ...]) -> deque[Row]:
        return deque(await asyncio.to_thread(batches.lines_between, self._around.reader, self.id, first, last, states))

    async def _afford(self, row: Row) -> bool:
        if await self.purse.take(row):
            return True
        await self.stop(self.purse.sentence())
        return False

    async def _line(self, row: Row) -> bool:
        """Send one line until it is over; it has a turn. False when another worker has it in hand."""
        tries = Tries()
        has_turn = True
        try:
            while True:
                verdict = await self._attempt(row, ask_of_json(row["request"]), tries)
                if verdict is None or verdict.wait_s is None:
                    return verdict is not None
                self.turns.release()
                has_turn = False
                await self.turns.sleep(verdict.wait_s)
                has_turn = await self.turns.take()
                if not has_turn:
                    return True
        finally:
            self.purse.give_back(row)
            if has_turn:
                self.turns.release()

    async def _attempt(self, row: Row, ask: Ask, tries: Tries) -> Verdict | None:
        """One call, and what becomes of the line. None when the line could not be claimed."""
        if self.turns.closed:
            return Verdict(WAITS)
        around = self._around
        call, values = around.calls.prepare(
            run_id=self.batch["run_id"], column=0, deployment=self.deployment, ask=ask, repetition=row["no"],
            attempt_no=1, person=self.batch["person"], source=SOURCE, retry_of=row["call_id"],
        )  # fmt: skip
        claimed = await written(around.writer, partial(_claim, self.id, row["no"], around.worker, values))
        if claimed is None:
            return None
        call.attempt = claimed["attempt_no"]
        row["call_id"] = call.id  # what the next attempt is a retry of
        refused = bool(values["request"]["refused"])
        ends = Ends(self.id, row["no"], lambda final: self._patience.verdict(
            final, tries, refused=refused, cancelled=self._cancelled))  # fmt: skip
        began = time.monotonic()
        self._live.add(call)
        try:
            call.task = asyncio.create_task(around.calls.live_line(call, ends))
            if self._cancelled:
                self.abort()
            await call.task
        finally:
            self._live.discard(call)
        final = call.final or {}
        good = final.get("state") == "succeeded"
        self.purse.paid(final)
        self.turns.ended(
            began=began, latency_ms=(final.get("ttlt_ms") or final.get("end_ms")) if good else None,
            throttled=final.get("outcome") == "throttled",
        )  # fmt: skip
        if ends.verdict is not None and ends.verdict.pause is not None:
            await self.stop(ends.verdict.pause)
        return ends.verdict

    async def stop(self, said: str) -> None:
        """Pause the batch for a reason of ours; what is under way ends, nothing else is begun, in any worker."""
        if self.turns.closed:
            return
        self.turns.close()
        log.warning("batch %s: %s", self.id, scrub(said))
        writing = written(self._around.writer, partial(_pause, self.id, scrub(said)))
        self.stopping = asyncio.ensure_future(writing)
        await self.stopping

    async def settled(self) -> None:
        """Wait until a pause of ours stands in the records."""
        if self.stopping is not None:
            await self.stopping


def _claim(batch_id: str, no: int, worker: str, values: Row, session: Any) -> Row | None:
    return batches.claim(session=session, batch_id=batch_id, no=no, worker=worker, lease_s=LEASE_S, call=values)


def _pause(batch_id: str, said: str, session: Any) -> bool:
    return batches.move(
        session=session, batch_id=batch_id, states=("queued", "running"), wanted="pause", state="pausing", said=said
    )
