"""Playground: one prompt, several deployments, side by side and live."""

from __future__ import annotations

import streamlit as st

from app import auth
from app.live import run_view as runs
from app.playground import composer as ask
from app.playground import conversation as thread
from app.playground import results, state
from app.widgets import playground_inputs, status
from app.widgets.text import plain
from services.runs import spec

person = auth.person_and_role()
statuses, _ = auth.statuses()

st.title("Playground")
st.caption("Send one prompt to several deployments and watch time, tokens and cost side by side.")
status.draw(person)

unknown = state.sync(st.query_params.get("run"))
state.prepare(spec.SUGGESTED, statuses)
shown, trouble = (
    runs.load(unknown or st.session_state[playground_inputs.RUN])
    if unknown or st.session_state[playground_inputs.RUN]
    else (None, None)
)
if shown is not None and unknown:
    state.adopt(shown.run)
masked = shown is not None and runs.hidden(shown.run, shown.votes, person)

if shown is not None:
    thread.draw(shown, masked=masked)
if person.may("send"):
    ask.draw(statuses, live=shown is not None and shown.live is not None and runs.may_act(shown, person))
else:
    st.caption("You can look at runs here but not send prompts; ask whoever runs this server if you need to.")
if trouble:
    st.caption(f":red[:material/error: {plain(trouble)}]")

if shown is None:
    st.caption("The answers appear here, one column for each deployment, as they arrive.")
else:
    thread.draw_current(shown, typed=st.session_state[playground_inputs.PROMPT] if person.may("send") else None)
    runs.draw_rest(shown.found, "pg_open_batch")
    runs.draw(shown, person, masked=masked)
    if person.may("send"):
        thread.draw_mode(shown)
    if shown.live is None:
        results.draw_votes(shown, person, masked=masked)
        results.draw(shown, person, masked=masked)
