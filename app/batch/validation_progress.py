"""The check of a file on the page: how far it has come, a way to stop it, and what was found."""

from __future__ import annotations

import time

import streamlit as st

from app.batch import state as bt
from app.batch import validation_report as found
from app.batch.validation import Checking, rate_words, readings
from app.widgets.text import plain
from services.batch.server_files import Allowed
from services.batch.types import Checked

QUICK_S, POLL_S = 0.6, 0.5  # a file that is read within the first is never seen being read
BEGAN = "bt_check_began"


def draw(file: bt.Picked, rule: Allowed | None) -> Checked | None:
    """What the file holds, once it has been read as it is to be read now. ``rule``: which of the server's."""
    reading = readings().of(file.path, file.key, bt.options(), rule)
    if not reading.wait(QUICK_S):
        st.session_state.setdefault(BEGAN, time.monotonic())
        with st.container(border=True):
            _watch(file, rule)
        return None
    st.session_state.pop(BEGAN, None)
    if reading.found is None:
        _ended(reading, file)
        return None
    checked = bt.leave_out(reading.found)
    with st.container(border=True):
        st.markdown("**What was found**")
        found.draw(checked)
        found.reading(checked)
    return checked


@st.fragment(run_every=POLL_S, key="bt_check")
def _watch(file: bt.Picked, rule: Allowed | None) -> None:
    reading = readings().of(file.path, file.key, bt.options(), rule)
    if reading.over:
        st.rerun()
    progress = reading.progress
    with st.container(horizontal=True, vertical_alignment="center"):
        if progress is None:
            st.progress(0.0, text="Waiting for its turn: other files are being read.")
        else:
            share = progress.done_bytes / progress.all_bytes if progress.all_bytes else 0.0
            rest = rate_words(progress.done_bytes, progress.all_bytes, st.session_state.get(BEGAN, time.monotonic()))
            said = "Copying it" if reading.fetching else f"Reading every line: {progress.n_records:,} so far"
            st.progress(min(share, 1.0), text=f"{said} · {rest}" if rest else said)
        st.button("Stop", key="bt_check_stop", icon=":material/stop:", on_click=reading.stop)


def _ended(reading: Checking, file: bt.Picked) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        said = reading.trouble or "The check was stopped; nothing was sent."
        st.caption(f":red[:material/error: {plain(said)}]" if reading.trouble else plain(said), width="stretch")
        st.button("Read it again", key="bt_check_again", icon=":material/refresh:", on_click=readings().forget,
                  args=(file.key, bt.options()))  # fmt: skip
