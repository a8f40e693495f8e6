"""The tables of the history: rollups of the calls, when hour-priced deployments were on, notes, and alerts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel

from db.columns import json_value, named, text, when


def _sum() -> Any:
    return Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))


def _sketch() -> Any:
    return Field(default=None, sa_column=Column(LargeBinary))


class Rollup(SQLModel, table=True):
    """Counts, sums and quantile sketches of the calls that were made in one bucket, alike in everything but time.

    ``grain``: "h" an hour, "d" a UTC day, both over all persons (``person`` ""); "p" a UTC day of one person. A call
    belongs to the bucket of its ``created_at``. ``cache`` is "warm", "cold" or "" (the service did not say). Sketches
    (`db.sketch`) hold succeeded calls whose stamps can be trusted. Money is nano-dollars, ``busy_ms`` the time that
    the calls were under way.
    """

    __tablename__ = "rollup"
    __table_args__ = (
        UniqueConstraint(
            "grain", "bucket", "deployment_id", "model", "kind", "source", "person", "outcome", "state", "cache",
            name="uq_rollup_cell",
        ),
        Index("ix_rollup_grain_bucket", "grain", "bucket"),
        Index("ix_rollup_grain_person", "grain", "person"),
    )  # fmt: skip

    id: int | None = Field(default=None, primary_key=True)
    grain: str
    bucket: datetime = when(nullable=False)
    deployment_id: str
    model: str = named()
    kind: str
    source: str
    person: str = named()
    outcome: str
    state: str
    cache: str

    n: int = _sum()
    n_late: int = _sum()
    n_priced: int = _sum()
    n_bounded: int = _sum()
    n_estimated: int = _sum()
    uncached_input: int = _sum()
    cache_read: int = _sum()
    cache_write_5m: int = _sum()
    cache_write_1h: int = _sum()
    reasoning_output: int = _sum()
    answer_output: int = _sum()
    cost_nanousd: int = _sum()
    plain_nanousd: int = _sum()
    cost_uncached_input: int = _sum()
    cost_cache_read: int = _sum()
    cost_cache_write_5m: int = _sum()
    cost_cache_write_1h: int = _sum()
    cost_reasoning_output: int = _sum()
    cost_answer_output: int = _sum()
    busy_ms: int = _sum()

    ttft: bytes | None = _sketch()
    ttfat: bytes | None = _sketch()
    ttlt: bytes | None = _sketch()
    tpot: bytes | None = _sketch()
    decode: bytes | None = _sketch()
    e2e: bytes | None = _sketch()


class Powered(SQLModel, table=True):
    """A time in which an hour-priced deployment was on, at one price. ``off_at`` None: it still is."""

    __tablename__ = "powered"

    id: int | None = Field(default=None, primary_key=True)
    deployment_id: str = Field(index=True)
    on_at: datetime = when(nullable=False)
    off_at: datetime | None = when()
    usd_per_hour: str
    price: dict[str, Any] | None = json_value()


class Annotation(SQLModel, table=True):
    """A note on a moment: "moved to Haiku"."""

    __tablename__ = "annotation"

    id: str = Field(primary_key=True)
    at: datetime = when(nullable=False, index=True)
    note: str | None = text()
    person: str = named()
    created_at: datetime = when(nullable=False)


class Alert(SQLModel, table=True):
    """A threshold that is watched. ``targets`` are the *names* of variables that hold addresses, never addresses."""

    __tablename__ = "alert"

    id: str = Field(primary_key=True)
    name: str = named()
    metric: str
    threshold: float
    window_s: int
    deployments: list[str] | None = json_value()
    targets: list[str] | None = json_value()
    enabled: bool = True
    person: str = named()
    created_at: datetime = when(nullable=False)
    firing: bool = False
    checked_at: datetime | None = when()
    value: float | None = None
    n: int | None = None


class AlertEvent(SQLModel, table=True):
    """An alert that began or ended, what was measured then, and whether the notice went out."""

    __tablename__ = "alert_event"

    id: str = Field(primary_key=True)
    alert_id: str = Field(index=True)
    at: datetime = when(nullable=False, index=True)
    firing: bool
    value: float | None = None
    n: int | None = None
    sentence: str | None = text()
    delivered: str | None = text()
