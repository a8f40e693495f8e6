"""Prompt caching: the same long prompt several times, and what the service's cache did with it."""

from __future__ import annotations

import streamlit as st

from app import auth
from app.caching import form, results
from app.live import run_view as runs
from app.widgets import status
from app.widgets.text import plain

person = auth.person_and_role()
statuses, _ = auth.statuses()

st.title("Prompt caching")
st.caption("Send the same long prompt several times and see what the service's cache saves: time, tokens and money.")
status.draw(person)

unknown = form.sync(st.query_params.get("run"))
form.prepare(statuses)
wanted = unknown or st.session_state[form.RUN]
shown, trouble = runs.load(wanted) if wanted else (None, None)
if shown is not None and unknown:
    form.adopt(shown.run)
    form.show(unknown)

if person.may("send"):
    form.draw(statuses, live=shown is not None and shown.live is not None)
else:
    st.caption("You can look at measurements here but not make them; ask whoever runs this server if you need to.")
if trouble:
    st.caption(f":red[:material/error: {plain(trouble)}]")

if shown is None:
    st.caption(
        "The time to first token of each call appears here, cold and warm, with its tokens read from and written to "
        "the cache, and when caching pays. “Measure” starts it."
    )
else:
    results.draw(shown, person)
