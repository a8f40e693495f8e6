"""Everything that is known about one call: each figure with its definition, what was sent, what it was priced with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.glossary import FIGURES
from app.live import run_view as runs
from app.widgets.text import plain
from db.run_rows import CallRow
from services import formatting
from services.call_record import from_row, usage_of
from services.params import PARAMS
from services.pricing import price as pricing_price
from services.providers.caching import DROPPED, LABEL, MODE_WORDS
from services.runs import record
from services.runs import view as runs_view


def draw(shown: runs.Shown) -> None:
    """A folded section; nothing in it is read before it is opened."""
    section = st.expander("Call details", icon=":material/fact_check:", key="pg_details", on_change="rerun")
    if not section.open:
        return
    with section:
        calls = sorted(shown.calls, key=lambda c: (c["column_no"], c["repetition"], c["attempt_no"]))
        if not calls:
            st.caption("No call was recorded for this run.")
            return
        by_id = {str(row["id"]): row for row in calls}
        picked = st.selectbox("Call", list(by_id), key="pg_call", format_func=lambda i: call_label(by_id[i], calls))
        draw_call(by_id[picked or next(iter(by_id))], calls)


def call_label(row: CallRow, calls: Sequence[CallRow]) -> str:
    """A call among those of its run: name, repetition and attempt where there are several, and how it ended."""
    parts = [str(row["deployment"]["name"])]
    if any(c["repetition"] > 1 for c in calls):
        parts.append(f"repetition {row['repetition']}")
    if any(c["attempt_no"] > 1 for c in calls):
        parts.append(f"attempt {row['attempt_no']}")
    return " · ".join((*parts, runs_view.words(from_row(row))))


def draw_call(row: CallRow, calls: Sequence[CallRow]) -> None:
    """One call: message, figures, request, attempts, price, usage, answer."""
    if row.get("message"):
        st.text(str(row["message"]))
    st.table(
        pd.DataFrame(
            [(f"**{name}**", plain(value), f":gray[{plain(meaning)}]") for name, value, meaning in figures(row)],
            columns=["Figure", "Value", "What it means"],
        ),
        border="horizontal",
        hide_index=True,
        alt="Every figure of this call with its definition",
    )
    answer, request, attempts, price, usage = st.tabs(["Answer", "Request", "Attempts", "Price", "Usage"])
    with answer:
        if row.get("reasoning"):
            st.caption("Reasoning")
            st.code(str(row["reasoning"]), language=None, wrap_lines=True)
            st.caption("Answer")
        st.code(str(row.get("answer") or "No answer was kept."), language=None, wrap_lines=True)
    with request:
        _request(row)
    with attempts:
        _attempts([c for c in calls if (c["column_no"], c["repetition"]) == (row["column_no"], row["repetition"])])
    with price:
        st.caption(FIGURES["price"])
        if pricing_price.damaged(row.get("price")):
            st.caption("Price not readable: the price row of this call is damaged. Its cost is as it was recorded.")
        _json(row.get("price"), "No price is known for this deployment, so its cost says “no price”.")
    with usage:
        st.caption("The service's own account of the tokens, unchanged.")
        _json(row.get("usage_raw"), "The service did not report its token counts; the counts above are estimates.")


def figures(row: CallRow) -> list[tuple[str, str, str]]:
    """(name, value with its unit, definition) of every figure of a call."""
    fig = runs_view.figures(from_row(row))
    approx = "~" if fig["out_est"] else ""
    seconds, count = formatting.seconds, formatting.count
    hidden = str(row.get("decode_hidden") or "")
    connect = "reused" if row.get("reused") else seconds(row.get("connect_ms"))
    through = (row.get("facts") or {}).get("proxy")
    connect += f" · through the proxy of {through}" if through else ""
    lag = formatting.seconds(row.get("self_lag_ms")) + (" · marked" if row.get("lag_marked") else "")
    return [
        ("State", runs_view.words(from_row(row)), FIGURES["state"]),
        ("First token", seconds(row.get("ttft_ms")), FIGURES["ttft"]),
        ("First answer token", seconds(row.get("ttfat_ms")), FIGURES["ttfat"]),
        ("Last token", seconds(row.get("ttlt_ms")), FIGURES["ttlt"]),
        ("End of the call", seconds(row.get("end_ms")), FIGURES["end"]),
        ("First byte", seconds(row.get("ttfb_ms")), FIGURES["ttfb"]),
        ("Connect", connect, FIGURES["connect"]),
        ("Queued by us", seconds(row.get("queued_ms")), FIGURES["queued"]),
        ("Waited for earlier attempts", seconds(row.get("waited_ms")), FIGURES["waited"]),
        (
            "Decode speed",
            formatting.rate(row.get("decode_tps"), approx) + (f" ({hidden})" if hidden else ""),
            FIGURES["decode"],
        ),
        ("End-to-end speed", formatting.rate(row.get("e2e_tps"), approx), FIGURES["e2e"]),
        ("Time per output token", formatting.seconds(row.get("tpot_ms")), FIGURES["tpot"]),
        ("Gap, median", formatting.seconds(row.get("itl_p50_ms")), FIGURES["itl"]),
        ("Gap, 95th percentile", formatting.seconds(row.get("itl_p95_ms")), FIGURES["itl"] + " Needs 20 gaps."),
        ("Gap, 99th percentile", formatting.seconds(row.get("itl_p99_ms")), FIGURES["itl"] + " Needs 100 gaps."),
        ("Gap, longest", formatting.seconds(row.get("itl_max_ms")), FIGURES["itl"]),
        ("Input", count(fig["in"], "~" if fig["in_est"] else ""), FIGURES["input"]),
        ("Read from cache", count(fig["cached"]), FIGURES["cached"]),
        ("Written to cache", _written(row), FIGURES["written"]),
        ("Prompt cache", _cache(row), FIGURES["cache"]),
        ("Output", count(fig["out"], approx), FIGURES["output"]),
        ("of which reasoning", count(row.get("reasoning_output"), approx), FIGURES["output"]),
        ("Cost", f"{fig['cost_mark']} {fig['cost']}".strip(), FIGURES["cost"]),
        *([("Its share at full use", fig["cost_share"], FIGURES["full_use"])] if fig["cost_share"] else []),
        ("Own lag", lag, FIGURES["self_lag"]),
        ("Time the service reports", seconds(row.get("server_ms")), FIGURES["server"]),
    ]


def _written(row: CallRow) -> str:
    """Tokens written to the cache, by lifetime; a dash where the service does not say."""
    short, long = row.get("cache_write_5m"), row.get("cache_write_1h")
    if short is None and long is None:
        return formatting.DASH
    parts = [f"{n:,} {what}" for n, what in ((short, "short-lived"), (long, "long-lived")) if n]
    return ", ".join(parts) or "0"


def _cache(row: CallRow) -> str:
    asked = row.get("cache_mode")
    return f"{runs_view.cache_words(usage_of(row))} · asked for: {MODE_WORDS.get(asked, asked) if asked else 'nothing'}"


def _request(row: CallRow) -> None:
    sent, dropped = row.get("sent_params") or {}, row.get("dropped_params") or {}
    lines = [f"{_label(name)}: {value}" for name, value in sent.items()]
    lines += [f"{_label(name)}: not sent, {why}" for name, why in dropped.items()]
    st.text("\n".join(lines) or "No parameters were set: the service's own defaults held.")
    request = row["request"]
    if request is not None and request.get("url"):
        st.text(f"{request.get('method')} {request['url']}")
    facts = {
        "Region": row.get("region"),
        "Service tier asked for": row.get("tier_asked"),
        "Service tier that served it": row.get("tier_served"),
        "Wire": row.get("wire"),
        "HTTP status": row.get("http_status"),
        "Finish reason": row.get("finish_raw"),
        "Model, as it calls itself": row.get("model_reported"),
        "Response id": row.get("response_id"),
        "Error type": row.get("error_type"),
        "Error code": row.get("error_code"),
        "Recorded as": row.get("id"),
    }
    st.table(
        {label: plain(value) for label, value in facts.items() if value not in (None, "")},
        border="horizontal",
        width="content",
        alt="Facts of the request and its response",
    )
    made = record.request_of(from_row(row))
    _json(dict(made.body) if made else None, "The text of the request was not stored.")


def _label(name: str) -> str:
    return LABEL if name == DROPPED else PARAMS[name].label if name in PARAMS else name


def _attempts(tries: Sequence[CallRow]) -> None:
    st.caption("A retry is a further attempt of the same call, with its own clock. None is hidden.")
    st.dataframe(
        pd.DataFrame(
            {
                "attempt": [c["attempt_no"] for c in tries],
                "state": [runs_view.words(from_row(c)) for c in tries],
                "ttft": [formatting.seconds(c.get("ttft_ms")) for c in tries],
                "end": [formatting.seconds(c.get("end_ms")) for c in tries],
                "message": [str(c.get("message") or "") for c in tries],
            }
        ),
        hide_index=True,
        column_config={
            "attempt": "Attempt",
            "state": "State",
            "ttft": st.column_config.TextColumn("First token", help=FIGURES["ttft"]),
            "end": st.column_config.TextColumn("End", help=FIGURES["end"]),
            "message": st.column_config.TextColumn("What happened", width="large"),
        },
        alt="Attempts of this call",
    )


def _json(value: Any, otherwise: str) -> None:
    if value:
        st.code(json.dumps(value, indent=2, ensure_ascii=False, default=str), language="json")
    else:
        st.caption(otherwise)
