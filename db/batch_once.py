"""What is made of a file or of a batch only once: looked for and recorded in one unit of the writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, text
from sqlmodel import Session

from db.batch_queries import BATCH, LINE, OPEN, Row
from db.batches import copy_lines, insert_batch

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))")


def insert_once(*, session: Session, run: Mapping[str, Any], values: Mapping[str, Any], again: bool) -> Row | None:
    """Record a batch and its run. When one was made of the same bytes before, and not ``again``: that one's row
    (``id``, ``name``, ``created_at``), and nothing is recorded."""
    _alone(session, f"batch of {values['file_sha256']}")
    if not again:
        same = select(BATCH.c.id, BATCH.c.name, BATCH.c.created_at).where(BATCH.c.file_sha256 == values["file_sha256"])
        found = session.execute(same.order_by(BATCH.c.created_at.desc()).limit(1)).mappings().first()
        if found is not None:
            return dict(found)
    insert_batch(session=session, run=run, values=values)
    return None


def resend_once(
    *, session: Session, run: Mapping[str, Any], values: Mapping[str, Any], source: str, states: Sequence[str]
) -> Row | None:
    """Record a batch of the lines of ``source`` that are in ``states``. When those lines went into a batch before:
    that one's row (``id``, ``name``, ``created_at``, ``state``, and ``left``: how many of its lines have no answer),
    and nothing is recorded."""
    _alone(session, f"again {source}")
    made = select(BATCH.c.id, BATCH.c.name, BATCH.c.created_at, BATCH.c.state).where(
        BATCH.c.parent_id == source, BATCH.c.file_sha256 == values["file_sha256"]
    )
    found = session.execute(made.order_by(BATCH.c.created_at.desc()).limit(1)).mappings().first()
    if found is not None:
        lacking = LINE.c.state.in_([*states, *OPEN])
        counted = select(func.count()).select_from(LINE).where(LINE.c.batch_id == found["id"], lacking)
        return dict(found) | {"left": int(session.execute(counted).scalar_one())}
    insert_batch(session=session, run=run, values=values)
    copy_lines(session=session, source=source, target=values["id"], states=states)
    return None


def _alone(session: Session, what: str) -> None:
    """Until this transaction ends nobody else gets past here with the same ``what``.

    On SQLite every transaction of a writer is alone anyway. On PostgreSQL several engines may write; a statement after
    the lock sees what was committed before it (READ COMMITTED).
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_LOCK, {"what": what})
