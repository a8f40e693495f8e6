"""The batches that there are, newest first; a line opens its batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import batch_state as bt
from app import batch_words as words
from app import session
from app.batch_stands import stand
from app.runs_filters import zone
from app.text import clip, plain
from db import batches as store

Row = Mapping[str, Any]
TABLE, MINE, SHOWN = "bt_list", "bt_list_mine", 50
AWAY = "The batches cannot be read just now; they are kept. Reload the page in a moment."
EMPTY = (
    "Batches appear here, with their state and their results. They go on when you close this page, and "
    "everybody here can open them."
)


def draw(person: session.Person) -> None:
    """The table, or one sentence."""
    try:
        mine = person.name if st.session_state.get(MINE) else None
        rows = store.batches(session.database(), SHOWN, mine)
        standing = [_standing(row) for row in rows]
    except SQLAlchemyError:
        st.caption(f":red[:material/error: {plain(AWAY)}]")
        return
    if not rows and mine is None:
        st.caption(EMPTY)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Batches", width="stretch")
        if mine is not None or any(row["person"] != person.name for row in rows):
            st.toggle("Only mine", key=MINE)
    if not rows:
        st.caption("You have submitted none.")
        return
    chosen = _table(rows, standing)
    if chosen is not None:
        bt.open_batch(str(chosen["id"]))
        st.session_state.pop(TABLE, None)
        st.rerun()
    if len(rows) == SHOWN:
        st.caption(f"The newest {SHOWN}; `lab batch list` lists them all.")


def _table(rows: Sequence[Row], standing: Sequence[str]) -> Row | None:
    where, zone_info = zone()
    frame = pd.DataFrame(
        {
            "state": list(standing),
            "name": [clip(str(row["name"]), 80) for row in rows],
            "lines": [row["n_lines"] or None for row in rows],
            "when": [row["created_at"].astimezone(zone_info) for row in rows],
            "deployment": [str((row.get("deployment") or {}).get("name") or row["deployment_id"]) for row in rows],
            "route": [words.route(row["route"]) for row in rows],
            "file": [clip(str(row["file_name"]), 60) for row in rows],
            "person": [row["person"] for row in rows],
        }
    )
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    event = st.dataframe(
        frame, key=TABLE, hide_index=True, height="content", on_select="rerun", selection_mode="single-row",
        column_config={
            # First, so that a telephone shows how a batch stands and which it is.
            "state": text("State", width=182), "name": text("Name", width=190),
            "lines": number("Lines", format="localized", width=66),
            "when": st.column_config.DatetimeColumn(f"Submitted ({where})", format="YYYY-MM-DD HH:mm", timezone=where),
            "deployment": text("Deployment", width=180), "route": text("By", width=170), "file": text("File"),
            "person": text("Person"),
        },
        alt="Batches, newest first; select one to open it",
    )  # fmt: skip
    chosen = [n for n in event.selection.rows if n < len(rows)]
    return rows[chosen[0]] if chosen else None


def _standing(row: Row) -> str:
    """How it stands, in a few words. Lines are only counted of a batch that is over, and then once."""
    counts = _counts(session.database(), str(row["id"]), str(row["ended_at"])) if words.over(row) else {}
    return stand(row, counts, short=True).words


@st.cache_data(max_entries=2_000, show_spinner=False)
def _counts(_database: Engine, batch_id: str, ended: str) -> dict[str, int]:
    del ended  # part of the key only: what has ended does not change
    return store.counts(_database, batch_id)
