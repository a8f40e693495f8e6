"""Every read of the tables of batches, as a plain function of a reading engine. Rows come back as dicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, String, Table, and_, cast, func, or_, select

from db.batch_attempts import with_attempts
from db.batch_tables import Batch, BatchJob, BatchLine, BatchWorker
from db.models import Call
from db.types import storable

Row = dict[str, Any]
BATCH: Table = Batch.__table__  # type: ignore[attr-defined]  # SQLModel adds __table__ at run time
LINE: Table = BatchLine.__table__  # type: ignore[attr-defined]
JOB: Table = BatchJob.__table__  # type: ignore[attr-defined]
WORKER: Table = BatchWorker.__table__  # type: ignore[attr-defined]
CALL: Table = Call.__table__  # type: ignore[attr-defined]
OVER = ("ended", "cancelled", "expired", "failed")  # as `services.batch.types.OVER`, which lies above us
OPEN = ("waiting", "running")
AT_ONCE = 1000  # lines in one read of a stream
MAX_SEARCH = 500  # characters, as in `db.run_queries`
# What a line takes from its call. "call_state" is the call's; a line's own state is "state".
_OF_CALL = (
    "ttft_ms", "ttfat_ms", "ttlt_ms", "end_ms", "tpot_ms", "decode_tps", "e2e_tps", "waited_ms", "server_ms",
    "lag_marked", "uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning_output",
    "answer_output", "usage_source", "cost_state", "cost_nanousd", "cost_high_nanousd", "plain_nanousd", "finish_raw",
    "model_reported", "response_id", "http_status", "error_type", "error_code", "tier_served", "reasoning",
    "attempt_no", "retry_of", "created_at", "started_at",
)  # fmt: skip
_TAKEN = ("outcome", "message", "answer")


def batches(engine: Engine, limit: int = 50, person: str | None = None) -> list[Row]:
    """The newest batches; ``person`` None for everybody's."""
    listed = select(BATCH).order_by(BATCH.c.created_at.desc(), BATCH.c.id).limit(limit)
    return _all(engine, listed if person is None else listed.where(BATCH.c.person == person))


def batch(engine: Engine, batch_id: str) -> Row | None:
    """One batch, or None."""
    rows = _all(engine, select(BATCH).where(BATCH.c.id == batch_id))
    return rows[0] if rows else None


def unfinished(engine: Engine) -> list[Row]:
    """The batches that are not over, oldest first."""
    return _all(engine, select(BATCH).where(BATCH.c.state.not_in(OVER)).order_by(BATCH.c.created_at, BATCH.c.id))


def counts(engine: Engine, batch_id: str) -> dict[str, int]:
    """How many lines are in each state; a state that no line is in is left out."""
    with engine.connect() as connection:
        found = connection.execute(
            select(LINE.c.state, func.count()).where(LINE.c.batch_id == batch_id).group_by(LINE.c.state)
        )
        return {state: n for state, n in found}


def lines(
    engine: Engine, batch_id: str, *, states: Sequence[str] = (), text: str = "", limit: int = 50, offset: int = 0
) -> tuple[list[Row], int]:
    """A page of lines in the order of the file, each with the figures of its last call, and how many match in all.

    Costs are of all its attempts (`db.batch_attempts`). ``text`` is looked for in ids, requests, answers and messages,
    whatever its case.
    """
    where: list[ColumnElement[bool]] = [LINE.c.batch_id == batch_id]
    if states:
        where.append(LINE.c.state.in_(list(states)))
    if text.strip():
        where.append(_holds(text.strip()))
    with engine.connect() as connection:
        total = int(connection.execute(select(func.count()).select_from(LINE).where(*where)).scalar_one())
        page = _with_calls().where(*where).order_by(LINE.c.no).limit(limit).offset(offset)
        rows = [dict(row) for row in connection.execute(page).mappings()]
        return with_attempts(connection, batch_id, rows), total


def each_line(engine: Engine, batch_id: str) -> Iterator[Row]:
    """Every line with the figures of its call (as `lines`), in the order of the file and in constant memory."""
    last = 0
    while True:
        page = _with_calls().where(LINE.c.batch_id == batch_id, LINE.c.no > last).order_by(LINE.c.no).limit(AT_ONCE)
        with engine.connect() as connection:
            found = [dict(row) for row in connection.execute(page).mappings()]
            rows = with_attempts(connection, batch_id, found)
        yield from rows
        if len(rows) < AT_ONCE:
            return
        last = rows[-1]["no"]


def lines_between(engine: Engine, batch_id: str, first: int, last: int, states: Sequence[str] = ()) -> list[Row]:
    """The lines ``first`` to ``last`` without their calls, only those in ``states`` if any are given."""
    asked = select(LINE).where(LINE.c.batch_id == batch_id, LINE.c.no.between(first, last)).order_by(LINE.c.no)
    return _all(engine, asked.where(LINE.c.state.in_(list(states))) if states else asked)


def open_groups(engine: Engine, batch_id: str, size: int) -> list[int]:
    """Which groups of ``size`` lines (group 0 is lines 1 to ``size``) have lines that are not over, in order."""
    group = ((LINE.c.no - 1) // size).label("group")
    asked = select(group).where(LINE.c.batch_id == batch_id, LINE.c.state.in_(OPEN)).distinct().order_by("group")
    with engine.connect() as connection:
        return [int(found) for found in connection.execute(asked).scalars()]


def last_no(engine: Engine, batch_id: str) -> int:
    """The number of the last line that is recorded; 0 when none is."""
    with engine.connect() as connection:
        found = connection.execute(select(func.max(LINE.c.no)).where(LINE.c.batch_id == batch_id)).scalar()
    return int(found or 0)


def jobs(engine: Engine, batch_id: str) -> list[Row]:
    """The jobs of a batch at its service, in order."""
    return _all(engine, select(JOB).where(JOB.c.batch_id == batch_id).order_by(JOB.c.no))


def workers(engine: Engine) -> list[Row]:
    """Every worker that was seen in the last day, the one with the freshest heartbeat first."""
    since = datetime.now(UTC) - timedelta(days=1)
    return _all(engine, select(WORKER).where(WORKER.c.heartbeat_at > since).order_by(WORKER.c.heartbeat_at.desc()))


def same_file(engine: Engine, sha256: str) -> list[Row]:
    """The batches that were made of the same bytes, newest first."""
    return _all(engine, select(BATCH).where(BATCH.c.file_sha256 == sha256).order_by(BATCH.c.created_at.desc()))


def spent(engine: Engine, batch_id: str) -> int | None:
    """What the calls of a batch have cost so far, in nano-dollars; None when no cost of any call is known."""
    asked = (
        select(func.count(), func.count(CALL.c.cost_nanousd), func.sum(CALL.c.cost_nanousd))
        .join(BATCH, BATCH.c.run_id == CALL.c.run_id)
        .where(BATCH.c.id == batch_id, CALL.c.state != "running")
    )
    with engine.connect() as connection:
        n, known, total = connection.execute(asked).one()
    return 0 if not n else int(total) if known else None


def _all(engine: Engine, statement: Select[Any]) -> list[Row]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def _with_calls() -> Select[Any]:
    own = [column for column in LINE.c if column.name not in _TAKEN]
    either = [func.coalesce(LINE.c[name], CALL.c[name]).label(name) for name in _TAKEN]
    taken = [CALL.c[name].label(name) for name in _OF_CALL]
    joined = LINE.outerjoin(CALL, and_(CALL.c.id == LINE.c.call_id, LINE.c.call_id.is_not(None)))
    return select(*own, *either, *taken, CALL.c.state.label("call_state")).select_from(joined)


def _holds(text: str) -> ColumnElement[bool]:
    wanted = storable(text)[:MAX_SEARCH].lower()
    for special in ("\\", "%", "_"):
        wanted = wanted.replace(special, "\\" + special)
    pattern = f"%{wanted}%"
    places = (LINE.c.record_id, cast(LINE.c.request, String), LINE.c.answer, LINE.c.message)
    return or_(*(func.lower(place).like(pattern, escape="\\") for place in places))
