"""The rows of the tables of batches, as their statements read and write them.

What their words mean stands in `services.batch.types`, and so does what lies in their JSON columns, of which nothing is
known here (Any). Money is nano-dollars. Nothing is imported, so that the words can be had without the database.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

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
