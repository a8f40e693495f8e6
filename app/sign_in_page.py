"""What is drawn in place of every page for somebody who is not let in: why, and the button that helps."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st
from streamlit.errors import Error

from app import auth
from app.access import sign_in
from app.batch import upload
from app.caching import form
from app.widgets import playground_inputs
from app.widgets.text import plain

CAME_BACK = "signin"  # field of the address
KEPT, TROUBLE = "door_kept", "door_trouble"
# What somebody may have typed when their sign-in ended: lost with the session unless they can copy it.
TYPED: Mapping[str, str] = {
    playground_inputs.PROMPT: "Prompt",
    playground_inputs.SYSTEM: "System prompt",
    form.SYSTEM: "System prompt, the same in every call",
    form.QUESTION: "Question",
    upload.PROMPT: "Prompt of each line",
    upload.SYSTEM: "System prompt of each line",
}


def draw(closed: sign_in.NotSignedIn) -> None:
    """The door, with the sentence of ``closed`` or of what came back from the provider."""
    st.title("Inference Lab")
    how = sign_in.setup()
    if how.state == "broken":
        st.error(plain(str(closed)), icon=":material/error:")
        return
    sentence = str(closed) or sign_in.CAME_BACK.get(st.query_params.get(CAME_BACK, ""), "")
    if sentence:
        st.warning(plain(sentence), icon=":material/info:")
    else:
        st.caption("Compare deployments of language models side by side. This server asks who you are first.")
    if st.session_state.get(TROUBLE):
        st.error(plain(st.session_state.pop(TROUBLE)), icon=":material/error:")
    for provider in how.clients:
        label = "Sign in" if len(how.clients) == 1 else f"Sign in with {plain(provider)}"
        st.button(
            label,
            key=f"sign_in_{provider}",
            type="primary",
            icon=":material/login:",
            on_click=_sign_in,
            args=(provider,),
        )
    if closed.signed and str(closed) != sign_in.ENDED:
        st.button("Sign out", key="sign_out", icon=":material/logout:", on_click=auth.sign_out)
    _typed()


def _sign_in(provider: str) -> None:
    try:
        st.login(provider)
    except (Error, ImportError):
        st.session_state[TROUBLE] = sign_in.CAME_BACK["unreachable"]


def _typed() -> None:
    kept: dict[str, str] = st.session_state.setdefault(KEPT, {})
    kept |= {key: text for key in TYPED if isinstance(text := st.session_state.get(key), str) and text.strip()}
    if kept:
        st.caption("What you had typed; copy it before you sign in again.")
    for key, text in kept.items():
        st.caption(TYPED[key])
        st.code(text, language=None, wrap_lines=True)
