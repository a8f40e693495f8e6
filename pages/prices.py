"""Prices: every price in use with its source and date, and what changed since the calls were made."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from app import auth, navigation
from app.prices import page as prices_page
from app.widgets.filters import tell_apart
from app.widgets.text import plain
from db import history, run_queries
from services.pricing import overview as pricing_overview

auth.person_and_role()

st.title("Prices")
st.caption("What every deployment costs today, where that price is from, and what changed since calls were made.")
now = datetime.now(UTC)
statuses, trouble = auth.statuses()
if trouble:
    st.warning(plain(trouble), icon=":material/link_off:")
live = None if trouble and not statuses else [status.deployment for status in statuses]
try:
    reader = auth.database()
    rows = run_queries.deployment_rows(reader)
    uses = history.price_uses(reader, pricing_overview.USUAL_BOUNDS)
    lines = pricing_overview.lines(pricing_overview.together(live, rows), uses, now)
    at = pricing_overview.bounds(uses, [line.price for line in lines])
    if at != pricing_overview.USUAL_BOUNDS:
        uses = history.price_uses(reader, at)
except SQLAlchemyError:
    st.warning(
        "The records cannot be read just now; they are kept. Reload the page in a moment.",
        icon=":material/database_off:",
    )
    st.stop()

if not lines:
    st.caption("Every deployment that is switched on is listed here with its price, its source and its date.")
    if st.button("Go to the deployments", type="primary", icon=":material/dns:"):
        st.switch_page(navigation.page_file("deployments"))
    st.stop()

names = tell_apart([(line.deployment.id, line.deployment.name) for line in lines])
ids = {name: deployment_id for deployment_id, name in names.items()}
with st.container(horizontal=True, vertical_alignment="bottom"):
    wanted = st.multiselect(
        "Deployment", list(ids), key="deployment", bind="query-params", placeholder="All", width=420
    )
    chosen = {ids[name] for name in wanted if name in ids}
    shown = [line for line in lines if not chosen or line.deployment.id in chosen]
    st.download_button(
        "Export CSV",
        prices_page.to_csv(shown),
        f"inference-lab-prices-{now:%Y%m%d}.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
    )

prices_page.draw(shown)
count = f"{len(shown):,} {'deployment' if len(shown) == 1 else 'deployments'}"
st.caption(f"{count} · US dollars, before tax and discounts. A price of your own goes before every list.")
without = [line for line in shown if line.missing]
if without:
    with st.expander(
        f"{len(without):,} without a price: what to do", icon=":material/help:", expanded=len(without) < 4
    ):
        for line in without:
            st.markdown(f"**{plain(line.deployment.name)}**: {plain(line.missing)}")
        st.page_link(navigation.page_file("deployments"), label="Go to the deployments", icon=":material/dns:")

known = {line.deployment.id: line.deployment for line in shown}
prices_page.draw_changes(pricing_overview.changes(known, uses, at, now))
