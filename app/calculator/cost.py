"""Where the money goes, what moves the answer, and when a cache or a batch pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from app.calculator import options as calculator_options
from app.calculator import text as said
from app.charts import palette
from app.charts import panel as panels
from app.charts import theme as looks
from app.charts.show import show
from app.charts.vega import Spec, layers, q, tips, view, word
from app.widgets.text import clip, plain
from services.calculator.types import Answer, Option, Swing

DRIVERS = {
    "input": "input", "cache_write": "cache write", "cache_read": "cache read", "output": "output", "batch": "batch",
    "hours": "machine hours",
}  # fmt: skip
FIRST, MOST = 4, 9


def draw_drivers(answer: Answer) -> None:
    """The monthly cost of the best options, stacked by what drives it."""
    options = [one for one in calculator_options.short(answer, FIRST) if one.drivers and not one.infeasible][:MOST]
    if not options:
        return
    shown = looks.look()
    rows = pd.DataFrame([
        {"option": clip(one.title, 44), "driver": DRIVERS.get(name, name), "usd": usd, "no": place}
        for place, one in enumerate(options) for name, usd in one.drivers.items() if usd
    ], columns=["option", "driver", "usd", "no"])  # fmt: skip
    with panels.panel("Cost by driver", "US dollars a month, the best of each way · estimated"):
        show(_stack(rows, shown), "ca_drivers", "Monthly cost by driver of each option", shown)


def _stack(rows: pd.DataFrame, shown: looks.Look) -> Spec:
    used = [word_ for word_ in DRIVERS.values() if word_ in set(rows["driver"])]
    tints = (*(palette.DRIVERS_DARK if shown.theme == "dark" else palette.DRIVERS_LIGHT), shown.muted)
    scale = {"domain": list(DRIVERS.values()), "range": list(tints)}
    names = list(dict.fromkeys(rows["option"]))
    return layers(
        view("bar", rows, {
            "x": q("usd", title="US dollars a month", stack="zero", axis={"tickCount": 5, "format": "$~s"}),
            "y": word("option", sort=names, title=None, axis={"labelLimit": 230}),
            "color": word("driver", scale=scale,
                          legend={"title": None, "orient": "bottom", "values": used, "columns": 2}),
            "tooltip": tips(("option", "Option"), ("driver", "Driver"), ("usd", "US dollars a month", ",.2f")),
        }, height={"band": 0.7}),
        height={"step": 26},
    )  # fmt: skip


@st.fragment(key="ca_swings")
def draw_swings(found: Callable[[], Sequence[Swing]], chosen: Option | None) -> None:
    """The tornado: the chosen option's monthly cost with one assumption after the other at its bounds. It takes a
    ranking for every bound, so it is worked out when it is asked for."""
    title = "What moves the answer most"
    with panels.panel(title, "monthly cost of the choice with one assumption at its bounds") as right, right:
        asked = st.toggle("Work it out", key="ca_swing", disabled=chosen is None)
    if chosen is None:
        st.caption("Nothing is chosen, so there is nothing to move.")
    elif asked:
        with st.spinner("Every assumption at its bounds …"):
            swings = found()
        if not swings:
            st.caption("No single assumption moves its cost, or the choice, inside its bounds.")
            return
        shown = looks.look()
        rows = pd.DataFrame([
            {"assumption": one.assumption, "low": one.low_usd, "high": one.high_usd, "low_text": one.low_text,
             "high_text": one.high_text, "changes": "another option wins" if one.changes_choice else "the choice stays"}
            for one in swings
        ])  # fmt: skip
        show(_tornado(rows, said.mid(chosen.monthly_usd), shown), "ca_tornado",
             "Monthly cost of the choice by assumption, from its lower to its upper bound", shown)  # fmt: skip
        if any(one.changes_choice for one in swings):
            names = ", ".join(one.assumption for one in swings if one.changes_choice)
            st.caption(plain(f"Another option wins at a bound of: {names}."))


def _tornado(rows: pd.DataFrame, middle: float | None, shown: looks.Look) -> Spec:
    names = rows["assumption"].tolist()
    bars = view("bar", rows, {
        "x": q("low", title="US dollars a month", axis={"tickCount": 5, "format": "$~s"}, scale={"zero": False}),
        "x2": {"field": "high"}, "y": word("assumption", sort=names, title=None, axis={"labelLimit": 210}),
        "color": word("changes", legend={"title": None, "orient": "bottom"}, scale={
            "domain": ["the choice stays", "another option wins"], "range": [shown.bars, "#E37300"],
        }),
        "tooltip": tips(("assumption", "Assumption"), ("low_text", "One bound"), ("low", "US dollars", ",.2f"),
                        ("high_text", "Other bound"), ("high", "US dollars ", ",.2f")),
    }, height={"band": 0.6})  # fmt: skip
    line = pd.DataFrame({"at": [middle or 0.0]})
    return layers(bars, view("rule", line, {"x": q("at")}, color=shown.ink, strokeDash=[3, 3]), height={"step": 26})


def draw_savings(answer: Answer) -> None:
    """Caching and batching: with and without, for each model that offers them."""
    rows = []
    by_id = {one.id: one for one in answer.options}
    for one in answer.options:
        base = by_id.get(one.id.partition("+")[0]) if one.cached or one.batched else None
        if base is None or one is base or one.monthly_usd is None or base.monthly_usd is None or one.serving:
            continue
        rows.append({
            "option": one.title, "usd": one.monthly_usd.mid, "plain": base.monthly_usd.mid,
            "saved": (1 - one.monthly_usd.mid / base.monthly_usd.mid) * 100 if base.monthly_usd.mid else None,
        })  # fmt: skip
    if not rows:
        return
    with panels.panel(
        "What caching and batch save", "against the same model's plain price · batch may take up to 24 h"
    ):
        st.dataframe(pd.DataFrame(rows), hide_index=True, height=260, column_config={
            "option": st.column_config.TextColumn("Option", width=200),
            "usd": st.column_config.NumberColumn("Per month", format="dollar"),
            "plain": st.column_config.NumberColumn("Plain", format="dollar"),
            "saved": st.column_config.NumberColumn("Saved", format="%.1f %%"),
        }, alt="Options with caching or batch against the plain price")  # fmt: skip
