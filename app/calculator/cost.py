"""Where the money goes, what moves the answer, and where the lines of monthly cost cross."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from app.calculator import options as calculator_options
from app.charts import theme
from app.charts.vega import Spec, layers, q, show, tips, view, word
from app.widgets.panel import panel
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
    options = [
        option for option in calculator_options.short(answer, FIRST) if option.drivers and not option.infeasible
    ][:MOST]
    if not options:
        return
    look = theme.look()
    rows = pd.DataFrame(
        [
            {"option": clip(option.title, 44), "driver": DRIVERS.get(name, name), "usd": usd, "no": place}
            for place, option in enumerate(options)
            for name, usd in option.drivers.items()
            if usd
        ],
        columns=["option", "driver", "usd", "no"],
    )
    with panel("Cost by driver", "US dollars a month, the best of each way · estimated"):
        show(_stack(rows, look), "ca_drivers", "Monthly cost by driver of each option", look)


def _stack(rows: pd.DataFrame, look: theme.Look) -> Spec:
    used = [word_ for word_ in DRIVERS.values() if word_ in set(rows["driver"])]
    tints = (*(theme.DRIVERS_DARK if look.theme == "dark" else theme.DRIVERS_LIGHT), look.muted)
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
def draw_swings(calculate: Callable[[], Sequence[Swing]], chosen: Option | None) -> None:
    """The tornado: the chosen option's monthly cost with one assumption after the other at its bounds. It takes a
    ranking for every bound, so it is worked out when it is asked for."""
    title = "What moves the answer most"
    with panel(title, "monthly cost of the choice with one assumption at its bounds") as right, right:
        switched_on = st.toggle("Work it out", key="ca_swing", disabled=chosen is None)
    if chosen is None:
        st.caption("Nothing is chosen, so there is nothing to move.")
    elif switched_on:
        with st.spinner("Every assumption at its bounds …"):
            swings = calculate()
        if not swings:
            st.caption("No single assumption moves its cost, or the choice, inside its bounds.")
            return
        look = theme.look()
        rows = pd.DataFrame(
            [
                {
                    "assumption": swing.assumption,
                    "low": swing.low_usd,
                    "high": swing.high_usd,
                    "low_text": swing.low_text,
                    "high_text": swing.high_text,
                    "changes": "another option wins" if swing.changes_choice else "the choice stays",
                }
                for swing in swings
            ]
        )
        show(
            _tornado(rows, calculator_options.mid(chosen.monthly_usd), look),
            "ca_tornado",
            "Monthly cost of the choice by assumption, from its lower to its upper bound",
            look,
        )
        if any(swing.changes_choice for swing in swings):
            names = ", ".join(swing.assumption for swing in swings if swing.changes_choice)
            st.caption(plain(f"Another option wins at a bound of: {names}."))


def _tornado(rows: pd.DataFrame, middle: float | None, look: theme.Look) -> Spec:
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
                    "range": [look.bars, "#E37300"],
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
    return layers(bars, view("rule", line, {"x": q("at")}, color=look.ink, strokeDash=[3, 3]), height={"step": 26})


def draw_savings(answer: Answer) -> None:
    """Caching and batching: with and without, for each model that offers them."""
    rows = []
    by_id = {option.id: option for option in answer.options}
    for option in answer.options:
        base = by_id.get(option.id.partition("+")[0]) if option.cached or option.batched else None
        if base is None or option is base or option.monthly_usd is None or base.monthly_usd is None or option.serving:
            continue
        rows.append(
            {
                "option": option.title,
                "usd": option.monthly_usd.mid,
                "plain": base.monthly_usd.mid,
                "saved": (1 - option.monthly_usd.mid / base.monthly_usd.mid) * 100 if base.monthly_usd.mid else None,
            }
        )
    if not rows:
        return
    with panel("What caching and batch save", "against the same model's plain price · batch may take up to 24 h"):
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
    with panel("Where the lines cross", plain(f"grey: {breakeven.rule_of_thumb().sentence}")) as right:
        with right:
            every = {
                option.id: option.title
                for option in answer.options
                if option.monthly_usd is not None and not option.infeasible
            }
            picked = st.multiselect(
                "Lines",
                list(every),
                format_func=lambda option_id: clip(every[option_id], 40),
                key="ca_lines",
                placeholder="The best of each way",
                max_selections=8,
                width=300,
                label_visibility="collapsed",
            )
        ids = [option_id for option_id in picked if option_id in every] or ids
        if not ids:
            st.caption("No option has a known cost, so no line can be drawn.")
            return
        curves, look = breakeven.curves(answer, ids), theme.look()
        show(
            _chart(answer, curves, ids, look),
            "ca_breakeven",
            "Monthly cost against requests per minute, with crossings and capacity limits",
            look,
        )
        for sentence in crossings(answer, curves):
            st.caption(plain(sentence))


def chosen_ids(answer: Answer, selected: Option | None) -> list[str]:
    """The choice first, then what is selected, then the best of every other way that has a cost."""
    ids = [option_id for option_id in (answer.chosen, selected.id if selected else None) if option_id]
    ways = {option.way for option in answer.options if option.id in ids}
    for option in answer.options:
        if option.monthly_usd is not None and not option.infeasible and option.way not in ways and len(ids) < LINES:
            ids.append(option.id)
            ways.add(option.way)
    priced = {option.id for option in answer.options if option.monthly_usd is not None and not option.infeasible}
    return [option_id for option_id in dict.fromkeys(ids) if option_id in priced]


def crossings(answer: Answer, curves: Curves) -> list[str]:
    """Each crossing in words, and where there is none that counts."""
    titles = {option.id: option.title for option in answer.options}
    sentences = []
    for crossing in curves.crossings:
        pair = f"{titles.get(crossing.first, crossing.first)} and {titles.get(crossing.second, crossing.second)}"
        if crossing.rpm is None:
            continue
        if crossing.beyond:
            sentences.append(
                f"{pair} would cost the same at {calculator_options.rate(crossing.rpm)} a minute, "
                "but one is full before: "
                "no break-even."
            )
        else:
            sentences.append(f"{pair} cost the same at {calculator_options.rate(crossing.rpm)} requests a minute.")
    return sentences[:4]


def _last(curves: Curves, option_id: str, end: float) -> float | None:
    """The cost at the last rate drawn that an option carries."""
    carried = [
        usd.mid for rpm, usd in zip(curves.rpm, curves.usd[option_id], strict=True) if usd is not None and rpm <= end
    ]
    return carried[-1] if carried else None


def _usd_at(curves: Curves, crossing: Crossing) -> float | None:
    """The cost at a crossing, read from the first line at the nearest rate drawn."""
    rpm = crossing.rpm
    assert rpm is not None
    nearest = min(range(len(curves.rpm)), key=lambda place: abs(math.log(curves.rpm[place] / rpm)))
    value = curves.usd[crossing.first][nearest]
    return value.mid if value else None


def _chart(answer: Answer, curves: Curves, ids: list[str], look: theme.Look) -> Spec:
    titles = {option.id: clip(option.title, 46) for option in answer.options}
    rows = pd.DataFrame(
        [
            {"rpm": rpm, "usd": usd.mid, "low": usd.low, "high": usd.high, "option": titles[option_id]}
            for option_id in ids
            for rpm, usd in zip(curves.rpm, curves.usd[option_id], strict=True)
            if usd is not None and usd.mid > 0
        ],
        columns=["rpm", "usd", "low", "high", "option"],
    )
    names = [titles[option_id] for option_id in ids]
    x = q("rpm", title="requests per minute (log)", scale={"type": "log", "nice": False}, axis={"grid": False})
    y = q("usd", title="US dollars a month (log)", scale={"type": "log"}, axis={"format": "$~s", "tickCount": 6})
    color = word(
        "option",
        scale={"domain": names, "range": [theme.color(n, look.theme) for n in range(len(names))]},
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
    today = pd.DataFrame({"rpm": [answer.workload.rpm], "label": ["now"]})
    thumb = curves.rule_of_thumb
    rule = pd.DataFrame({"a": [thumb.low_rpm], "b": [thumb.high_rpm]})
    full = pd.DataFrame(
        [
            {
                "rpm": end,
                "option": titles[option_id],
                "label": f"full with headroom: {calculator_options.rate(end)}",
                "usd": _last(curves, option_id, end),
            }
            for option_id in ids
            if (end := curves.full_at.get(option_id))
        ],
        columns=["rpm", "option", "label", "usd"],
    )
    cross = pd.DataFrame(
        [
            {"rpm": crossing.rpm, "usd": _usd_at(curves, crossing), "label": calculator_options.rate(crossing.rpm)}
            for crossing in curves.crossings
            if crossing.rpm is not None and not crossing.beyond
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
        view("rect", rule, {"x": {**q("a"), "scale": x["scale"]}, "x2": {"field": "b"}}, color=look.grid),
        view("rule", today, {"x": x}, color=look.muted, strokeDash=[2, 3]),
        view(
            "text",
            today,
            {"x": x, "y": {"value": 8}, "text": {"field": "label"}},
            align="left",
            dx=4,
            fontSize=11,
            color=look.muted,
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
            color=theme.state_color("failed", look),
        ),
        view(
            "point",
            cross,
            {"x": x, "y": y, "tooltip": tips(("label", "Same cost at, requests/min"))},
            size=90,
            color=look.ink,
            filled=False,
            strokeWidth=2,
        ),
    ]
    return layers(*parts, height=320)
