"""The jobs of a batch at a batch service: planned, submitted exactly once, polled, and collected line by line.

Everything that blocks runs in threads. Every step can be repeated after a crash with the same result: a submit carries
a token, and a line that has ended stays as it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path

from sqlalchemy import Engine
from sqlmodel import Session

from db import batches
from db.batch_rows import BatchChange, BatchRow, JobChange, JobFacts, JobRow, JobState, LineChange, LineRow, NewJob
from db.writer import Writer
from services import outcomes
from services.batch import ingest
from services.batch.runner import written
from services.batch.types import (
    SOURCE,
    UNSURE,
    BatchState,
    Get,
    Job,
    Line,
    LineResult,
    LineState,
    Polled,
    ResultsGone,
    Route,
    RouteTrouble,
    SubmitLater,
    SubmitRefused,
    SubmitStopped,
    ask_of_line,
    no_of,
)
from services.call_record import (
    BEGINNING,
    END,
    NOT_BILLED,
    NOT_TIMED,
    TIMING_COLUMNS,
    CallAnswer,
    CallCost,
    CalledDeployment,
    CallOutcome,
    CallRecord,
    CallRequest,
    to_row,
)
from services.calls.record import priced_cost
from services.pricing import cost as pricing_cost
from services.runs.spec import new_id
from services.security import keys
from services.security.keys import scrub
from services.types import Deployment, Json, Usage

log = logging.getLogger(__name__)

READ_AT_ONCE = 500

SUBMIT_AGAIN_S, LONGEST_AGAIN_S = 30.0, 900.0

LOOK_S = 15.0  # while a job waits to be submitted again: so soon is a cancel noticed

COLLECT_TRIES = 20


# Asked often at first, because small jobs end within minutes, then every minute. (age in seconds, seconds between)
PACE = ((60.0, 5.0), (600.0, 15.0), (float("inf"), 60.0))


TROUBLE_S = 60.0

LEFT: Mapping[str, LineState] = {"cancelled": "cancelled", "expired": "expired", "failed": "failed"}


class Jobs:
    """What a worker does for batches that go to a service. ``wanted_of``: what is wanted of a batch now."""

    def __init__(
        self,
        *,
        writer: Writer,
        reader: Engine,
        data: Path,
        get: Get,
        wanted_of: Callable[[str], str],
        deployment_of: Callable[[BatchRow], Deployment],
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._data = data
        self._get = get
        self._wanted_of = wanted_of
        self._deployment_of = deployment_of
        self._pace = float(os.environ.get("LAB_BATCH_POLL", "1"))  # tests make it faster

    # --- cutting ---------------------------------------------------------------------------------------------------

    async def plan(self, batch: BatchRow) -> list[int]:
        """Cut the lines into jobs that the service takes; the numbers of all jobs. Lines it cannot take fail here."""
        planned = await asyncio.to_thread(batches.jobs, self._reader, batch["id"])
        if not planned:
            route, deployment = self._get(batch["route"]), self._deployment_of(batch)
            await asyncio.to_thread(_look, route, deployment)
            rows = self._rows(batch["id"], 1, None)
            cut, refused = await asyncio.to_thread(ingest.cut, batch["id"], rows, route, deployment)
            await written(self._writer, partial(keep_plan, batch["id"], cut, refused))
            return [job["no"] for job in cut]
        return [job["no"] for job in planned]

    def _rows(self, batch_id: str, first: int, last: int | None, job_no: int | None = None) -> Iterator[LineRow]:
        end = last if last is not None else batches.last_no(self._reader, batch_id)
        for start in range(first, end + 1, READ_AT_ONCE):
            upto = min(end, start + READ_AT_ONCE - 1)
            for row in batches.lines_between(self._reader, batch_id, start, upto, batches.OPEN):
                if job_no is None or row["job_no"] == job_no:
                    yield row

    # --- submitting ------------------------------------------------------------------------------------------------

    async def submit(self, batch: BatchRow, no: int) -> float | None:
        """None when the job is at the service, or will never be; else seconds until it is tried again."""
        row = await self._row(batch["id"], no)
        if row is None or row["vendor_id"] or row["state"] in batches.OVER:
            return None
        facts = _facts(row)
        stopped = self._wanted_of(batch["id"]) == "cancel"
        if stopped and not facts.get("tried_at"):
            return await self._cancelled(batch, no, "Cancelled before it was sent.")
        if not stopped and (remaining_s := float(facts.get("again_at") or 0.0) - time.time()) > 0:
            return min(remaining_s, LOOK_S * self._pace)
        route, deployment, job = self._get(batch["route"]), self._deployment_of(batch), _job(batch["id"], row)
        # When it was first tried is kept before it is: a worker elsewhere then looks for what a lost answer left there,
        # and so does a cancel: what an earlier try has sent must be collected.
        facts = {"tried_at": time.time(), **facts}
        await self._say_job(batch, no, state="sending", sentence=None, facts=facts)
        try:
            lines = (
                Line(r["no"], ask_of_line(r)) for r in self._rows(batch["id"], row["first_no"], row["last_no"], no)
            )
            submitted_job = await asyncio.to_thread(
                route.submit, deployment, job, lines, self._context(batch["id"], no)
            )
        except SubmitStopped as error:
            return await self._cancelled(batch, no, str(error))
        except SubmitLater as error:
            if error.leave and self._wanted_of(batch["id"]) == "cancel":
                return await self._cancelled(batch, no, str(error))
            return await self._later(batch, no, facts, error)
        except SubmitRefused as error:
            await self._say_job(batch, no, state="failed", sentence=str(error), ended=True)
            return None
        await written(self._writer, partial(submitted, batch["id"], no, submitted_job.vendor_id, submitted_job.facts))
        await self._say_batch(batch["id"])
        return None

    async def _later(self, batch: BatchRow, no: int, facts: JobFacts, error: SubmitLater) -> float:
        """Try once more when the service said, or after longer each time. Seconds until it is looked at again."""
        tries = int(facts.get("tries", 0)) + 1
        wait = error.retry_after_s or min(LONGEST_AGAIN_S, SUBMIT_AGAIN_S * 2 ** min(tries - 1, 6))
        facts = {**facts, "tries": tries, "again_at": time.time() + wait * self._pace}
        await self._say_job(batch, no, state="waiting_for_quota", sentence=str(error), facts=facts)
        return min(wait, LOOK_S) * self._pace

    async def _cancelled(self, batch: BatchRow, no: int, sentence: str) -> float | None:
        await self._say_job(batch, no, state="cancelled", sentence=sentence, ended=True)
        return None

    # --- asking ----------------------------------------------------------------------------------------------------

    async def poll(self, batch: BatchRow, no: int) -> float | None:
        """None when the job is over; else seconds until it is asked again."""
        row = await self._row(batch["id"], no)
        if row is None or row["state"] in batches.OVER or row["state"] == "collecting":
            return None
        if not row["vendor_id"]:  # the service gave it back, to be sent anew (`record_poll`)
            again = await self.submit(batch, no) if row["state"] in ("waiting_for_quota", "sending") else None
            sent = await self._row(batch["id"], no)
            return again if again is not None or sent is None or not sent["vendor_id"] else PACE[0][1] * self._pace
        route, deployment, job = self._get(batch["route"]), self._deployment_of(batch), _job(batch["id"], row)
        try:
            if self._wanted_of(batch["id"]) == "cancel" and not job.facts.get("cancel_asked"):
                await asyncio.to_thread(route.cancel, deployment, job)
                row["facts"] = {**job.facts, "cancel_asked": True}
                await self._say_job(batch, no, state="cancelling", sentence=None, facts=row["facts"])
            polled = await asyncio.to_thread(route.poll, deployment, job)
        except RouteTrouble as error:
            await self._say_job(batch, no, state=row["state"], sentence=str(error))
            return TROUBLE_S * self._pace
        wait = float(polled.facts.get("resubmit_after_s") or SUBMIT_AGAIN_S)
        again_at = time.time() + wait * self._pace
        await written(self._writer, partial(record_poll, batch["id"], row, polled, again_at))
        await self._say_batch(batch["id"])
        if given_back(polled):
            return min(wait, LOOK_S) * self._pace
        if polled.over:
            return None
        age = (datetime.now(UTC) - row["submitted_at"]).total_seconds() if row["submitted_at"] else 0.0
        return next(seconds for until, seconds in PACE if age < until) * self._pace

    # --- reading back ----------------------------------------------------------------------------------------------

    async def collect(self, batch: BatchRow, no: int) -> float | None:
        """None when every line of the job has its end; else seconds until it is tried again."""
        row = await self._row(batch["id"], no)
        if row is None or row["state"] in batches.OVER:
            state, said = ("failed", None) if row is None else (row["state"], row["said"])
            await self._close(batch, no, state, said)
            return None
        facts = _facts(row)
        end: BatchState = facts.get("end") or "ended"
        strays: Counter[str] = Counter()
        sentence, context = facts.get("word", row["said"]), self._context(batch["id"], no)
        if facts.get("collectable"):
            try:
                strays = await asyncio.to_thread(self._read, batch, row, context)
            except ResultsGone as error:
                sentence = str(error)
            except RouteTrouble as error:
                tries = int(facts.get("collect_tries", 0)) + 1
                if tries < COLLECT_TRIES:
                    facts = {**facts, "collect_tries": tries}
                    await self._say_job(batch, no, state="collecting", sentence=str(error), facts=facts)
                    return TROUBLE_S * self._pace
                sentence = f"{error} It was given up after {tries} tries."
        strays_text = "; ".join(counted(noun, n) for noun, n in strays.items())
        stray_notes = [f"The service also sent {strays_text}."] if strays_text else []
        sentence = " ".join(clause for clause in (sentence, *context.notes, *stray_notes) if clause) or None
        facts = {**facts, "strays": dict(strays)}
        facts.pop("collect_tries", None)
        await self._say_job(batch, no, state=end, sentence=sentence, facts=facts, ended=True)
        await self._close(batch, no, end, sentence)
        return None

    def _read(self, batch: BatchRow, row: JobRow, context: JobContext) -> Counter[str]:
        deployment = self._deployment_of(batch)
        route, job = self._get(batch["route"]), _job(batch["id"], row)
        results = partial(route.results, deployment, job, context)
        return record(self._writer, batch, row, deployment, results)

    async def _close(self, batch: BatchRow, no: int, end: str, sentence: str | None) -> None:
        """What the service did not answer."""
        line_state = LEFT.get(end, "missing")
        message = sentence if line_state == "failed" else nothing_came(sentence) if line_state == "missing" else None
        await written(self._writer, partial(close, batch["id"], no, line_state, message))
        await self._say_batch(batch["id"])

    # --- what the page shows ---------------------------------------------------------------------------------------

    async def _say_job(
        self,
        batch: BatchRow,
        no: int,
        *,
        state: JobState,
        sentence: str | None,
        facts: JobFacts | None = None,
        ended: bool = False,
    ) -> None:
        values: JobChange = {"state": state, "said": scrub(sentence) if sentence else None}
        if facts is not None:
            values["facts"] = facts
        if ended:
            values["ended_at"] = datetime.now(UTC)
        await written(self._writer, partial(set_job, batch["id"], no, values))
        await self._say_batch(batch["id"])

    async def _say_batch(self, batch_id: str) -> None:
        """The batch as its jobs stand, the one that is furthest behind first."""
        jobs = await asyncio.to_thread(batches.jobs, self._reader, batch_id)
        states = {job["state"] for job in jobs}
        order: tuple[BatchState, ...] = (
            "waiting_for_quota",
            "sending",
            "checking",
            "running",
            "cancelling",
            "collecting",
        )
        state = next((job_state for job_state in order if job_state in states), None)
        if state is None:
            return
        if self._wanted_of(batch_id) == "cancel":
            state = "cancelling"
        sentence = next((job["said"] for job in jobs if job["state"] == state and job["said"]), None)
        await written(self._writer, partial(set_batch, batch_id, {"state": state, "said": sentence}))

    async def _row(self, batch_id: str, no: int) -> JobRow | None:
        jobs = await asyncio.to_thread(batches.jobs, self._reader, batch_id)
        return next((job for job in jobs if job["no"] == no), None)

    def _context(self, batch_id: str, no: int) -> JobContext:
        folder = self._data / "batches" / batch_id
        folder.mkdir(parents=True, exist_ok=True)
        return JobContext(
            folder, lambda text: self._tell(batch_id, no, text), lambda: self._wanted_of(batch_id) == "cancel"
        )

    def _tell(self, batch_id: str, no: int, text: str) -> None:
        self._writer.submit(partial(tell, batch_id, no, text))


def _facts(row: JobRow) -> JobFacts:
    return row["facts"] or {}


def _job(batch_id: str, row: JobRow) -> Job:
    return Job(batch_id, row["no"], row["token"], row["n_lines"], row["vendor_id"], _facts(row))


def _look(route: Route, deployment: Deployment) -> None:
    """Raises ValueError in words when something is missing without which every submit would fail: role, bucket, key."""
    try:
        troubles = [trouble for trouble in route.check(deployment) if not trouble.startswith(UNSURE)]
    except RouteTrouble:
        return
    if troubles:
        raise ValueError(" ".join(troubles))


def given_back(polled: Polled) -> bool:
    """Whether the service gave a job back that has to be sent anew, as another one."""
    return polled.over and bool(polled.facts.get("resubmit"))


def keep_plan(batch_id: str, jobs: list[NewJob], refused: list[tuple[int, str]], session: Session) -> None:
    for no, sentence in refused:
        batches.refuse_line(session=session, batch_id=batch_id, no=no, message=sentence)
    if jobs:
        batches.insert_jobs(session=session, rows=jobs)


def submitted(batch_id: str, no: int, vendor_id: str | None, facts: JobFacts, session: Session) -> None:
    batches.set_job(
        session=session,
        batch_id=batch_id,
        no=no,
        vendor_id=vendor_id,
        facts=facts,
        state="checking",
        said=None,
        submitted_at=datetime.now(UTC),
    )
    batches.sent(session=session, batch_id=batch_id, job_no=no)


def record_poll(batch_id: str, row: JobRow, polled: Polled, again_at: float, session: Session) -> None:
    """What a service said of a job; one that it gave back is submitted anew at ``again_at`` (Unix seconds)."""
    facts: JobFacts = {**_facts(row), **polled.facts}
    if given_back(polled):
        batches.set_job(
            session=session,
            batch_id=batch_id,
            no=row["no"],
            token=f"lab-{new_id()}",
            vendor_id=None,
            facts={"again_at": again_at},
            state="waiting_for_quota",
            vendor_state=polled.vendor_state,
            polled_at=datetime.now(UTC),
            said=scrub(polled.sentence),
        )
        return
    if polled.over:
        # Its last word is kept apart from what is said while the results are read.
        facts["end"], facts["collectable"] = polled.state, polled.collectable
        facts["word"] = scrub(polled.sentence) if polled.sentence else None
    expires = datetime.fromtimestamp(polled.expires_at, UTC) if polled.expires_at else row["expires_at"]
    batches.set_job(
        session=session,
        batch_id=batch_id,
        no=row["no"],
        facts=facts,
        vendor_state=polled.vendor_state,
        state="collecting" if polled.over else polled.state,
        said=scrub(polled.sentence) if polled.sentence else None,
        counts=dict(polled.counts) if polled.counts else row["counts"],
        polled_at=datetime.now(UTC),
        expires_at=expires,
    )


def tell(batch_id: str, no: int, text: str, session: Session) -> None:
    """A word of a route's on its job: of the job, so that what is said of the batch can be made of it again."""
    batches.set_job(session=session, batch_id=batch_id, no=no, said=text)
    batches.set_batch(session=session, batch_id=batch_id, said=text)


def close(batch_id: str, job_no: int, state: str, message: str | None, session: Session) -> None:
    batches.close_lines(session=session, batch_id=batch_id, state=state, job_no=job_no, message=message)


def set_job(batch_id: str, no: int, values: JobChange, session: Session) -> None:
    batches.set_job(session=session, batch_id=batch_id, no=no, **values)


def set_batch(batch_id: str, values: BatchChange, session: Session) -> None:
    batches.set_batch(session=session, batch_id=batch_id, **values)


@dataclass(slots=True)
class JobContext:
    """``tell`` shows a sentence on the page; ``notes`` are those that stay when the job is over."""

    folder: Path
    tell: Callable[[str], None]
    is_stopped: Callable[[], bool]
    notes: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Show this sentence on the page, until there is another."""
        self.tell(scrub(text))

    def note(self, text: str) -> None:
        """Show this sentence, and keep it with what is said of the job when it is over."""
        stored = scrub(text)
        if stored not in self.notes:
            self.notes.append(stored)
        self.tell(stored)

    def stopped(self) -> bool:
        """Whether the person cancelled."""
        return self.is_stopped()


AT_ONCE = 200  # results in one transaction

STRANGE = "answers with ids that belong to no line, which were left aside"

TWICE = "further answers to lines that were answered already; the first was kept"

UNREADABLE = "results that could not be read"

_ONE = {
    STRANGE: "answer with an id that belongs to no line, which was left aside",
    TWICE: "further answer to a line that was answered already; the first was kept",
    UNREADABLE: "result that could not be read",
}


def record(
    writer: Writer, batch: BatchRow, job: JobRow, deployment: Deployment, results: Callable[[], Iterable[LineResult]]
) -> Counter[str]:
    """Record every result; returns what belongs to no line (words → n). Blocks: call it in a thread.

    Results that come again because a reading before this one was broken off change nothing, and are not counted.
    What ``results`` raises (`RouteTrouble`) is raised again once all that came before it is recorded. ``results`` gives
    the same ones whenever it is called: those of a job on instances are read twice, because what the instances cost is
    shared by the lines that came back, and how many those are is known only at the end.
    """
    among = _coming_back(results(), job) if on_instances(job) else ()
    coming = iter(results())
    strays: Counter[str] = Counter()
    seen: set[int] = set()
    trouble: RouteTrouble | None = None
    going_on = True
    while going_on:
        n, rows = 0, []
        try:
            for result in islice(coming, AT_ONCE):
                n += 1
                no = _line_of(result, job, seen, strays)
                if no is not None:
                    rows.append((no, call_row(batch, job, deployment, no, result, among), line_row(result)))
        except RouteTrouble as error:
            trouble = error
        if rows:
            writer.submit(partial(_keep, batch["id"], job["no"], rows)).result()
        going_on = n == AT_ONCE and trouble is None
    if trouble is not None:
        raise trouble
    return strays


def _coming_back(results: Iterable[LineResult], job: JobRow) -> Sequence[int]:
    """The numbers of the lines that something comes back for, in order; where not all of it can be read now, of all
    lines, so that their shares are never more than the whole."""
    seen: set[int] = set()
    strays: Counter[str] = Counter()
    try:
        for result in results:
            _line_of(result, job, seen, strays)
    except RouteTrouble:
        return range(job["first_no"], job["last_no"] + 1)
    return array("q", sorted(seen))


def _line_of(result: LineResult, job: JobRow, seen: set[int], strays: Counter[str]) -> int | None:
    """The line that a result is for, when it is the first for a line of this job."""
    no = no_of(result.wire_id)
    if not result.wire_id:
        strays[UNREADABLE] += 1
    elif no is None or not job["first_no"] <= no <= job["last_no"]:
        strays[STRANGE] += 1
    elif no in seen:
        strays[TWICE] += 1
    else:
        seen.add(no)
        return no
    return None


def _keep(batch_id: str, job_no: int, rows: list[tuple[int, Json, LineChange]], session: Session) -> None:
    for no, call, line in rows:
        batches.keep_result(session=session, batch_id=batch_id, job_no=job_no, no=no, call=call, line=line)


def nothing_came(sentence: str | None) -> str:
    """Why a line has no answer that its job, which is over, did not tell of. ``sentence``: how the job ended."""
    return f"{sentence or 'The service has ended the job.'} Nothing came back for this line: send it again."


def counted(noun: str, n: int) -> str:
    """What belongs to no line, with its number: "1 result that could not be read"."""
    return f"{n:,} {_ONE.get(noun, noun) if n == 1 else noun}"


BILLED_STATES = frozenset({"succeeded"})

# A service tells of no times but its own.
RESULT_COLUMNS = (*BEGINNING, *(name for name in END if name not in {*BEGINNING, *TIMING_COLUMNS}), "server_ms")


def call_row(
    batch: BatchRow, job: JobRow, deployment: Deployment, no: int, result: LineResult, among: Sequence[int] = ()
) -> Json:
    """The whole row. Created when its job was submitted, ended when that ended; what is not told is None. ``among``:
    the numbers of the lines that share the cost of the job (`on_instances`), in order."""
    submitted = job["submitted_at"] or datetime.now(UTC)
    priced = _priced(batch, deployment)
    price = pricing_cost.price_of(priced, submitted, batch=True)
    usage = result.usage
    cost = _share(job, no, among) or _cost(result, usage, price, priced, submitted)
    answer = result.answer
    record = CallRecord(
        id=f"{batch['id']}-{no}",
        run_id=batch["run_id"],
        column=0,
        repetition=no,
        deployment=CalledDeployment(
            deployment.id,
            deployment.kind,
            deployment.model,
            deployment.wire,
            deployment.region,
            deployment.to_json(),
        ),
        source=SOURCE,
        person=batch["person"],
        created_at=submitted,
        ended_at=datetime.now(UTC),
        request=CallRequest(service_tier=pricing_cost.tier_asked(deployment)),
        outcome=CallOutcome(
            state=_state(result),
            name=result.outcome,
            message=_clean(result.message, 1000),
            error_type=_clean(result.error_type),
            error_code=_clean(result.error_code),
            http_status=result.http_status,
            finish_reason=_clean(result.finish_raw),
        ),
        answer=CallAnswer(
            text=keys.scrub(answer) if answer else None,
            reasoning=keys.scrub(result.reasoning) if result.reasoning else None,
            sha256=hashlib.sha256(answer.encode("utf-8", "replace")).hexdigest() if answer else None,
            model_reported=_clean(result.model_reported),
            response_id=_clean(result.response_id),
            service_tier=_clean(result.tier_served),
        ),
        usage=replace(usage, raw=dict(usage.raw) if usage.raw else None),
        timing=replace(NOT_TIMED, server_ms=result.server_ms),
        cost=replace(cost, price=price.to_json() if price else None),
    )
    return to_row(record, RESULT_COLUMNS)


def _priced(batch: BatchRow, deployment: Deployment) -> Deployment:
    """The deployment without what a batch is not: a tier of its own, or optimised for latency."""
    if batch["route"] != "bedrock" or deployment.aws is None:
        return deployment
    return replace(deployment, aws=replace(deployment.aws, service_tier=None, latency=None))


def line_row(result: LineResult) -> LineChange:
    """What becomes of the line."""
    return {
        "state": result.state,
        "outcome": result.outcome,
        "message": _clean(result.message, 1000),
        "answer": keys.scrub(result.answer) if result.answer else None,
        "ended_at": datetime.now(UTC),
    }


def _state(result: LineResult) -> str:
    """A call's state: of lines that were cancelled or expired the service says so without an outcome that fits."""
    return outcomes.STATE_OF.get(result.outcome, "failed")


def on_instances(job: JobRow) -> bool:
    """Whether a job ran on instances of its own (SageMaker Batch Transform), whose time is what it costs."""
    return "instance_count" in _facts(job)


def share(total: int, n: int, rank: int) -> int:
    """The part of the ``rank``-th (from 0) of ``n`` lines in ``total`` nano-dollars: all are equal to the nano-dollar,
    the first ones have what is left over, and together they are the whole."""
    equal_share, remainder = divmod(total, n)
    return equal_share + (rank < remainder)


def _share(job: JobRow, no: int, among: Sequence[int]) -> CallCost | None:
    """What a line costs of a job that ran on instances of its own: an equal part of their time. None for every other
    job, and while its instances' price or time are not known."""
    if not on_instances(job):
        return None
    from services.batch.providers.aws import instance_cost_nanousd

    total = instance_cost_nanousd(_facts(job))
    if total is None:
        return None
    cost = share(total, max(len(among), 1), bisect_left(among, no))
    return CallCost("estimated", cost, None, {}, cost)


def _cost(
    result: LineResult, usage: Usage, price: pricing_cost.Price | None, deployment: Deployment, at: datetime
) -> CallCost:
    """What it cost at the batch price. What was not answered is not billed by any of the services."""
    if result.state not in BILLED_STATES and usage.source == "none":
        return NOT_BILLED
    standard = pricing_cost.price_of(deployment, at, tier="default") if pricing_cost.is_discounted(price) else None
    return priced_cost(usage, price, standard, complete=True)


def _clean(text: str | None, limit: int = 200) -> str | None:
    return keys.scrub(text)[:limit] if text else None
