"""The batches that there are, newest first; a click on a line opens its batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.batch import summary, upload
from app.widgets.filters import zone
from app.widgets.text import clip, plain
from db import batch_queries, batches
from db.batch_rows import BatchRow
from services.batch import text as words
from services.batch.text import status_of
from services.pricing.cost import money

TABLE, MINE, SHOWN = "bt_list", "bt_list_mine", 50
AWAY = "The batches cannot be read just now; they are kept. Reload the page in a moment."
EMPTY = (
    "Batches appear here, with their state and their results. They go on when you close this page, and "
    "everybody here can open them."
)


def draw(person: auth.Person) -> None:
    """The table, or one sentence."""
    try:
        person_name = person.name if st.session_state.get(MINE) else None
        rows = batches.batches(auth.database(), SHOWN, person_name)
        standing, cost = [_standing(row) for row in rows], [_cost(row) for row in rows]
    except SQLAlchemyError:
        st.caption(f":red[:material/error: {plain(AWAY)}]")
        return
    if not rows and person_name is None:
        st.caption(EMPTY)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Batches", width="stretch")
        if person_name is not None or any(row["person"] != person.name for row in rows):
            st.toggle("Only mine", key=MINE)
    if not rows:
        st.caption("You have submitted none.")
        return
    chosen = _table(rows, standing, cost)
    if chosen is not None:
        upload.open_batch(str(chosen["id"]))
        st.session_state.pop(TABLE, None)
        st.rerun()
    if len(rows) == SHOWN:
        st.caption(f"The newest {SHOWN}; `lab batch list` lists them all.")


def _table(rows: Sequence[BatchRow], standing: Sequence[str], cost: Sequence[str]) -> BatchRow | None:
    zone_name, zone_info = zone()
    frame = pd.DataFrame(
        {
            "name": [clip(str(row["name"]), 80) for row in rows],
            "cost": list(cost),
            "state": list(standing),
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
        frame,
        key=TABLE,
        hide_index=True,
        height="content",
        on_select="rerun",
        selection_mode=upload.ANY_CELL,
        column_config={
            # First and narrow, so that a telephone shows which it is, how it stands and what it cost.
            "name": text("Name", width=140),
            "state": text("State", width=190),
            "cost": text(
                "Cost",
                width=66,
                alignment="right",
                help="Of all its calls so far. ≥: the cost of some is "
                "not known; ~: some are reckoned from our own counts.",
            ),
            "lines": number("Lines", format="localized", width=66),
            "when": st.column_config.DatetimeColumn(
                f"Submitted ({zone_name})", format="YYYY-MM-DD HH:mm", timezone=zone_name
            ),
            "deployment": text("Deployment", width=160),
            "route": text("By"),
            "file": text("File"),
            "person": text("Person"),
        },
        alt="Batches, newest first; click one to open it",
    )
    st.caption("Click a batch to open it.")
    chosen = upload.clicked(event.selection, len(rows))
    return None if chosen is None else rows[chosen]


def _standing(row: BatchRow) -> str:
    """How it stands, in a few words. Lines are only counted of a batch that is over, and then once."""
    counts = _counts(auth.database(), str(row["id"]), str(row["ended_at"])) if words.over(row) else {}
    return status_of(row, counts, short=True).words


@st.cache_data(max_entries=2_000, show_spinner=False)
def _counts(_database: Engine, batch_id: str, ended: str) -> dict[str, int]:
    del ended  # part of the key only: what has ended does not change
    return batches.counts(_database, batch_id)


def _cost(row: BatchRow) -> str:
    """What it has cost, added up once of a batch that is over."""
    database = auth.database()
    return cost_words(
        _costs(database, str(row["id"]), str(row["ended_at"]))
        if words.over(row)
        else batch_queries.costs(database, row["id"])
    )


def cost_words(costs: Mapping[str, batch_queries.Costs]) -> str:
    """ "$0.41", "≥ $0.41", "free", "by the hour", "no price"; a dash where nothing was called or billed."""
    if not set(costs) - {"not_billed"}:
        return "–"
    total, n_known = sum(group.nanousd for group in costs.values()), sum(group.n_known for group in costs.values())
    if summary.is_free({state: group.n for state, group in costs.items()}) and not total:
        return "free"
    if not n_known:
        return "by the hour" if "by_the_hour" in costs else "no price"
    incomplete = any(group.n_known < group.n for state, group in costs.items() if state not in ("free", "not_billed"))
    return money(total, "≥" if incomplete or "lower_bound" in costs else "~" if "estimated" in costs else "")


@st.cache_data(max_entries=2_000, show_spinner=False)
def _costs(_database: Engine, batch_id: str, ended: str) -> dict[str, batch_queries.Costs]:
    del ended
    return batch_queries.costs(_database, batch_id)
