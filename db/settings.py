"""Values of the installation, by key."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, delete, insert, select
from sqlmodel import Session, col

from db.models import Setting


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
