"""Deployments: the ways to reach a model, their connection tests, and how to add one."""

from __future__ import annotations

import streamlit as st

from app import auth
from app.deployments import detail, form
from app.deployments import list as deployments_list
from app.widgets import status
from app.widgets.text import plain

person = auth.person_and_role()

st.title("Deployments")
st.caption(
    "Every way to reach a model: a deployment is a model behind an address, with its price and its colour. "
    "Keys are read from the environment or .streamlit/secrets.toml by name and are never shown here."
)
statuses, trouble = auth.statuses()
health, down = status.health()
if trouble or down:
    st.warning(plain(trouble or down or ""), icon=":material/link_off:")
if health.get("file_trouble"):
    st.warning(plain(health["file_trouble"]), icon=":material/error:")

deployments_list.draw_catalogue(statuses, person)
if said := st.session_state.pop("dp_said", None):
    st.caption(f":green[:material/check_circle: {plain(said)}]")

if statuses:
    chosen = deployments_list.draw(statuses, health.get("embedded") or {})
    if chosen is not None:
        detail.draw(chosen, person)
    else:
        st.caption("Select a line to test, change or switch off a deployment.")
else:
    st.caption("No deployment is known yet; they are listed here as soon as the engine answers.")

if person.may("deploy"):
    with st.expander("Add a deployment", icon=":material/add:"):
        form.draw("dp_add_")
else:
    st.caption("You can look at the deployments; whoever runs this server can add and change them.")

st.subheader("Local model servers")
deployments_list.draw_servers(health.get("embedded") or {}, person)
