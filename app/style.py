"""What the theme cannot say: the few rules of style that Streamlit has no setting for."""

from __future__ import annotations

import streamlit as st

# The small print of a figure would be cut off in a narrow card: it may take a second line. And the chosen one of a row
# of buttons is written in the theme's primary colour, which in the dark is made for white text on it and is too dark
# itself: it is written like the text around it, and its frame tells that it is chosen.
RULES = """<style>
[data-testid="stMetricValue"] ~ div, [data-testid="stMetricValue"] ~ div div, [data-testid="stMetricValue"] ~ div p {
  white-space: normal !important; overflow: visible !important; height: auto !important;
}
[data-testid="stMetricValue"] ~ div { flex-wrap: wrap; }
button[data-variant="segmented_control"][data-selected="true"], button[data-variant="pills"][data-selected="true"],
button[data-variant][data-selected="true"] :is(div, span, p) { color: inherit !important; }
</style>"""


def draw() -> None:
    """Once for each page, above it; takes no room."""
    st.html(RULES)
