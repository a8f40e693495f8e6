"""Batch: a file in, one answer for each line, checked before anything is sent and with nothing lost."""

from __future__ import annotations

import streamlit as st

from app import auth
from app.batch import detail as view
from app.batch import list as batches
from app.batch import prompt
from app.batch import state as bt
from app.batch import submit as send
from app.batch import targets as where
from app.batch import upload as file
from app.batch import validation_progress as check
from app.widgets import status

person = auth.person_and_role()
statuses, _ = auth.statuses()

st.title("Batch")
if "batch" not in st.query_params:
    st.caption("A file in, one answer for each line: checked before it is sent, at batch prices where there are any.")
status.draw(person)


def new(picked: bt.Picked) -> None:
    """The way of a file, from what was found in it to the button that sends it."""
    found = check.draw(picked, file.allowed(person))
    if found is None or found.refused:
        return
    with st.container(border=True):
        st.markdown("**What is asked**")
        prompt.draw(found)
    if not found.n_valid:
        return
    with st.container(border=True):
        st.markdown("**Where to**")
        way = where.draw(found, statuses)
    if way is not None:
        with st.container(border=True):
            st.markdown("**Send**")
            send.draw(found, way, picked, person)


if opened := st.query_params.get("batch"):
    view.draw(opened, person)
else:
    if not person.may("send"):
        st.caption("You can look at batches here but not send any; ask whoever runs this server if you need to.")
    elif (chosen := file.draw(person)) is not None:
        new(chosen)
    if bt.picked() is None:
        batches.draw(person)
