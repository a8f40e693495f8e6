"""What can be taken away from a run: the request of a column as code, the whole run as JSON or CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import streamlit as st

from app.live import run_view as runs
from app.widgets import status
from app.widgets.text import plain
from db.run_rows import CallRow, RunRow, VoteRow
from services.call_record import from_row
from services.embedded.pool import KEY
from services.runs import record, snippets
from services.types import ServerState, Wire, WireRequest

EMBEDDED = "embedded://"
NOTHING_KEPT = "The text of the request was not stored, so there is nothing to copy."


def draw(shown: runs.Shown) -> None:
    """A folded section with the request of a column as code."""
    section = st.expander("Copy a request as code", icon=":material/content_copy:", key="pg_copy", on_change="rerun")
    if not section.open:
        return
    with section:
        columns = {str(row["column_no"]): row for row in shown.columns}
        picked = st.selectbox(
            "Column", list(columns), key="pg_copy_column", format_func=lambda c: str(columns[c]["deployment"]["name"])
        )
        _code(columns[picked or next(iter(columns))])


def downloads(run: RunRow, calls: Sequence[CallRow], votes: Sequence[VoteRow], *, prefix: str) -> None:
    """Export of one run. The files are made when they are asked for."""
    st.download_button(
        "Export JSON",
        partial(record.run_json, run, calls, votes),
        record.file_name(run, "json"),
        "application/json",
        key=f"{prefix}_json",
        icon=":material/download:",
        on_click="ignore",
        help="The prompt, every call with every figure of this page, and the votes.",
    )
    st.download_button(
        "Export CSV",
        partial(record.run_csv, calls),
        record.file_name(run, "csv"),
        "text/csv",
        key=f"{prefix}_csv",
        icon=":material/download:",
        on_click="ignore",
        help="One line for each call, units in the column names; opens in a spreadsheet.",
    )


def _code(row: CallRow) -> None:
    request, trouble = request_of(row, status.health()[0].get("embedded") or {})
    if request is None:
        st.caption(plain(trouble))
        return
    key_env = row["request"].get("key_env") if row["request"] else None
    recorded = record.request_of(from_row(row))
    if recorded is not None and recorded.url.startswith(EMBEDDED):
        key_env = KEY
        st.caption(f"The local model answers only to its key: start lab run with {KEY} set, and this code too.")
    elif key_env:
        st.caption(f"The key stays where it is: the code reads it from the variable {key_env}.")
    codes = snippets.snippets(request, wire=cast(Wire, row["wire"]), key_env=key_env)
    for tab, (title, code) in zip(st.tabs(list(codes)), codes.items(), strict=True):
        with tab:
            st.code(code, language="bash" if title == "curl" else "python", wrap_lines=True)


def request_of(row: CallRow, embedded: Mapping[str, ServerState]) -> tuple[WireRequest | None, str]:
    """The request of a recorded call, or None with the reason. A server of ours gets the address that it has now."""
    request = record.request_of(from_row(row))
    if request is None:
        refused = row["request"].get("refused") if row["request"] else None
        return None, f"No request was made: {refused}." if refused else NOTHING_KEPT
    if request.url.startswith(EMBEDDED):
        name, _, path = request.url.removeprefix(EMBEDDED).partition("/")
        server = embedded.get(name)
        if server is None or not server["url"]:
            return None, "The local model server is not running now, so its request has no address to copy."
        request = replace(request, url=f"{server['url'].rstrip('/')}/{path}")
    return request, ""
