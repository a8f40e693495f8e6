"""The rows of the tables of batches, as their statements read and write them, and what lies in their JSON columns.

What their words mean stands in `services.batch.types`. Money is nano-dollars. Nothing but types is imported, so that
the words can be had without the database.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NotRequired, Required, TypedDict

from db.run_rows import Json, JsonMapping

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


# --- what JSON columns hold -------------------------------------------------------------------------------------------
Format = Literal["csv", "tsv", "jsonl", "json", "openai", "anthropic", "bedrock", "parquet", "excel"]


class MessageJson(TypedDict):
    """One turn of an ask, as a line keeps it."""

    role: Literal["user", "assistant"]
    text: str


class AskJson(TypedDict, total=False):
    """An ask as a line keeps it (`services.types.Ask`); what is not said in it is left out."""

    messages: Required[list[MessageJson]]
    system: str
    params: Json
    cache: Literal["off", "auto", "5m", "1h"]


class OptionsJson(TypedDict, total=False):
    """Options as a batch keeps them (`services.batch.types.Options`): only what is not as it is by itself."""

    format: Format
    encoding: Literal["utf-8", "cp1252"]
    delimiter: str
    id_column: str
    prompt: str
    system: str
    params: Json
    suffix_ids: bool
    sheet: str
    leave_out: bool
    only_model: str


class EstimateJson(TypedDict, total=False):
    """What a batch may cost and take, as the database keeps it (`services.batch.estimate.Estimate`). Money is
    nano-dollars. ``over_budget``: the person has agreed to more than the budget."""

    deployment_id: str
    route: RouteName
    input_tokens: int | None
    input_low: int | None
    input_high: int | None
    output_low: int | None
    output_mid: int | None
    output_high: int | None
    cost_low: int | None
    cost_mid: int | None
    cost_high: int | None
    plain_low: int | None
    plain_mid: int | None
    plain_high: int | None
    seconds_low: float | None
    seconds_mid: float | None
    seconds_high: float | None
    n_jobs: int
    notes: list[str]
    why_not: str | None
    unpriced: str | None
    over_budget: bool


class JobFacts(TypedDict, total=False):
    """What is remembered of a job beside its columns, as the database keeps it (`services.batch.types.Job`). Times are
    Unix seconds; ``…_s`` are seconds.

    Of every job: when it was first tried and how often, when it is tried again, whether the service was asked to stop
    it; and, once it is over there, its last state and word, whether there are results, and what of them belongs to no
    line. The rest is each route's own: ids of files, places in S3, what instances cost, where its ledger is.
    """

    tried_at: float
    tries: int
    again_at: float
    cancel_asked: bool
    end: BatchState
    collectable: bool
    word: str | None
    collect_tries: int
    strays: dict[str, int]
    resubmit: bool
    resubmit_after_s: float
    results_until: float
    # OpenAI
    endpoint: str
    input_file_id: str
    output_file_id: str
    error_file_id: str
    # Anthropic
    adopted: bool
    proven: bool
    expires_at: float
    # AWS
    name: str
    input: str
    output: str
    type: str
    model: str
    message: str
    submitted_at: float
    started_at: float
    ended_at: float
    files: list[int]
    wire: str
    instance_type: str | None
    instance_count: int | None
    usd_per_hour: str
    price_source: str
    price_date: str
    ledger: str
    tag: str
    answers: str
    last_sent_at: float
    answered_at: float
    queue_s: float
    work_s: float


# --- batches ----------------------------------------------------------------------------------------------------------
class NewBatch(TypedDict):
    """A batch as it is recorded; what is not in it comes later."""

    id: str
    created_at: datetime
    person: str
    name: str
    deployment_id: str
    deployment: JsonMapping
    route: RouteName
    state: BatchState
    said: str | None
    wanted: Wanted
    file_name: str
    file_sha256: str
    file_bytes: int | None
    options: OptionsJson | None
    params: Json | None
    columns: list[str] | None
    run_id: str
    parent_id: str | None
    n_lines: int
    n_left_out: int
    estimate: EstimateJson | None
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
    options: OptionsJson | None
    columns: list[str] | None
    n_lines: int
    n_left_out: int
    estimate: EstimateJson | None
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
    request: AskJson | None
    original: Json | None
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
    request: AskJson | None
    original: Json | None


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
    facts: JobFacts | None
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
    facts: JobFacts | None
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
