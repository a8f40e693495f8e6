"""What came back: every line accounted for, results beside inputs, why some have no answer, and the downloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.batch import compare, downloads, line, summary
from app.batch import origin as links
from app.batch import state as bt
from app.batch.validation_report import LINE
from app.widgets.filters import zone
from app.widgets.status import attempt
from app.widgets.text import clip, plain
from db import batch_links
from db import batches as store
from services import formatting as units
from services.batch import text as words
from services.batch.reconcile import Account
from services.runs import view

Row = Mapping[str, Any]
TABLE, PAGE, SEARCH, ONLY, PAGE_SIZE = "bt_lines", "bt_page", "bt_search", "bt_only", 20
AWAY = "The lines cannot be read just now; they are kept. Reload the page in a moment."


def draw(row: Row, account: Account, person: auth.Person) -> None:
    """Everything that a batch which is over shows below how it stands."""
    if not account.n:
        st.caption("No line was sent.")
        return
    try:
        child = batch_links.sent_again(auth.database(), row["id"])
    except SQLAlchemyError:
        st.caption(f":red[:material/error: {plain(AWAY)}]")
        return
    st.markdown(plain(replace(account, resent=child is not None).sentence))
    if child is not None:
        links.after(child, account.to_resend)
    with st.container(horizontal=True, vertical_alignment="center"):
        worth = child is None and account.to_resend > account.same_again
        if child is None and account.to_resend and person.may_change("send", row):
            n = account.to_resend
            st.button(
                f"Send the {n:,} {'line' if n == 1 else 'lines'} without an answer again", key="bt_resend",
                icon=":material/replay:", type="primary" if worth else "secondary", on_click=_resend, args=(row["id"],),
            )  # fmt: skip
        downloads.draw(row, first=not worth)
    results, figures, comparing = st.tabs(bt.TABS, key=bt.TAB, on_change="rerun")
    with results:
        if results.open:
            draw_table(row)
    with figures:
        if figures.open:
            summary.draw(row, account)
    with comparing:
        if comparing.open:
            compare.draw(row, person)


def draw_table(row: Row, *, live: bool = False) -> None:
    """The lines, a page at a time. ``live``: the batch is not over, so it is said of which moment they are."""
    try:
        reader = auth.database()
        counts = store.counts(reader, row["id"])
        if not counts or (live and not words.done(counts)):
            return
        states = _filters(counts)
        text = st.session_state.get(SEARCH) or ""
        if live:
            st.caption(so_far())
        slot = st.container()
        found, total = store.lines(reader, row["id"], states=states, text=text, limit=PAGE_SIZE, offset=_offset())
        if not found and total:
            st.session_state[PAGE] = 1
            found, total = store.lines(reader, row["id"], states=states, text=text, limit=PAGE_SIZE)
    except SQLAlchemyError:
        st.caption(f":red[:material/error: {plain(AWAY)}]")
        return
    pages = max(1, -(-total // PAGE_SIZE))
    if pages > 1:
        st.pagination(pages, key=PAGE)
    with slot:
        if not found:
            st.caption("No line matches; take a filter away to see more.")
            return
        chosen = _table(row, found)
        if chosen is None:
            many = f"{total:,} {'line' if total == 1 else 'lines'}"
            st.caption(f"{many} · click one for its whole text and its call")
        else:
            line.draw(row, chosen)


def so_far() -> str:
    """Of which moment the lines are, for a reader who cannot see them change."""
    where, zone_info = zone()
    return f"The lines so far, at {datetime.now(zone_info):%H:%M:%S} ({plain(where)})"


def _filters(counts: Mapping[str, int]) -> Sequence[str]:
    known = [state for state in words.LINES if counts.get(state)]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("Search in ids, prompts and answers", key=SEARCH, type="search", width=320, on_change=forget,
                      placeholder="Search", label_visibility="collapsed")  # fmt: skip
        if len(known) > 1:
            st.session_state[ONLY] = [one for one in st.session_state.get(ONLY) or [] if one in known]
            picked: list[str] = st.pills(
                "Only", known, key=ONLY, selection_mode="multi", on_change=forget, label_visibility="collapsed",
                format_func=lambda state: f"{words.LINES[state]} {counts[state]:,}",
            )  # fmt: skip
            return picked
    return ()


def _offset() -> int:
    return (int(st.session_state.get(PAGE) or 1) - 1) * PAGE_SIZE


def forget() -> None:
    """Callback of everything that changes which lines are listed."""
    st.session_state.pop(TABLE, None)
    st.session_state.pop(PAGE, None)


def _table(batch: Row, rows: Sequence[Row]) -> Row | None:
    frame = pd.DataFrame(
        {
            "line": [row["line"] for row in rows],
            "input": [clip(line.given(batch, row), 300) for row in rows],
            "answer": [clip(answer(row), 300) for row in rows],
            "state": [words.LINES.get(row["state"], row["state"]) for row in rows],
            "id": [clip(str(row["record_id"]), 60) for row in rows],
            "tokens": [tokens(row) for row in rows],
            "cost": [cost(row) for row in rows],
        }
    )
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    event = st.dataframe(
        frame, key=TABLE, hide_index=True, height="content", on_select="rerun", selection_mode=bt.ANY_CELL,
        column_config={
            "line": number("Line", width=56, format="localized", help=LINE), "input": text("Asked", width=210),
            "answer": text("Answered", width=270), "state": text("State", width=86), "id": text("Id", width=70),
            "tokens": text("In + out", width=84, alignment="right", help="Input and output tokens, as the service "
                           "reports them."),
            "cost": text("Cost", width=70, alignment="right"),
        },
        alt="Lines of the batch: what was asked and what was answered",
    )  # fmt: skip
    chosen = bt.clicked(event.selection, len(rows))
    return None if chosen is None else rows[chosen]


def answer(row: Row) -> str:
    """What a line shows of its end: its answer, or why there is none."""
    return str(row.get("answer") or row.get("message") or "")


def tokens(row: Row) -> str:
    """ "52 + 18"; a dash where nothing was counted."""
    given, made = view.input_tokens(row), view.output_tokens(row)
    if given is None and made is None:
        return "–"
    return " + ".join(units.count(n) for n in (given, made))


def cost(row: Row) -> str:
    """What a line cost, with its mark; a dash before there is a call."""
    if row.get("cost_state") is None:
        return "–"
    mark, said = view.cost_words(row)
    return f"{mark} {said}".strip()


def _resend(batch_id: str) -> None:
    def send() -> None:
        bt.open_batch(auth.engine().batches.resend(batch_id))

    if attempt(bt.REFUSAL, send):
        forget()
