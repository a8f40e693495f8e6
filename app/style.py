"""The product's mark, and the few rules of style that Streamlit has no setting for."""

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


# Three bars that start together and end apart: the race of the playground.
_BARS = (
    '<rect x="3" y="4" width="11" height="4" rx="1" fill="#0450B9"/>'
    '<rect x="3" y="10" width="18" height="4" rx="1" fill="#E37300"/>'
    '<rect x="3" y="16" width="8" height="4" rx="1" fill="#008246"/>'
)


def icon() -> str:
    """The mark alone, as SVG: the icon of the browser's tab."""
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24">{_BARS}</svg>'


def name(*, dark: bool) -> str:
    """The mark and the product's name, as SVG, for a light or a dark background."""
    ink = "#eeece6" if dark else "#1d1d1b"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="152" height="24" viewBox="0 0 152 24">'
        f'{_BARS}<text x="30" y="17" font-family="system-ui, Roboto, Arial, DejaVu Sans, sans-serif" '
        f'font-size="14" font-weight="600" fill="{ink}">Inference Lab</text></svg>'
    )
