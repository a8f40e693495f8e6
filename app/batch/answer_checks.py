"""Checks of answers against what is expected: pass or fail for each line, the rate, and the lines that failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pandas as pd
import streamlit as st

from app import auth
from app.batch import summary
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import clip, plain
from db import batches as store
from services.batch.evaluate import TITLES, Check, CheckKind, Rate, Verdict, rate, run

Row = Mapping[str, Any]
KIND, EXPECTED, EXACTLY, TOLERANCE, FOUND = "bt_ck_kind", "bt_ck_expected", "bt_ck_exactly", "bt_ck_tolerance", "bt_ck"
REFUSAL, FAILED_SHOWN, AT_ONCE = "bt_ck_refusal", 10, 50_000
HELP: Mapping[CheckKind, str] = {
    "exact": "A fixed text, or a column of the file like {{label}}", "contains": "A text, or a column like {{label}}",
    "regex": r"For instance ^(positive|negative)$", "json": "", "schema": "A JSON schema",
    "number": "A number, or a column like {{total}}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """What a check said of one batch: the rate, and its first failures with their answers."""

    batch_id: str
    rate: Rate
    failed: Sequence[tuple[Row, Verdict]]
    cut: bool  # only the first `AT_ONCE` lines were looked at


def draw(batches: Sequence[Row]) -> None:
    """The form, and what the last check said of these batches."""
    with st.expander("Check the answers", icon=":material/rule:", key="bt_checks"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            kind: CheckKind = st.selectbox("Check", list(TITLES), key=KIND, format_func=TITLES.__getitem__, width=330)
            if kind == "number":
                st.number_input("Tolerance", key=TOLERANCE, min_value=0.0, value=0.0, width=130)
        if kind != "json":
            st.text_area("Expected", key=EXPECTED, height=68, placeholder=HELP[kind])
            if columns := batches[0].get("columns"):
                st.caption(plain(f"Columns of the file: {', '.join(columns[:12])}"))
        if kind in ("exact", "contains", "regex"):
            st.toggle("Every letter counts, its case too", key=EXACTLY)
        st.button("Check", key="bt_ck_run", icon=":material/rule:", on_click=_run, args=(list(batches),))
        draw_refusal(REFUSAL)
        _draw_results(batches)


def _draw_results(batches: Sequence[Row]) -> None:
    found: list[Result] = st.session_state.get(FOUND) or []
    by_id = {one.batch_id: one for one in found}
    for row in batches:
        result = by_id.get(str(row["id"]))
        if result is None:
            continue
        of = f"**{plain(summary.name_of(row))}** · " if len(batches) > 1 else ""
        cut = f" Only the first {AT_ONCE:,} lines were looked at." if result.cut else ""
        st.markdown(f"{of}{plain(result.rate.sentence + cut)}")
        if result.failed:
            st.dataframe(
                pd.DataFrame({
                    "line": [line["line"] for line, _ in result.failed],
                    "why": [verdict.why for _, verdict in result.failed],
                    "answer": [clip(str(line.get("answer") or ""), 200) for line, _ in result.failed],
                }),
                hide_index=True, height="content",
                column_config={
                    "line": st.column_config.NumberColumn("Line", width=60), "why": "Why it failed", "answer": "Answer",
                },
                alt="The first lines that failed the check",
            )  # fmt: skip


def _run(batches: Sequence[Row]) -> None:
    """Callback: check every answer of these batches."""
    state = st.session_state
    state.pop(FOUND, None)
    kind: CheckKind = state[KIND]
    check = Check(kind, state.get(EXPECTED) or "", bool(state.get(EXACTLY)), float(state.get(TOLERANCE) or 0.0))

    def work() -> None:
        if why := check.why_not(batches[0].get("columns")):
            raise ValueError(why)
        state[FOUND] = [checked(check, row) for row in batches]

    attempt(REFUSAL, work)


def checked(check: Check, row: Row) -> Result:
    """What a check says of a batch. Raises ValueError in words for a pattern or schema that cannot be used."""
    failed: list[tuple[Row, Verdict]] = []
    last: list[Row] = []

    def lines() -> Iterator[Row]:
        for line in islice(store.each_line(auth.database(), row["id"]), AT_ONCE):
            last[:] = [line]
            yield line

    def verdicts() -> Iterator[Verdict]:
        for verdict in run(check, lines()):
            if verdict.passed is False and len(failed) < FAILED_SHOWN:
                failed.append((last[0], verdict))
            yield verdict

    return Result(str(row["id"]), rate(verdicts()), failed, row["n_lines"] > AT_ONCE)
