"""Notes on moments: "moved to Haiku"."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import CursorResult, Engine, delete, insert, select
from sqlmodel import Session, col

from db.history_tables import Annotation

LONGEST = 200


def notes(engine: Engine, start: datetime | None = None, end: datetime | None = None) -> list[dict[str, Any]]:
    """The notes from ``start`` to ``end`` (exclusive, both open where None), newest first; of those of one moment the
    one that was written last."""
    wanted = select(
        col(Annotation.id), col(Annotation.at), col(Annotation.note), col(Annotation.person), col(Annotation.created_at)
    ).order_by(col(Annotation.at).desc(), col(Annotation.created_at).desc(), col(Annotation.id))
    if start is not None:
        wanted = wanted.where(col(Annotation.at) >= start)
    if end is not None:
        wanted = wanted.where(col(Annotation.at) < end)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(wanted).mappings()]


def owners(engine: Engine, note_id: str) -> list[str | None]:
    """Who wrote a note; empty where there is none."""
    with engine.connect() as connection:
        return list(connection.execute(select(col(Annotation.person)).where(col(Annotation.id) == note_id)).scalars())


def add(*, session: Session, note_id: str, at: datetime, note: str, person: str) -> None:
    """Keep a note. Raises ValueError in words for an empty one."""
    words = " ".join(note.split())[:LONGEST]
    if not words:
        raise ValueError("The note is empty: write what changed at that moment.")
    session.execute(
        insert(Annotation).values(id=note_id, at=at, note=words, person=person, created_at=datetime.now(UTC))
    )


def remove(*, session: Session, note_id: str) -> bool:
    """Take a note away; False when there is none."""
    done = session.execute(delete(Annotation).where(col(Annotation.id) == note_id))
    assert isinstance(done, CursorResult)
    return done.rowcount > 0
