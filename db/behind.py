"""The calls behind a mark of the history: a page of them, how many there are, and what they cost together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, case, exists, func, or_, select
from sqlmodel import col

from db.history import Wanted, conditions, tagged
from db.rollups import CALL, NEEDED
from db.tables import Run

LISTED = (*NEEDED, "run_id", "column_no", "repetition", "attempt_no", "message")


@dataclass(frozen=True, slots=True)
class Behind:
    """Narrower than a `Wanted`. ``states``: ended so; ``spans``: made in one of these stretches; ``tags``: the run has
    exactly these tags (() for none at all), None for any."""

    states: Sequence[str] = ()
    spans: Sequence[tuple[datetime, datetime]] = ()
    tags: Sequence[str] | None = None


ALL = Behind()


def calls_behind(
    engine: Engine, wanted: Wanted, only: Behind = ALL, *, limit: int = 50, offset: int = 0
) -> tuple[list[dict[str, Any]], int]:
    """The calls themselves, newest first, and how many there are."""
    where = _where(engine, wanted, only)
    with engine.connect() as connection:
        total = int(connection.execute(select(func.count()).select_from(CALL).where(*where)).scalar_one())
        listed = select(*(CALL.c[name] for name in LISTED)).where(*where)
        listed = listed.order_by(CALL.c.created_at.desc(), CALL.c.id).limit(limit).offset(offset)
        return [dict(row) for row in connection.execute(listed).mappings()], total


def spent_behind(engine: Engine, wanted: Wanted, only: Behind = ALL) -> tuple[int, int, int]:
    """(nano-dollars, calls whose cost is known, calls whose cost is a lower bound) of the calls of `calls_behind`."""
    sums = (
        func.coalesce(func.sum(CALL.c.cost_nanousd), 0), func.count(CALL.c.cost_nanousd),
        func.coalesce(func.sum(case((CALL.c.cost_state == "lower_bound", 1), else_=0)), 0),
    )  # fmt: skip
    with engine.connect() as connection:
        spent, known, bounded = connection.execute(select(*sums).where(*_where(engine, wanted, only))).one()
    return int(spent), int(known), int(bounded)


def _where(engine: Engine, wanted: Wanted, only: Behind) -> list[ColumnElement[bool]]:
    dialect = engine.dialect.name
    where = [
        CALL.c.created_at >= wanted.start, CALL.c.created_at < wanted.end, CALL.c.state != "running",
        *conditions(CALL, wanted),
    ]  # fmt: skip
    if only.spans:
        where.append(or_(*(and_(CALL.c.created_at >= a, CALL.c.created_at < b) for a, b in only.spans)))
    if only.states:
        where.append(CALL.c.state.in_(list(only.states)))
    if wanted.tags:
        where.append(tagged(wanted.tags, dialect))
    if only.tags is not None:
        where += [tagged([tag], dialect) for tag in only.tags]
        many = func.coalesce(func.json_array_length(col(Run.tags)), 0)
        where.append(exists().where(col(Run.id) == CALL.c.run_id, many == len(only.tags)))
    return where
