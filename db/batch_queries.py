"""Every read of the tables of batches, as a plain function of a reading engine. Rows are dicts (`db.batch_rows`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    String,
    Table,
    and_,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    union_all,
)
from sqlmodel import Session, col

from db.batch_rows import (
    AttemptCost,
    BatchRow,
    CalledLine,
    Choice,
    FinishedBatch,
    JobRow,
    LineRow,
    RecentCall,
    ResentBatch,
    VoteRow,
    WorkerRow,
)
from db.models import Batch, BatchJob, BatchLine, BatchVote, BatchWorker
from db.rollups import CALL, INPUT
from db.types import rows_of, storable

VOTE: Table = BatchVote.__table__  # type: ignore[attr-defined]  # SQLModel adds __table__ at run time

CHOICES: tuple[Choice, ...] = ("a", "b", "tie")

_TURNED: Mapping[str, Choice] = {"a": "b", "b": "a", "tie": "tie"}


def vote(*, session: Session, batch_a: str, batch_b: str, no: int, person: str, choice: str | None) -> None:
    """Keep one person's choice for one line; None takes it back. A later choice replaces an earlier one.

    ``no``: the line's number in the batch whose id sorts first (`line_of`). ``choice``: "a", "b" or "tie", as
    ``batch_a`` and ``batch_b`` are given here. Raises ValueError in words for another choice, or for one batch twice.
    """
    if choice is not None and choice not in CHOICES:
        raise ValueError(f"A vote is for “a”, for “b” or for “tie”, not for {choice!r}.")
    if batch_a == batch_b:
        raise ValueError("A batch cannot be compared with itself.")
    first, second = sorted((batch_a, batch_b))
    of_person = (VOTE.c.batch_a == first, VOTE.c.batch_b == second, VOTE.c.no == no, VOTE.c.person == person)
    session.execute(delete(VOTE).where(*of_person))
    if choice is not None:
        stored_choice = choice if first == batch_a else _TURNED[choice]
        session.execute(
            insert(VOTE).values(
                batch_a=first, batch_b=second, no=no, person=person, choice=stored_choice, created_at=datetime.now(UTC)
            )
        )


def votes(engine: Engine, batch_a: str, batch_b: str, person: str | None = None) -> list[VoteRow]:
    """The votes on two batches, by line: ``no`` (of the batch whose id sorts first), ``person`` and ``choice`` ("a" is
    for ``batch_a`` as it is given here)."""
    first, second = sorted((batch_a, batch_b))
    statement = (
        select(VOTE.c.no, VOTE.c.person, VOTE.c.choice)
        .where(VOTE.c.batch_a == first, VOTE.c.batch_b == second)
        .order_by(VOTE.c.no, VOTE.c.created_at)
    )
    if person is not None:
        statement = statement.where(VOTE.c.person == person)
    with engine.connect() as connection:
        rows = rows_of(VoteRow, connection.execute(statement))
    if first != batch_a:
        for row in rows:
            row["choice"] = _TURNED[row["choice"]]
    return rows


def line_of(batch_a: str, batch_b: str, no_a: int, no_b: int) -> int:
    """The number that a vote on this pair of lines is kept under."""
    return no_a if batch_a < batch_b else no_b


def bounded(engine: Engine, batch_id: str) -> bool:
    """Whether `db.batches.spent` is a lower bound: of a call that is over, a try whose answer was lost among them, the
    cost is not known, or only what it is at least."""
    some = (
        select(CALL.c.id)
        .join(BATCH, BATCH.c.run_id == CALL.c.run_id)
        .where(BATCH.c.id == batch_id, CALL.c.state != "running")
        .where(or_(CALL.c.cost_nanousd.is_(None), CALL.c.cost_state == "lower_bound"))
    )
    with engine.connect() as connection:
        return bool(connection.execute(select(exists(some))).scalar_one())


# Of each deployment: so many of its latest calls are looked at, and so many of those that fit are taken.
LOOKED_AT = 500


TAKEN = 200

FINISHED = 300

SOURCES = ("playground", "batch")

_FIGURES = (
    "deployment_id",
    "source",
    "outcome",
    "usage_source",
    "lag_marked",
    "reasoning_output",
    "answer_output",
    "ttft_ms",
    "ttlt_ms",
    "tpot_ms",
    *INPUT,
)


def recent_calls(
    engine: Engine, deployments: Sequence[str], *, sources: Sequence[str] = SOURCES, limit: int = TAKEN
) -> list[RecentCall]:
    """The latest succeeded calls of each deployment, newest first: counts, times, and ``chars``.

    ``chars``: characters of the prompt and the system prompt; None where the text was not kept, and for a conversation
    of several turns. One statement, bounded per deployment however long its history is.
    """
    if not deployments:
        return []
    parts = [_latest_of(deployment, sources, limit) for deployment in dict.fromkeys(deployments)]
    with engine.connect() as connection:
        return rows_of(RecentCall, connection.execute(union_all(*parts)))


def _latest_of(deployment: str, sources: Sequence[str], limit: int) -> Select[Any]:
    # In two steps: the texts of a call are only touched for those that are taken.
    latest = (
        select(CALL.c.id, CALL.c.state, CALL.c.source, CALL.c.created_at)
        .where(CALL.c.deployment_id == storable(deployment))
        .order_by(CALL.c.created_at.desc())
        .limit(LOOKED_AT)
        .subquery()
    )
    picked = (
        select(latest.c.id, latest.c.created_at)
        .where(latest.c.state == "succeeded", latest.c.source.in_(list(sources)))
        .order_by(latest.c.created_at.desc())
        .limit(limit)
        .subquery()
    )
    ask = CALL.c.request
    prompt, second = (ask[("ask", "messages", turn, "text")].as_string() for turn in (0, 1))
    system = func.coalesce(ask[("ask", "system")].as_string(), "")
    one_turn = and_(prompt.is_not(None), second.is_(None))
    chars = case((one_turn, func.length(prompt) + func.length(system)), else_=None).label("chars")
    figures = (
        select(*(CALL.c[name] for name in _FIGURES), chars, picked.c.created_at)
        .join(picked, picked.c.id == CALL.c.id)
        .order_by(picked.c.created_at.desc())
        .subquery()
    )
    return select(figures)


def finished_batches(engine: Engine, limit: int = FINISHED) -> list[FinishedBatch]:
    """The latest batches that came to their end, newest first: ``deployment_id``, ``route``, ``n_lines``, ``run_id``,
    ``per_minute``, when they ``began`` and ``ended_at``, and the ``seconds`` between, pauses included."""
    statement = (
        select(
            col(Batch.deployment_id),
            col(Batch.route),
            col(Batch.n_lines),
            col(Batch.created_at),
            col(Batch.run_id),
            col(Batch.started_at),
            col(Batch.ended_at),
            col(Batch.per_minute),
        )
        .where(col(Batch.state) == "ended", col(Batch.ended_at).is_not(None), col(Batch.n_lines) > 0)
        .order_by(col(Batch.created_at).desc())
        .limit(limit)
    )
    with engine.connect() as connection:
        rows = connection.execute(statement).all()
    finished: list[FinishedBatch] = [
        {
            "deployment_id": row.deployment_id,
            "route": row.route,
            "n_lines": row.n_lines,
            "created_at": row.created_at,
            "run_id": row.run_id,
            "began": row.started_at or row.created_at,
            "ended_at": row.ended_at,
            "per_minute": row.per_minute,
            "seconds": (row.ended_at - (row.started_at or row.created_at)).total_seconds(),
        }
        for row in rows
    ]
    return [batch for batch in finished if batch["seconds"] > 0]


def stretches(engine: Engine, run_ids: Sequence[str]) -> list[tuple[str, datetime, datetime | None]]:
    """(run, from when, to when) of every call of some runs, every attempt, in the order in which they began."""
    statement = (
        select(CALL.c.run_id, CALL.c.created_at, CALL.c.ended_at)
        .where(CALL.c.run_id.in_(list(run_ids)))
        .order_by(CALL.c.created_at)
    )
    with engine.connect() as connection:
        return [(run_id, began, ended) for run_id, began, ended in connection.execute(statement)]


class Costs(NamedTuple):
    """Of the calls of one cost state: how many, of how many the cost is known, and those together in nano-dollars."""

    n: int
    n_known: int
    nanousd: int


def sent_again(engine: Engine, batch_id: str) -> ResentBatch | None:
    """The batch that the lines without an answer went into (``id``, ``name``, ``state``), as `db.batches` looks for
    it before it makes one; None where there is none."""
    own = select(BATCH.c.file_sha256).where(BATCH.c.id == batch_id).scalar_subquery()
    statement = select(BATCH.c.id, BATCH.c.name, BATCH.c.state).where(
        BATCH.c.parent_id == batch_id, BATCH.c.file_sha256 == own
    )
    with engine.connect() as connection:
        rows = rows_of(ResentBatch, connection.execute(statement.order_by(BATCH.c.created_at.desc()).limit(1)))
    return rows[0] if rows else None


def costs(engine: Engine, batch_id: str) -> dict[str, Costs]:
    """What the calls of a batch that are over have cost, by cost state; empty where there is none."""
    statement = (
        select(CALL.c.cost_state, func.count(), func.count(CALL.c.cost_nanousd), func.sum(CALL.c.cost_nanousd))
        .join(BATCH, BATCH.c.run_id == CALL.c.run_id)
        .where(BATCH.c.id == batch_id, CALL.c.state != "running")
        .group_by(CALL.c.cost_state)
    )
    with engine.connect() as connection:
        rows = connection.execute(statement).all()
    return {str(state or "no_price"): Costs(int(n), int(n_known), int(total or 0)) for state, n, n_known, total in rows}


def in_both(engine: Engine, first: BatchRow, second: BatchRow, no: int) -> bool:
    """Whether line ``no`` of the batch ``first`` stands beside a line of ``second``, as `services.batch.evaluate.pairs`
    joins them: those of one file by where the record begins, else by id."""
    with engine.connect() as connection:
        statement = select(LINE.c.line, LINE.c.record_id).where(LINE.c.batch_id == first["id"], LINE.c.no == no)
        row = connection.execute(statement).first()
        if row is None:
            return False
        named = LINE.c.record_id == row.record_id
        if not row.record_id:  # its texts were forgotten
            named = LINE.c.no == no
        if first["file_sha256"] != second["file_sha256"]:
            return _has_line(connection, second["id"], named)
        there = LINE.c.line == row.line
        alone = all(_n_lines_at(connection, batch["id"], row.line) == 1 for batch in (first, second))
        return alone or _has_line(connection, second["id"], there, named)


def _has_line(connection: Connection, batch_id: str, *clauses: Any) -> bool:
    statement = select(LINE.c.no).where(LINE.c.batch_id == batch_id, *clauses).limit(1)
    return connection.execute(statement).first() is not None


def _n_lines_at(connection: Connection, batch_id: str, line: int) -> int:
    statement = select(LINE.c.no).where(LINE.c.batch_id == batch_id, LINE.c.line == line).limit(2)
    return len(connection.execute(statement).all())


LATEST = 2000  # calls


def called(engine: Engine, text: str, limit: int = 10) -> list[BatchRow]:
    """The batches that somebody means by ``text``: the one with that id, else those with that name, else those whose id
    begins so; newest first."""
    name_or_id = storable(text)
    newest = select(BATCH).order_by(BATCH.c.created_at.desc(), BATCH.c.id).limit(limit)
    begins = func.substr(BATCH.c.id, 1, len(name_or_id)) == name_or_id
    for meant in (BATCH.c.id == name_or_id, BATCH.c.name == name_or_id, begins) if name_or_id else ():
        with engine.connect() as connection:
            if rows := rows_of(BatchRow, connection.execute(newest.where(meant))):
                return rows
    return []


def of_run(engine: Engine, run_id: str) -> BatchRow | None:
    """The batch whose calls a run has; None for any other run."""
    rows = _all(engine, BatchRow, select(BATCH).where(BATCH.c.run_id == run_id).limit(1))
    return rows[0] if rows else None


def run_stretches(engine: Engine, run_id: str) -> Iterator[tuple[datetime, datetime | None]]:
    """From when to when each call of a run was under way, every attempt, in the order in which they began; in constant
    memory."""
    statement = select(CALL.c.created_at, CALL.c.ended_at).where(CALL.c.run_id == run_id).order_by(CALL.c.created_at)
    with engine.connect().execution_options(yield_per=AT_ONCE) as connection:
        yield from ((began, ended) for began, ended in connection.execute(statement))


def latest(
    engine: Engine, batch_id: str, since: datetime, limit: int = LATEST
) -> tuple[int, list[tuple[datetime, datetime | None]]]:
    """How many lines of a batch have ended since then, and from when to when the last calls of those and of the lines
    under way were (None: still), in the order in which they began; of more than ``limit`` lines the latest calls."""
    ended = and_(LINE.c.ended_at > since, LINE.c.state.not_in(OPEN))
    counted = select(func.count()).select_from(LINE).where(LINE.c.batch_id == batch_id, ended)
    calls = (
        select(CALL.c.created_at, LINE.c.ended_at)
        .join(LINE, LINE.c.call_id == CALL.c.id)
        .where(LINE.c.batch_id == batch_id, or_(ended, LINE.c.state == "running"))
        .order_by(CALL.c.created_at.desc())
        .limit(limit)
    )
    with engine.connect() as connection:
        n = int(connection.execute(counted).scalar_one())
        return n, [(began, over) for began, over in connection.execute(calls)][::-1]


R = TypeVar("R")

BATCH: Table = Batch.__table__  # type: ignore[attr-defined]  # SQLModel adds __table__ at run time

LINE: Table = BatchLine.__table__  # type: ignore[attr-defined]

JOB: Table = BatchJob.__table__  # type: ignore[attr-defined]

WORKER: Table = BatchWorker.__table__  # type: ignore[attr-defined]

OVER = ("ended", "cancelled", "expired", "failed")  # as `services.batch.types.OVER`, which lies above us

OPEN = ("waiting", "running")

AT_ONCE = 1000  # lines in one read of a stream

MAX_SEARCH = 500  # characters, as in `db.run_queries`


# What a line takes from its call. "call_state" is the call's; a line's own state is "state".
_OF_CALL = (
    "ttft_ms",
    "ttfat_ms",
    "ttlt_ms",
    "end_ms",
    "tpot_ms",
    "decode_tps",
    "e2e_tps",
    "waited_ms",
    "server_ms",
    "lag_marked",
    "uncached_input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "reasoning_output",
    "answer_output",
    "usage_source",
    "cost_state",
    "cost_nanousd",
    "cost_high_nanousd",
    "plain_nanousd",
    "finish_raw",
    "model_reported",
    "response_id",
    "http_status",
    "error_type",
    "error_code",
    "tier_served",
    "reasoning",
    "attempt_no",
    "retry_of",
    "created_at",
    "started_at",
)


_TAKEN = ("outcome", "message", "answer")


def batches(engine: Engine, limit: int = 50, person: str | None = None) -> list[BatchRow]:
    """The newest batches; ``person`` None for everybody's."""
    listed = select(BATCH).order_by(BATCH.c.created_at.desc(), BATCH.c.id).limit(limit)
    return _all(engine, BatchRow, listed if person is None else listed.where(BATCH.c.person == person))


def batch(engine: Engine, batch_id: str) -> BatchRow | None:
    """One batch, or None."""
    rows = _all(engine, BatchRow, select(BATCH).where(BATCH.c.id == batch_id))
    return rows[0] if rows else None


def unfinished(engine: Engine) -> list[BatchRow]:
    """The batches that are not over, oldest first."""
    return _all(
        engine, BatchRow, select(BATCH).where(BATCH.c.state.not_in(OVER)).order_by(BATCH.c.created_at, BATCH.c.id)
    )


def counts(engine: Engine, batch_id: str) -> dict[str, int]:
    """How many lines are in each state; a state that no line is in is left out."""
    with engine.connect() as connection:
        rows = connection.execute(
            select(LINE.c.state, func.count()).where(LINE.c.batch_id == batch_id).group_by(LINE.c.state)
        )
        return {state: n for state, n in rows}


def lines(
    engine: Engine, batch_id: str, *, states: Sequence[str] = (), text: str = "", limit: int = 50, offset: int = 0
) -> tuple[list[CalledLine], int]:
    """A page of lines in the order of the file, each with the figures of its last call, and how many match in all.

    Costs are of all its attempts (`db.batch_queries`). ``text`` is looked for in ids, requests, answers and messages,
    whatever its case.
    """
    clauses: list[ColumnElement[bool]] = [LINE.c.batch_id == batch_id]
    if states:
        clauses.append(LINE.c.state.in_(list(states)))
    if text.strip():
        clauses.append(_holds(text.strip()))
    with engine.connect() as connection:
        total = int(connection.execute(select(func.count()).select_from(LINE).where(*clauses)).scalar_one())
        page = _with_calls().where(*clauses).order_by(LINE.c.no).limit(limit).offset(offset)
        return with_attempts(connection, batch_id, rows_of(CalledLine, connection.execute(page))), total


def each_line(engine: Engine, batch_id: str) -> Iterator[CalledLine]:
    """Every line with the figures of its call (as `lines`), in the order of the file and in constant memory."""
    last = 0
    while True:
        page = _with_calls().where(LINE.c.batch_id == batch_id, LINE.c.no > last).order_by(LINE.c.no).limit(AT_ONCE)
        with engine.connect() as connection:
            rows = with_attempts(connection, batch_id, rows_of(CalledLine, connection.execute(page)))
        yield from rows
        if len(rows) < AT_ONCE:
            return
        last = rows[-1]["no"]


def lines_between(engine: Engine, batch_id: str, first: int, last: int, states: Sequence[str] = ()) -> list[LineRow]:
    """The lines ``first`` to ``last`` without their calls, only those in ``states`` if any are given."""
    statement = select(LINE).where(LINE.c.batch_id == batch_id, LINE.c.no.between(first, last)).order_by(LINE.c.no)
    return _all(engine, LineRow, statement.where(LINE.c.state.in_(list(states))) if states else statement)


def open_groups(engine: Engine, batch_id: str, size: int) -> list[int]:
    """Which groups of ``size`` lines (group 0 is lines 1 to ``size``) have lines that are not over, in order."""
    group = ((LINE.c.no - 1) // size).label("group")
    statement = select(group).where(LINE.c.batch_id == batch_id, LINE.c.state.in_(OPEN)).distinct().order_by("group")
    with engine.connect() as connection:
        return [int(number) for number in connection.execute(statement).scalars()]


def last_no(engine: Engine, batch_id: str) -> int:
    """The number of the last line that is recorded; 0 when none is."""
    with engine.connect() as connection:
        number = connection.execute(select(func.max(LINE.c.no)).where(LINE.c.batch_id == batch_id)).scalar()
    return int(number or 0)


def jobs(engine: Engine, batch_id: str) -> list[JobRow]:
    """The jobs of a batch at its service, in order."""
    return _all(engine, JobRow, select(JOB).where(JOB.c.batch_id == batch_id).order_by(JOB.c.no))


def workers(engine: Engine) -> list[WorkerRow]:
    """Every worker that was seen in the last day, the one with the freshest heartbeat first."""
    since = datetime.now(UTC) - timedelta(days=1)
    return _all(
        engine, WorkerRow, select(WORKER).where(WORKER.c.heartbeat_at > since).order_by(WORKER.c.heartbeat_at.desc())
    )


def same_file(engine: Engine, sha256: str) -> list[BatchRow]:
    """The batches that were made of the same bytes, newest first."""
    return _all(
        engine, BatchRow, select(BATCH).where(BATCH.c.file_sha256 == sha256).order_by(BATCH.c.created_at.desc())
    )


def spent(engine: Engine, batch_id: str) -> int | None:
    """What the calls of a batch have cost so far, in nano-dollars; None when no cost of any call is known."""
    statement = (
        select(func.count(), func.count(CALL.c.cost_nanousd), func.sum(CALL.c.cost_nanousd))
        .join(BATCH, BATCH.c.run_id == CALL.c.run_id)
        .where(BATCH.c.id == batch_id, CALL.c.state != "running")
    )
    with engine.connect() as connection:
        n, n_known, total = connection.execute(statement).one()
    return 0 if not n else int(total) if n_known else None


def _all(engine: Engine, kind: Callable[..., R], statement: Select[Any]) -> list[R]:
    with engine.connect() as connection:
        return rows_of(kind, connection.execute(statement))


def _with_calls() -> Select[Any]:
    own = [column for column in LINE.c if column.name not in _TAKEN]
    either = [func.coalesce(LINE.c[name], CALL.c[name]).label(name) for name in _TAKEN]
    taken = [CALL.c[name].label(name) for name in _OF_CALL]
    joined = LINE.outerjoin(CALL, and_(CALL.c.id == LINE.c.call_id, LINE.c.call_id.is_not(None)))
    return select(*own, *either, *taken, CALL.c.state.label("call_state")).select_from(joined)


def _holds(text: str) -> ColumnElement[bool]:
    words = storable(text)[:MAX_SEARCH].lower()
    for special in ("\\", "%", "_"):
        words = words.replace(special, "\\" + special)
    pattern = f"%{words}%"
    places = (LINE.c.record_id, cast(LINE.c.request, String), LINE.c.answer, LINE.c.message)
    return or_(*(func.lower(place).like(pattern, escape="\\") for place in places))


_BOUNDS: tuple[Literal["cost_high_nanousd", "plain_nanousd"], ...] = ("cost_high_nanousd", "plain_nanousd")

_ATTEMPT_FIGURES = ("id", "repetition", "retry_of", "cost_state", "cost_nanousd", *_BOUNDS)


# The first of these that one of the attempts is in is what their sum is.
_STATES = ("lower_bound", "estimated", "by_the_hour", "exact", "free", "not_billed")


def with_attempts(connection: Connection, batch_id: str, rows: list[CalledLine]) -> list[CalledLine]:
    """The same lines (`db.batch_queries.lines`), where ``cost_nanousd``, its bounds, its state and the plain cost are
    of all attempts together, and ``earlier_nanousd`` is what those before the last one cost (None: nothing is known of
    it, or there were none). Their sum over a batch is that of its calls in the history."""
    again = {row["no"]: row for row in rows if (row["attempts"] or 0) > 1 and row["call_id"] is not None}
    earlier_calls = _before(connection, batch_id, again) if again else {}
    for row in rows:
        row["earlier_nanousd"] = None
        if earlier := earlier_calls.get(row["no"]):
            _add(row, earlier)
    return rows


def _before(connection: Connection, batch_id: str, lines: Mapping[int, CalledLine]) -> dict[int, list[AttemptCost]]:
    """The calls of each line before its last one."""
    by_line: dict[int, list[AttemptCost]] = {no: [] for no in lines}
    # From call to call by their keys: a batch can have a million calls, and there is no index on the line in a run.
    line_of_call = {row["retry_of"]: no for no, row in lines.items() if row["retry_of"] is not None}
    seen = {row["call_id"] for row in lines.values()}
    while line_of_call:
        statement = select(*(CALL.c[name] for name in _ATTEMPT_FIGURES)).where(CALL.c.id.in_(list(line_of_call)))
        following: dict[str, int] = {}
        for call in rows_of(AttemptCost, connection.execute(statement)):
            no = line_of_call[call["id"]]
            by_line[no].append(call)
            seen.add(call["id"])
            if call["retry_of"] is not None and call["retry_of"] not in seen:
                following[call["retry_of"]] = no
        line_of_call = following
    broken = [no for no, calls in by_line.items() if len(calls) + 1 != lines[no]["attempts"]]
    if broken:  # a worker did not know of an attempt that another one had made meanwhile
        by_line |= _by_run(connection, batch_id, broken, {row["call_id"] for row in lines.values()})
    return by_line


def _by_run(
    connection: Connection, batch_id: str, numbers: Sequence[int], last: set[str | None]
) -> dict[int, list[AttemptCost]]:
    run = select(BATCH.c.run_id).where(BATCH.c.id == batch_id).scalar_subquery()
    statement = select(*(CALL.c[name] for name in _ATTEMPT_FIGURES)).where(
        CALL.c.run_id == run, CALL.c.repetition.in_(list(numbers))
    )
    by_line: dict[int, list[AttemptCost]] = {no: [] for no in numbers}
    for call in rows_of(AttemptCost, connection.execute(statement)):
        if call["id"] not in last:
            by_line[call["repetition"]].append(call)
    return by_line


def _add(row: CalledLine, earlier: Sequence[AttemptCost]) -> None:
    every: list[AttemptCost | CalledLine] = [*earlier, row]
    priced = [call for call in every if call["cost_nanousd"] is not None]
    row["earlier_nanousd"] = _sum(earlier)
    total = _sum(every)
    if total is None or (row["cost_nanousd"] is None and not total):
        return  # nothing that anybody knows was spent: what is said of the last one holds
    states = {call["cost_state"] for call in priced}
    all_priced = len(priced) == len(every)
    row["cost_state"] = (
        next((state for state in _STATES if state in states), row["cost_state"]) if all_priced else "lower_bound"
    )
    row["cost_nanousd"] = total
    for name in _BOUNDS:
        values = [value for call in priced if (value := call[name]) is not None]
        row[name] = sum(values) if all_priced and len(values) == len(priced) else None


def _sum(calls: Sequence[AttemptCost | CalledLine]) -> int | None:
    costs_of_calls = [call["cost_nanousd"] for call in calls if call["cost_nanousd"] is not None]
    return sum(costs_of_calls) if costs_of_calls else None
