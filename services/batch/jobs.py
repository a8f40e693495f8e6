"""The jobs of a batch at a batch service: cut, submitted once, asked after, and read back line by line.

Everything that blocks runs in threads. Whatever is repeated after a crash ends the same: a submit has its token, and a
line that has its end keeps it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from db import batches
from db.writer import Writer
from services.batch import job_cut, job_results, job_units
from services.batch.job_spot import Spot
from services.batch.line_calls import written
from services.batch.providers.base import Get, ResultsGone, Route, RouteTrouble
from services.batch.types import (
    BatchState,
    Job,
    Line,
    LineState,
    SubmitLater,
    SubmitRefused,
    SubmitStopped,
    ask_of_json,
)
from services.security.keys import scrub
from services.types import Deployment

log = logging.getLogger(__name__)
Row = dict[str, Any]
READ_AT_ONCE = 500
SUBMIT_AGAIN_S, LONGEST_AGAIN_S = 30.0, 900.0
LOOK_S = 15.0  # while a job waits to be submitted again: so soon is a cancel noticed
COLLECT_TRIES = 20
# Asked often at first, because small jobs end within minutes, then every minute. (age in seconds, seconds between)
PACE = ((60.0, 5.0), (600.0, 15.0), (float("inf"), 60.0))
TROUBLE_S = 60.0
UNSURE = "Not checked: "  # how a route begins a sentence about what could not be found out (`providers.aws_check`)
LEFT: Mapping[str, LineState] = {"cancelled": "cancelled", "expired": "expired", "failed": "failed"}


class Jobs:
    """What a worker does for batches that go to a service. ``wanted``: what is wanted of a batch now."""

    def __init__(
        self, *, writer: Writer, reader: Engine, data: Path, get: Get, wanted: Callable[[str], str],
        deployment_of: Callable[[Row], Deployment],
    ) -> None:  # fmt: skip
        self._writer = writer
        self._reader = reader
        self._data = data
        self._get = get
        self._wanted = wanted
        self._deployment_of = deployment_of
        self._pace = float(os.environ.get("LAB_BATCH_POLL", "1"))  # tests make it faster

    # --- cutting ---------------------------------------------------------------------------------------------------

    async def plan(self, batch: Row) -> list[int]:
        """Cut the lines into jobs that the service takes; the numbers of all jobs. Lines it cannot take fail here."""
        known = await asyncio.to_thread(batches.jobs, self._reader, batch["id"])
        if not known:
            route, deployment = self._get(batch["route"]), self._deployment_of(batch)
            await asyncio.to_thread(_look, route, deployment)
            rows = self._rows(batch["id"], 1, None)
            cut, refused = await asyncio.to_thread(job_cut.cut, batch["id"], rows, route, deployment)
            await written(self._writer, partial(job_units.keep_plan, batch["id"], cut, refused))
            known = cut
        return [job["no"] for job in known]

    def _rows(self, batch_id: str, first: int, last: int | None, job_no: int | None = None) -> Iterator[Row]:
        end = last if last is not None else batches.last_no(self._reader, batch_id)
        for start in range(first, end + 1, READ_AT_ONCE):
            upto = min(end, start + READ_AT_ONCE - 1)
            for row in batches.lines_between(self._reader, batch_id, start, upto, batches.OPEN):
                if job_no is None or row["job_no"] == job_no:
                    yield row

    # --- submitting ------------------------------------------------------------------------------------------------

    async def submit(self, batch: Row, no: int) -> float | None:
        """None when the job is at the service, or will never be; else seconds until it is tried again."""
        row = await self._row(batch["id"], no)
        if row is None or row["vendor_id"] or row["state"] in batches.OVER:
            return None
        facts, stopped = row["facts"] or {}, self._wanted(batch["id"]) == "cancel"
        if stopped and not facts.get("tried_at"):
            return await self._cancelled(batch, no, "Cancelled before it was sent.")
        if not stopped and (left := float(facts.get("again_at") or 0.0) - time.time()) > 0:
            return min(left, LOOK_S * self._pace)
        route, deployment, job = self._get(batch["route"]), self._deployment_of(batch), _job(batch["id"], row)
        # When it was first tried is kept before it is: a worker elsewhere then looks for what a lost answer left there,
        # and so does a cancel: what an earlier try has sent must be collected.
        facts = {"tried_at": time.time(), **facts}
        await self._say_job(batch, no, state="sending", said=None, facts=facts)
        try:
            lines = (Line(r["no"], ask_of_json(r["request"])) for r in self._rows(
                batch["id"], row["first_no"], row["last_no"], no))  # fmt: skip
            made = await asyncio.to_thread(route.submit, deployment, job, lines, self._spot(batch["id"], no))
        except SubmitStopped as error:
            return await self._cancelled(batch, no, str(error))
        except SubmitLater as error:
            if error.leave and self._wanted(batch["id"]) == "cancel":
                return await self._cancelled(batch, no, str(error))
            return await self._later(batch, no, facts, error)
        except SubmitRefused as error:
            await self._say_job(batch, no, state="failed", said=str(error), ended=True)
            return None
        await written(self._writer, partial(job_units.submitted, batch["id"], no, made.vendor_id, dict(made.facts)))
        await self._say_batch(batch["id"])
        return None

    async def _later(self, batch: Row, no: int, facts: Row, error: SubmitLater) -> float:
        """Try once more when the service said, or after longer each time. Seconds until it is looked at again."""
        tries = int(facts.get("tries", 0)) + 1
        wait = error.retry_after_s or min(LONGEST_AGAIN_S, SUBMIT_AGAIN_S * 2 ** min(tries - 1, 6))
        facts = facts | {"tries": tries, "again_at": time.time() + wait * self._pace}
        await self._say_job(batch, no, state="waiting_for_quota", said=str(error), facts=facts)
        return min(wait, LOOK_S) * self._pace

    async def _cancelled(self, batch: Row, no: int, said: str) -> float | None:
        await self._say_job(batch, no, state="cancelled", said=said, ended=True)
        return None

    # --- asking ----------------------------------------------------------------------------------------------------

    async def poll(self, batch: Row, no: int) -> float | None:
        """None when the job is over; else seconds until it is asked again."""
        row = await self._row(batch["id"], no)
        if row is None or row["state"] in batches.OVER or row["state"] == "collecting":
            return None
        if not row["vendor_id"]:  # the service gave it back, to be sent anew (`job_units.polled`)
            again = await self.submit(batch, no) if row["state"] in ("waiting_for_quota", "sending") else None
            sent = await self._row(batch["id"], no)
            return again if again is not None or sent is None or not sent["vendor_id"] else PACE[0][1] * self._pace
        route, deployment, job = self._get(batch["route"]), self._deployment_of(batch), _job(batch["id"], row)
        try:
            if self._wanted(batch["id"]) == "cancel" and not job.facts.get("cancel_asked"):
                await asyncio.to_thread(route.cancel, deployment, job)
                row["facts"] = dict(job.facts) | {"cancel_asked": True}
                await self._say_job(batch, no, state="cancelling", said=None, facts=row["facts"])
            polled = await asyncio.to_thread(route.poll, deployment, job)
        except RouteTrouble as error:
            await self._say_job(batch, no, state=row["state"], said=str(error))
            return TROUBLE_S * self._pace
        wait = float(polled.facts.get("resubmit_after_s") or SUBMIT_AGAIN_S)
        again_at = time.time() + wait * self._pace
        await written(self._writer, partial(job_units.polled, batch["id"], row, polled, again_at))
        await self._say_batch(batch["id"])
        if job_units.given_back(polled):
            return min(wait, LOOK_S) * self._pace
        if polled.over:
            return None
        age = (datetime.now(UTC) - row["submitted_at"]).total_seconds() if row["submitted_at"] else 0.0
        return next(seconds for until, seconds in PACE if age < until) * self._pace

    # --- reading back ----------------------------------------------------------------------------------------------

    async def collect(self, batch: Row, no: int) -> float | None:
        """None when every line of the job has its end; else seconds until it is tried again."""
        row = await self._row(batch["id"], no)
        if row is None or row["state"] in batches.OVER:
            await self._close(batch, no, (row or {}).get("state", "failed"), (row or {}).get("said"))
            return None
        facts = row["facts"] or {}
        end: BatchState = facts.get("end") or "ended"
        strays: Counter[str] = Counter()
        said, spot = facts.get("word", row["said"]), self._spot(batch["id"], no)
        if facts.get("collectable"):
            try:
                strays = await asyncio.to_thread(self._read, batch, row, spot)
            except ResultsGone as error:
                said = str(error)
            except RouteTrouble as error:
                tries = int(facts.get("collect_tries", 0)) + 1
                if tries < COLLECT_TRIES:
                    facts = facts | {"collect_tries": tries}
                    await self._say_job(batch, no, state="collecting", said=str(error), facts=facts)
                    return TROUBLE_S * self._pace
                said = f"{error} It was given up after {tries} tries."
        told = "; ".join(job_results.counted(what, n) for what, n in strays.items())
        more = [f"The service also sent {told}."] if told else []
        said = " ".join(part for part in (said, *spot.notes, *more) if part) or None
        facts = {name: value for name, value in facts.items() if name != "collect_tries"} | {"strays": dict(strays)}
        await self._say_job(batch, no, state=end, said=said, facts=facts, ended=True)
        await self._close(batch, no, end, said)
        return None

    def _read(self, batch: Row, row: Row, spot: Spot) -> Counter[str]:
        deployment = self._deployment_of(batch)
        route, job = self._get(batch["route"]), _job(batch["id"], row)
        results = partial(route.results, deployment, job, spot)
        return job_results.record(self._writer, batch, row, deployment, results)

    async def _close(self, batch: Row, no: int, end: str, said: str | None) -> None:
        """What the service did not answer."""
        left = LEFT.get(end, "missing")
        message = said if left == "failed" else job_results.nothing_came(said) if left == "missing" else None
        await written(self._writer, partial(job_units.close, batch["id"], no, left, message))
        await self._say_batch(batch["id"])

    # --- what the page shows ---------------------------------------------------------------------------------------

    async def _say_job(
        self, batch: Row, no: int, *, state: str, said: str | None, facts: Row | None = None, ended: bool = False
    ) -> None:
        values: Row = {"state": state, "said": scrub(said) if said else None}
        values |= {} if facts is None else {"facts": facts}
        values |= {"ended_at": datetime.now(UTC)} if ended else {}
        await written(self._writer, partial(job_units.set_job, batch["id"], no, values))
        await self._say_batch(batch["id"])

    async def _say_batch(self, batch_id: str) -> None:
        """The batch as its jobs stand, the one that is furthest behind first."""
        jobs = await asyncio.to_thread(batches.jobs, self._reader, batch_id)
        states = {job["state"] for job in jobs}
        order: tuple[BatchState, ...] = (
            "waiting_for_quota", "sending", "checking", "running", "cancelling", "collecting",
        )  # fmt: skip
        state = next((one for one in order if one in states), None)
        if state is None:
            return
        if self._wanted(batch_id) == "cancel":
            state = "cancelling"
        said = next((job["said"] for job in jobs if job["state"] == state and job["said"]), None)
        await written(self._writer, partial(job_units.set_batch, batch_id, {"state": state, "said": said}))

    async def _row(self, batch_id: str, no: int) -> Row | None:
        jobs = await asyncio.to_thread(batches.jobs, self._reader, batch_id)
        return next((job for job in jobs if job["no"] == no), None)

    def _spot(self, batch_id: str, no: int) -> Spot:
        folder = self._data / "batches" / batch_id
        folder.mkdir(parents=True, exist_ok=True)
        return Spot(
            folder, lambda text: self._tell(batch_id, no, text), lambda: self._wanted(batch_id) == "cancel"
        )  # fmt: skip

    def _tell(self, batch_id: str, no: int, text: str) -> None:
        self._writer.submit(partial(job_units.tell, batch_id, no, text))


def _job(batch_id: str, row: Row) -> Job:
    return Job(batch_id, row["no"], row["token"], row["n_lines"], row["vendor_id"], row["facts"] or {})


def _look(route: Route, deployment: Deployment) -> None:
    """Raises ValueError in words when something is missing without which every submit would fail: role, bucket, key."""
    try:
        troubles = [one for one in route.check(deployment) if not one.startswith(UNSURE)]
    except RouteTrouble:
        return
    if troubles:
        raise ValueError(" ".join(troubles))
