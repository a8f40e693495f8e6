"""A recorded call as one JSON object with every figure of metrics.md, and as words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from services import formatting
from services.runs import cache_state, view
from services.types import Timing
from services.wire import timing

SCHEMA = 1
_USAGE = (
    "uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning_output", "answer_output",
)  # fmt: skip


def of_call(row: Mapping[str, Any]) -> dict[str, Any]:
    """One call (one attempt) as a JSON object. Times are ms from t0, money is US dollars as a decimal string."""
    deltas = timing.unpack_deltas(row["delta_us"], row["delta_kinds"]) if row.get("delta_us") else []
    mark, cost = view.cost_words(row)
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
            "input": view.input_tokens(row),
            "output": view.output_tokens(row),
            "source": row.get("usage_source"),
            "raw": row.get("usage_raw"),
        },
        "cache": {"asked": row.get("cache_mode"), "state": cache_state.state(row)},
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
    sign, rest = ("-", -nanousd) if nanousd < 0 else ("", nanousd)
    whole, part = divmod(rest, 1_000_000_000)
    return f"{sign}{whole}.{part:09d}".rstrip("0").rstrip(".")


def in_words(row: Mapping[str, Any]) -> dict[str, str]:
    """The figures of a finished call as short texts with units and marks."""
    figures = view.figures(row)
    approx = "~" if figures["out_est"] else ""
    return {
        "state": view.words(row),
        "ttft": formatting.seconds(figures["ttft_ms"]),
        "ttlt": formatting.seconds(figures["ttlt_ms"]),
        "decode": formatting.rate(figures["decode_tps"], approx),
        "in": formatting.count(figures["in"], "~" if figures["in_est"] else ""),
        "cached": formatting.count(figures["cached"]),
        "cache": cache_state.words(row),
        "out": formatting.count(figures["out"], approx),
        "cost": f"{figures['cost_mark']} {figures['cost']}".strip(),
    }


def _iso(value: datetime | str | None) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else value
