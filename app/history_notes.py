"""Notes on moments, drawn on the charts of the History page: "moved to Haiku"."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st
from sqlalchemy import Engine

from app import session
from app.status import attempt, draw_refusal
from app.text import clip, plain
from db import notes

SHOWN = 20
REFUSED = "hx_note_refused"


def marks(database: Engine, start: datetime, end: datetime) -> pd.DataFrame:
    """The notes from ``start`` to ``end`` as rules on a chart: ``at`` (aware UTC) and ``note``, oldest first."""
    rows = notes.notes(database, start, end)[::-1]
    frame = pd.DataFrame({"at": [row["at"] for row in rows], "note": [row["note"] or "" for row in rows]})
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    return frame.astype({"note": "object"})


def manage(database: Engine, zone: ZoneInfo, person: session.Person, *, demo: bool = False) -> None:
    """The popover "Notes": add one at a moment, the last ones, delete. Demo data has notes of its own, which stay."""
    with st.popover("Notes", icon=":material/sticky_note_2:"):
        may = person.may("annotate") and not demo
        if may:
            _form(zone)
        draw_refusal(REFUSED)
        rows = notes.notes(database)
        if not rows:
            st.caption("A note marks a moment on every chart: what was changed, when.")
        for row in rows[:SHOWN]:
            _line(row, zone, may=may)
        if len(rows) > SHOWN:
            st.caption(f"{len(rows) - SHOWN:,} older notes are on the charts of their time.")


def _form(zone: ZoneInfo) -> None:
    with st.form("hx_note", clear_on_submit=True, border=False):
        st.text_input("Note", key="hx_note_text", placeholder="moved to Haiku", max_chars=notes.LONGEST)
        st.datetime_input(f"When ({zone.key})", key="hx_note_at", value=_local_now(zone))
        st.form_submit_button("Add note", icon=":material/add:", on_click=_add, args=(zone,))


def _local_now(zone: ZoneInfo) -> datetime:
    return datetime.now(zone).replace(tzinfo=None, second=0, microsecond=0)


def _add(zone: ZoneInfo) -> None:
    text, at = str(st.session_state.get("hx_note_text") or ""), st.session_state.get("hx_note_at")
    if not isinstance(at, datetime):
        at = _local_now(zone)
    moment = at.replace(tzinfo=zone).astimezone(UTC)
    attempt(REFUSED, lambda: session.engine().history.add_note(moment, text))


def _line(row: dict[str, object], zone: ZoneInfo, *, may: bool) -> None:
    at = row["at"]
    assert isinstance(at, datetime)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{at.astimezone(zone):%-d %b %Y %H:%M}** {plain(clip(str(row['note']), 80))}", width="stretch")
        if may:
            st.button(
                "Delete", key=f"hx_note_{row['id']}", icon=":material/delete:", type="tertiary", on_click=_delete,
                args=(str(row["id"]),), help=f"Written by {plain(row['person'])}",
            )  # fmt: skip


def _delete(note_id: str) -> None:
    attempt(REFUSED, lambda: session.engine().history.delete_note(note_id))
