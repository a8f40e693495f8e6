"""The small tables: alerts, notes on moments, values of the installation, and when hour-priced deployments were on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import CursorResult, Engine, Table, delete, insert, or_, select, text, update
from sqlmodel import Session, col

from db.models import Alert, AlertEvent, Annotation, Powered, Setting


def read(engine: Engine, key: str) -> dict[str, Any] | None:
    """The value of a key; None where none was set."""
    with engine.connect() as connection:
        value: dict[str, Any] | None = connection.execute(
            select(col(Setting.value)).where(col(Setting.key) == key)
        ).scalar()
        return value


def write(*, session: Session, key: str, value: dict[str, Any] | None) -> None:
    """Set a key; None removes it."""
    session.execute(delete(Setting).where(col(Setting.key) == key))
    if value is not None:
        session.execute(insert(Setting).values(key=key, value=value))


@dataclass(frozen=True, slots=True)
class Meter:
    """What a deployment that is on costs: US dollars per hour as text, and the price row (`Price.to_json`).

    ``since``: from when on it counts if it was never on before; aware.
    """

    usd_per_hour: str
    price: dict[str, Any]
    since: datetime


def settle(*, session: Session, on: Mapping[str, Meter], at: datetime) -> int:
    """Make the open stretches those of ``on`` (deployment id → what it costs); returns how many changed.

    A stretch whose deployment is off, or costs something else now, ends ``at``. One that goes on is left alone, so
    that an engine which starts again changes nothing.
    """
    if session.get_bind().dialect.name == "postgresql":
        # Two engines that start together must not both open a stretch.
        session.execute(text("LOCK TABLE powered IN SHARE ROW EXCLUSIVE MODE"))
    columns = (col(Powered.id), col(Powered.deployment_id), col(Powered.usd_per_hour))
    open_now = session.execute(select(*columns).where(col(Powered.off_at).is_(None))).all()
    going = {name for _, name, usd in open_now if name in on and Decimal(usd) == Decimal(on[name].usd_per_hour)}
    ended = [number for number, name, _ in open_now if name not in going]
    if ended:
        session.execute(update(Powered).where(col(Powered.id).in_(ended)).values(off_at=at))
    begun = sorted(set(on) - going)
    if begun:
        before = set(
            session.execute(
                select(col(Powered.deployment_id)).where(col(Powered.deployment_id).in_(begun)).distinct()
            ).scalars()
        )
        rows = [
            {
                "deployment_id": name,
                "on_at": at if name in before else min(on[name].since, at),
                "off_at": None,
                "usd_per_hour": on[name].usd_per_hour,
                "price": on[name].price,
            }
            for name in begun
        ]
        session.execute(insert(Powered), rows)
    return len(ended) + len(begun)


def stretches(engine: Engine, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """The stretches that overlap ``start`` to ``end`` (exclusive), as they are stored, by deployment and time."""
    wanted = select(
        col(Powered.deployment_id), col(Powered.on_at), col(Powered.off_at), col(Powered.usd_per_hour)
    ).where(col(Powered.on_at) < end, or_(col(Powered.off_at).is_(None), col(Powered.off_at) > start))
    with engine.connect() as connection:
        ordered = wanted.order_by(col(Powered.deployment_id), col(Powered.on_at), col(Powered.id))
        return [dict(row) for row in connection.execute(ordered).mappings()]


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


def remove_note(*, session: Session, note_id: str) -> bool:
    """Take a note away; False when there is none."""
    done = session.execute(delete(Annotation).where(col(Annotation.id) == note_id))
    assert isinstance(done, CursorResult)
    return done.rowcount > 0


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
    *,
    session: Session,
    seen: Mapping[str, Any],
    at: datetime,
    value: float | None,
    n: int,
    firing: bool,
    event: Mapping[str, Any] | None,
) -> bool:
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
