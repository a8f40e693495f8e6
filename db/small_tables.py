"""Alerts and what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Table, delete, insert, select, update
from sqlmodel import Session

from db.history_tables import Alert, AlertEvent

ALERT: Table = Alert.__table__  # type: ignore[attr-defined]  # SQLModel adds __table__ at run time
EVENT: Table = AlertEvent.__table__  # type: ignore[attr-defined]  # as above
KEPT_EVENTS = 500
Row = dict[str, Any]


def alerts(engine: Engine) -> list[Row]:
    """Every alert, oldest first."""
    with engine.connect() as connection:
        found = connection.execute(select(ALERT).order_by(ALERT.c.created_at, ALERT.c.id))
        return [dict(row) for row in found.mappings()]


def events(engine: Engine, alert_id: str | None = None, limit: int = 20) -> list[Row]:
    """The last events, newest first, of one alert or of all."""
    wanted = select(EVENT).order_by(EVENT.c.at.desc(), EVENT.c.id.desc()).limit(limit)
    if alert_id is not None:
        wanted = wanted.where(EVENT.c.alert_id == alert_id)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(wanted).mappings()]


def firing(engine: Engine) -> list[Row]:
    """The alerts that fire, each with ``since`` and the ``sentence`` of the event that began it, oldest first."""
    found = []
    for alert in alerts(engine):
        if alert["firing"] and alert["enabled"]:
            began = next((one for one in events(engine, alert["id"]) if one["firing"]), None)
            found.append(alert | {"since": began and began["at"], "sentence": began and began["sentence"]})
    return found


def save(*, session: Session, alert_id: str, values: Mapping[str, Any], person: str, at: datetime) -> None:
    """Add an alert or change one. Another threshold, or being switched off, makes it begin again as not firing."""
    anew = {"firing": False, "checked_at": None, "value": None, "n": None}
    known = session.execute(select(ALERT).where(ALERT.c.id == alert_id)).mappings().first()
    if known is None:
        session.execute(insert(ALERT).values(id=alert_id, person=person, created_at=at, **values, **anew))
        return
    changed = any(known[name] != value for name, value in values.items() if name not in ("name", "targets"))
    session.execute(update(ALERT).where(ALERT.c.id == alert_id).values(**values, **(anew if changed else {})))


def remove(*, session: Session, alert_id: str) -> None:
    """Take an alert and its events away."""
    session.execute(delete(EVENT).where(EVENT.c.alert_id == alert_id))
    session.execute(delete(ALERT).where(ALERT.c.id == alert_id))


def checked(
    *, session: Session, seen: Mapping[str, Any], at: datetime, value: float | None, n: int, firing: bool,
    event: Mapping[str, Any] | None,
) -> bool:  # fmt: skip
    """Keep the result of one evaluation of the alert ``seen``, with the event where it began or ended.

    Nothing is kept, and False returned, when somebody changed the alert meanwhile: the result is of another one.
    """
    same = [ALERT.c[name] == seen[name] for name in ("id", "metric", "threshold", "window_s", "firing")]
    where = [*same, ALERT.c.enabled.is_(True)]
    done = session.execute(update(ALERT).where(*where).values(checked_at=at, value=value, n=n, firing=firing))
    if done.rowcount == 0:  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
        return False
    if event is not None:
        session.execute(insert(EVENT).values(alert_id=seen["id"], at=at, value=value, n=n, firing=firing, **event))
        old = select(EVENT.c.id).order_by(EVENT.c.at.desc(), EVENT.c.id.desc()).offset(KEPT_EVENTS).limit(-1)
        if session.get_bind().dialect.name == "postgresql":
            old = old.limit(None)
        session.execute(delete(EVENT).where(EVENT.c.id.in_(old)))
    return True


def delivered(*, session: Session, event_id: str, words: str) -> None:
    """Keep what became of an event's notice."""
    session.execute(update(EVENT).where(EVENT.c.id == event_id).values(delivered=words))
