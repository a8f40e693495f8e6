"""Every write to the tables of batches, as a plain function of one session; the reads are `db.batch_queries`'.

A line is claimed by a conditional UPDATE that also records its call, and ended by one that asks whether it is still
ours, in one transaction with the call's end. So whatever is repeated, by whomever, a line is answered once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack

from sqlalchemy import CursorResult, Result, and_, bindparam, delete, func, insert, literal, or_, select, text, update
from sqlmodel import Session

from db import runs as runs_module
from db.batch_queries import (
    BATCH,
    JOB,
    LINE,
    OPEN,
    OVER,
    WORKER,
    batch,
    batches,
    counts,
    each_line,
    jobs,
    last_no,
    lines,
    lines_between,
    open_groups,
    same_file,
    spent,
    unfinished,
    workers,
)
from db.batch_rows import (
    BatchChange,
    BatchState,
    EarlierBatch,
    JobChange,
    LineChange,
    NewBatch,
    NewJob,
    NewLine,
)
from db.rollups import CALL
from db.run_rows import Json, NewRun
from db.runs import clock
from db.types import rows_of

__all__ = [
    "OPEN",
    "OVER",
    "STOPPED",
    "TAKEN_OVER",
    "adopt_worker",
    "alive",
    "batch",
    "batches",
    "beat",
    "claim",
    "close_lines",
    "copy_lines",
    "counts",
    "delete_batch",
    "each_line",
    "end_batch",
    "end_call",
    "forget_texts",
    "has_jobs",
    "insert_batch",
    "insert_jobs",
    "insert_lines",
    "insert_once",
    "jobs",
    "keep_result",
    "last_no",
    "leave",
    "lines",
    "lines_between",
    "lose_calls",
    "move",
    "not_stopped",
    "open_groups",
    "refuse_line",
    "release",
    "renew",
    "resend_once",
    "same_file",
    "sent",
    "set_batch",
    "set_job",
    "spent",
    "unfinished",
    "workers",
]


def adopt_worker(*, session: Session, worker: str, host: str, pid: int) -> None:
    """A worker works on this database from now on; its calls are an owner's like those of an engine."""
    runs_module.adopt_owner(session=session, owner_id=worker, pid=pid, host=host)
    now = clock(session)
    session.execute(insert(WORKER).values(id=worker, host=host, pid=pid, started_at=now, heartbeat_at=now))


def beat(*, session: Session, worker: str) -> None:
    """A worker still lives."""
    now = clock(session)
    runs_module.heartbeat(session=session, owner_id=worker)
    session.execute(update(WORKER).where(WORKER.c.id == worker).values(heartbeat_at=now, stopped_at=None))


def leave(*, session: Session, worker: str) -> None:
    """A worker is gone, in good order or found dead."""
    runs_module.release_owner(session=session, owner_id=worker)
    ended = update(WORKER).where(WORKER.c.id == worker, WORKER.c.stopped_at.is_(None))
    session.execute(ended.values(stopped_at=clock(session)))


def alive(*, session: Session, stale_after_s: float) -> list[str]:
    """The workers whose heartbeat is no older than ``stale_after_s`` seconds by the database's clock."""
    since = clock(session) - timedelta(seconds=stale_after_s)
    rows = session.execute(
        select(WORKER.c.id).where(WORKER.c.stopped_at.is_(None), WORKER.c.heartbeat_at > since).order_by(WORKER.c.id)
    )
    return list(rows.scalars())


def not_stopped(*, session: Session) -> list[str]:
    """The workers that have not said that they ended."""
    return list(session.execute(select(WORKER.c.id).where(WORKER.c.stopped_at.is_(None))).scalars())


_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))")


def insert_once(*, session: Session, run: NewRun, values: NewBatch, again: bool) -> EarlierBatch | None:
    """Record a batch and its run. When one was made of the same bytes before, and not ``again``: that one's row
    (``id``, ``name``, ``created_at``), and nothing is recorded."""
    _alone(session, f"batch of {values['file_sha256']}")
    if not again:
        same = select(BATCH.c.id, BATCH.c.name, BATCH.c.created_at).where(BATCH.c.file_sha256 == values["file_sha256"])
        for earlier in rows_of(EarlierBatch, session.execute(same.order_by(BATCH.c.created_at.desc()).limit(1))):
            return earlier
    insert_batch(session=session, run=run, values=values)
    return None


def resend_once(
    *, session: Session, run: NewRun, values: NewBatch, source: str, states: Sequence[str]
) -> EarlierBatch | None:
    """Record a batch of the lines of ``source`` that are in ``states``. When those lines went into a batch before:
    that one's row (``id``, ``name``, ``created_at``, ``state``, and ``left``: how many of its lines have no answer),
    and nothing is recorded."""
    _alone(session, f"again {source}")
    statement = select(BATCH.c.id, BATCH.c.name, BATCH.c.created_at, BATCH.c.state).where(
        BATCH.c.parent_id == source, BATCH.c.file_sha256 == values["file_sha256"]
    )
    for earlier in rows_of(EarlierBatch, session.execute(statement.order_by(BATCH.c.created_at.desc()).limit(1))):
        lacking = LINE.c.state.in_([*states, *OPEN])
        counted = select(func.count()).select_from(LINE).where(LINE.c.batch_id == earlier["id"], lacking)
        earlier["left"] = int(session.execute(counted).scalar_one())
        return earlier
    insert_batch(session=session, run=run, values=values)
    copy_lines(session=session, source=source, target=values["id"], states=states)
    return None


def _alone(session: Session, key: str) -> None:
    """Until this transaction ends nobody else gets past here with the same ``key``.

    On SQLite every transaction of a writer is alone anyway. On PostgreSQL several engines may write; a statement after
    the lock sees what was committed before it (READ COMMITTED).
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_LOCK, {"what": key})


STOPPED = "The worker was stopped while this line was under way; it is sent again."

TAKEN_OVER = (
    "The worker that sent this was gone before the answer was complete; it may have been billed, and the line was sent "
    "again."
)


# The statements of every line, made once: see `db.runs`.
_THE_LINE = and_(LINE.c.batch_id == bindparam("the_batch"), LINE.c.no == bindparam("the_no"))


_TAKEN = {
    "state": "running",
    "worker": bindparam("the_worker"),
    "lease_until": bindparam("the_end"),
    "call_id": bindparam("the_call"),
    "attempts": LINE.c.attempts + 1,
}

_CLAIM = update(LINE).where(_THE_LINE, LINE.c.state == "waiting").values(_TAKEN).returning(LINE.c.attempts)

_EXPIRED = select(LINE.c.call_id, LINE.c.attempts).where(
    _THE_LINE, LINE.c.state == "running", or_(LINE.c.lease_until.is_(None), LINE.c.lease_until <= bindparam("now"))
)

_TAKE_OVER = (
    update(LINE)
    .where(_THE_LINE, LINE.c.state == "running", LINE.c.attempts == bindparam("the_attempts"))
    .values(_TAKEN)
    .returning(LINE.c.attempts)
)

_END = update(LINE).where(_THE_LINE, LINE.c.call_id == bindparam("the_call"), LINE.c.state == "running")


def _now() -> datetime:
    return datetime.now(UTC)


def _rows(result: Result[Any]) -> int:
    assert isinstance(result, CursorResult)
    return result.rowcount


# --- batches -------------------------------------------------------------------------------------------------------
def insert_batch(*, session: Session, run: NewRun, values: NewBatch) -> None:
    """Record a batch and the run that its calls belong to."""
    runs_module.insert_run(session=session, values={**run})
    session.execute(insert(BATCH), dict(values))


def insert_lines(*, session: Session, rows: Sequence[NewLine]) -> None:
    """Record lines (state "waiting")."""
    session.execute(insert(LINE), [dict(row) for row in rows])


def copy_lines(*, session: Session, source: str, target: str, states: Sequence[str]) -> int:
    """The lines of one batch that are in ``states``, as waiting lines of another, numbered anew; returns how many."""
    no = func.row_number().over(order_by=LINE.c.no)
    copied = ("line", "record_id", "request", "original")
    chosen = select(literal(target), no, literal("waiting"), literal(0), *(LINE.c[name] for name in copied)).where(
        LINE.c.batch_id == source, LINE.c.state.in_(list(states))
    )
    names = ["batch_id", "no", "state", "attempts", *copied]
    session.execute(insert(LINE).from_select(names, chosen))
    # Not the statement's own word: PostgreSQL's driver tells none here.
    return int(session.execute(select(func.count()).select_from(LINE).where(LINE.c.batch_id == target)).scalar_one())


def set_batch(*, session: Session, batch_id: str, unless_over: bool = True, **values: Unpack[BatchChange]) -> bool:
    """Change a batch; one that is over only with ``unless_over`` False. Whether there was one to change."""
    clauses = [BATCH.c.id == batch_id, *([BATCH.c.state.not_in(OVER)] if unless_over else [])]
    return _rows(session.execute(update(BATCH).where(*clauses).values(**values))) > 0


def move(
    *, session: Session, batch_id: str, states: Sequence[str], while_wanted: str = "run", **values: Unpack[BatchChange]
) -> bool:
    """Change a batch that is in one of ``states`` while that is still wanted of it; whether it was so."""
    done = session.execute(
        update(BATCH)
        .where(BATCH.c.id == batch_id, BATCH.c.state.in_(list(states)), BATCH.c.wanted == while_wanted)
        .values(**values)
    )
    return _rows(done) > 0


def end_batch(*, session: Session, batch_id: str, state: BatchState, said: str | None, left: str) -> bool:
    """A batch is over: lines that nobody answered become ``left``. Whether it was not over before."""
    ended = set_batch(session=session, batch_id=batch_id, state=state, said=said, ended_at=_now(), lanes=None)
    if ended:
        close_lines(session=session, batch_id=batch_id, state=left)
    return ended


def close_lines(
    *, session: Session, batch_id: str, state: str, job_no: int | None = None, message: str | None = None
) -> int:
    """The lines of a batch, or of one of its jobs, that are not over become ``state``; returns how many."""
    clauses = [LINE.c.batch_id == batch_id, LINE.c.state.in_(OPEN)]
    if job_no is not None:
        clauses.append(LINE.c.job_no == job_no)
    done = session.execute(
        update(LINE).where(*clauses).values(state=state, ended_at=_now(), lease_until=None, message=message)
    )
    return _rows(done)


def forget_texts(*, session: Session, older_than: datetime) -> list[str]:
    """Forget what was asked and answered in batches that are over and were created before ``older_than``.

    The figures stay. Returns the ids of those that had something to forget.
    """
    old = select(BATCH.c.id).where(
        BATCH.c.created_at < older_than, BATCH.c.state.in_(OVER), BATCH.c.options.is_not(None)
    )
    ids = list(session.execute(old).scalars())
    for batch_id in ids:
        emptied = {"request": None, "original": None, "answer": None, "record_id": ""}
        session.execute(update(LINE).where(LINE.c.batch_id == batch_id).values(emptied))
        session.execute(update(BATCH).where(BATCH.c.id == batch_id).values(options=None, columns=None))
    return ids


def refuse_line(*, session: Session, batch_id: str, no: int, message: str) -> None:
    """A line that cannot be sent at all has failed."""
    session.execute(
        update(LINE)
        .where(LINE.c.batch_id == batch_id, LINE.c.no == no, LINE.c.state == "waiting")
        .values(state="failed", outcome="config_error", message=message, ended_at=_now())
    )


def delete_batch(*, session: Session, batch_id: str) -> bool:
    """Delete a batch that is over with its lines, jobs, run and calls; whether there was one."""
    row = session.execute(select(BATCH.c.run_id, BATCH.c.state).where(BATCH.c.id == batch_id)).first()
    if row is None or row.state not in OVER:
        return False
    session.execute(delete(BATCH).where(BATCH.c.id == batch_id))
    if row.run_id:
        runs_module.delete_runs(session=session, run_ids=[row.run_id])
    return True


# --- lines of our own runner ---------------------------------------------------------------------------------------
def claim(*, session: Session, batch_id: str, no: int, worker: str, lease_s: float, call: Json) -> Json | None:
    """Take a line in hand and record its call, which is sent next; the call as it was recorded.

    None when the line is over, or in the hands of somebody whose lease holds. What a dead worker had sent of it
    becomes *lost*.
    """
    now = clock(session)
    parameters = {
        "the_batch": batch_id,
        "the_no": no,
        "the_worker": worker,
        "the_call": call["id"],
        "the_end": now + timedelta(seconds=lease_s),
    }
    attempts = session.execute(_CLAIM, parameters).scalar()
    if attempts is None:
        expired = session.execute(_EXPIRED, {"the_batch": batch_id, "the_no": no, "now": now}).first()
        if expired is None:
            return None
        attempts = session.execute(_TAKE_OVER, parameters | {"the_attempts": expired.attempts}).scalar()
        if attempts is None:
            return None
        if expired.call_id is not None:
            lose_calls(session=session, call_ids=[expired.call_id])
        call = call | {"retry_of": expired.call_id}
    row = call | {"attempt_no": attempts}
    runs_module.insert_calls(session=session, rows=[row])
    return row


def lose_calls(*, session: Session, call_ids: Sequence[str]) -> None:
    """Calls that are still "running" although whoever sent them is gone become *lost*."""
    runs_module.lose(session=session, condition=CALL.c.id.in_(list(call_ids)), message=TAKEN_OVER)


def end_call(*, session: Session, batch_id: str, no: int, call_id: str, call: Json, line: LineChange) -> bool:
    """Finish a call and, with it, its line if it is still that call's; False where another has taken it over.

    ``line``: what becomes of the line; a line whose state is "waiting" or "running" will be tried again.
    """
    finished = runs_module.finish_call(session=session, call_id=call_id, values=call)
    # A call that was given up as lost stays so, and its line is sent again: the two must tell the same.
    values: LineChange = line if finished else {"state": "waiting", "worker": None, "lease_until": None}
    line_of_call = {"the_batch": batch_id, "the_no": no, "the_call": call_id}
    return _rows(session.execute(_END, {**values, **line_of_call})) > 0 and finished


def renew(*, session: Session, worker: str, batch_ids: Sequence[str], lease_s: float) -> int:
    """A worker goes on with the lines that it has in hand; returns how many those are."""
    until = clock(session) + timedelta(seconds=lease_s)
    done = session.execute(
        update(LINE)
        .where(LINE.c.batch_id.in_(list(batch_ids)), LINE.c.state == "running", LINE.c.worker == worker)
        .values(lease_until=until)
    )
    return _rows(done)


def release(*, session: Session, worker: str, batch_ids: Sequence[str]) -> int:
    """The lines that a worker has in hand wait again, because it is stopped or dead; its calls of them are *lost*."""
    in_hand = [LINE.c.batch_id.in_(list(batch_ids)), LINE.c.state == "running", LINE.c.worker == worker]
    calls = list(session.execute(select(LINE.c.call_id).where(*in_hand)).scalars())
    for start in range(0, len(calls), runs_module.PART):
        lose_calls(session=session, call_ids=calls[start : start + runs_module.PART])
    freed = update(LINE).where(*in_hand).values(state="waiting", worker=None, lease_until=None)
    return _rows(session.execute(freed))


# --- jobs of a service ---------------------------------------------------------------------------------------------
def insert_jobs(*, session: Session, rows: Sequence[NewJob]) -> None:
    """Record the jobs of a batch and which lines go into which."""
    for row in rows:
        between = LINE.c.no.between(row["first_no"], row["last_no"])
        session.execute(
            update(LINE)
            .where(LINE.c.batch_id == row["batch_id"], between, LINE.c.state == "waiting")
            .values(job_no=row["no"])
        )
    session.execute(insert(JOB), [dict(row) for row in rows])


def has_jobs(*, session: Session, batch_id: str) -> bool:
    """Whether a batch was cut into jobs of a service already."""
    return session.execute(select(JOB.c.no).where(JOB.c.batch_id == batch_id).limit(1)).first() is not None


def set_job(*, session: Session, batch_id: str, no: int, **values: Unpack[JobChange]) -> None:
    """Change a job."""
    session.execute(update(JOB).where(JOB.c.batch_id == batch_id, JOB.c.no == no).values(**values))


def sent(*, session: Session, batch_id: str, job_no: int) -> None:
    """A service has the lines of a job from now on."""
    session.execute(
        update(LINE)
        .where(LINE.c.batch_id == batch_id, LINE.c.job_no == job_no, LINE.c.state == "waiting")
        .values(state="running", attempts=1)
    )


def keep_result(*, session: Session, batch_id: str, job_no: int, no: int, call: Json, line: LineChange) -> bool:
    """What a service answered to a line, as its call and the line's end; False for one that has its end already."""
    done = session.execute(
        update(LINE)
        .where(LINE.c.batch_id == batch_id, LINE.c.no == no, LINE.c.job_no == job_no, LINE.c.state.in_(OPEN))
        .values(**line, call_id=call["id"], lease_until=None)
    )
    if _rows(done):
        runs_module.insert_calls(session=session, rows=[call])
    return _rows(done) > 0
