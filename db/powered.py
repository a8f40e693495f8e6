"""When hour-priced deployments were on: one open stretch for each, closed when its price or its switch moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, insert, or_, select, text, update
from sqlmodel import Session, col

from db.history_tables import Powered


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
                "deployment_id": name, "on_at": at if name in before else min(on[name].since, at), "off_at": None,
                "usd_per_hour": on[name].usd_per_hour, "price": on[name].price,
            }
            for name in begun
        ]  # fmt: skip
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
