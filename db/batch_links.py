"""What ties batches together, and what a batch cost: reads for pages and for the door that takes votes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, func, select

from db.batch_queries import BATCH, CALL, LINE, Row


class Costs(NamedTuple):
    """Of the calls of one cost state: how many, of how many the cost is known, and those together in nano-dollars."""

    n: int
    n_known: int
    nanousd: int


def sent_again(engine: Engine, batch_id: str) -> Row | None:
    """The batch that the lines without an answer went into (``id``, ``name``, ``state``), as `db.batch_once` looks for
    it before it makes one; None where there is none."""
    own = select(BATCH.c.file_sha256).where(BATCH.c.id == batch_id).scalar_subquery()
    asked = select(BATCH.c.id, BATCH.c.name, BATCH.c.state).where(
        BATCH.c.parent_id == batch_id, BATCH.c.file_sha256 == own
    )
    with engine.connect() as connection:
        found = connection.execute(asked.order_by(BATCH.c.created_at.desc()).limit(1)).mappings().first()
    return dict(found) if found is not None else None


def costs(engine: Engine, batch_id: str) -> dict[str, Costs]:
    """What the calls of a batch that are over have cost, by cost state; empty where there is none."""
    asked = (
        select(CALL.c.cost_state, func.count(), func.count(CALL.c.cost_nanousd), func.sum(CALL.c.cost_nanousd))
        .join(BATCH, BATCH.c.run_id == CALL.c.run_id)
        .where(BATCH.c.id == batch_id, CALL.c.state != "running")
        .group_by(CALL.c.cost_state)
    )
    with engine.connect() as connection:
        rows = connection.execute(asked).all()
    return {str(state or "no_price"): Costs(int(n), int(known), int(total or 0)) for state, n, known, total in rows}


def in_both(engine: Engine, first: Mapping[str, Any], second: Mapping[str, Any], no: int) -> bool:
    """Whether line ``no`` of the batch ``first`` stands beside a line of ``second``, as `services.batch.compare.pairs`
    joins them: those of one file by where the record begins, else by id."""
    with engine.connect() as connection:
        mine = select(LINE.c.line, LINE.c.record_id).where(LINE.c.batch_id == first["id"], LINE.c.no == no)
        row = connection.execute(mine).first()
        if row is None:
            return False
        named = LINE.c.record_id == row.record_id
        if not row.record_id:  # its texts were forgotten
            named = LINE.c.no == no
        if first["file_sha256"] != second["file_sha256"]:
            return _any(connection, second["id"], named)
        there = LINE.c.line == row.line
        alone = all(_n(connection, batch["id"], row.line) == 1 for batch in (first, second))
        return alone or _any(connection, second["id"], there, named)


def _any(connection: Connection, batch_id: str, *where: Any) -> bool:
    asked = select(LINE.c.no).where(LINE.c.batch_id == batch_id, *where).limit(1)
    return connection.execute(asked).first() is not None


def _n(connection: Connection, batch_id: str, line: int) -> int:
    asked = select(LINE.c.no).where(LINE.c.batch_id == batch_id, LINE.c.line == line).limit(2)
    return len(connection.execute(asked).all())
