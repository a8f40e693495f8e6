"""Every read of runs and calls, as a plain function of a reading engine.

Calls come back as rows of their columns and not as `Call` objects: 5,000 of them take 91 ms of CPU instead of 236, and
80 more where `services.call_record.from_row` makes records of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Engine,
    Select,
    TableValuedAlias,
    and_,
    case,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    true,
    tuple_,
)
from sqlmodel import Session, col
from sqlmodel import select as select_rows

from db.models import Call, DeploymentRow, Run, Vote
from db.run_rows import CallRow, HoldingCall, ListedRun, RunRow, VoteRow
from db.types import R, rows_of, storable

TYPICAL_OVER = 200
WARM_SHARE = 20  # a call is warm when at least one part in so many of its input was read from the cache
AT_ONCE = 500  # calls in one read of a stream
MAX_SEARCH = 500  # characters; SQLite refuses a LIKE pattern beyond 50,000 bytes
_CALL_COLUMNS = list(Call.__table__.columns)  # type: ignore[attr-defined]  # SQLModel adds __table__ at run time
_RUN_COLUMNS = list(Run.__table__.columns)  # type: ignore[attr-defined]  # as above
_PLACE = (col(Call.column_no), col(Call.repetition), col(Call.attempt_no), col(Call.id))


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; every field that is set narrows the list.

    ``text`` is looked for in prompts and answers, whatever its case; ``deployments`` and ``states`` are met by a run
    with at least one such call. Dates are aware datetimes, ``date_to`` exclusive.
    """

    text: str | None = None
    deployments: Sequence[str] = ()
    states: Sequence[str] = ()
    persons: Sequence[str] = ()
    date_from: datetime | None = None
    date_to: datetime | None = None
    starred: bool | None = None
    tag: str | None = None
    sources: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of runs and how many there are in all."""

    rows: list[ListedRun] = field(default_factory=list)
    total: int = 0


def _all(engine: Engine, kind: Callable[..., R], statement: Select[Any]) -> list[R]:
    with engine.connect() as connection:
        return rows_of(kind, connection.execute(statement))


def run_by_id(engine: Engine, run_id: str) -> RunRow | None:
    """One run, or None."""
    rows = _all(engine, RunRow, select(*_RUN_COLUMNS).where(col(Run.id) == run_id))
    return rows[0] if rows else None


def owners(engine: Engine, run_ids: Sequence[str]) -> list[str | None]:
    """Who recorded these runs, one person for each run that there is."""
    with engine.connect() as connection:
        return [
            person
            for start in range(0, len(run_ids), AT_ONCE)
            for person in connection.execute(
                select(col(Run.person)).where(col(Run.id).in_(run_ids[start : start + AT_ONCE]))
            ).scalars()
        ]


def calls_of_run(engine: Engine, run_id: str, limit: int | None = None) -> list[CallRow]:
    """The calls of a run, by column, repetition and attempt; at most the first ``limit`` of them."""
    statement = select(*_CALL_COLUMNS).where(col(Call.run_id) == run_id).order_by(*_PLACE).limit(limit)
    return _all(engine, CallRow, statement)


def count_calls(engine: Engine, run_id: str) -> int:
    """How many calls a run has, every attempt counted."""
    with engine.connect() as connection:
        statement = select(func.count()).select_from(Call).where(col(Call.run_id) == run_id)
        return int(connection.execute(statement).scalar_one())


def each_call(engine: Engine, run_id: str) -> Iterator[CallRow]:
    """The calls of a run as `calls_of_run` has them, in constant memory however many there are."""
    further: ColumnElement[bool] = true()
    while True:
        page = select(*_CALL_COLUMNS).where(col(Call.run_id) == run_id, further).order_by(*_PLACE).limit(AT_ONCE)
        rows = _all(engine, CallRow, page)
        yield from rows
        if len(rows) < AT_ONCE:
            return
        last = rows[-1]
        further = tuple_(*_PLACE) > tuple_(last["column_no"], last["repetition"], last["attempt_no"], last["id"])


def search_runs(engine: Engine, run_filter: RunFilter, *, limit: int = 25, offset: int = 0) -> RunPage:
    """Runs that match, newest first, each with the states and deployments of its calls."""
    clauses = _conditions(run_filter, engine.dialect.name)
    counted = select(func.count()).select_from(Run).where(*clauses)
    listed = (
        select(*_RUN_COLUMNS)
        .where(*clauses)
        .order_by(col(Run.created_at).desc(), col(Run.id))
        .limit(limit)
        .offset(offset)
    )
    with engine.connect() as connection:
        total = int(connection.execute(counted).scalar_one())
        runs = rows_of(RunRow, connection.execute(listed))
        by_id: dict[str, ListedRun] = {run["id"]: {**run, "states": {}, "deployments": []} for run in runs}
        summary = (
            select(col(Call.run_id), col(Call.state), col(Call.deployment_id), func.count().label("n"))
            .where(col(Call.run_id).in_(list(by_id)))
            .group_by(col(Call.run_id), col(Call.state), col(Call.deployment_id))
            .order_by(col(Call.deployment_id))
        )
        for run_id, state, deployment, n in connection.execute(summary):
            run = by_id[run_id]
            run["states"][state] = run["states"].get(state, 0) + n
            if deployment not in run["deployments"]:
                run["deployments"].append(deployment)
    return RunPage(list(by_id.values()), total)


def _conditions(run_filter: RunFilter, dialect: str) -> list[ColumnElement[bool]]:
    clauses: list[ColumnElement[bool]] = []
    if run_filter.text and run_filter.text.strip():
        like = f"%{_escaped(storable(run_filter.text.strip())[:MAX_SEARCH].lower())}%"
        in_calls = exists().where(col(Call.run_id) == col(Run.id), func.lower(Call.answer).like(like, escape="\\"))
        clauses.append(or_(func.lower(Run.prompt).like(like, escape="\\"), in_calls))
    if run_filter.deployments:
        clauses.append(
            exists().where(col(Call.run_id) == col(Run.id), col(Call.deployment_id).in_(list(run_filter.deployments)))
        )
    if run_filter.states:
        clauses.append(exists().where(col(Call.run_id) == col(Run.id), col(Call.state).in_(list(run_filter.states))))
    if run_filter.persons:
        clauses.append(col(Run.person).in_(list(run_filter.persons)))
    if run_filter.sources:
        clauses.append(col(Run.source).in_(list(run_filter.sources)))
    if run_filter.date_from is not None:
        clauses.append(col(Run.created_at) >= run_filter.date_from)
    if run_filter.date_to is not None:
        clauses.append(col(Run.created_at) < run_filter.date_to)
    if run_filter.starred is not None:
        clauses.append(col(Run.starred).is_(run_filter.starred))
    if run_filter.tag:
        tag = each_tag(dialect)
        clauses.append(exists().select_from(tag).where(tag.c.value == storable(run_filter.tag)))
    return clauses


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def persons(engine: Engine) -> list[str]:
    """Everybody who ever sent a run."""
    with engine.connect() as connection:
        return sorted(connection.execute(select(col(Run.person)).distinct()).scalars())


# Each list of tags that is in use, by steps through the index `ix_run_tags`: neither database does DISTINCT that way,
# and reading every run takes ever longer.
_LISTS = text("""
    WITH RECURSIVE used(tags) AS (
        SELECT (SELECT CAST(r.tags AS TEXT) FROM run r ORDER BY CAST(r.tags AS TEXT) LIMIT 1)
        UNION ALL
        SELECT (SELECT CAST(r.tags AS TEXT) FROM run r WHERE CAST(r.tags AS TEXT) > used.tags
                ORDER BY CAST(r.tags AS TEXT) LIMIT 1)
        FROM used WHERE used.tags IS NOT NULL
    ) SELECT tags FROM used WHERE tags IS NOT NULL
""")


def tags(engine: Engine) -> list[str]:
    """Every tag in use."""
    with engine.connect() as connection:
        lists = [orjson.loads(stored) for stored in connection.execute(_LISTS).scalars()]
    return sorted({str(tag) for names in lists if isinstance(names, list) for tag in names})


def each_tag(dialect: str) -> TableValuedAlias:
    """The tags of a run as a table with one column ``value``."""
    elements = func.json_array_elements_text if dialect == "postgresql" else func.json_each
    return elements(col(Run.tags)).table_valued("value")


def votes_of_run(engine: Engine, run_id: str) -> list[VoteRow]:
    """The votes on a run, oldest first."""
    columns = list(Vote.__table__.columns)  # type: ignore[attr-defined]  # SQLModel adds __table__ at run time
    return _all(engine, VoteRow, select(*columns).where(col(Vote.run_id) == run_id).order_by(col(Vote.created_at)))


def typical_ttft(engine: Engine, deployment_id: str) -> tuple[float | None, int]:
    """(median TTFT in ms, n) over the last 200 calls of a deployment that succeeded; (None, 0) when there are none.

    Calls that found their prompt in the service's cache and calls that did not are never averaged together: the more
    numerous of the two kinds is taken, and of two equal ones the uncached.
    """
    read = func.coalesce(col(Call.cache_read), 0)
    parts = (Call.uncached_input, Call.cache_write_5m, Call.cache_write_1h)
    total = read + sum((func.coalesce(col(column), 0) for column in parts), literal(0))
    statement = (
        select(col(Call.ttft_ms), and_(read > 0, read * WARM_SHARE >= total))
        .where(col(Call.deployment_id) == deployment_id, col(Call.state) == "succeeded", col(Call.ttft_ms).is_not(None))
        .order_by(col(Call.created_at).desc())
        .limit(TYPICAL_OVER)
    )
    with engine.connect() as connection:
        rows = [(value, bool(warm)) for value, warm in connection.execute(statement) if value is not None]
    kinds = [[value for value, warm in rows if warm is kind] for kind in (False, True)]
    values = max(kinds, key=len)
    return (median(values), len(values)) if values else (None, 0)


def held_by_calls(engine: Engine, deployment_id: str, since: datetime) -> list[HoldingCall]:
    """When calls of a deployment held it: those that were sent after ``since`` or up to a day (the longest deadline)
    before it."""
    output = func.coalesce(Call.reasoning_output, 0) + func.coalesce(Call.answer_output, 0)
    counted = or_(col(Call.reasoning_output).is_not(None), col(Call.answer_output).is_not(None))
    return _all(
        engine,
        HoldingCall,
        select(
            col(Call.created_at),
            col(Call.started_at),
            col(Call.end_ms),
            col(Call.state),
            col(Call.usage_source),
            case((counted, output), else_=None).label("output"),
        ).where(
            col(Call.deployment_id) == deployment_id,
            col(Call.created_at) >= since - timedelta(days=1),
            or_(col(Call.started_at).is_not(None), col(Call.state) == "running"),
        ),
    )


def declared_at(engine: Engine, deployment_id: str) -> datetime | None:
    """When a deployment was first declared; None for one that never was."""
    with Session(engine) as session:
        return session.exec(select_rows(DeploymentRow.created_at).where(DeploymentRow.id == deployment_id)).first()


def deployment_rows(engine: Engine) -> list[DeploymentRow]:
    """Every deployment that was ever declared, by colour slot."""
    with Session(engine) as session:
        return list(session.exec(select_rows(DeploymentRow).order_by(col(DeploymentRow.color_slot))))


def history_version(engine: Engine) -> str:
    """A word that is another one as soon as a call was made or has ended."""
    newest, live = select(func.max(col(Call.created_at))), select(func.count()).where(col(Call.state) == "running")
    # In the words of the partial index (`db.rollups.WAITING`).
    waiting = select(func.count()).where(~col(Call.rolled), col(Call.state) != "running")
    with engine.connect() as connection:
        return " ".join(str(connection.execute(statement).scalar()) for statement in (newest, live, waiting))
