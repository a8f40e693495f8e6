"""The entry of the app: page frame, sign-in where it is configured, navigation."""

from __future__ import annotations

import streamlit as st

from app import auth, navigation, sign_in_page
from app import style as style_module
from app.access import sign_in
from app.widgets import status
from app.widgets.playground_inputs import AWAY

st.set_page_config(page_title="Inference Lab", page_icon=style_module.icon(), layout="wide", initial_sidebar_state=212)
style_module.draw()
st.logo(style_module.name(dark=st.context.theme.type == "dark"), icon_image=style_module.icon())

try:
    auth.visitor()
except sign_in.NotSignedIn as closed:
    sign_in_page.draw(closed)
    st.stop()
st.query_params.pop("signin", None)

page = st.navigation(navigation.sections(), position="sidebar")
if page.title != "Playground":
    # Leaving a page clears its address; the playground needs to know that its run was not closed on purpose.
    st.session_state[AWAY] = True
with st.sidebar:
    status.draw_person()
page.run()
