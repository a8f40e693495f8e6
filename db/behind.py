"""The calls behind a mark of the history: a page of them, how many there are, and what they cost together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, case, exists, false, func, not_, or_, select
from sqlmodel import col

from db.history import Wanted, conditions, tagged
from db.models import Run
from db.rollups import CALL, NEEDED, SKETCHES
from db.rows import dicts

LISTED = (*NEEDED, "run_id", "column_no", "repetition", "attempt_no", "message")


@dataclass(frozen=True, slots=True)
class Behind:
    """Narrower than a `Wanted`. ``states``: ended so; ``spans``: made in one of these stretches; ``tags``: the run has
    exactly these tags (() for none at all), None for any. ``figure``: one of `SKETCHES`; calls that were measured in it
    are listed first."""

    states: Sequence[str] = ()
    spans: Sequence[tuple[datetime, datetime]] = ()
    tags: Sequence[str] | None = None
    figure: str = ""


ALL = Behind()


def calls_behind(
    engine: Engine, wanted: Wanted, only: Behind = ALL, *, limit: int = 50, offset: int = 0
) -> tuple[list[dict[str, Any]], int]:
    """The calls themselves, newest first, and how many there are."""
    where = _where(engine, wanted, only)
    with engine.connect() as connection:
        total = int(connection.execute(select(func.count()).select_from(CALL).where(*where)).scalar_one())
        listed = select(*(CALL.c[name] for name in LISTED)).where(*where)
        first = [case((_measured(only.figure), 0), else_=1)] if only.figure else []
        listed = listed.order_by(*first, CALL.c.created_at.desc(), CALL.c.id).limit(limit).offset(offset)
        return dicts(connection.execute(listed)), total


def spent_behind(engine: Engine, wanted: Wanted, only: Behind = ALL) -> tuple[int, int, int]:
    """(nano-dollars, calls whose cost is known, calls whose cost is a lower bound) of the calls of `calls_behind`."""
    sums = (
        func.coalesce(func.sum(CALL.c.cost_nanousd), 0), func.count(CALL.c.cost_nanousd),
        func.coalesce(func.sum(case((CALL.c.cost_state == "lower_bound", 1), else_=0)), 0),
    )  # fmt: skip
    with engine.connect() as connection:
        spent, known, bounded = connection.execute(select(*sums).where(*_where(engine, wanted, only))).one()
    return int(spent), int(known), int(bounded)


def measured_behind(engine: Engine, wanted: Wanted, only: Behind) -> tuple[int, int, int]:
    """Of the calls of `calls_behind`: how many were measured in ``only.figure``, how many were not as their stamps were
    late by our own fault, and how many of the rest are of batches."""
    taken, late = _measured(only.figure), _late()
    batch = and_(not_(taken), not_(late), CALL.c.source == "batch")
    sums = (func.coalesce(func.sum(case((one, 1), else_=0)), 0) for one in (taken, and_(not_(taken), late), batch))
    with engine.connect() as connection:
        measured, by_us, of_batches = connection.execute(select(*sums).where(*_where(engine, wanted, only))).one()
    return int(measured), int(by_us), int(of_batches)


def _measured(figure: str) -> ColumnElement[bool]:
    """As `db.rollups.measured` has it."""
    return and_(CALL.c.state == "succeeded", not_(_late()), CALL.c[SKETCHES[figure]].is_not(None))


def _late() -> ColumnElement[bool]:
    return func.coalesce(CALL.c.lag_marked, false())


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
