"""The frame of a panel: its title, what is drawn in which unit, and the place at the right of the title."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.delta_generator import DeltaGenerator


@contextmanager
def panel(title: str, subtitle: str, *, help: str | None = None) -> Iterator[DeltaGenerator]:
    """A panel; yields the place at the right of its title, for what is chosen and exported."""
    with st.container(gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**{title}**", help=help, width="content")
            right = st.container(horizontal=True, width="content", vertical_alignment="center")
        if subtitle:
            st.caption(subtitle)
        yield right
