"""Batches as a person means them: by an id, by its beginning or by a name; by a run; and when their calls were made."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Engine, and_, func, or_, select

from db.batch_queries import AT_ONCE, BATCH, CALL, LINE, OPEN, Row
from db.types import storable

LATEST = 2000  # calls


def called(engine: Engine, text: str, limit: int = 10) -> list[Row]:
    """The batches that somebody means by ``text``: the one with that id, else those with that name, else those whose id
    begins so; newest first."""
    wanted = storable(text)
    newest = select(BATCH).order_by(BATCH.c.created_at.desc(), BATCH.c.id).limit(limit)
    begins = func.substr(BATCH.c.id, 1, len(wanted)) == wanted
    for meant in (BATCH.c.id == wanted, BATCH.c.name == wanted, begins) if wanted else ():
        with engine.connect() as connection:
            if found := [dict(row) for row in connection.execute(newest.where(meant)).mappings()]:
                return found
    return []


def of_run(engine: Engine, run_id: str) -> Row | None:
    """The batch whose calls a run has; None for any other run."""
    with engine.connect() as connection:
        found = connection.execute(select(BATCH).where(BATCH.c.run_id == run_id).limit(1)).mappings().first()
    return dict(found) if found is not None else None


def stretches(engine: Engine, run_id: str) -> Iterator[tuple[datetime, datetime | None]]:
    """From when to when each call of a run was under way, every attempt, in the order in which they began; in constant
    memory."""
    asked = select(CALL.c.created_at, CALL.c.ended_at).where(CALL.c.run_id == run_id).order_by(CALL.c.created_at)
    with engine.connect().execution_options(yield_per=AT_ONCE) as connection:
        yield from ((began, ended) for began, ended in connection.execute(asked))


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
