"""The tables of batches: a file of prompts that was sent, its lines, the jobs of a service, and who works on them.

The truth of every line is here. What the durable engine (DBOS) keeps of its workflows is its own affair and is read by
nobody else.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from db.columns import count, json_value, named, text, when


class Batch(SQLModel, table=True):
    """One file sent to one deployment. ``state`` is one of `services.batch.types.BATCH_STATES`, ``said`` a sentence.

    ``wanted`` is what the person asked for last ("run", "pause", "cancel"); the worker makes ``state`` follow it.
    ``run_id``: the run (source "batch") that the calls of its lines belong to. ``parent_id``: the batch whose failed
    lines these are. ``options``: how the file is read (`model.Options.to_json`). ``objective_ms``: the time to last
    token that our own runner keeps p95 under while it looks for the right concurrency; None for none. ``lanes``: how
    many lines our own runner has under way at most, as it stands. Money is nano-dollars.
    """

    __tablename__ = "batch"

    id: str = Field(primary_key=True)
    created_at: datetime = when(nullable=False, index=True)
    person: str = named(index=True)
    name: str = named()
    deployment_id: str = Field(index=True)
    deployment: dict[str, Any] | None = json_value()
    route: str
    state: str = Field(index=True)
    said: str | None = text()
    wanted: str = "run"
    file_name: str = named()
    file_sha256: str = Field(index=True)
    file_bytes: int | None = count()
    options: dict[str, Any] | None = json_value()
    params: dict[str, Any] | None = json_value()
    columns: list[str] | None = json_value()
    run_id: str | None = None
    parent_id: str | None = Field(default=None, index=True)
    n_lines: int = 0
    n_left_out: int = 0
    estimate: dict[str, Any] | None = json_value()
    budget_nanousd: int | None = count()
    objective_ms: float | None = None
    max_lanes: int | None = None
    per_minute: int | None = None
    lanes: int | None = None
    notify: list[str] | None = json_value()
    notified: str | None = text()
    started_at: datetime | None = when()
    ended_at: datetime | None = when()


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
    record_id: str = named()
    state: str = "waiting"
    attempts: int = 0
    job_no: int | None = None
    request: dict[str, Any] | None = json_value()
    original: dict[str, Any] | None = json_value()
    call_id: str | None = None
    outcome: str | None = None
    message: str | None = text()
    answer: str | None = text()
    worker: str | None = None
    lease_until: datetime | None = when()
    ended_at: datetime | None = when()


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
    said: str | None = text()
    vendor_id: str | None = text()
    vendor_state: str | None = None
    facts: dict[str, Any] | None = json_value()
    counts: dict[str, int] | None = json_value()
    submitted_at: datetime | None = when()
    polled_at: datetime | None = when()
    ended_at: datetime | None = when()
    expires_at: datetime | None = when()


class BatchWorker(SQLModel, table=True):
    """One `lab worker` process: whoever's heartbeat stops has its lines taken over."""

    __tablename__ = "batch_worker"

    id: str = Field(primary_key=True)
    host: str
    pid: int
    started_at: datetime = when(nullable=False)
    heartbeat_at: datetime = when(nullable=False)
    stopped_at: datetime | None = when()


class BatchVote(SQLModel, table=True):
    """Whose answer to one line one person likes better, of two batches of the same file.

    ``batch_a`` is the batch whose id sorts first, ``no`` the line's number in it; ``choice``: "a", "b" or "tie".
    """

    __tablename__ = "batch_vote"

    batch_a: str = Field(primary_key=True, foreign_key="batch.id", ondelete="CASCADE")
    batch_b: str = Field(primary_key=True, foreign_key="batch.id", ondelete="CASCADE", index=True)
    no: int = Field(primary_key=True)
    person: str = named(primary_key=True)
    choice: str
    created_at: datetime = when(nullable=False)
