"""History: what the deployments did to latency, throughput and cost, from every recorded call."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.history import alerts, latency, overview, throughput
from app.history import cost as history_cost
from app.history import data as history_data
from app.history import filters as history_filters
from app.widgets.filters import tell_apart
from app.widgets.text import plain
from db import run_queries
from services.dashboard import data as dashboard_data
from services.dashboard.figures import Data, Pace

person = auth.person_and_role()

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("History", width="content")
    tools = st.container(horizontal=True, vertical_alignment="center", width="content")
st.caption("What the deployments did to latency, throughput and cost. Every mark opens the calls behind it.")


def read() -> tuple[Data, Pace]:
    """The filter bar, and what it asks for; stops the page where there is nothing to read or nobody to read it."""
    try:
        with tools:
            source = history_filters.source(person)
        if not source.ready:
            st.stop()
        known = run_queries.deployment_rows(source.database)
        names = tell_apart([(row.id, row.name) for row in known])
        values = history_data.choices(source.database)
        if not values["deployment_id"]:
            history_filters.draw_empty(person)
            st.stop()
        choices = history_filters.Choices.made(values, names, list(history_data.teams()))
        chosen = history_filters.draw(choices)
        zone = ZoneInfo(chosen.zone)
        with tools:
            alerts.manage_notes(source.database, zone, person, demo=source.demo)
            alerts.manage(source.database, names, zone, person, demo=source.demo)
            history_cost.manage(source.database, person, demo=source.demo)
        alerts.banner(source.database, names, zone)
        data = history_data.load(source, chosen)
        return data, history_cost.pace(data)
    except SQLAlchemyError:
        st.warning(
            "The records cannot be read just now; they are kept. Reload the page in a moment.",
            icon=":material/database_off:",
        )
        st.stop()


def draw(data: Data, month: Pace) -> None:
    """The panels, and above them which time they are of: a range begins with a whole hour, or day."""
    st.caption(plain(dashboard_data.stretch(data.window)))
    overview.draw(data, month)
    if not data.n and not len(data.period.hours):
        history_filters.draw_no_match(data.filter)
        return
    with st.container(border=True):
        latency.draw(data)
    left, right = st.columns([3, 2], gap="small")
    with left.container(border=True, height="stretch"):
        history_cost.draw(data)
    with right.container(border=True, height="stretch"):
        overview.draw_scatter(data)
    with st.container(border=True):
        throughput.draw(data)
    left, right = st.columns(2, gap="small")
    with left.container(border=True, height="stretch"):
        throughput.draw_states(data)
    with right.container(border=True, height="stretch"):
        history_cost.draw_month(data)
    with st.container(border=True):
        overview.draw_ranking(data)
    st.caption(plain(" ".join((f"{data.said}.", *data.notes, f"Times in {data.filter.zone}."))))


with history_data.turn():
    draw(*read())
