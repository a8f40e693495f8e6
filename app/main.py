"""The entry of the app: page frame, sign-in where it is configured, navigation."""

from __future__ import annotations

import streamlit as st

from app import door, mark, nav, session, signin, status, style
from app.playground_state import AWAY

st.set_page_config(page_title="Inference Lab", page_icon=mark.icon(), layout="wide", initial_sidebar_state=212)
style.draw()
st.logo(mark.name(dark=st.context.theme.type == "dark"), icon_image=mark.icon())

try:
    session.visitor()
except signin.NotSignedIn as closed:
    door.draw(closed)
    st.stop()
st.query_params.pop("signin", None)

page = st.navigation(nav.sections(), position="sidebar")
if page.title != "Playground":
    # Leaving a page clears its address; the playground needs to know that its run was not closed on purpose.
    st.session_state[AWAY] = True
with st.sidebar:
    status.draw_person()
page.run()
