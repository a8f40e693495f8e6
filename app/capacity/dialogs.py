"""Which dialog of the capacity page is open: kept in the session, so that a rerun of the page does not close it."""

from __future__ import annotations

import streamlit as st

OPEN, REFUSAL, SAID = "cap_open", "cap_dialog_refusal", "cap_said"


def button(label: str, what: str, of: str, *, icon: str, primary: bool = False, disabled: bool = False) -> None:
    """A button that opens the dialog ``what`` of one thing."""
    st.button(
        label, key=f"cap_{what}", icon=icon, type="primary" if primary else "secondary", disabled=disabled,
        on_click=_open, args=(what, of),
    )  # fmt: skip


def _open(what: str, of: str) -> None:
    st.session_state.pop(REFUSAL, None)
    st.session_state[OPEN] = (what, of)


def wanted(what: str, of: str) -> bool:
    """Whether that dialog is to be drawn."""
    return st.session_state.get(OPEN) == (what, of)


def close() -> None:
    """Callback: nothing is open any more."""
    st.session_state.pop(REFUSAL, None)
    st.session_state.pop(OPEN, None)


def done(said: str) -> None:
    """The dialog did its work: close it, say so on the page, and draw the page anew."""
    close()
    st.session_state[SAID] = said
    st.rerun()
