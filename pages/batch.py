"""Batch: a file in, one answer for each line, checked before anything is sent and with nothing lost."""

from __future__ import annotations

import streamlit as st

from app import auth
from app.batch import detail, prompt, submit, upload, validation
from app.widgets import status

person = auth.person_and_role()
statuses, _ = auth.statuses()

st.title("Batch")
if "batch" not in st.query_params:
    st.caption("A file in, one answer for each line: checked before it is sent, at batch prices where there are any.")
status.draw(person)


def new(picked: upload.Picked) -> None:
    """The way of a file, from what was found in it to the button that sends it."""
    found = validation.draw(picked, upload.allowed(person))
    if found is None or found.refused:
        return
    with st.container(border=True):
        st.markdown("**What is asked**")
        prompt.draw(found)
    if not found.n_valid:
        return
    with st.container(border=True):
        st.markdown("**Where to**")
        way = submit.draw_targets(found, statuses)
    if way is not None:
        with st.container(border=True):
            st.markdown("**Send**")
            submit.draw(found, way, picked, person)


if opened := st.query_params.get("batch"):
    detail.draw(opened, person)
else:
    if not person.may("send"):
        st.caption("You can look at batches here but not send any; ask whoever runs this server if you need to.")
    elif (chosen := upload.draw(person)) is not None:
        new(chosen)
    if upload.picked() is None:
        detail.draw_list(person)
