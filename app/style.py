"""What the theme cannot say: the few rules of style that Streamlit has no setting for."""

from __future__ import annotations

import streamlit as st

# The small print of a figure would be cut off in a narrow card: it may take a second line. And the chosen one of a row
# of buttons or tabs is written in the theme's primary colour, which in the dark is made for white text on it and is too
# dark itself (3.1:1): it is written like the text around it, and its frame or line tells that it is chosen. What is
# looked at again every other second says of which moment it is, so it need not fade meanwhile.
RULES = """<style>
[data-testid="stMetricValue"] ~ div, [data-testid="stMetricValue"] ~ div div, [data-testid="stMetricValue"] ~ div p {
  white-space: normal !important; overflow: visible !important; height: auto !important;
}
[data-testid="stMetricValue"] ~ div { flex-wrap: wrap; }
button[data-variant="segmented_control"][data-selected="true"], button[data-variant="pills"][data-selected="true"],
button[data-variant][data-selected="true"] :is(div, span, p),
[data-testid="stTab"]:is([data-selected], [data-hovered], [data-focus-visible]) { color: inherit !important; }
.st-key-bt_live :is([data-stale], summary) { opacity: 1 !important; transition: none !important; }
</style>"""


def draw() -> None:
    """Once for each page, above it; takes no room."""
    st.html(RULES)
