"""Demo data on the History page: a switch that shows simulated calls from a database of their own, never mixed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import streamlit as st
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.widgets.text import plain
from db.engine import reader
from services import paths
from services.dashboard import demo

SWITCH, TROUBLE = "hx_demo", "hx_demo_trouble"
PARAM = "demo"
LABEL = "demo data, simulated"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the page reads from. ``now``: the moment that the ranges end at. ``ready`` false: there is nothing to draw
    yet, and the page said so."""

    database: Engine
    demo: bool
    now: datetime
    ready: bool = True


def source(person: auth.Person) -> Source:
    """The switch, and the database that the page shows. With demo data on, the page is labelled as simulated."""
    if SWITCH not in st.session_state:
        st.session_state[SWITCH] = st.query_params.get(PARAM) == "1"
    on = st.toggle("Demo data", key=SWITCH, help="Simulated calls from a database of their own. Nothing was measured.")
    now = datetime.now(UTC)
    if not on:
        st.query_params.pop(PARAM, None)
        return Source(auth.database(), False, now)
    st.query_params[PARAM] = "1"
    st.badge(LABEL, icon=":material/science:", color="orange")
    there = found()
    if there is None:
        _offer(person)
        return Source(auth.database(), True, now, ready=False)
    return Source(there[0], True, there[1].end)


def found() -> tuple[Engine, demo.About] | None:
    """The demo database and what it holds; None where there is none that can be read."""
    data = paths.data_dir()
    if not demo.file(data).exists():
        return None
    engine = reader(demo.url(data))
    try:
        about = demo.about(engine)
    except SQLAlchemyError:
        return None
    return (engine, about) if about else None


def _offer(person: auth.Person) -> None:
    st.caption(
        f"There is no demo data on this server yet. It takes some seconds to simulate {demo.DEFAULT_CALLS:,} calls of "
        f"{demo.DEFAULT_DAYS} days; they go into a file of their own."
    )
    if not person.may("send"):
        st.caption("Somebody who may send prompts can make it here, or on the command line with “lab demo”.")
        return
    if st.button("Make demo data", key="hx_demo_make", type="primary", icon=":material/science:"):
        _make()
    if st.session_state.get(TROUBLE):
        st.caption(f":red[:material/error: {plain(st.session_state.pop(TROUBLE))}]")


def _make() -> None:
    bar = st.progress(0.0, "Simulating calls …")

    def told(done: int, all_of_them: int) -> None:
        bar.progress(done / all_of_them, f"{done:,} of {all_of_them:,} calls simulated")

    try:
        demo.make(demo.file(paths.data_dir()), progress=told)
    except (demo.DemoTrouble, ValueError) as error:
        bar.empty()
        st.session_state[TROUBLE] = str(error)
        return
    st.rerun()
