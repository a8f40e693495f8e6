"""A recorded call as one JSON object, and a run as a file: JSON with everything, CSV with one line per call."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from services import formatting
from services.pricing import price as pricing_price
from services.runs import view as runs_view
from services.security import keys
from services.types import Timing
from services.wire import timing

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
    "waited_ms",
)

_COUNTS = (
    "uncached_input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "reasoning_output",
    "answer_output",
)


def run_json(run: Mapping[str, Any], calls: Sequence[Mapping[str, Any]], votes: Sequence[Mapping[str, Any]]) -> str:
    """The whole run as JSON (schema 1): the question, every call with every figure, the votes. Keys are scrubbed."""
    document = {
        "schema": SCHEMA,
        "product": "Inference Lab",
        "times": "milliseconds from t0, the first byte of the request handed to an open connection",
        "run": {name: run.get(name) for name in _RUN_FIELDS}
        | {"attachments": [{"name": a.get("name"), "chars": a.get("chars")} for a in run.get("attachments") or ()]},
        "calls": [of_call(row) for row in calls],
        "votes": [dict(vote) for vote in votes],
    }
    return keys.scrub(json.dumps(document, ensure_ascii=False, indent=2, default=_plain))


def run_csv(calls: Sequence[Mapping[str, Any]]) -> str:
    """One line per call (attempt), every figure with its unit in the column's name, RFC 4180 with CRLF.

    A text that a spreadsheet would take for a formula is preceded by an apostrophe; numbers are left alone.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    lines = [_line(row) for row in calls]
    if lines:
        writer.writerow([formatting.safe_cell(name) for name in lines[0]])
    for line in lines:
        writer.writerow([formatting.safe_cell(value) for value in line.values()])
    return keys.scrub(out.getvalue())


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run_id": row["run_id"],
        "call_id": row["id"],
        "column": row["column_no"],
        "repetition": row["repetition"],
        "attempt": row["attempt_no"],
        "started_at_utc": row.get("started_at"),
        "deployment": row["deployment"]["name"],
        "deployment_id": row["deployment_id"],
        "labels": " ".join(row["deployment"].get("labels") or ()),
        "kind": row["kind"],
        "wire": row["wire"],
        "model": row["model"],
        "model_reported": row.get("model_reported"),
        "region": row.get("region"),
        "service_tier_asked": row.get("tier_asked"),
        "service_tier_served": row.get("tier_served"),
        "state": row["state"],
        "outcome": row.get("outcome"),
        "message": row.get("message"),
        "http_status": row.get("http_status"),
        **{name: row.get(name) for name in _TIMES},
        "connection_reused": row.get("reused"),
        "decode_tokens_per_s": row.get("decode_tps"),
        "end_to_end_tokens_per_s": row.get("e2e_tps"),
        "own_clock_late": row.get("lag_marked"),
        "buffered_suspect": row.get("buffered_suspect"),
        **{f"{name}_tokens": row.get(name) for name in _COUNTS},
        "input_tokens": runs_view.input_tokens(row),
        "output_tokens": runs_view.output_tokens(row),
        "prompt_cache_asked": row.get("cache_mode"),
        "prompt_cache": runs_view.state(row),
        "usage_source": row.get("usage_source"),
        "cost_state": row.get("cost_state"),
        "cost_usd": usd(row.get("cost_nanousd")),
        "cost_high_usd": usd(row.get("cost_high_nanousd")),
        "price_source": _price_source(row.get("price")),
        "answer": row.get("answer"),
        "reasoning": row.get("reasoning"),
    }


def _price_source(stored: object) -> str | None:
    if pricing_price.damaged(stored):
        return pricing_price.NOT_READABLE
    price = pricing_price.read(stored)
    return None if price is None else price.source


def file_name(run: Mapping[str, Any], ending: str) -> str:
    """A file name of letters, digits and dashes: "inference-lab-20261124-1405-AbC….json"."""
    when = run["created_at"].strftime("%Y%m%d-%H%M") if hasattr(run.get("created_at"), "strftime") else "run"
    return f"inference-lab-{when}-{re.sub(r'[^A-Za-z0-9]', '', str(run['id']))[:12]}.{ending}"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


SCHEMA = 1

_USAGE = (
    "uncached_input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "reasoning_output",
    "answer_output",
)


def of_call(row: Mapping[str, Any]) -> dict[str, Any]:
    """One call (one attempt) as a JSON object. Times are ms from t0, money is US dollars as a decimal string."""
    deltas = timing.unpack_deltas(row["delta_us"], row["delta_kinds"]) if row.get("delta_us") else []
    mark, cost = runs_view.cost_words(row)
    return {
        "schema": SCHEMA,
        "id": row["id"],
        "run_id": row["run_id"],
        "column": row["column_no"],
        "repetition": row["repetition"],
        "attempt": row["attempt_no"],
        "retry_of": row.get("retry_of"),
        "deployment": row["deployment_id"],
        "name": row["deployment"]["name"],
        "kind": row["kind"],
        "wire": row["wire"],
        "model": row["model"],
        "model_reported": row.get("model_reported"),
        "labels": list(row["deployment"].get("labels") or ()),
        "source": row["source"],
        "person": row["person"],
        "state": row["state"],
        "outcome": row.get("outcome"),
        "message": row.get("message"),
        "phase": row.get("phase"),
        "finish_reason": row.get("finish_raw"),
        "response_id": row.get("response_id"),
        "region": row.get("region"),
        "service_tier": {"asked": row.get("tier_asked"), "served": row.get("tier_served")},
        "facts": row.get("facts") or {},
        "http_status": row.get("http_status"),
        "error_type": row.get("error_type"),
        "error_code": row.get("error_code"),
        "retry_after_s": row.get("retry_after_s"),
        "created_at": _iso(row.get("created_at")),
        "started_at": _iso(row.get("started_at")),
        "ended_at": _iso(row.get("ended_at")),
        "waited_ms": row.get("waited_ms"),
        "timing": {f.name: row.get(f.name) for f in fields(Timing)},
        "usage": {name: row.get(name) for name in _USAGE}
        | {
            "input": runs_view.input_tokens(row),
            "output": runs_view.output_tokens(row),
            "source": row.get("usage_source"),
            "raw": row.get("usage_raw"),
        },
        "cache": {"asked": row.get("cache_mode"), "state": runs_view.state(row)},
        "cost": {
            "state": row.get("cost_state"),
            "usd": usd(row.get("cost_nanousd")),
            "high_usd": usd(row.get("cost_high_nanousd")),
            "text": f"{mark} {cost}".strip(),
            "drivers_usd": {name: usd(value) for name, value in (row.get("cost_drivers") or {}).items()},
            "price": row.get("price"),
        },
        "params_sent": row.get("sent_params") or {},
        "params_not_sent": row.get("dropped_params") or {},
        "events": row.get("n_events"),
        "bytes": row.get("n_bytes"),
        "keepalives": row.get("keepalives"),
        "deltas_ms": [[round(us / 1000, 3), kind] for us, kind in deltas],
        "text": row.get("answer"),
        "reasoning": row.get("reasoning"),
    }


def usd(nanousd: int | None) -> str | None:
    """Nano-dollars as a decimal string of dollars, exact: 54_399_000 → "0.054399"."""
    if nanousd is None:
        return None
    sign, amount = ("-", -nanousd) if nanousd < 0 else ("", nanousd)
    dollars, billionths = divmod(amount, 1_000_000_000)
    return f"{sign}{dollars}.{billionths:09d}".rstrip("0").rstrip(".")


def in_words(row: Mapping[str, Any]) -> dict[str, str]:
    """The figures of a finished call as short texts with units and marks."""
    figures = runs_view.figures(row)
    approx = "~" if figures["out_est"] else ""
    return {
        "state": runs_view.words(row),
        "ttft": formatting.seconds(figures["ttft_ms"]),
        "ttlt": formatting.seconds(figures["ttlt_ms"]),
        "decode": formatting.rate(figures["decode_tps"], approx),
        "in": formatting.count(figures["in"], "~" if figures["in_est"] else ""),
        "cached": formatting.count(figures["cached"]),
        "cache": runs_view.cache_words(row),
        "out": formatting.count(figures["out"], approx),
        "cost": f"{figures['cost_mark']} {figures['cost']}".strip(),
    }


def _iso(value: datetime | str | None) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else value
