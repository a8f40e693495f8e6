"""Column types that hold the same values on SQLite and on PostgreSQL, how columns and rows are made of them, and the
rows of batches."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, NotRequired, TypedDict

import orjson
from sqlalchemy import JSON, BigInteger, Column, DateTime, Dialect, MetaData, Result, Text
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel


def dicts(result: Result[Any]) -> list[dict[str, Any]]:
    """One dict a row. All rows are fetched at once: one by one, a thousand of them take several times as long."""
    names = list(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result.all()]


SQLModel.metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def when(**options: Any) -> Any:
    """A moment in UTC."""
    return Field(sa_column=Column(UtcDateTime(), **options))


def json_value() -> Any:
    """Any JSON value; None is SQL NULL."""
    return Field(default=None, sa_column=Column(JSON(none_as_null=True)))


def text() -> Any:
    """Text that may hold anything a service sends."""
    return Field(default=None, sa_type=SafeText)


def named(**options: Any) -> Any:
    """A name: text that is always there."""
    return Field(sa_type=SafeText, **options)


def count() -> Any:
    """A whole number of up to 64 bits."""
    return Field(default=None, sa_type=Count)


BIGGEST = 2**63 - 1

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def storable(text: str) -> str:
    """``text`` with NUL (which PostgreSQL refuses) and lone surrogates (which UTF-8 cannot hold) replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "".join(REPLACEMENT if "\ud800" <= letter <= "\udfff" else letter for letter in text)
    return text.replace("\0", REPLACEMENT)


def json_text(value: Any) -> str:
    """``value`` as JSON that both databases take. Integers beyond 64 bits and unknown types become strings."""
    try:
        encoded = orjson.dumps(value, default=str)
    except orjson.JSONEncodeError:
        return orjson.dumps(_plain(value)).decode()
    return orjson.dumps(_plain(value)).decode() if rb"\u0000" in encoded else encoded.decode()


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        return value if -BIGGEST <= value <= BIGGEST else str(value)
    if isinstance(value, dict):
        return {storable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return storable(str(value))


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every database: SQLite keeps no zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC for the database. Raises ValueError for a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A time without a zone cannot be recorded.")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The same moment, aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SafeText(TypeDecorator[str]):
    """Text of any length from outside; a character that a database would refuse must not cost the whole record."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The text as both databases can hold it."""
        return None if value is None else storable(value)


class Count(TypeDecorator[int]):
    """A 64-bit count; one beyond that is not a count, so it is recorded as not known."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        """The count, or None when no database could hold it."""
        return value if value is not None and -BIGGEST <= value <= BIGGEST else None


# --- rows of batches -------------------------------------------------------------------------------------------------
# What their words mean stands in `services.batch.types`, and so does what lies in their JSON columns, of which nothing
# is known here. Money is nano-dollars.
BatchState = Literal[
    "queued",
    "sending",
    "checking",
    "waiting_for_quota",
    "running",
    "pausing",
    "paused",
    "cancelling",
    "collecting",
    "ended",
    "cancelled",
    "expired",
    "failed",
]

LineState = Literal["waiting", "running", "succeeded", "failed", "cancelled", "expired", "missing"]

JobState = BatchState | Literal["waiting"]

RouteName = Literal["runner", "openai", "anthropic", "bedrock", "transform", "async"]


Wanted = Literal["run", "pause", "cancel"]

Choice = Literal["a", "b", "tie"]


class NewBatch(TypedDict):
    """A batch as it is recorded; what is not in it comes later."""

    id: str
    created_at: datetime
    person: str
    name: str
    deployment_id: str
    deployment: Any
    route: RouteName
    state: BatchState
    said: str | None
    wanted: Wanted
    file_name: str
    file_sha256: str
    file_bytes: int | None
    options: Any
    params: Any
    columns: list[str] | None
    run_id: str
    parent_id: str | None
    n_lines: int
    n_left_out: int
    estimate: Any
    budget_nanousd: int | None
    objective_ms: float | None
    max_lanes: int | None
    per_minute: int | None
    notify: list[str] | None


class BatchRow(NewBatch):
    """A row of `db.models.Batch`."""

    lanes: int | None
    notified: str | None
    started_at: datetime | None
    ended_at: datetime | None


class BatchChange(TypedDict, total=False):
    """What of a batch can change."""

    state: BatchState
    said: str | None
    wanted: Wanted
    options: Any
    columns: list[str] | None
    n_lines: int
    n_left_out: int
    estimate: Any
    budget_nanousd: int | None
    lanes: int | None
    notified: str | None
    started_at: datetime | None
    ended_at: datetime | None


class EarlierBatch(TypedDict):
    """The batch that stands in the way of another one of the same lines; ``state`` and ``left`` (how many of its lines
    have no answer) where it is of lines that were sent again."""

    id: str
    name: str
    created_at: datetime
    state: NotRequired[BatchState]
    left: NotRequired[int]


class ResentBatch(TypedDict):
    """The batch that lines without an answer went into."""

    id: str
    name: str
    state: BatchState


class LineRow(TypedDict):
    """A row of `db.models.BatchLine`."""

    batch_id: str
    no: int
    line: int
    record_id: str
    state: LineState
    attempts: int
    job_no: int | None
    request: Any
    original: Any
    call_id: str | None
    outcome: str | None
    message: str | None
    answer: str | None
    worker: str | None
    lease_until: datetime | None
    ended_at: datetime | None


class NewLine(TypedDict):
    """A line as it is recorded."""

    batch_id: str
    no: int
    line: int
    record_id: str
    state: Literal["waiting"]
    attempts: int
    request: Any
    original: Any


class LineChange(TypedDict, total=False):
    """What becomes of a line after a call."""

    state: LineState
    outcome: str | None
    message: str | None
    answer: str | None
    worker: str | None
    lease_until: datetime | None
    ended_at: datetime | None


class CalledLine(LineRow):
    """A line with the figures of its last call, all None where it has none. The costs are of all its attempts together
    (`with_attempts`), ``earlier_nanousd`` is what those before the last one cost."""

    ttft_ms: float | None
    ttfat_ms: float | None
    ttlt_ms: float | None
    end_ms: float | None
    tpot_ms: float | None
    decode_tps: float | None
    e2e_tps: float | None
    waited_ms: float | None
    server_ms: float | None
    lag_marked: bool | None
    uncached_input: int | None
    cache_read: int | None
    cache_write_5m: int | None
    cache_write_1h: int | None
    reasoning_output: int | None
    answer_output: int | None
    usage_source: str | None
    cost_state: str | None
    cost_nanousd: int | None
    cost_high_nanousd: int | None
    plain_nanousd: int | None
    finish_raw: str | None
    model_reported: str | None
    response_id: str | None
    http_status: int | None
    error_type: str | None
    error_code: str | None
    tier_served: str | None
    reasoning: str | None
    attempt_no: int | None
    retry_of: str | None
    created_at: datetime | None
    started_at: datetime | None
    call_state: str | None
    earlier_nanousd: int | None


class JobRow(TypedDict):
    """A row of `db.models.BatchJob`."""

    batch_id: str
    no: int
    token: str
    first_no: int
    last_no: int
    n_lines: int
    state: JobState
    said: str | None
    vendor_id: str | None
    vendor_state: str | None
    facts: Any
    counts: dict[str, int] | None
    submitted_at: datetime | None
    polled_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None


class NewJob(TypedDict):
    """A job as it is recorded, and which lines go into it."""

    batch_id: str
    no: int
    token: str
    first_no: int
    last_no: int
    n_lines: int
    state: JobState
    said: NotRequired[str | None]
    ended_at: NotRequired[datetime | None]


class JobChange(TypedDict, total=False):
    """What of a job can change."""

    token: str
    state: JobState
    said: str | None
    vendor_id: str | None
    vendor_state: str | None
    facts: Any
    counts: dict[str, int] | None
    submitted_at: datetime | None
    polled_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None


class WorkerRow(TypedDict):
    """A row of `db.models.BatchWorker`."""

    id: str
    host: str
    pid: int
    started_at: datetime
    heartbeat_at: datetime
    stopped_at: datetime | None


class VoteRow(TypedDict):
    """One person's choice for one line of two batches."""

    no: int
    person: str
    choice: Choice


class RecentCall(TypedDict):
    """What an estimate takes from a call of the past. ``chars``: of its prompt and system prompt together."""

    deployment_id: str
    source: str
    outcome: str | None
    usage_source: str | None
    lag_marked: bool | None
    reasoning_output: int | None
    answer_output: int | None
    ttft_ms: float | None
    ttlt_ms: float | None
    tpot_ms: float | None
    uncached_input: int | None
    cache_read: int | None
    cache_write_5m: int | None
    cache_write_1h: int | None
    chars: int | None
    created_at: datetime


class FinishedBatch(TypedDict):
    """A batch that came to its end, from ``began`` to ``ended_at`` in so many ``seconds``."""

    deployment_id: str
    route: RouteName
    n_lines: int
    created_at: datetime
    run_id: str
    began: datetime
    ended_at: datetime
    per_minute: int | None
    seconds: float


class AttemptCost(TypedDict):
    """What one attempt of a line cost."""

    id: str
    repetition: int
    retry_of: str | None
    cost_state: str | None
    cost_nanousd: int | None
    cost_high_nanousd: int | None
    plain_nanousd: int | None
