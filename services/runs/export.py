"""A run as a file: JSON with everything, CSV with one line per call, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from services.pricing import price as pricing_price
from services.runs import cache_state, record, view
from services.security import keys

SCHEMA = 1
_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n")
_RUN_FIELDS = (
    "id", "created_at", "person", "source", "prompt", "system", "template", "variables", "params", "columns",
    "start_mode", "stagger_s", "repetitions", "blind", "parent_run_id", "starred", "tags", "note", "text_stored",
)  # fmt: skip
_TIMES = (
    "queued_ms", "connect_ms", "ttfb_ms", "ttft_ms", "ttfat_ms", "ttlt_ms", "end_ms", "itl_p50_ms", "itl_p95_ms",
    "itl_p99_ms", "itl_max_ms", "tpot_ms", "self_lag_ms", "server_ms", "waited_ms",
)  # fmt: skip
_COUNTS = (
    "uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning_output", "answer_output",
)  # fmt: skip


def run_json(run: Mapping[str, Any], calls: Sequence[Mapping[str, Any]], votes: Sequence[Mapping[str, Any]]) -> str:
    """The whole run as JSON (schema 1): the question, every call with every figure, the votes. Keys are scrubbed."""
    whole = {
        "schema": SCHEMA,
        "product": "Inference Lab",
        "times": "milliseconds from t0, the first byte of the request handed to an open connection",
        "run": {name: run.get(name) for name in _RUN_FIELDS}
        | {"attachments": [{"name": a.get("name"), "chars": a.get("chars")} for a in run.get("attachments") or ()]},
        "calls": [record.of_call(row) for row in calls],
        "votes": [dict(vote) for vote in votes],
    }
    return keys.scrub(json.dumps(whole, ensure_ascii=False, indent=2, default=_plain))


def run_csv(calls: Sequence[Mapping[str, Any]]) -> str:
    """One line per call (attempt), every figure with its unit in the column's name, RFC 4180 with CRLF.

    A text that a spreadsheet would take for a formula is preceded by an apostrophe; numbers are left alone.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    lines = [_line(row) for row in calls]
    if lines:
        writer.writerow([safe_cell(name) for name in lines[0]])
    for line in lines:
        writer.writerow([safe_cell(value) for value in line.values()])
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
        "input_tokens": view.input_tokens(row),
        "output_tokens": view.output_tokens(row),
        "prompt_cache_asked": row.get("cache_mode"),
        "prompt_cache": cache_state.state(row),
        "usage_source": row.get("usage_source"),
        "cost_state": row.get("cost_state"),
        "cost_usd": record.usd(row.get("cost_nanousd")),
        "cost_high_usd": record.usd(row.get("cost_high_nanousd")),
        "price_source": _price_source(row.get("price")),
        "answer": row.get("answer"),
        "reasoning": row.get("reasoning"),
    }


def _price_source(stored: object) -> str | None:
    if pricing_price.damaged(stored):
        return pricing_price.NOT_READABLE
    price = pricing_price.read(stored)
    return None if price is None else price.source


def safe_cell(value: Any) -> Any:
    """A cell that a spreadsheet will not run: see OWASP, CSV injection."""
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        return value
    # NFKC turns full-width forms of the same characters into the ones that spreadsheets act on.
    first = unicodedata.normalize("NFKC", value[:1])
    is_number = re.fullmatch(r"-?\d+(\.\d+)?", value) is not None
    return f"'{value}" if first.startswith(_RISKY) and not is_number else value


def file_name(run: Mapping[str, Any], ending: str) -> str:
    """A file name of letters, digits and dashes: "inference-lab-20261124-1405-AbC….json"."""
    when = run["created_at"].strftime("%Y%m%d-%H%M") if hasattr(run.get("created_at"), "strftime") else "run"
    return f"inference-lab-{when}-{re.sub(r'[^A-Za-z0-9]', '', str(run['id']))[:12]}.{ending}"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)
