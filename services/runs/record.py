"""A recorded call as one JSON object, a run as a file (JSON with everything, CSV with one line per call), and what the
next turn of a conversation is sent with."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict

from db.run_rows import CallRow, RunRow, VoteRow
from services import formatting
from services.call_record import TIMING_COLUMNS, USAGE_COLUMNS, CallRecord, CallRequest, from_row
from services.pricing import price as pricing_price
from services.providers import kind_of
from services.runs import view as runs_view
from services.security import keys
from services.types import Ask, Deployment, Json, JsonMapping, Message, WireRequest
from services.wire import timing

Cell = str | int | float | bool | datetime | None  # of a line of the CSV

_RUN_FIELDS = (
    "id",
    "created_at",
    "person",
    "source",
    "prompt",
    "system",
    "template",
    "variables",
    "params",
    "columns",
    "start_mode",
    "stagger_s",
    "repetitions",
    "blind",
    "parent_run_id",
    "starred",
    "tags",
    "note",
    "text_stored",
)

_TIMES = (
    "queued_ms",
    "connect_ms",
    "ttfb_ms",
    "ttft_ms",
    "ttfat_ms",
    "ttlt_ms",
    "end_ms",
    "itl_p50_ms",
    "itl_p95_ms",
    "itl_p99_ms",
    "itl_max_ms",
    "tpot_ms",
    "self_lag_ms",
    "server_ms",
)


def run_json(run: RunRow, calls: Sequence[CallRow], votes: Sequence[VoteRow]) -> str:
    """The whole run as JSON (schema 1): the question, every call with every figure, the votes. Keys are scrubbed."""
    document = {
        "schema": SCHEMA,
        "product": "Inference Lab",
        "times": "milliseconds from t0, the first byte of the request handed to an open connection",
        "run": {name: run.get(name) for name in _RUN_FIELDS}
        | {"attachments": [{"name": a.get("name"), "chars": a.get("chars")} for a in run.get("attachments") or ()]},
        "calls": [of_call(from_row(row)) for row in calls],
        "votes": [dict(vote) for vote in votes],
    }
    return keys.scrub(json.dumps(document, ensure_ascii=False, indent=2, default=_plain))


def run_csv(calls: Sequence[CallRow]) -> str:
    """One line per call (attempt), every figure with its unit in the column's name, RFC 4180 with CRLF.

    A text that a spreadsheet would take for a formula is preceded by an apostrophe; numbers are left alone.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    lines = [_line(from_row(row)) for row in calls]
    if lines:
        writer.writerow([formatting.safe_cell(name) for name in lines[0]])
    for line in lines:
        writer.writerow([formatting.safe_cell(value) for value in line.values()])
    return keys.scrub(out.getvalue())


def _line(call: CallRecord) -> dict[str, Cell]:
    deployment, outcome, answer, times = call.deployment, call.outcome, call.answer, call.timing
    return {
        "run_id": call.run_id,
        "call_id": call.id,
        "column": call.column,
        "repetition": call.repetition,
        "attempt": call.attempt,
        "started_at_utc": call.started_at,
        "deployment": deployment.name,
        "deployment_id": deployment.id,
        "labels": " ".join(deployment.labels),
        "kind": deployment.kind,
        "wire": deployment.wire,
        "model": deployment.model,
        "model_reported": answer.model_reported,
        "region": deployment.region,
        "service_tier_asked": call.request.service_tier,
        "service_tier_served": answer.service_tier,
        "state": outcome.state,
        "outcome": outcome.name,
        "message": outcome.message,
        "http_status": outcome.http_status,
        **{name: getattr(times, name) for name in _TIMES},
        "waited_ms": call.waited_ms,
        "connection_reused": times.reused,
        "decode_tokens_per_s": times.decode_tps,
        "end_to_end_tokens_per_s": times.e2e_tps,
        "own_clock_late": times.lag_marked,
        "buffered_suspect": times.buffered_suspect,
        **{f"{name}_tokens": getattr(call.usage, name) for name in USAGE_COLUMNS},
        "input_tokens": call.usage.input_total,
        "output_tokens": call.usage.output_total,
        "prompt_cache_asked": call.request.cache_mode,
        "prompt_cache": runs_view.state(call.usage),
        "usage_source": call.usage.source,
        "cost_state": call.cost.state,
        "cost_usd": usd(call.cost.nanousd),
        "cost_high_usd": usd(call.cost.high_nanousd),
        "price_source": _price_source(call.cost.price),
        "answer": answer.text,
        "reasoning": answer.reasoning,
    }


def _price_source(stored: object) -> str | None:
    if pricing_price.damaged(stored):
        return pricing_price.NOT_READABLE
    price = pricing_price.read(stored)
    return None if price is None else price.source


def file_name(run: RunRow, ending: str) -> str:
    """A file name of letters, digits and dashes: "inference-lab-20261124-1405-AbC….json"."""
    return f"inference-lab-{run['created_at']:%Y%m%d-%H%M}-{re.sub(r'[^A-Za-z0-9]', '', run['id'])[:12]}.{ending}"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


SCHEMA = 1


class TierJson(TypedDict):
    """The service tier that was asked for, and the one that served."""

    asked: str | None
    served: str | None


class CacheJson(TypedDict):
    """How prompt caching was asked for, and whether the call was cold or warm."""

    asked: str | None
    state: runs_view.CacheState | None


class CostJson(TypedDict):
    """What a call cost; US dollars as decimal strings. ``text``: as the pages show it."""

    state: str | None
    usd: str | None
    high_usd: str | None
    text: str
    drivers_usd: dict[str, str | None]
    price: JsonMapping | None


class CallJson(TypedDict):
    """One call (one attempt) as it is exported and printed (schema 1)."""

    schema: int
    id: str
    run_id: str
    column: int
    repetition: int
    attempt: int
    retry_of: str | None
    deployment: str
    name: str
    kind: str
    wire: str
    model: str
    model_reported: str | None
    labels: list[str]
    source: str
    person: str
    state: str
    outcome: str | None
    message: str | None
    phase: str | None
    finish_reason: str | None
    response_id: str | None
    region: str | None
    service_tier: TierJson
    facts: JsonMapping
    http_status: int | None
    error_type: str | None
    error_code: str | None
    retry_after_s: float | None
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    waited_ms: float | None
    timing: dict[str, float | int | str | bool | None]
    usage: Json
    cache: CacheJson
    cost: CostJson
    params_sent: JsonMapping
    params_not_sent: Mapping[str, str]
    events: int | None
    bytes: int | None
    keepalives: int | None
    deltas_ms: list[tuple[float, str]]
    text: str | None
    reasoning: str | None


def of_call(call: CallRecord) -> CallJson:
    """One call (one attempt) as a JSON object. Times are ms from t0, money is US dollars as a decimal string."""
    deployment, outcome, answer, stream = call.deployment, call.outcome, call.answer, call.stream
    deltas = timing.unpack_deltas(stream.delta_us, stream.delta_kinds or b"") if stream.delta_us else []
    mark, cost = runs_view.cost_words(call.cost)
    return {
        "schema": SCHEMA,
        "id": call.id,
        "run_id": call.run_id,
        "column": call.column,
        "repetition": call.repetition,
        "attempt": call.attempt,
        "retry_of": call.retry_of,
        "deployment": deployment.id,
        "name": deployment.name,
        "kind": deployment.kind,
        "wire": deployment.wire,
        "model": deployment.model,
        "model_reported": answer.model_reported,
        "labels": deployment.labels,
        "source": call.source,
        "person": call.person,
        "state": outcome.state,
        "outcome": outcome.name,
        "message": outcome.message,
        "phase": outcome.phase,
        "finish_reason": outcome.finish_reason,
        "response_id": answer.response_id,
        "region": deployment.region,
        "service_tier": {"asked": call.request.service_tier, "served": answer.service_tier},
        "facts": answer.facts or {},
        "http_status": outcome.http_status,
        "error_type": outcome.error_type,
        "error_code": outcome.error_code,
        "retry_after_s": outcome.retry_after_s,
        "created_at": _iso(call.created_at),
        "started_at": _iso(call.started_at),
        "ended_at": _iso(call.ended_at),
        "waited_ms": call.waited_ms,
        "timing": {name: getattr(call.timing, name) for name in TIMING_COLUMNS},
        "usage": {name: getattr(call.usage, name) for name in USAGE_COLUMNS}
        | {
            "input": call.usage.input_total,
            "output": call.usage.output_total,
            "source": call.usage.source,
            "raw": call.usage.raw,
        },
        "cache": {"asked": call.request.cache_mode, "state": runs_view.state(call.usage)},
        "cost": {
            "state": call.cost.state,
            "usd": usd(call.cost.nanousd),
            "high_usd": usd(call.cost.high_nanousd),
            "text": f"{mark} {cost}".strip(),
            "drivers_usd": {name: usd(amount) for name, amount in (call.cost.drivers or {}).items()},
            "price": call.cost.price,
        },
        "params_sent": call.request.sent_params or {},
        "params_not_sent": call.request.dropped_params or {},
        "events": stream.n_events,
        "bytes": stream.n_bytes,
        "keepalives": stream.keepalives,
        "deltas_ms": [(round(us / 1000, 3), kind) for us, kind in deltas],
        "text": answer.text,
        "reasoning": answer.reasoning,
    }


def usd(nanousd: int | None) -> str | None:
    """Nano-dollars as a decimal string of dollars, exact: 54_399_000 → "0.054399"."""
    if nanousd is None:
        return None
    sign, amount = ("-", -nanousd) if nanousd < 0 else ("", nanousd)
    dollars, fraction = divmod(amount, 1_000_000_000)
    return f"{sign}{dollars}.{fraction:09d}".rstrip("0").rstrip(".")


def in_words(call: CallRecord) -> dict[str, str]:
    """The figures of a finished call as short texts with units and marks."""
    figures = runs_view.figures(call)
    approx = "~" if figures["out_est"] else ""
    return {
        "state": runs_view.words(call),
        "ttft": formatting.seconds(figures["ttft_ms"]),
        "ttlt": formatting.seconds(figures["ttlt_ms"]),
        "decode": formatting.rate(figures["decode_tps"], approx),
        "in": formatting.count(figures["in"], "~" if figures["in_est"] else ""),
        "cached": formatting.count(figures["cached"]),
        "cache": runs_view.cache_words(call.usage),
        "out": formatting.count(figures["out"], approx),
        "cost": f"{figures['cost_mark']} {figures['cost']}".strip(),
    }


def _iso(value: datetime | str | None) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else value


KEPT = frozenset({"succeeded", "cancelled"})  # a stopped answer was read and may be continued


def conversation(calls: Sequence[CallRow], column: int, deployment_id: str) -> tuple[Message, ...]:
    """The messages of one column after the run that these calls belong to.

    An error is never an assistant turn: when the call failed, its question is left out as well. A deployment that
    moved to another column keeps its own history; one that was not in the run begins anew (an empty tuple).
    """
    of_deployment = [
        call for row in runs_view.last_attempts(calls) if (call := from_row(row)).deployment.id == deployment_id
    ]
    of_column = [call for call in of_deployment if call.column == column] or of_deployment
    if not of_column:
        return ()
    call = of_column[0]
    ask = ask_of(call.request)
    if ask is None:
        return ()
    if call.state in KEPT and call.answer.text:
        return (*ask.messages, Message("assistant", call.answer.text))
    return ask.messages[:-1]


def ask_of(request: CallRequest) -> Ask | None:
    """What a call was asked; None where the text was not kept."""
    stored = request.stored.get("ask") if request.stored else None
    if not stored:
        return None
    return Ask(
        tuple(Message(m["role"], m["text"]) for m in stored["messages"]),
        stored.get("system"),
        stored.get("params") or {},
        stored.get("cache"),
    )


def request_of(call: CallRecord) -> WireRequest | None:
    """The HTTP request of a recorded call, without its key; None where the text was not kept or none was possible."""
    ask = ask_of(call.request)
    if ask is None:
        return None
    deployment = Deployment.from_json(call.deployment.declared)
    try:
        return kind_of(deployment).request(deployment, ask)
    except ValueError:
        return None
