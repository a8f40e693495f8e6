"""What hour-priced deployments cost while they are on, whether they are used or not.

A deployment is on from the moment it is declared here and switched on until it is switched off, taken off the list or
given another price. Whether this program runs makes no difference: a rented machine costs money while the engine is
down. What is not known here is not counted: a provisioned throughput or an endpoint that ran before it was declared
here, or that somebody stops at AWS, counts from its declaration to its being switched off here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

import pandas as pd
from sqlalchemy import Engine, select
from sqlmodel import Session, col

from db import powered as store
from db.models import DeploymentRow
from db.powered import Meter
from services.deployments.serialization import from_json
from services.pricing import cost
from services.pricing.cost import Price
from services.types import Deployment

NANO = 1_000_000_000
HOUR_US = 3_600_000_000
COLUMNS = ("deployment_id", "on_at", "off_at", "usd_per_hour", "nanousd")


def hourly(deployment: Deployment, at: datetime) -> Price | None:
    """The price of a deployment that is paid by the hour; None for one that is not, is free, or has no known price."""
    ref = deployment.price
    if ref.override is not None or (ref.per_hour is None and ref.instance is None):
        return None
    try:
        price = cost.price_of(deployment, at)
    except ValueError:
        return None
    return price if price is not None and price.per_hour is not None and Decimal(price.per_hour) > 0 else None


def settle(*, session: Session, at: datetime | None = None) -> int:
    """Bring the stretches in line with the deployments as they are in ``session``; returns how many changed.

    Call it in the transaction of every change to the deployments. One that was never on before counts since the last
    change of its declaration, which is where it was on before this was recorded.
    """
    now = at or datetime.now(UTC)
    rows = session.execute(
        select(col(DeploymentRow.id), col(DeploymentRow.spec), col(DeploymentRow.updated_at)).where(
            col(DeploymentRow.enabled).is_(True), col(DeploymentRow.archived).is_(False)
        )
    ).all()
    on: dict[str, Meter] = {}
    for deployment_id, spec, since in rows:
        price = hourly(from_json(spec), now) if spec else None
        if price is not None and price.per_hour is not None:
            on[deployment_id] = Meter(price.per_hour, price.to_json(), since)
    return store.settle(session=session, on=on, at=now)


def accrued(engine: Engine, start: datetime, end: datetime, now: datetime | None = None) -> pd.DataFrame:
    """The stretches in which hour-priced deployments were on from ``start`` to ``end`` (aware, exclusive), clipped.

    Columns: ``deployment_id``, ``on_at`` and ``off_at`` (UTC), ``usd_per_hour`` (float), ``nanousd`` (what the stretch
    cost). A deployment has several when its price or its switch changed. Nothing accrues after ``now``.
    """
    until = min(end, now or datetime.now(UTC))
    lines = []
    for row in store.stretches(engine, start, until):
        on_at, off_at = max(row["on_at"], start), min(row["off_at"] or until, until)
        if off_at > on_at:
            usd = row["usd_per_hour"]
            lines.append((row["deployment_id"], on_at, off_at, float(usd), nanousd(usd, on_at, off_at)))
    frame = pd.DataFrame(lines, columns=list(COLUMNS))
    for name in ("on_at", "off_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame.astype({"usd_per_hour": "float64", "nanousd": "int64"})


def rates(engine: Engine, at: datetime) -> dict[str, int]:
    """What each hour-priced deployment that is on at a moment costs, in nano-dollars an hour."""
    rows = store.stretches(engine, at - timedelta(microseconds=1), at)
    on = [row for row in rows if row["off_at"] is None or row["off_at"] > at]
    return {row["deployment_id"]: nanousd(row["usd_per_hour"], at, at + timedelta(hours=1)) for row in on}


def nanousd(usd_per_hour: str | float, on_at: datetime, off_at: datetime) -> int:
    """What a stretch costs, in nano-dollars; 0 for one that ends before it begins."""
    span = off_at - on_at
    micros = max((span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds, 0)
    return int((Decimal(str(usd_per_hour)) * NANO * micros / HOUR_US).to_integral_value(rounding=ROUND_HALF_UP))
