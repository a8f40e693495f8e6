"""Saved scenarios of the calculator: a name, and the words of the page's address that bring it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import CursorResult, Engine, Index, delete, insert, select, update
from sqlmodel import Field, Session, SQLModel, col

from db.columns import json_value, named, when

LONGEST_NAME = 80
MOST = 200


class Scenario(SQLModel, table=True):
    """One saved scenario. ``state``: the address's words, name → text."""

    __tablename__ = "scenario"
    __table_args__ = (Index("uq_scenario_name", "name", unique=True),)

    id: str = Field(primary_key=True)
    name: str = named()
    state: dict[str, str] | None = json_value()
    person: str = named()
    created_at: datetime = when(nullable=False)
    changed_at: datetime = when(nullable=False)


def scenarios(engine: Engine) -> list[dict[str, Any]]:
    """All of them by name: ``id, name, state, person, created_at, changed_at``."""
    columns = (
        col(Scenario.id), col(Scenario.name), col(Scenario.state), col(Scenario.person), col(Scenario.created_at),
        col(Scenario.changed_at),
    )  # fmt: skip
    with engine.connect() as connection:
        rows = connection.execute(select(*columns).order_by(col(Scenario.name), col(Scenario.id))).mappings()
        return [dict(row) for row in rows]


def owners(engine: Engine, scenario_id: str) -> list[str | None]:
    """Who kept a scenario; empty where there is none."""
    with engine.connect() as connection:
        return list(connection.execute(select(col(Scenario.person)).where(col(Scenario.id) == scenario_id)).scalars())


def save(
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
    words = " ".join(name.split())[:LONGEST_NAME].strip()
    if not words:
        raise ValueError("The scenario has no name: give it one, so that it can be found again.")
    there = session.execute(select(col(Scenario.id), col(Scenario.person)).where(col(Scenario.name) == words)).first()
    kept = {"state": dict(state), "person": person, "changed_at": at}
    if there is not None:
        if not may_replace(there.person):
            raise ValueError(f"Somebody else keeps a scenario called “{words}”: give yours another name.")
        session.execute(update(Scenario).where(col(Scenario.id) == there.id).values(**kept))
        return str(there.id)
    if len(session.execute(select(col(Scenario.id))).all()) >= MOST:
        raise ValueError(f"There are {MOST} scenarios already; delete one first.")
    session.execute(insert(Scenario).values(id=scenario_id, name=words, created_at=at, **kept))
    return scenario_id


def remove(*, session: Session, scenario_id: str) -> bool:
    """Take a scenario away; False when there is none."""
    done = session.execute(delete(Scenario).where(col(Scenario.id) == scenario_id))
    assert isinstance(done, CursorResult)
    return done.rowcount > 0
