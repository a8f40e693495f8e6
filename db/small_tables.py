"""The small tables: alerts, notes on moments, scenarios, values of the installation, and when hour-priced deployments
were on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypedDict

from sqlalchemy import CursorResult, Engine, Table, delete, insert, or_, text, update
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from db.models import Alert, AlertEvent, Annotation, Powered, Scenario, Setting
from db.run_rows import Json


def read(engine: Engine, key: str) -> Json | None:
    """The value of a key; None where none was set."""
    with Session(engine) as session:
        setting = session.get(Setting, key)
    return setting.value if setting is not None else None


def write(*, session: Session, key: str, value: Json | None) -> None:
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
    price: Json
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
    open_now = session.execute(select_columns(*columns).where(col(Powered.off_at).is_(None))).all()
    going = {name for _, name, usd in open_now if name in on and Decimal(usd) == Decimal(on[name].usd_per_hour)}
    ended = [number for number, name, _ in open_now if name not in going]
    if ended:
        session.execute(update(Powered).where(col(Powered.id).in_(ended)).values(off_at=at))
    begun = sorted(set(on) - going)
    if begun:
        known_deployments = set(
            session.exec(select(Powered.deployment_id).where(col(Powered.deployment_id).in_(begun)).distinct())
        )
        rows = [
            {
                "deployment_id": name,
                "on_at": at if name in known_deployments else min(on[name].since, at),
                "off_at": None,
                "usd_per_hour": on[name].usd_per_hour,
                "price": on[name].price,
            }
            for name in begun
        ]
        session.execute(insert(Powered), rows)
    return len(ended) + len(begun)


def stretches(engine: Engine, start: datetime, end: datetime) -> list[Powered]:
    """The stretches that overlap ``start`` to ``end`` (exclusive), as they are stored, by deployment and time."""
    off_at = col(Powered.off_at)
    overlapping = select(Powered).where(Powered.on_at < end, or_(off_at.is_(None), off_at > start))
    with Session(engine) as session:
        return list(session.exec(overlapping.order_by(Powered.deployment_id, col(Powered.on_at), col(Powered.id))))


LONGEST = 200


def notes(engine: Engine, start: datetime | None = None, end: datetime | None = None) -> list[Annotation]:
    """The notes from ``start`` to ``end`` (exclusive, both open where None), newest first; of those of one moment the
    one that was written last."""
    chosen = select(Annotation).order_by(
        col(Annotation.at).desc(), col(Annotation.created_at).desc(), col(Annotation.id)
    )
    if start is not None:
        chosen = chosen.where(Annotation.at >= start)
    if end is not None:
        chosen = chosen.where(Annotation.at < end)
    with Session(engine) as session:
        return list(session.exec(chosen))


def owners(engine: Engine, note_id: str) -> list[str]:
    """Who wrote a note; empty where there is none."""
    with Session(engine) as session:
        return list(session.exec(select(Annotation.person).where(Annotation.id == note_id)))


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


class AlertValues(TypedDict):
    """What of an alert somebody chooses. ``targets``: names of variables that hold addresses."""

    name: str
    metric: str
    threshold: float
    window_s: int
    deployments: list[str]
    targets: list[str]
    enabled: bool


class NewEvent(TypedDict):
    """An alert that has begun or ended. ``delivered``: what became of its notice, as far as that is known."""

    id: str
    sentence: str
    delivered: str | None


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fires, and the event that began it where that is still kept."""

    alert: Alert
    since: datetime | None
    sentence: str | None


def alerts(engine: Engine) -> list[Alert]:
    """Every alert, oldest first."""
    with Session(engine) as session:
        return list(session.exec(select(Alert).order_by(col(Alert.created_at), Alert.id)))


def events(engine: Engine, alert_id: str | None = None, limit: int = 20) -> list[AlertEvent]:
    """The last events, newest first, of one alert or of all."""
    newest = select(AlertEvent).order_by(col(AlertEvent.at).desc(), col(AlertEvent.id).desc()).limit(limit)
    if alert_id is not None:
        newest = newest.where(AlertEvent.alert_id == alert_id)
    with Session(engine) as session:
        return list(session.exec(newest))


def firing(engine: Engine) -> list[Firing]:
    """The alerts that fire, oldest first."""
    on_fire = [alert for alert in alerts(engine) if alert.firing and alert.enabled]
    beginnings = [next((event for event in events(engine, alert.id) if event.firing), None) for alert in on_fire]
    return [
        Firing(alert, event.at if event else None, event.sentence if event else None)
        for alert, event in zip(on_fire, beginnings, strict=True)
    ]


def save(*, session: Session, alert_id: str, values: AlertValues, person: str, at: datetime) -> None:
    """Add an alert or change one. Another threshold, or being switched off, makes it begin again as not firing."""
    beginning = {"firing": False, "checked_at": None, "value": None, "n": None}
    stored = session.exec(select(Alert).where(Alert.id == alert_id)).first()
    if stored is None:
        session.execute(insert(ALERT).values(id=alert_id, person=person, created_at=at, **values, **beginning))
        return
    changed = any(getattr(stored, name) != value for name, value in values.items() if name not in ("name", "targets"))
    session.execute(update(ALERT).where(ALERT.c.id == alert_id).values(**values, **(beginning if changed else {})))


def remove(*, session: Session, alert_id: str) -> None:
    """Take an alert and its events away."""
    session.execute(delete(EVENT).where(EVENT.c.alert_id == alert_id))
    session.execute(delete(ALERT).where(ALERT.c.id == alert_id))


def checked(
    *,
    session: Session,
    seen: Alert,
    at: datetime,
    value: float | None,
    n: int,
    firing: bool,
    event: NewEvent | None,
) -> bool:
    """Keep the result of one evaluation of the alert ``seen``, with the event where it began or ended.

    Nothing is kept, and False returned, when somebody changed the alert meanwhile: the result is of another one.
    """
    same = [ALERT.c[name] == getattr(seen, name) for name in ("id", "metric", "threshold", "window_s", "firing")]
    clauses = [*same, ALERT.c.enabled.is_(True)]
    done = session.execute(update(ALERT).where(*clauses).values(checked_at=at, value=value, n=n, firing=firing))
    if done.rowcount == 0:  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
        return False
    if event is not None:
        session.execute(insert(EVENT).values(alert_id=seen.id, at=at, value=value, n=n, firing=firing, **event))
        old = select_columns(EVENT.c.id).order_by(EVENT.c.at.desc(), EVENT.c.id.desc()).offset(KEPT_EVENTS).limit(-1)
        if session.get_bind().dialect.name == "postgresql":
            old = old.limit(None)
        session.execute(delete(EVENT).where(EVENT.c.id.in_(old)))
    return True


def delivered(*, session: Session, event_id: str, words: str) -> None:
    """Keep what became of an event's notice."""
    session.execute(update(EVENT).where(EVENT.c.id == event_id).values(delivered=words))


LONGEST_SCENARIO_NAME = 80

MOST_SCENARIOS = 200


def scenarios(engine: Engine) -> list[Scenario]:
    """All of them by name."""
    with Session(engine) as session:
        return list(session.exec(select(Scenario).order_by(Scenario.name, Scenario.id)))


def scenario_owners(engine: Engine, scenario_id: str) -> list[str]:
    """Who kept a scenario; empty where there is none."""
    with Session(engine) as session:
        return list(session.exec(select(Scenario.person).where(Scenario.id == scenario_id)))


def save_scenario(
    *,
    session: Session,
    scenario_id: str,
    name: str,
    state: Mapping[str, str],
    person: str,
    at: datetime,
    may_replace: Callable[[str | None], bool] = lambda _owner: True,
) -> str:
    """Keep a scenario; one of the same name is replaced if its owner allows that. Returns its id. Raises ValueError in
    words."""
    words = " ".join(name.split())[:LONGEST_SCENARIO_NAME].strip()
    if not words:
        raise ValueError("The scenario has no name: give it one, so that it can be found again.")
    namesake = session.exec(select(Scenario).where(Scenario.name == words)).first()
    values = {"state": dict(state), "person": person, "changed_at": at}
    if namesake is not None:
        if not may_replace(namesake.person):
            raise ValueError(f"Somebody else keeps a scenario called “{words}”: give yours another name.")
        session.execute(update(Scenario).where(col(Scenario.id) == namesake.id).values(**values))
        return namesake.id
    if len(session.exec(select(Scenario.id)).all()) >= MOST_SCENARIOS:
        raise ValueError(f"There are {MOST_SCENARIOS} scenarios already; delete one first.")
    session.execute(insert(Scenario).values(id=scenario_id, name=words, created_at=at, **values))
    return scenario_id


def remove_scenario(*, session: Session, scenario_id: str) -> bool:
    """Take a scenario away; False when there is none."""
    done = session.execute(delete(Scenario).where(col(Scenario.id) == scenario_id))
    assert isinstance(done, CursorResult)
    return done.rowcount > 0
