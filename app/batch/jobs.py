"""The jobs of a batch service: what it calls them, how far they are, and what it does not tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.widgets.filters import zone
from app.widgets.text import plain
from services.batch import status as stands
from services.batch import text as words

Row = Mapping[str, Any]


def draw(row: Row, jobs: Sequence[Row], counts: Mapping[str, int]) -> None:
    """A line for each job; nothing where our own runner sends the lines. ``counts``: our own, of the batch's lines."""
    if not jobs or row["route"] == "runner":
        return
    where, zone_info = zone()
    frame = pd.DataFrame(
        {
            "no": [job["no"] for job in jobs],
            "lines": [job["n_lines"] for job in jobs],
            "state": [words.state(job["state"]) for job in jobs],
            "vendor_state": [job.get("vendor_state") or "–" for job in jobs],
            "counts": [counted(job.get("counts")) for job in jobs],
            "vendor_id": [job.get("vendor_id") or "not given yet" for job in jobs],
            "submitted": [_at(job.get("submitted_at"), zone_info) for job in jobs],
            "expires": [_at(job.get("expires_at"), zone_info) for job in jobs],
            "said": [job.get("said") or "" for job in jobs],
        }
    )
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    st.dataframe(
        frame, hide_index=True, height="content",
        column_config={
            "no": number("Job", width=50), "lines": number("Lines", format="localized", width=70),
            "state": text("State", width=190), "vendor_state": text("In its own words", width=130),
            "counts": text("Counts", width=150), "vendor_id": text("Id at the service", width=210),
            "submitted": text(f"Sent ({where})", width=100), "expires": text("Expires", width=100),
            "said": text("What the service said", width=300),
        },
        alt="Jobs of the batch service",
    )  # fmt: skip
    if said := stands.differing(row, jobs, counts):
        st.caption(f":orange[:material/warning: {plain(said)}]")
    if row["route"] == "anthropic" and not words.over(row):
        st.caption(words.NO_COUNTS)


def counted(counts: Mapping[str, int] | None) -> str:
    """ "120 of 500, 3 failed"; a dash where the service tells none."""
    if not counts:
        return "–"
    done = counts.get("succeeded", 0) + counts.get("failed", 0)
    failed = f", {counts['failed']:,} failed" if counts.get("failed") else ""
    return f"{done:,} of {counts['total']:,}{failed}" if counts.get("total") else f"{done:,}{failed}"


def _at(value: Any, where: Any) -> str:
    return "–" if value is None else f"{value.astimezone(where):%-d %b %H:%M}"
