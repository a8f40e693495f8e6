"""The table of recorded runs, one line each, newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.widgets.filters import SOURCES, zone
from app.widgets.text import clip
from services.runs import view

Row = Mapping[str, Any]
TABLE, PAGE, PAGE_SIZE = "rn_table", "page", 20


def draw(rows: Sequence[Row], names: Mapping[str, str]) -> Row | None:
    """The table; returns the selected run, if one is."""
    where, zone_info = zone()
    frame = pd.DataFrame(
        {
            "starred": ["★" if row.get("starred") else "" for row in rows],
            "when": [row["created_at"].astimezone(zone_info) for row in rows],
            "prompt": [clip(str(row.get("prompt") or "text not stored"), 160) for row in rows],
            "deployments": [", ".join(names.get(d, d) for d in row["deployments"]) for row in rows],
            "ended": [ended(row) for row in rows],
            "repetitions": [row["repetitions"] for row in rows],
            "person": [row["person"] for row in rows],
            "tags": [", ".join(row.get("tags") or ()) for row in rows],
            "source": [SOURCES.get(row["source"], row["source"]) for row in rows],
        }
    )
    event = st.dataframe(
        frame,
        key=TABLE,
        hide_index=True,
        height="content",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "starred": st.column_config.TextColumn(" ", width=36, help="Starred"),
            "when": st.column_config.DatetimeColumn(f"Started ({where})", format="YYYY-MM-DD HH:mm:ss", timezone=where),
            "prompt": st.column_config.TextColumn("Prompt", width=300),
            "deployments": st.column_config.TextColumn("Deployments", width=220),
            "ended": st.column_config.TextColumn("Calls", help="How many calls of the run ended how."),
            "repetitions": st.column_config.NumberColumn("Repetitions", format="%d ×"),
            "person": st.column_config.TextColumn("Person"),
            "tags": st.column_config.TextColumn("Tags"),
            "source": st.column_config.TextColumn("Source"),
        },
        alt="Recorded runs, newest first",
    )
    chosen = event.selection.rows
    return rows[chosen[0]] if chosen and chosen[0] < len(rows) else None


def ended(row: Row) -> str:
    """How many calls of a run ended how: "3 done, 1 stopped"."""
    counts: dict[str, int] = {}
    for state, n in row["states"].items():
        words = "running" if state == "running" else view.STATE_WORDS.get(state, state)
        counts[words] = counts.get(words, 0) + n
    return ", ".join(f"{n:,} {words}" for words, n in counts.items()) or "no calls"


def forget_selection() -> None:
    """Callback of everything that changes which runs are listed: a selected line would point at another run."""
    st.session_state.pop(TABLE, None)
