"""Runs: everything that was recorded, to be found, reopened, starred, tagged, exported and deleted."""

from __future__ import annotations

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from app import auth, navigation
from app.live import run_view
from app.runs import page as runs_page
from app.widgets import filters
from app.widgets.text import plain
from db import run_queries

person = auth.person_and_role()

st.title("Runs")
st.caption("Every run that was recorded, newest first. A run opens in the playground as it was.")
try:
    reader = auth.database()
    known = run_queries.deployment_rows(reader)
    names = filters.tell_apart([(row.id, row.name) for row in known])
    tags = run_queries.tags(reader)
    wanted = filters.draw(names, run_queries.persons(reader), tags)
    count = run_queries.search_runs(reader, wanted, limit=0).total
    pages = max(1, -(-count // runs_page.PAGE_SIZE))
    slot = st.container()
    page = st.pagination(pages, key=runs_page.PAGE, bind="query-params") if pages > 1 else 1
    found = run_queries.search_runs(
        reader, wanted, limit=runs_page.PAGE_SIZE, offset=(min(page, pages) - 1) * runs_page.PAGE_SIZE
    )
except SQLAlchemyError:
    st.warning(
        "The records cannot be read just now; they are kept. Reload the page in a moment.",
        icon=":material/database_off:",
    )
    st.stop()

with slot:
    if found.rows:
        selected = runs_page.draw_table(found.rows, names)
        st.caption(f"{found.total:,} {'run' if found.total == 1 else 'runs'} · times in {plain(filters.zone()[0])}")
        if selected is not None:
            calls, votes = run_view.calls_of(reader, selected), run_queries.votes_of_run(reader, selected["id"])
            runs_page.draw(selected, calls, votes, person, tags)
        else:
            st.caption("Select a line to open, star, tag, export or delete a run.")
    elif wanted == run_queries.RunFilter():
        st.caption("The runs appear here, each with its prompt, its deployments and how its calls ended.")
        if st.button("Go to the playground", type="primary", icon=":material/compare_arrows:"):
            st.switch_page(navigation.page_file("playground"))
    else:
        st.caption("No run matches; take a filter away to see more.")
