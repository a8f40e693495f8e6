"""The tables. One row of `Call` is one HTTP request: an attempt, however it ended."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, LargeBinary, text
from sqlmodel import Field, SQLModel

from db import batch_tables as batch_tables  # their tables belong to the same metadata
from db import history_tables as history_tables  # as above
from db import scenarios as scenarios  # as above
from db.columns import count as _count
from db.columns import json_value as _json
from db.columns import named as _named
from db.columns import text as _text
from db.columns import when as _when


class Run(SQLModel, table=True):
    """One prompt sent to one to eight deployments, k times."""

    __tablename__ = "run"
    # For `run_queries.tags`; as text, because PostgreSQL does not order json.
    __table_args__ = (Index("ix_run_tags", text("CAST(tags AS TEXT)")),)

    id: str = Field(primary_key=True)
    created_at: datetime = _when(nullable=False, index=True)
    person: str = _named(index=True)
    source: str
    prompt: str | None = _text()
    prompt_sha256: str | None = None
    system: str | None = _text()
    template: str | None = _text()
    variables: dict[str, Any] | None = _json()
    params: dict[str, Any] | None = _json()
    columns: list[dict[str, Any]] | None = _json()
    attachments: list[dict[str, Any]] | None = _json()
    start_mode: str = "together"
    stagger_s: float = 0.0
    repetitions: int = 1
    blind: bool = False
    parent_run_id: str | None = Field(default=None, index=True)
    starred: bool = False
    tags: list[str] | None = _json()
    note: str | None = _text()
    text_stored: bool = True
    n_calls: int = 0


class Call(SQLModel, table=True):
    """One HTTP request to one deployment. Times are ms from t0 (metrics.md), money is integer nano-dollars.

    ``delta_us`` holds one little-endian uint32 per content delta, µs from t0; ``delta_kinds`` one byte for each.
    """

    __tablename__ = "call"
    __table_args__ = (
        Index(None, "deployment_id", "created_at"),
        Index(None, "created_at", "state"),
        # The calls that ended and are not in the rollups yet: few, whatever the size of the table.
        Index(
            "ix_call_unrolled",
            "created_at",
            sqlite_where=text("rolled = 0 AND state != 'running'"),
            postgresql_where=text("NOT rolled AND state != 'running'"),
        ),
    )

    id: str = Field(primary_key=True)
    run_id: str = Field(foreign_key="run.id", ondelete="CASCADE", index=True)
    column_no: int
    repetition: int = 1
    attempt_no: int = 1
    retry_of: str | None = None
    deployment_id: str
    deployment: dict[str, Any] | None = _json()
    kind: str
    model: str = _named()
    wire: str
    source: str
    person: str = _named()
    owner: str | None = None
    state: str = Field(default="running", index=True)
    outcome: str | None = None
    phase: str | None = None
    message: str | None = _text()
    error_type: str | None = _text()
    error_code: str | None = _text()
    http_status: int | None = None
    retry_after_s: float | None = None
    created_at: datetime = _when(nullable=False)
    started_at: datetime | None = _when()
    ended_at: datetime | None = _when()
    waited_ms: float | None = None

    queued_ms: float | None = None
    connect_ms: float | None = None
    reused: bool | None = None
    ttfb_ms: float | None = None
    ttft_ms: float | None = None
    ttfat_ms: float | None = None
    ttlt_ms: float | None = None
    end_ms: float | None = None
    itl_p50_ms: float | None = None
    itl_p95_ms: float | None = None
    itl_p99_ms: float | None = None
    itl_max_ms: float | None = None
    n_deltas: int | None = None
    tpot_ms: float | None = None
    decode_tps: float | None = None
    decode_hidden: str | None = _text()
    e2e_tps: float | None = None
    self_lag_ms: float | None = None
    lag_marked: bool | None = None
    server_ms: float | None = None
    buffered_suspect: bool | None = None

    uncached_input: int | None = _count()
    cache_read: int | None = _count()
    cache_write_5m: int | None = _count()
    cache_write_1h: int | None = _count()
    reasoning_output: int | None = _count()
    answer_output: int | None = _count()
    usage_source: str | None = None
    cache_mode: str | None = None
    region: str | None = _text()
    tier_asked: str | None = _text()
    tier_served: str | None = _text()
    facts: dict[str, Any] | None = _json()
    usage_raw: dict[str, Any] | None = _json()

    cost_state: str | None = None
    cost_nanousd: int | None = _count()
    cost_high_nanousd: int | None = _count()
    cost_drivers: dict[str, int] | None = _json()
    plain_nanousd: int | None = _count()
    price: dict[str, Any] | None = _json()
    rolled: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})

    finish_raw: str | None = _text()
    model_reported: str | None = _text()
    response_id: str | None = _text()
    answer: str | None = _text()
    reasoning: str | None = _text()
    answer_sha256: str | None = None
    request: dict[str, Any] | None = _json()
    sent_params: dict[str, Any] | None = _json()
    dropped_params: dict[str, str] | None = _json()
    delta_us: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    delta_kinds: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    n_events: int | None = _count()
    n_bytes: int | None = _count()
    keepalives: int | None = _count()


class Vote(SQLModel, table=True):
    """One person's judgement of one pair (or of the best) in one run."""

    __tablename__ = "vote"

    id: str = Field(primary_key=True)
    run_id: str = Field(foreign_key="run.id", ondelete="CASCADE", index=True)
    person: str = _named()
    created_at: datetime = _when(nullable=False)
    blind: bool = False
    choice: str
    column_a: int | None = None
    column_b: int | None = None
    deployment_a: str | None = None
    deployment_b: str | None = None
    winner: str | None = None
    repetition: int = 1


class DeploymentRow(SQLModel, table=True):
    """A deployment as it was last declared, with what the installation adds: colour, switch, last test."""

    __tablename__ = "deployment"

    id: str = Field(primary_key=True)
    spec: dict[str, Any] | None = _json()
    origin: str
    enabled: bool = True
    color_slot: int = Field(unique=True)
    archived: bool = False
    created_at: datetime = _when(nullable=False)
    updated_at: datetime = _when(nullable=False)
    tested_at: datetime | None = _when()
    test: dict[str, Any] | None = _json()


class Owner(SQLModel, table=True):
    """One engine process: whoever's heartbeat stops leaves calls behind that become lost."""

    __tablename__ = "owner"

    id: str = Field(primary_key=True)
    pid: int
    host: str
    started_at: datetime = _when(nullable=False)
    heartbeat_at: datetime = _when(nullable=False)
    stopped_at: datetime | None = _when()


class Setting(SQLModel, table=True):
    """One value of the installation."""

    __tablename__ = "setting"

    key: str = Field(primary_key=True)
    value: dict[str, Any] | None = _json()
