"""Showing a chart of the calculator, in the look of the history's."""

from __future__ import annotations

import streamlit as st

from app.charts import theme as looks
from app.charts.vega import Spec, finished


def show(spec: Spec, key: str, alt: str, shown: looks.Look) -> None:
    """A chart as wide as its place. ``alt``: what it shows, for those who cannot see it."""
    st.vega_lite_chart(spec=finished(spec, shown), width="stretch", key=key, alt=alt)
