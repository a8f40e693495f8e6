"""What is below the columns of a finished run: the comparison, the difference of two answers, code, export, details."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app import auth
from app.glossary import FIGURES
from app.live import download as takeaway
from app.live import run_view as runs
from app.live.diff import draw_diff
from app.playground import actions as act
from app.playground import call_details as details
from app.widgets.text import plain
from services.runs import compare

BEST = {"light": "background-color: #e6f3ee; color: #0f6b4f; font-weight: 600",
        "dark": "background-color: #1d3129; color: #5fd3a8; font-weight: 600"}  # fmt: skip
HELP = {"ttft": "ttft", "ttlt": "ttlt", "decode": "decode", "out": "output", "cost": "cost"}


def draw(shown: runs.Shown, person: auth.Person, *, masked: bool) -> None:
    """Everything final of a run. While names are hidden, only the answers may be compared."""
    if not shown.calls:
        return
    if not masked and not shown.found.cut:
        _comparison(shown)
        with st.container(horizontal=True):
            if runs.may_act(shown, person):
                _again(shown)
            takeaway.downloads(shown.run, shown.calls, shown.votes, prefix="pg")
    draw_diff(shown, masked=masked)
    if not masked:
        takeaway.draw(shown)
        details.draw(shown)


def _comparison(shown: runs.Shown) -> None:
    k = int(shown.run["repetitions"])
    st.subheader(f"Comparison, {k} repetitions" if k > 1 else "Comparison")
    rows = compare.compare(shown.calls)
    st.dataframe(
        styled(rows),
        hide_index=True,
        height="content",
        column_config={
            "name": st.column_config.TextColumn("Deployment", pinned=True),
            "succeeded": st.column_config.TextColumn("Succeeded", help=FIGURES["succeeded"]),
            "note": st.column_config.TextColumn("Note", help=FIGURES["self_lag"]),
            **{
                m.key: st.column_config.TextColumn(
                    f"{m.title}, median (95 %)" if k > 1 and m.key == "ttft" else m.title, help=FIGURES[HELP[m.key]]
                )
                for m in compare.METRICS
            },
        },
        alt="Comparison of the deployments of this run, best values marked",
    )
    if any(cell.best for row in rows for cell in row.cells.values()):
        said = f" Of several repetitions: {FIGURES['median']}" if k > 1 else ""
        apart = " Lines with a warm prompt cache are compared among themselves." if mixed(rows) else ""
        st.caption(f"Marked: the best value; beside the others, their distance from it.{apart}{said}")
    if k > 1:
        st.caption("The columns and bars above show the last repetition; “Call details” has every one.")


def mixed(rows: Sequence[compare.CompareRow]) -> bool:
    """Whether some lines found the prompt cache warm and others did not: they are compared apart, and named apart."""
    return len({row.warm for row in rows}) > 1


def styled(rows: Sequence[compare.CompareRow]) -> pd.io.formats.style.Styler:
    """The comparison as a table whose best cells are marked in the colours of the theme."""
    frame = pd.DataFrame(
        [
            {"name": f"{row.name} · warm" if mixed(rows) and row.warm and not row.cache else row.name}
            | {m.key: cell_text(row, m.key) for m in compare.METRICS}
            | {"succeeded": row.succeeded}
            | ({"note": row.note} if any(r.note for r in rows) else {})
            for row in rows
        ]
    )
    mark = BEST["dark" if st.context.theme.type == "dark" else "light"]
    marks = pd.DataFrame("", index=frame.index, columns=frame.columns)
    for line, row in enumerate(rows):
        for metric in compare.METRICS:
            if row.cells[metric.key].best:
                marks.loc[line, metric.key] = mark
    return frame.style.apply(lambda _: marks, axis=None)


def cell_text(row: compare.CompareRow, key: str) -> str:
    """A figure with its distance from the best; why a whole line is missing stands at its end, once."""
    cell = row.cells[key]
    if cell.value is None:
        said_once = all(c.value is None for c in row.cells.values()) or cell.beside in row.note
        if said_once or not cell.beside:
            return cell.text
        # "free", "no price", "$39.60 / h" are themselves what is known of a cost that is no number.
        return cell.beside if key == "cost" else f"{cell.text} · {cell.beside}"
    return f"{cell.text} · {cell.beside}" if cell.beside else cell.text


def _again(shown: runs.Shown) -> None:
    names = {str(row["column_no"]): str(row["deployment"]["name"]) for row in shown.columns}
    st.menu_button(
        "Retry a column",
        list(names),
        key="pg_retry",
        icon=":material/refresh:",
        format_func=lambda column: plain(names[column]),
        help="Sends the last call of one column again, as a further attempt; the others stay as they are.",
        on_click=_retry,
        args=(shown.id,),
    )


def _retry(run_id: str) -> None:
    column = st.session_state.get("pg_retry")
    if column is not None:
        act.retry(run_id, int(column))
