"""What is forgotten in time: texts after some days, calls after more, rollups never."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, CursorResult, Result, delete, exists, func, select, update
from sqlmodel import Session, col

from db.models import Call, Run, Setting
from db.rollups import ROLLUP, day_of

PART = 500
CALLS_SINCE = "calls_kept_since"


def forget_texts(*, session: Session, older_than: datetime) -> int:
    """Forget prompts, answers and what was sent of runs created before ``older_than``; the figures stay.

    Returns how many runs were emptied. A run with a call under way is left for the next time.
    """
    busy = exists().where(col(Call.run_id) == col(Run.id), col(Call.state) == "running")
    old = select(col(Run.id)).where(col(Run.created_at) < older_than, col(Run.text_stored).is_(True), ~busy)
    ids = list(session.execute(old).scalars())
    for some_ids in (ids[start : start + PART] for start in range(0, len(ids), PART)):
        session.execute(
            update(Call).where(col(Call.run_id).in_(some_ids)).values(answer=None, reasoning=None, request=None)
        )
        session.execute(
            update(Run)
            .where(col(Run.id).in_(some_ids))
            .values(
                prompt=None, system=None, template=None, variables=None, attachments=None, note=None, text_stored=False
            )
        )
    return len(ids)


def forget_calls(*, session: Session, older_than: datetime, limit: int = 2000) -> int:
    """Forget calls made on UTC days that ended before ``older_than``, oldest first; returns how many.

    Only whole days whose calls are all rolled up go, so that a day is there with all of its calls or with none; a run
    goes with its last call, unless it is starred. Call it again while it returns ``limit``.
    """
    cutoff = day_of(older_than)
    open_days = select(col(Call.created_at)).where(
        col(Call.created_at) < cutoff, (col(Call.rolled).is_(False)) | (col(Call.state) == "running")
    )
    waiting = session.execute(open_days.order_by(col(Call.created_at)).limit(1)).scalar()
    if waiting is not None:
        cutoff = day_of(waiting)
    ids = list(
        session.execute(
            select(col(Call.id)).where(col(Call.created_at) < cutoff).order_by(col(Call.created_at)).limit(limit)
        ).scalars()
    )
    _keep_since(session, cutoff)
    for some_ids in (ids[start : start + PART] for start in range(0, len(ids), PART)):
        runs = set(session.execute(select(col(Call.run_id)).where(col(Call.id).in_(some_ids))).scalars())
        session.execute(delete(Call).where(col(Call.id).in_(some_ids)))
        with_calls = exists().where(col(Call.run_id) == col(Run.id))
        session.execute(delete(Run).where(col(Run.id).in_(runs), ~with_calls, col(Run.starred).is_(False)))
    return len(ids)


def calls_kept_since(*, session: Session | Connection) -> datetime | None:
    """The UTC day from which on all calls are still there; None while none was ever forgotten."""
    value = session.execute(select(col(Setting.value)).where(col(Setting.key) == CALLS_SINCE)).scalar()
    return datetime.fromisoformat(value["day"]) if value else None


def days_kept(connection: Connection) -> list[datetime]:
    """The UTC days whose calls are all still there, oldest first: those whose rollups can be made anew."""
    first, last = connection.execute(select(func.min(col(Call.created_at)), func.max(col(Call.created_at)))).one()
    begin, end = connection.execute(select(func.min(ROLLUP.c.bucket), func.max(ROLLUP.c.bucket))).one()
    moments = [moment for moment in (first, last, begin, end) if moment is not None]
    if not moments:
        return []
    start = calls_kept_since(session=connection) or day_of(min(moments))
    return [start + timedelta(days=number) for number in range((day_of(max(moments)) - start).days + 1)]


def _keep_since(session: Session, day: datetime) -> None:
    value = {"day": day.isoformat()}
    done = session.execute(update(Setting).where(col(Setting.key) == CALLS_SINCE).values(value=value))
    if _rows(done) == 0:
        session.add(Setting(key=CALLS_SINCE, value=value))
        session.flush()


def _rows(result: Result[Any]) -> int:
    assert isinstance(result, CursorResult)
    return result.rowcount
