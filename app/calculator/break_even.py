"""Where the lines cross: monthly cost against the rate, and up to where an hour-priced option carries it."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from app.calculator import text as said
from app.charts import palette
from app.charts import panel as panels
from app.charts import theme as looks
from app.charts.show import show
from app.charts.vega import Spec, layers, q, tips, view, word
from app.widgets.text import clip, plain
from services.calculator import breakeven
from services.calculator.breakeven import Curves
from services.calculator.types import Answer, Crossing, Option

LINES = 5


def draw(answer: Answer, selected: Option | None) -> None:
    """The curves of the choice, the selected option and the best of the other ways."""
    ids = chosen_ids(answer, selected)
    with panels.panel("Where the lines cross", plain(f"grey: {breakeven.rule_of_thumb().sentence}")) as right:
        with right:
            every = {one.id: one.title for one in answer.options if one.monthly_usd is not None and not one.infeasible}
            picked = st.multiselect("Lines", list(every), format_func=lambda one: clip(every[one], 40),
                                    key="ca_lines", placeholder="The best of each way", max_selections=8, width=300,
                                    label_visibility="collapsed")  # fmt: skip
        ids = [one for one in picked if one in every] or ids
        if not ids:
            st.caption("No option has a known cost, so no line can be drawn.")
            return
        curves, shown = breakeven.curves(answer, ids), looks.look()
        show(_chart(answer, curves, ids, shown), "ca_breakeven",
             "Monthly cost against requests per minute, with crossings and capacity limits", shown)  # fmt: skip
        for sentence in crossings(answer, curves):
            st.caption(plain(sentence))


def chosen_ids(answer: Answer, selected: Option | None) -> list[str]:
    """The choice first, then what is selected, then the best of every other way that has a cost."""
    ids = [one for one in (answer.chosen, selected.id if selected else None) if one]
    ways = {one.way for one in answer.options if one.id in ids}
    for one in answer.options:
        if one.monthly_usd is not None and not one.infeasible and one.way not in ways and len(ids) < LINES:
            ids.append(one.id)
            ways.add(one.way)
    priced = {one.id for one in answer.options if one.monthly_usd is not None and not one.infeasible}
    return [one for one in dict.fromkeys(ids) if one in priced]


def crossings(answer: Answer, curves: Curves) -> list[str]:
    """Each crossing in words, and where there is none that counts."""
    titles = {one.id: one.title for one in answer.options}
    told = []
    for one in curves.crossings:
        pair = f"{titles.get(one.first, one.first)} and {titles.get(one.second, one.second)}"
        if one.rpm is None:
            continue
        if one.beyond:
            told.append(
                f"{pair} would cost the same at {said.rate(one.rpm)} a minute, but one is full before: no break-even."
            )
        else:
            told.append(f"{pair} cost the same at {said.rate(one.rpm)} requests a minute.")
    return told[:4]


def _last(curves: Curves, one: str, end: float) -> float | None:
    """The cost at the last rate drawn that an option carries."""
    carried = [usd.mid for rpm, usd in zip(curves.rpm, curves.usd[one], strict=True) if usd is not None and rpm <= end]
    return carried[-1] if carried else None


def _usd_at(curves: Curves, crossing: Crossing) -> float | None:
    """The cost at a crossing, read from the first line at the nearest rate drawn."""
    rpm = crossing.rpm
    assert rpm is not None
    at = min(range(len(curves.rpm)), key=lambda place: abs(math.log(curves.rpm[place] / rpm)))
    value = curves.usd[crossing.first][at]
    return value.mid if value else None


def _chart(answer: Answer, curves: Curves, ids: list[str], shown: looks.Look) -> Spec:
    titles = {one.id: clip(one.title, 46) for one in answer.options}
    rows = pd.DataFrame([
        {"rpm": rpm, "usd": usd.mid, "low": usd.low, "high": usd.high, "option": titles[one]}
        for one in ids for rpm, usd in zip(curves.rpm, curves.usd[one], strict=True) if usd is not None and usd.mid > 0
    ], columns=["rpm", "usd", "low", "high", "option"])  # fmt: skip
    names = [titles[one] for one in ids]
    x = q("rpm", title="requests per minute (log)", scale={"type": "log", "nice": False}, axis={"grid": False})
    y = q("usd", title="US dollars a month (log)", scale={"type": "log"}, axis={"format": "$~s", "tickCount": 6})
    color = word("option", scale={"domain": names, "range": [palette.color(n, shown.theme) for n in range(len(names))]},
                 legend={"title": None, "orient": "bottom", "columns": 1, "labelLimit": 400, "symbolOpacity": 1,
                         "symbolType": "stroke", "symbolStrokeWidth": 2})  # fmt: skip
    here = pd.DataFrame({"rpm": [answer.workload.rpm], "label": ["now"]})
    thumb = curves.rule_of_thumb
    rule = pd.DataFrame({"a": [thumb.low_rpm], "b": [thumb.high_rpm]})
    full = pd.DataFrame([
        {"rpm": end, "option": titles[one], "label": f"full with headroom: {said.rate(end)}",
         "usd": _last(curves, one, end)}
        for one in ids if (end := curves.full_at.get(one))
    ], columns=["rpm", "option", "label", "usd"])  # fmt: skip
    cross = pd.DataFrame([
        {"rpm": one.rpm, "usd": _usd_at(curves, one), "label": said.rate(one.rpm)} for one in curves.crossings
        if one.rpm is not None and not one.beyond
    ], columns=["rpm", "usd", "label"])  # fmt: skip
    tip = tips(("option", "Option"), ("rpm", "Requests/min", ",.3~g"), ("usd", "US dollars a month", ",.2f"),
               ("low", "from", ",.2f"), ("high", "to", ",.2f"))  # fmt: skip
    parts = [
        view("rect", rule, {"x": {**q("a"), "scale": x["scale"]}, "x2": {"field": "b"}}, color=shown.grid),
        view("rule", here, {"x": x}, color=shown.muted, strokeDash=[2, 3]),
        view("text", here, {"x": x, "y": {"value": 8}, "text": {"field": "label"}}, align="left", dx=4, fontSize=11,
             color=shown.muted),
        view("area", rows, {"x": x, "y": {**q("low"), "scale": y["scale"]}, "y2": {"field": "high"}, "color": color},
             opacity=0.12),
        view("line", rows, {"x": x, "y": y, "color": color, "tooltip": tip}, strokeWidth=2),
        view("tick", full, {"x": x, "y": y, "color": color}, orient="vertical", size=18, thickness=3),
        view("text", full, {"x": x, "y": y, "text": {"field": "label"}}, align="left", dx=5, dy=10, fontSize=11,
             color=looks.state_color("failed", shown)),
        view("point", cross, {"x": x, "y": y, "tooltip": tips(("label", "Same cost at, requests/min"))}, size=90,
             color=shown.ink, filled=False, strokeWidth=2),
    ]  # fmt: skip
    return layers(*parts, height=320)
