"""The strip of figures: each with how many calls it is of, and the change from the period before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd
import streamlit as st

from app.widgets.text import plain
from services import formatting
from services.dashboard import figures
from services.dashboard.figures import Data, Kpi, Pace
from services.pricing.cost import money

# Card → the figures that stand on it.
CARDS = (
    ("Calls", ("calls",)), ("Succeeded", ("success",)), ("First token p50 / p95", ("ttft_p50", "ttft_p95")),
    ("Last token p50 / p95", ("ttlt_p50", "ttlt_p95")), ("Decode speed p50", ("decode_p50",)), ("Spend", ("spend",)),
    ("Spend per 1,000 calls", ("spend_1000",)),
)  # fmt: skip


# Smaller changes are told without a colour: they are what two alike weeks differ by.
CLEAR, CLEAR_POINTS = 0.05, 0.01


def draw(data: Data, month: Pace) -> None:
    """Eight cards. An improvement is green and the opposite red only where it is clear that it is one."""
    found = {one.key: one for one in figures.kpis(data)}
    with st.grid(4, min_column_width=150, gap="xsmall"):
        for title, keys in CARDS:
            _card(title, [found[key] for key in keys if key in found])
        _month(month)
    if data.before is not None and data.before.totals["n"]:
        first, last = (pd.Timestamp(one).tz_convert(data.window.zone) for one in data.window.previous or ())
        st.caption(f"Changes are to the stretch before it: {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}.")


def _card(title: str, parts: Sequence[Kpi]) -> None:
    if not parts:
        return
    last = parts[-1]  # of a pair the second speaks: it is the p95 that people feel
    missing = next((one.why_missing for one in parts if one.why_missing), "")
    detail = missing or _short(last.detail) or (f"n {last.n:,}" if last.key != "calls" else "")
    change = f"{last.change_text}{' p95' if len(parts) > 1 else ''}" if last.change_text else ""
    clear = last.better is not None and abs(last.change or 0) >= (CLEAR_POINTS if last.key == "success" else CLEAR)
    tint: Literal["off", "green", "red"] = "off" if not clear or not change else "green" if last.better else "red"
    st.metric(
        title, plain(_values(parts)), plain(change or detail) or None, tint, delta_arrow="off", border=True,
        height="stretch", help=plain(parts[0].help) or None, delta_description=plain(detail) if change else None,
    )  # fmt: skip


def _values(parts: Sequence[Kpi]) -> str:
    texts = [one.text for one in parts]
    if all(one.value is None for one in parts):
        return formatting.DASH
    units = {text.rpartition(" ")[2] for text in texts}
    if len(texts) > 1 and len(units) == 1 and all(" " in text for text in texts):
        # "0.39 / 0.92 s": the unit once.
        return " / ".join(text.rpartition(" ")[0] for text in texts) + f" {units.pop()}"
    return " / ".join(texts)


def _short(detail: str) -> str:
    """The two most frequent of a list; the others are told by the panels."""
    parts = detail.split(", ")
    return detail if len(parts) < 3 else f"{', '.join(parts[:2])}, …"


def _month(month: Pace) -> None:
    parts = [f"pace {money(month.expected)}" if month.expected is not None else "",
             f"of {money(month.budget)}" if month.budget is not None else "no budget"]  # fmt: skip
    st.metric(
        "This month", plain(money(month.spent)), plain(" · ".join(one for one in parts if one)), "off",
        delta_arrow="off", border=True, height="stretch",
        help=figures.PACE_HELP,
    )  # fmt: skip
