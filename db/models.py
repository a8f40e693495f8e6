"""The tables. One row of `Call` is one HTTP request: an attempt, however it ended.

The truth of every line is here. What the durable engine (DBOS) keeps of its workflows is its own affair and is read by
nobody else.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    LargeBinary,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

from db.run_rows import Json
from db.types import count as _count
from db.types import json_value as _json
from db.types import named as _named
from db.types import text as _text
from db.types import when as _when


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
    variables: dict[str, str] | None = _json()
    params: Json | None = _json()
    columns: list[Json] | None = _json()
    attachments: list[Json] | None = _json()
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
    """One HTTP request to one deployment. Times are ms from t0 (docs/metrics.md), money is integer nano-dollars.

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
    deployment: Json | None = _json()
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
    facts: Json | None = _json()
    usage_raw: Json | None = _json()

    cost_state: str | None = None
    cost_nanousd: int | None = _count()
    cost_high_nanousd: int | None = _count()
    cost_drivers: dict[str, int] | None = _json()
    plain_nanousd: int | None = _count()
    price: Json | None = _json()
    rolled: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})

    finish_raw: str | None = _text()
    model_reported: str | None = _text()
    response_id: str | None = _text()
    answer: str | None = _text()
    reasoning: str | None = _text()
    answer_sha256: str | None = None
    request: Json | None = _json()
    sent_params: Json | None = _json()
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
    spec: Json | None = _json()
    origin: str
    enabled: bool = True
    color_slot: int = Field(unique=True)
    archived: bool = False
    created_at: datetime = _when(nullable=False)
    updated_at: datetime = _when(nullable=False)
    tested_at: datetime | None = _when()
    test: Json | None = _json()

    @property
    def name(self) -> str:
        """What it was last called; its id where its declaration says nothing."""
        return str((self.spec or {}).get("name") or self.id)


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
    value: Json | None = _json()


class Scenario(SQLModel, table=True):
    """One saved scenario. ``state``: the address's words, name → text."""

    __tablename__ = "scenario"
    __table_args__ = (Index("uq_scenario_name", "name", unique=True),)

    id: str = Field(primary_key=True)
    name: str = _named()
    state: dict[str, str] | None = _json()
    person: str = _named()
    created_at: datetime = _when(nullable=False)
    changed_at: datetime = _when(nullable=False)


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
            "grain",
            "bucket",
            "deployment_id",
            "model",
            "kind",
            "source",
            "person",
            "outcome",
            "state",
            "cache",
            name="uq_rollup_cell",
        ),
        Index("ix_rollup_grain_bucket", "grain", "bucket"),
        Index("ix_rollup_grain_person", "grain", "person"),
    )

    id: int | None = Field(default=None, primary_key=True)
    grain: str
    bucket: datetime = _when(nullable=False)
    deployment_id: str
    model: str = _named()
    kind: str
    source: str
    person: str = _named()
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
    on_at: datetime = _when(nullable=False)
    off_at: datetime | None = _when()
    usd_per_hour: str
    price: Json | None = _json()


class Annotation(SQLModel, table=True):
    """A note on a moment: "moved to Haiku"."""

    __tablename__ = "annotation"

    id: str = Field(primary_key=True)
    at: datetime = _when(nullable=False, index=True)
    note: str | None = _text()
    person: str = _named()
    created_at: datetime = _when(nullable=False)


class Alert(SQLModel, table=True):
    """A threshold that is watched. ``targets`` are the *names* of variables that hold addresses, never addresses."""

    __tablename__ = "alert"

    id: str = Field(primary_key=True)
    name: str = _named()
    metric: str
    threshold: float
    window_s: int
    deployments: list[str] | None = _json()
    targets: list[str] | None = _json()
    enabled: bool = True
    person: str = _named()
    created_at: datetime = _when(nullable=False)
    firing: bool = False
    checked_at: datetime | None = _when()
    value: float | None = None
    n: int | None = None


class AlertEvent(SQLModel, table=True):
    """An alert that began or ended, what was measured then, and whether the notice went out."""

    __tablename__ = "alert_event"

    id: str = Field(primary_key=True)
    alert_id: str = Field(index=True)
    at: datetime = _when(nullable=False, index=True)
    firing: bool
    value: float | None = None
    n: int | None = None
    sentence: str | None = _text()
    delivered: str | None = _text()


class Batch(SQLModel, table=True):
    """One file sent to one deployment. ``state`` is a `services.batch.types.BatchState`, ``said`` a sentence.

    ``wanted`` is what the person asked for last ("run", "pause", "cancel"); the worker makes ``state`` follow it.
    ``run_id``: the run (source "batch") that the calls of its lines belong to. ``parent_id``: the batch whose failed
    lines these are. ``options``: how the file is read (`model.Options.to_json`). ``objective_ms``: the time to last
    token that our own runner keeps p95 under while it looks for the right concurrency; None for none. ``lanes``: how
    many lines our own runner has under way at most, as it stands. Money is nano-dollars.
    """

    __tablename__ = "batch"

    id: str = Field(primary_key=True)
    created_at: datetime = _when(nullable=False, index=True)
    person: str = _named(index=True)
    name: str = _named()
    deployment_id: str = Field(index=True)
    deployment: Json | None = _json()
    route: str
    state: str = Field(index=True)
    said: str | None = _text()
    wanted: str = "run"
    file_name: str = _named()
    file_sha256: str = Field(index=True)
    file_bytes: int | None = _count()
    options: Json | None = _json()
    params: Json | None = _json()
    columns: list[str] | None = _json()
    run_id: str | None = None
    parent_id: str | None = Field(default=None, index=True)
    n_lines: int = 0
    n_left_out: int = 0
    estimate: Json | None = _json()
    budget_nanousd: int | None = _count()
    objective_ms: float | None = None
    max_lanes: int | None = None
    per_minute: int | None = None
    lanes: int | None = None
    notify: list[str] | None = _json()
    notified: str | None = _text()
    started_at: datetime | None = _when()
    ended_at: datetime | None = _when()


class BatchLine(SQLModel, table=True):
    """One record of the file. ``no`` counts the records that are sent from 1, in the order of the file; ``line`` is
    where the record begins in it. ``state``: `model.LINE_STATES`. On the wire a line is called `model.wire_id(no)`.

    ``request``: what is asked (`model.ask_to_json`); ``original``: the columns as they were read. ``call_id``: the
    call that its figures are in (of the last attempt). ``lease_until``: until then a worker has it in hand.
    """

    __tablename__ = "batch_line"
    __table_args__ = (Index("ix_batch_line_state", "batch_id", "state", "no"),)

    batch_id: str = Field(primary_key=True, foreign_key="batch.id", ondelete="CASCADE")
    no: int = Field(primary_key=True)
    line: int
    record_id: str = _named()
    state: str = "waiting"
    attempts: int = 0
    job_no: int | None = None
    request: Json | None = _json()
    original: Json | None = _json()
    call_id: str | None = None
    outcome: str | None = None
    message: str | None = _text()
    answer: str | None = _text()
    worker: str | None = None
    lease_until: datetime | None = _when()
    ended_at: datetime | None = _when()


class BatchJob(SQLModel, table=True):
    """One job of a batch service (`services.batch.providers`). ``token``: what makes a second submit of it no second
    job.

    ``vendor_id`` is stored as soon as the service has given it. ``facts``: whatever the route needs to find its files
    again (URIs, file ids). ``counts``: as the service tells them, None where it tells none.
    """

    __tablename__ = "batch_job"

    batch_id: str = Field(primary_key=True, foreign_key="batch.id", ondelete="CASCADE")
    no: int = Field(primary_key=True)
    token: str
    first_no: int
    last_no: int
    n_lines: int
    state: str = "waiting"
    said: str | None = _text()
    vendor_id: str | None = _text()
    vendor_state: str | None = None
    facts: Json | None = _json()
    counts: dict[str, int] | None = _json()
    submitted_at: datetime | None = _when()
    polled_at: datetime | None = _when()
    ended_at: datetime | None = _when()
    expires_at: datetime | None = _when()


class BatchWorker(SQLModel, table=True):
    """One `lab worker` process: whoever's heartbeat stops has its lines taken over."""

    __tablename__ = "batch_worker"

    id: str = Field(primary_key=True)
    host: str
    pid: int
    started_at: datetime = _when(nullable=False)
    heartbeat_at: datetime = _when(nullable=False)
    stopped_at: datetime | None = _when()


class BatchVote(SQLModel, table=True):
    """Whose answer to one line one person likes better, of two batches of the same file.

    ``batch_a`` is the batch whose id sorts first, ``no`` the line's number in it; ``choice``: "a", "b" or "tie".
    """

    __tablename__ = "batch_vote"

    batch_a: str = Field(primary_key=True, foreign_key="batch.id", ondelete="CASCADE")
    batch_b: str = Field(primary_key=True, foreign_key="batch.id", ondelete="CASCADE", index=True)
    no: int = Field(primary_key=True)
    person: str = _named(primary_key=True)
    choice: str
    created_at: datetime = _when(nullable=False)
