"""Where the money goes, what moves the answer, and where the lines of monthly cost cross."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from app.calculator import options as calculator_options
from app.charts import panel as panels
from app.charts import theme
from app.charts.vega import Spec, layers, q, show, tips, view, word
from app.widgets.text import clip, plain
from services.calculator import breakeven
from services.calculator.breakeven import Curves
from services.calculator.types import Answer, Crossing, Option, Swing

DRIVERS = {
    "input": "input",
    "cache_write": "cache write",
    "cache_read": "cache read",
    "output": "output",
    "batch": "batch",
    "hours": "machine hours",
}

FIRST, MOST = 4, 9


def draw_drivers(answer: Answer) -> None:
    """The monthly cost of the best options, stacked by what drives it."""
    options = [one for one in calculator_options.short(answer, FIRST) if one.drivers and not one.infeasible][:MOST]
    if not options:
        return
    shown = theme.look()
    rows = pd.DataFrame(
        [
            {"option": clip(one.title, 44), "driver": DRIVERS.get(name, name), "usd": usd, "no": place}
            for place, one in enumerate(options)
            for name, usd in one.drivers.items()
            if usd
        ],
        columns=["option", "driver", "usd", "no"],
    )
    with panels.panel("Cost by driver", "US dollars a month, the best of each way · estimated"):
        show(_stack(rows, shown), "ca_drivers", "Monthly cost by driver of each option", shown)


def _stack(rows: pd.DataFrame, shown: theme.Look) -> Spec:
    used = [word_ for word_ in DRIVERS.values() if word_ in set(rows["driver"])]
    tints = (*(theme.DRIVERS_DARK if shown.theme == "dark" else theme.DRIVERS_LIGHT), shown.muted)
    scale = {"domain": list(DRIVERS.values()), "range": list(tints)}
    names = list(dict.fromkeys(rows["option"]))
    return layers(
        view(
            "bar",
            rows,
            {
                "x": q("usd", title="US dollars a month", stack="zero", axis={"tickCount": 5, "format": "$~s"}),
                "y": word("option", sort=names, title=None, axis={"labelLimit": 230}),
                "color": word(
                    "driver", scale=scale, legend={"title": None, "orient": "bottom", "values": used, "columns": 2}
                ),
                "tooltip": tips(("option", "Option"), ("driver", "Driver"), ("usd", "US dollars a month", ",.2f")),
            },
            height={"band": 0.7},
        ),
        height={"step": 26},
    )


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
        shown = theme.look()
        rows = pd.DataFrame(
            [
                {
                    "assumption": one.assumption,
                    "low": one.low_usd,
                    "high": one.high_usd,
                    "low_text": one.low_text,
                    "high_text": one.high_text,
                    "changes": "another option wins" if one.changes_choice else "the choice stays",
                }
                for one in swings
            ]
        )
        show(
            _tornado(rows, calculator_options.mid(chosen.monthly_usd), shown),
            "ca_tornado",
            "Monthly cost of the choice by assumption, from its lower to its upper bound",
            shown,
        )
        if any(one.changes_choice for one in swings):
            names = ", ".join(one.assumption for one in swings if one.changes_choice)
            st.caption(plain(f"Another option wins at a bound of: {names}."))


def _tornado(rows: pd.DataFrame, middle: float | None, shown: theme.Look) -> Spec:
    names = rows["assumption"].tolist()
    bars = view(
        "bar",
        rows,
        {
            "x": q("low", title="US dollars a month", axis={"tickCount": 5, "format": "$~s"}, scale={"zero": False}),
            "x2": {"field": "high"},
            "y": word("assumption", sort=names, title=None, axis={"labelLimit": 210}),
            "color": word(
                "changes",
                legend={"title": None, "orient": "bottom"},
                scale={
                    "domain": ["the choice stays", "another option wins"],
                    "range": [shown.bars, "#E37300"],
                },
            ),
            "tooltip": tips(
                ("assumption", "Assumption"),
                ("low_text", "One bound"),
                ("low", "US dollars", ",.2f"),
                ("high_text", "Other bound"),
                ("high", "US dollars ", ",.2f"),
            ),
        },
        height={"band": 0.6},
    )
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
        rows.append(
            {
                "option": one.title,
                "usd": one.monthly_usd.mid,
                "plain": base.monthly_usd.mid,
                "saved": (1 - one.monthly_usd.mid / base.monthly_usd.mid) * 100 if base.monthly_usd.mid else None,
            }
        )
    if not rows:
        return
    with panels.panel(
        "What caching and batch save", "against the same model's plain price · batch may take up to 24 h"
    ):
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            height=260,
            column_config={
                "option": st.column_config.TextColumn("Option", width=200),
                "usd": st.column_config.NumberColumn("Per month", format="dollar"),
                "plain": st.column_config.NumberColumn("Plain", format="dollar"),
                "saved": st.column_config.NumberColumn("Saved", format="%.1f %%"),
            },
            alt="Options with caching or batch against the plain price",
        )


LINES = 5


def draw(answer: Answer, selected: Option | None) -> None:
    """The curves of the choice, the selected option and the best of the other ways."""
    ids = chosen_ids(answer, selected)
    with panels.panel("Where the lines cross", plain(f"grey: {breakeven.rule_of_thumb().sentence}")) as right:
        with right:
            every = {one.id: one.title for one in answer.options if one.monthly_usd is not None and not one.infeasible}
            picked = st.multiselect(
                "Lines",
                list(every),
                format_func=lambda one: clip(every[one], 40),
                key="ca_lines",
                placeholder="The best of each way",
                max_selections=8,
                width=300,
                label_visibility="collapsed",
            )
        ids = [one for one in picked if one in every] or ids
        if not ids:
            st.caption("No option has a known cost, so no line can be drawn.")
            return
        curves, shown = breakeven.curves(answer, ids), theme.look()
        show(
            _chart(answer, curves, ids, shown),
            "ca_breakeven",
            "Monthly cost against requests per minute, with crossings and capacity limits",
            shown,
        )
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
                f"{pair} would cost the same at {calculator_options.rate(one.rpm)} a minute, but one is full before: "
                "no break-even."
            )
        else:
            told.append(f"{pair} cost the same at {calculator_options.rate(one.rpm)} requests a minute.")
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


def _chart(answer: Answer, curves: Curves, ids: list[str], shown: theme.Look) -> Spec:
    titles = {one.id: clip(one.title, 46) for one in answer.options}
    rows = pd.DataFrame(
        [
            {"rpm": rpm, "usd": usd.mid, "low": usd.low, "high": usd.high, "option": titles[one]}
            for one in ids
            for rpm, usd in zip(curves.rpm, curves.usd[one], strict=True)
            if usd is not None and usd.mid > 0
        ],
        columns=["rpm", "usd", "low", "high", "option"],
    )
    names = [titles[one] for one in ids]
    x = q("rpm", title="requests per minute (log)", scale={"type": "log", "nice": False}, axis={"grid": False})
    y = q("usd", title="US dollars a month (log)", scale={"type": "log"}, axis={"format": "$~s", "tickCount": 6})
    color = word(
        "option",
        scale={"domain": names, "range": [theme.color(n, shown.theme) for n in range(len(names))]},
        legend={
            "title": None,
            "orient": "bottom",
            "columns": 1,
            "labelLimit": 400,
            "symbolOpacity": 1,
            "symbolType": "stroke",
            "symbolStrokeWidth": 2,
        },
    )
    here = pd.DataFrame({"rpm": [answer.workload.rpm], "label": ["now"]})
    thumb = curves.rule_of_thumb
    rule = pd.DataFrame({"a": [thumb.low_rpm], "b": [thumb.high_rpm]})
    full = pd.DataFrame(
        [
            {
                "rpm": end,
                "option": titles[one],
                "label": f"full with headroom: {calculator_options.rate(end)}",
                "usd": _last(curves, one, end),
            }
            for one in ids
            if (end := curves.full_at.get(one))
        ],
        columns=["rpm", "option", "label", "usd"],
    )
    cross = pd.DataFrame(
        [
            {"rpm": one.rpm, "usd": _usd_at(curves, one), "label": calculator_options.rate(one.rpm)}
            for one in curves.crossings
            if one.rpm is not None and not one.beyond
        ],
        columns=["rpm", "usd", "label"],
    )
    tip = tips(
        ("option", "Option"),
        ("rpm", "Requests/min", ",.3~g"),
        ("usd", "US dollars a month", ",.2f"),
        ("low", "from", ",.2f"),
        ("high", "to", ",.2f"),
    )
    parts = [
        view("rect", rule, {"x": {**q("a"), "scale": x["scale"]}, "x2": {"field": "b"}}, color=shown.grid),
        view("rule", here, {"x": x}, color=shown.muted, strokeDash=[2, 3]),
        view(
            "text",
            here,
            {"x": x, "y": {"value": 8}, "text": {"field": "label"}},
            align="left",
            dx=4,
            fontSize=11,
            color=shown.muted,
        ),
        view(
            "area",
            rows,
            {"x": x, "y": {**q("low"), "scale": y["scale"]}, "y2": {"field": "high"}, "color": color},
            opacity=0.12,
        ),
        view("line", rows, {"x": x, "y": y, "color": color, "tooltip": tip}, strokeWidth=2),
        view("tick", full, {"x": x, "y": y, "color": color}, orient="vertical", size=18, thickness=3),
        view(
            "text",
            full,
            {"x": x, "y": y, "text": {"field": "label"}},
            align="left",
            dx=5,
            dy=10,
            fontSize=11,
            color=theme.state_color("failed", shown),
        ),
        view(
            "point",
            cross,
            {"x": x, "y": y, "tooltip": tips(("label", "Same cost at, requests/min"))},
            size=90,
            color=shown.ink,
            filled=False,
            strokeWidth=2,
        ),
    ]
    return layers(*parts, height=320)
