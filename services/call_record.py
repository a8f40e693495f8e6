"""A recorded call: made where the wire is read, kept as one row, and read by the pages, the exports and the batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

from db.batch_rows import CalledLine
from db.run_rows import CallRow, StoredRequest
from services.types import Json, JsonMapping, Timing, Usage


@dataclass(frozen=True, slots=True)
class CalledDeployment:
    """What was called, as it was declared at that time."""

    id: str
    kind: str = ""
    model: str = ""
    wire: str = ""
    region: str | None = None
    declared: JsonMapping = field(default_factory=dict)  # `Deployment.to_json`

    @property
    def name(self) -> str:
        """Its name at that time."""
        return str(self.declared["name"])

    @property
    def labels(self) -> list[str]:
        """The badges that it had."""
        return list(self.declared.get("labels") or ())


@dataclass(frozen=True, slots=True)
class CallRequest:
    """What was asked. ``stored`` holds the messages only where texts may be kept."""

    stored: StoredRequest | None = None
    sent_params: JsonMapping | None = None
    dropped_params: Mapping[str, str] | None = None  # name → why it was not sent
    cache_mode: str | None = None
    service_tier: str | None = None


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How a call stands or ended: ``state`` is a `services.types.State`, ``name`` an `Outcome`."""

    state: str = "running"
    name: str | None = None
    phase: str | None = None
    message: str | None = None
    error_type: str | None = None
    error_code: str | None = None
    http_status: int | None = None
    retry_after_s: float | None = None
    finish_reason: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the call enters statistics."""
        return self.state == "succeeded"


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """What came back beside the counts. The texts are None where they may not be kept."""

    text: str | None = None
    reasoning: str | None = None
    sha256: str | None = None
    model_reported: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    facts: JsonMapping | None = None


@dataclass(frozen=True, slots=True)
class CallCost:
    """What a call cost in nano-dollars (`services.pricing.cost.Cost`), and the price that this was worked out with.

    ``price`` stays as it is stored (`services.pricing.price.read` makes a price of it): an old row may hold one that
    this version cannot read, and its cost counts all the same.
    """

    state: str | None = None
    nanousd: int | None = None
    high_nanousd: int | None = None
    drivers: Mapping[str, int] | None = None
    plain_nanousd: int | None = None
    price: JsonMapping | None = None


NOT_BILLED = CallCost("not_billed", 0, 0, {}, 0)


@dataclass(frozen=True, slots=True)
class CallStream:
    """How the answer arrived: packed stamps (`services.wire.timing.pack_deltas`) and what was counted on the wire."""

    delta_us: bytes | None = None
    delta_kinds: bytes | None = None
    n_events: int | None = None
    n_bytes: int | None = None
    keepalives: int | None = None


NOT_COUNTED = Usage(source=None)
NOT_TIMED = Timing(reused=None, n_deltas=None, lag_marked=None, buffered_suspect=None)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One HTTP request to one deployment (an attempt), running or over."""

    id: str
    run_id: str
    column: int
    deployment: CalledDeployment
    repetition: int = 1
    attempt: int = 1
    retry_of: str | None = None
    source: str = ""
    person: str = ""
    owner: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    waited_ms: float | None = None
    request: CallRequest = CallRequest()
    outcome: CallOutcome = CallOutcome()
    answer: CallAnswer = CallAnswer()
    usage: Usage = NOT_COUNTED
    timing: Timing = NOT_TIMED
    cost: CallCost = CallCost()
    stream: CallStream = CallStream()

    @property
    def state(self) -> str:
        """How it stands or ended, coarse."""
        return self.outcome.state


TIMING_COLUMNS = tuple(figure.name for figure in fields(Timing))

USAGE_COLUMNS = (
    "uncached_input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "reasoning_output",
    "answer_output",
)

# The columns that are committed before a call is sent …
BEGINNING = (
    "id",
    "run_id",
    "column_no",
    "repetition",
    "attempt_no",
    "retry_of",
    "deployment_id",
    "deployment",
    "kind",
    "model",
    "wire",
    "source",
    "person",
    "owner",
    "state",
    "created_at",
    "waited_ms",
    "price",
    "sent_params",
    "dropped_params",
    "region",
    "cache_mode",
    "tier_asked",
    "request",
)

# … and those that its end sets.
END = (
    *TIMING_COLUMNS,
    "state",
    "outcome",
    "phase",
    "message",
    "error_type",
    "error_code",
    "http_status",
    "retry_after_s",
    "started_at",
    "ended_at",
    "waited_ms",
    *USAGE_COLUMNS,
    "usage_source",
    "usage_raw",
    "cost_state",
    "cost_nanousd",
    "cost_high_nanousd",
    "cost_drivers",
    "plain_nanousd",
    "price",
    "finish_raw",
    "model_reported",
    "response_id",
    "answer",
    "reasoning",
    "answer_sha256",
    "delta_us",
    "delta_kinds",
    "tier_served",
    "facts",
    "n_events",
    "n_bytes",
    "keepalives",
)


def to_row(call: CallRecord, columns: Sequence[str]) -> Json:
    """The values of these columns of the table of calls (`BEGINNING`, `END`)."""
    deployment, request, outcome, answer = call.deployment, call.request, call.outcome, call.answer
    usage, cost, stream = call.usage, call.cost, call.stream
    row = {
        "id": call.id,
        "run_id": call.run_id,
        "column_no": call.column,
        "repetition": call.repetition,
        "attempt_no": call.attempt,
        "retry_of": call.retry_of,
        "source": call.source,
        "person": call.person,
        "owner": call.owner,
        "created_at": call.created_at,
        "started_at": call.started_at,
        "ended_at": call.ended_at,
        "waited_ms": call.waited_ms,
        "deployment_id": deployment.id,
        "deployment": deployment.declared,
        "kind": deployment.kind,
        "model": deployment.model,
        "wire": deployment.wire,
        "region": deployment.region,
        "request": request.stored,
        "sent_params": request.sent_params,
        "dropped_params": request.dropped_params,
        "cache_mode": request.cache_mode,
        "tier_asked": request.service_tier,
        "state": outcome.state,
        "outcome": outcome.name,
        "phase": outcome.phase,
        "message": outcome.message,
        "error_type": outcome.error_type,
        "error_code": outcome.error_code,
        "http_status": outcome.http_status,
        "retry_after_s": outcome.retry_after_s,
        "finish_raw": outcome.finish_reason,
        "answer": answer.text,
        "reasoning": answer.reasoning,
        "answer_sha256": answer.sha256,
        "model_reported": answer.model_reported,
        "response_id": answer.response_id,
        "tier_served": answer.service_tier,
        "facts": answer.facts,
        "usage_source": usage.source,
        "usage_raw": usage.raw,
        "cost_state": cost.state,
        "cost_nanousd": cost.nanousd,
        "cost_high_nanousd": cost.high_nanousd,
        "cost_drivers": cost.drivers,
        "plain_nanousd": cost.plain_nanousd,
        "price": cost.price,
        "delta_us": stream.delta_us,
        "delta_kinds": stream.delta_kinds,
        "n_events": stream.n_events,
        "n_bytes": stream.n_bytes,
        "keepalives": stream.keepalives,
    }
    row |= {name: getattr(usage, name) for name in USAGE_COLUMNS}
    row |= {name: getattr(call.timing, name) for name in TIMING_COLUMNS}
    return {name: row[name] for name in columns}


def from_row(row: CallRow) -> CallRecord:
    """A call from its row. What a narrower query leaves out is not known."""
    return CallRecord(
        id=row.get("id", ""),
        run_id=row.get("run_id", ""),
        column=row.get("column_no", 0),
        deployment=CalledDeployment(
            row.get("deployment_id", ""),
            row.get("kind", ""),
            row.get("model", ""),
            row.get("wire", ""),
            row.get("region"),
            row.get("deployment") or {},
        ),
        repetition=row.get("repetition", 1),
        attempt=row.get("attempt_no", 1),
        retry_of=row.get("retry_of"),
        source=row.get("source", ""),
        person=row.get("person", ""),
        owner=row.get("owner"),
        created_at=row.get("created_at"),
        started_at=row.get("started_at"),
        ended_at=row.get("ended_at"),
        waited_ms=row.get("waited_ms"),
        request=CallRequest(
            row.get("request"),
            row.get("sent_params"),
            row.get("dropped_params"),
            row.get("cache_mode"),
            row.get("tier_asked"),
        ),
        outcome=CallOutcome(
            row.get("state", "running"),
            row.get("outcome"),
            row.get("phase"),
            row.get("message"),
            row.get("error_type"),
            row.get("error_code"),
            row.get("http_status"),
            row.get("retry_after_s"),
            row.get("finish_raw"),
        ),
        answer=CallAnswer(
            row.get("answer"),
            row.get("reasoning"),
            row.get("answer_sha256"),
            row.get("model_reported"),
            row.get("response_id"),
            row.get("tier_served"),
            row.get("facts"),
        ),
        usage=usage_of(row),
        timing=timing_of(row),
        cost=cost_of(row),
        stream=CallStream(
            row.get("delta_us"), row.get("delta_kinds"), row.get("n_events"), row.get("n_bytes"), row.get("keepalives")
        ),
    )


def of_line(row: CalledLine) -> CallRecord:
    """What a line of a batch has of its last call (`db.batch_queries.lines`): how it ended, its figures and costs."""
    return CallRecord(
        id=row["call_id"] or "",
        run_id="",
        column=0,
        deployment=CalledDeployment(""),
        outcome=CallOutcome(row["call_state"] or "running", row["outcome"], message=row["message"]),
        usage=usage_of(row),
        timing=timing_of(row),
        cost=cost_of(row),
    )


def timing_of(row: JsonMapping) -> Timing:
    """The times in a row of a call, or in a row of a narrower query."""
    return Timing(**{name: row.get(name) for name in TIMING_COLUMNS})


def usage_of(row: JsonMapping) -> Usage:
    """The token counts in a row of a call, or in a row of a narrower query."""
    return Usage(
        **{name: row.get(name) for name in USAGE_COLUMNS}, source=row.get("usage_source"), raw=row.get("usage_raw")
    )


def cost_of(row: JsonMapping) -> CallCost:
    """What a call cost, from its row or from a row of a narrower query."""
    get = row.get
    return CallCost(
        get("cost_state"),
        get("cost_nanousd"),
        get("cost_high_nanousd"),
        get("cost_drivers"),
        get("plain_nanousd"),
        get("price"),
    )
