"""Who works on batches: the heartbeats by which workers judge each other, as units of the writer."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import insert, select, update
from sqlmodel import Session

from db import runs
from db.batch_queries import WORKER
from db.runs import clock


def adopt_worker(*, session: Session, worker: str, host: str, pid: int) -> None:
    """A worker works on this database from now on; its calls are an owner's like those of an engine."""
    runs.adopt_owner(session=session, owner_id=worker, pid=pid, host=host)
    now = clock(session)
    session.execute(insert(WORKER).values(id=worker, host=host, pid=pid, started_at=now, heartbeat_at=now))


def beat(*, session: Session, worker: str) -> None:
    """A worker still lives."""
    now = clock(session)
    runs.heartbeat(session=session, owner_id=worker)
    session.execute(update(WORKER).where(WORKER.c.id == worker).values(heartbeat_at=now, stopped_at=None))


def leave(*, session: Session, worker: str) -> None:
    """A worker is gone, in good order or found dead."""
    runs.release_owner(session=session, owner_id=worker)
    ended = update(WORKER).where(WORKER.c.id == worker, WORKER.c.stopped_at.is_(None))
    session.execute(ended.values(stopped_at=clock(session)))


def alive(*, session: Session, stale_after_s: float) -> list[str]:
    """The workers whose heartbeat is no older than ``stale_after_s`` seconds by the database's clock."""
    since = clock(session) - timedelta(seconds=stale_after_s)
    found = session.execute(
        select(WORKER.c.id).where(WORKER.c.stopped_at.is_(None), WORKER.c.heartbeat_at > since).order_by(WORKER.c.id)
    )
    return list(found.scalars())


def not_stopped(*, session: Session) -> list[str]:
    """The workers that have not said that they ended."""
    return list(session.execute(select(WORKER.c.id).where(WORKER.c.stopped_at.is_(None))).scalars())
