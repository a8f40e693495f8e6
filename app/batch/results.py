"""What came back: every line accounted for, results beside inputs, why some have no answer, the downloads, and the
links to the batch that it resends, to the one that resends it, and to the two that it judges."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import BinaryIO

import pandas as pd
import streamlit as st
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from streamlit.delta_generator import DeltaGenerator

from app import auth
from app.batch import compare, line, summary, upload
from app.batch.validation import LINE
from app.widgets.filters import zone
from app.widgets.status import attempt
from app.widgets.text import clip, plain
from db import batch_queries, batches
from db.batch_rows import BatchRow, CalledLine, ResentBatch
from services import formatting as units
from services.batch import judge
from services.batch import text as words
from services.batch.export import ENDINGS, EXCEL_ROWS, TYPES, Kind, write
from services.batch.reconcile import Reconciliation
from services.call_record import cost_of, usage_of
from services.runs import view

TABLE, PAGE, SEARCH, ONLY, PAGE_SIZE = "bt_lines", "bt_page", "bt_search", "bt_only", 20

AWAY = "The lines cannot be read just now; they are kept. Reload the page in a moment."


def draw(row: BatchRow, account: Reconciliation, person: auth.Person) -> None:
    """Everything that a batch which is over shows below how it stands."""
    if not account.n:
        st.caption("No line was sent.")
        return
    try:
        child = batch_queries.sent_again(auth.database(), row["id"])
    except SQLAlchemyError:
        st.caption(f":red[:material/error: {plain(AWAY)}]")
        return
    st.markdown(plain(replace(account, resent=child is not None).sentence))
    if child is not None:
        draw_link_to_resent(child, account.to_resend)
    with st.container(horizontal=True, vertical_alignment="center"):
        worth = child is None and account.to_resend > account.same_again
        if child is None and account.to_resend and person.may_change("send", row):
            n = account.to_resend
            st.button(
                f"Send the {n:,} {'line' if n == 1 else 'lines'} without an answer again",
                key="bt_resend",
                icon=":material/replay:",
                type="primary" if worth else "secondary",
                on_click=_resend,
                args=(row["id"],),
            )
        draw_downloads(row, first=not worth)
    results, figures, comparing = st.tabs(upload.TABS, key=upload.TAB, on_change="rerun")
    with results:
        if results.open:
            draw_table(row)
    with figures:
        if figures.open:
            summary.draw(row, account)
    with comparing:
        if comparing.open:
            compare.draw(row, person)


def draw_table(row: BatchRow, *, live: bool = False) -> None:
    """The lines, a page at a time. ``live``: the batch is not over, so it is said of which moment they are."""
    try:
        reader = auth.database()
        counts = batches.counts(reader, row["id"])
        if not counts or (live and not words.done(counts)):
            return
        states = _filters(counts)
        text = st.session_state.get(SEARCH) or ""
        if live:
            st.caption(so_far())
        slot = st.container()
        page_rows, total = batches.lines(reader, row["id"], states=states, text=text, limit=PAGE_SIZE, offset=_offset())
        if not page_rows and total:
            st.session_state[PAGE] = 1
            page_rows, total = batches.lines(reader, row["id"], states=states, text=text, limit=PAGE_SIZE)
    except SQLAlchemyError:
        st.caption(f":red[:material/error: {plain(AWAY)}]")
        return
    pages = max(1, -(-total // PAGE_SIZE))
    if pages > 1:
        st.pagination(pages, key=PAGE)
    with slot:
        if not page_rows:
            st.caption("No line matches; take a filter away to see more.")
            return
        chosen = _table(row, page_rows)
        if chosen is None:
            many = f"{total:,} {'line' if total == 1 else 'lines'}"
            st.caption(f"{many} · click one for its whole text and its call")
        else:
            line.draw(row, chosen)


def so_far() -> str:
    """Of which moment the lines are, for a reader who cannot see them change."""
    zone_name, zone_info = zone()
    return f"The lines so far, at {datetime.now(zone_info):%H:%M:%S} ({plain(zone_name)})"


def _filters(counts: Mapping[str, int]) -> Sequence[str]:
    states = [state for state in words.LINES if counts.get(state)]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Search in ids, prompts and answers",
            key=SEARCH,
            type="search",
            width=320,
            on_change=forget,
            placeholder="Search",
            label_visibility="collapsed",
        )
        if len(states) > 1:
            st.session_state[ONLY] = [state for state in st.session_state.get(ONLY) or [] if state in states]
            picked: list[str] = st.pills(
                "Only",
                states,
                key=ONLY,
                selection_mode="multi",
                on_change=forget,
                label_visibility="collapsed",
                format_func=lambda state: f"{words.LINES[state]} {counts[state]:,}",
            )
            return picked
    return ()


def _offset() -> int:
    return (int(st.session_state.get(PAGE) or 1) - 1) * PAGE_SIZE


def forget() -> None:
    """Callback of everything that changes which lines are listed."""
    st.session_state.pop(TABLE, None)
    st.session_state.pop(PAGE, None)


def _table(batch: BatchRow, rows: Sequence[CalledLine]) -> CalledLine | None:
    frame = pd.DataFrame(
        {
            "line": [row["line"] for row in rows],
            "input": [clip(line.input_text(batch, row), 300) for row in rows],
            "answer": [clip(answer(row), 300) for row in rows],
            "state": [words.LINES.get(row["state"], row["state"]) for row in rows],
            "id": [clip(str(row["record_id"]), 60) for row in rows],
            "tokens": [tokens(row) for row in rows],
            "cost": [cost(row) for row in rows],
        }
    )
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    event = st.dataframe(
        frame,
        key=TABLE,
        hide_index=True,
        height="content",
        on_select="rerun",
        selection_mode=upload.ANY_CELL,
        column_config={
            "line": number("Line", width=56, format="localized", help=LINE),
            "input": text("Asked", width=210),
            "answer": text("Answered", width=270),
            "state": text("State", width=86),
            "id": text("Id", width=70),
            "tokens": text(
                "In + out", width=84, alignment="right", help="Input and output tokens, as the service reports them."
            ),
            "cost": text("Cost", width=70, alignment="right"),
        },
        alt="Lines of the batch: what was asked and what was answered",
    )
    chosen = upload.clicked(event.selection, len(rows))
    return None if chosen is None else rows[chosen]


def answer(row: CalledLine) -> str:
    """What a line shows of its end: its answer, or why there is none."""
    return str(row.get("answer") or row.get("message") or "")


def tokens(row: CalledLine) -> str:
    """ "52 + 18"; a dash where nothing was counted."""
    usage = usage_of(row)
    n_input, n_output = usage.input_total, usage.output_total
    if n_input is None and n_output is None:
        return "–"
    return " + ".join(units.count(n) for n in (n_input, n_output))


def cost(row: CalledLine) -> str:
    """What a line cost, with its mark; a dash before there is a call."""
    if row.get("cost_state") is None:
        return "–"
    mark, amount = view.cost_words(cost_of(row))
    return f"{mark} {amount}".strip()


def _resend(batch_id: str) -> None:
    def send() -> None:
        upload.open_batch(auth.engine().batches.resend(batch_id))

    if attempt(upload.SUBMIT_REFUSAL, send):
        forget()


TITLES: dict[Kind, str] = {"csv": "CSV", "jsonl": "JSONL", "parquet": "Parquet", "excel": "Excel"}

LARGE = 100_000

FOR_MACHINES = "bt_for_machines"

BESIDE = "Your columns in the order of the file, with the results beside them."

ESCAPED = (
    f"{BESIDE} In CSV and Excel an apostrophe stands before each text that a spreadsheet would take for a formula; "
    "JSONL and Parquet hold every text as it was."
)

AS_THEY_WERE = f"{BESIDE} Every text as it was: a spreadsheet may take one in the CSV for a formula and run it."


def draw_downloads(row: BatchRow, *, first: bool) -> None:
    """A menu with every kind of file. ``first``: it is what one most likely wants to do next."""
    with st.popover(
        "Download", icon=":material/download:", key="bt_download", type="primary" if first else "secondary"
    ):
        for kind, title in TITLES.items():
            st.download_button(
                title,
                file_writer(row, kind),
                file_name(row, kind),
                TYPES[kind],
                key=f"bt_file_{kind}",
                on_click="ignore",
                width="stretch",
                disabled=kind == "excel" and row["n_lines"] > EXCEL_ROWS,
                help=f"At most {EXCEL_ROWS:,} lines." if kind == "excel" else None,
            )
        machine = st.toggle("For a program, without apostrophes", key=FOR_MACHINES)
        st.caption(AS_THEY_WERE if machine else ESCAPED)
        if row["n_lines"] > LARGE:
            command = f"lab batch results {row['id']} --to FILE"
            st.caption(plain(f"So many lines are written faster without a browser: {command}"))


def file_name(row: BatchRow, kind: Kind) -> str:
    """A name that says which batch it is: "inference-lab-reviews-20261124.csv"."""
    name = re.sub(r"[^\w-]+", "-", str(row["name"]), flags=re.ASCII).strip("-")[:60] or "batch"
    return f"inference-lab-{name}-{row['created_at']:%Y%m%d-%H%M}.{ENDINGS[kind]}"


def file_writer(row: BatchRow, kind: Kind) -> Callable[[], BinaryIO]:
    """What makes a file when it is asked for; it runs in a thread of its own."""
    escape = not st.session_state.get(FOR_MACHINES)
    return partial(_make, auth.database(), row, kind, escape)


def _make(database: Engine, row: BatchRow, kind: Kind, escape: bool) -> BinaryIO:
    # A file without a name: it is gone with its last reader. A second handle, because Streamlit only reads what was
    # opened for nothing but reading.
    with tempfile.TemporaryFile() as target:
        lines = batches.each_line(database, row["id"])
        write(lines, row.get("columns") or (), kind, target, escape=escape, n=row["n_lines"])
        target.flush()
        stream = os.fdopen(os.dup(target.fileno()), "rb")
    stream.seek(0)
    return stream


def draw_links(row: BatchRow) -> None:
    """The ways back; nothing where there are none, or where what they lead to is gone."""
    parent_id = row.get("parent_id")
    if parent_id and (parent := _batch(parent_id)) is not None:
        name = plain(clip(str(parent["name"]), 60))
        with beside(f":material/subdirectory_arrow_right: The lines that “{name}” left unanswered, sent again."):
            st.button("Open it", key="bt_parent", type="tertiary", on_click=upload.open_batch, args=(parent["id"],))
    if (ids := judge.judged_by(str(row["file_name"]))) is None:
        return
    first, second = (_batch(batch_id) for batch_id in ids)
    if first is None or second is None:
        return
    names = " and ".join(f"“{plain(clip(_called(batch), 60))}”" for batch in (first, second))
    with beside(f":material/gavel: It judges {names}."):
        st.button(
            "Open their comparison",
            key="bt_judged",
            type="tertiary",
            on_click=_compare,
            args=(first["id"], second["id"]),
        )


def draw_link_to_resent(child: ResentBatch, n: int) -> None:
    """The way to the batch that the ``n`` lines without an answer went into; what still fails is sent again there."""
    lines = "The line without an answer was" if n == 1 else f"The {n:,} lines without an answer were"
    name, state = plain(clip(str(child["name"]), 60)), words.state(child["state"], short=True)
    with beside(f":material/replay: {lines} sent again as “{name}” ({state})."):
        st.button("Open it", key="bt_child", type="tertiary", on_click=upload.open_batch, args=(child["id"],))


def beside(caption: str) -> DeltaGenerator:
    """A row that says something, for a button behind it: a long label of a button is cut on a telephone."""
    row = st.container(horizontal=True, vertical_alignment="center")
    row.caption(caption, width="content")
    return row


def _called(row: BatchRow) -> str:
    return f"{row['name']} · {words.deployment_name(row)}"


def _batch(batch_id: str) -> BatchRow | None:
    try:
        return batches.batch(auth.database(), batch_id)
    except SQLAlchemyError:
        return None


def _compare(first: str, second: str) -> None:
    """Callback: the first one, held against the second."""
    upload.open_batch(first)
    compare.forget()
    st.session_state[upload.TAB] = upload.TABS[2]
    st.session_state[compare.OTHER] = second
