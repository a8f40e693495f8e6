"""Throughput: calls a minute, output tokens a second, calls in flight; and how the calls ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.charts import theme
from app.charts.theme import Look, millis
from app.charts.vega import Spec, layers, picked, q, tips, to, view, when, word
from app.history import alerts
from app.history import panel as panels
from app.history.calls import Mark
from app.widgets.panel import panel
from db.models import Annotation
from services.dashboard import figures
from services.dashboard.figures import Data
from services.types import JsonMapping

RATES = {
    "calls_per_min": "Calls per minute",
    "out_tok_s": "Output tokens per second",
    "in_flight": "Calls in flight, mean",
}
# The least that the top of each axis is: of a single call the ticks would be millionths.
LEAST = {"calls_per_min": 0.02, "out_tok_s": 0.1, "in_flight": 0.001}
HEIGHT, TALL = 150, 210
SEEN = 2.0  # pixels of the lowest bar: what happened is not to look like nothing
PLACE, ENDS = "hs_throughput", "hs_states"


@st.fragment(key="hs_throughput_panel")
def draw(data: Data) -> None:
    """Three rates over time, stacked by deployment: their sums mean something."""
    title = "Throughput"
    subtitle = f"mean of each {theme.step_words(data.window.step)}, stacked by deployment · no bar: nothing happened"
    frame, look, notes = figures.throughput(data), theme.look(), theme.notes_of(data)
    stacked = {rate: stack(data, frame, rate, "deployment_id", data.ids) for rate in RATES}
    labels = bucket_labels(data)

    def all_of_them() -> Spec:
        width = panels.WIDTH // 3 - 50
        # What the page writes below its charts has to be in the picture; once is enough, the colours are the same.
        parts = [{**chart(data, stacked[rate], rate, look, notes, legend=True), "width": width} for rate in RATES]
        return {"concat": parts, "columns": 3, "spacing": 30}

    with panel(title, subtitle) as menu:
        with menu:
            picture = all_of_them if data.n else None
            panels.export(data, panels.Export("throughput", lambda: _table(data, frame), picture), title, subtitle)
        if not data.n:
            st.caption("No call was made in this time.")
            return
        with st.grid(3, min_column_width=260, gap="small"):
            for rate, words in RATES.items():
                panels.draw_chart(
                    chart(data, stacked[rate], rate, look, notes),
                    f"{PLACE}__{rate}",
                    f"{words} over time, stacked by deployment",
                    lambda point: _mark(data, point, labels),
                    look=look,
                )
        panels.draw_legend(theme.legend_entries(data, data.ids, look), look)
        panels.draw_calls(data, PLACE)


def _mark(data: Data, point: JsonMapping, labels: Mapping[int, datetime]) -> Mark | None:
    label, deployment_id, names = labels.get(int(point.get("at", -1))), point.get("deployment_id"), theme.names_of(data)
    if label is None or deployment_id not in names:
        return None
    title = f"{names[deployment_id]}, {theme.bucket_words(data, label)}"
    return Mark(title, {"deployment_id": deployment_id, "bucket": label})


def bucket_labels(data: Data) -> dict[int, datetime]:
    """The position of each bucket → its label."""
    return dict(zip(millis(data.buckets.edges[:-1]).tolist(), data.buckets.labels, strict=True))


def stack(data: Data, frame: pd.DataFrame, value: str, series: str, order: Sequence[str]) -> pd.DataFrame:
    """Bars of each bucket on top of each other in a given order: at, until, from, to; bars of nothing are left out."""
    table = frame[[series, "bucket", "running", value]]
    edges = millis(data.buckets.edges)
    place = {label: number for number, label in enumerate(data.buckets.labels)}
    number = table["bucket"].map(place).to_numpy()
    table = table.assign(number=number)
    table["at"], table["until"] = edges[number], edges[number + 1]
    gap = (table["until"] - table["at"]) * 0.08
    table["bar"], table["bar_end"] = table["at"] + gap, table["until"] - gap
    table["rank"] = table[series].map({series_key: rank for rank, series_key in enumerate(order)})
    table = table.sort_values(["at", "rank"])
    table["to"] = table.groupby("at")[value].cumsum()
    table["from"] = table["to"] - table[value]
    words = np.array([f"{moment:%a %Y-%m-%d %H:%M}" for moment in data.buckets.labels], dtype=object)
    table["when"] = words[table.pop("number")]
    return table.drop(columns="bucket")[table[value] > 0]


def chart(
    data: Data, table: pd.DataFrame, rate: str, look: Look, notes: Sequence[Annotation], *, legend: bool = False
) -> Spec:
    """One rate over time; ``legend``: with what its colours mean, even where there is one only."""
    table = table.assign(name=table["deployment_id"].map(theme.names_of(data)))
    color = theme.deployment_colors(data, data.ids, look, legend=False)
    if legend:
        names = [theme.names_of(data)[deployment_id] for deployment_id in data.ids]
        color = {**color, "legend": theme.legend_of(names, data.ids)}
    tooltip = tips(("name", "Deployment"), ("when", "Bucket"), (rate, RATES[rate], ",.3~g"))
    return bars(
        data,
        table,
        ["at", "deployment_id"],
        color,
        tooltip,
        look,
        notes,
        most=4,
        title=RATES[rate],
        min_top=LEAST[rate],
    )


def bars(
    data: Data,
    table: pd.DataFrame,
    fields: list[str],
    color: Spec,
    tooltip: Any,
    look: Look,
    notes: Sequence[Annotation],
    *,
    most: int,
    title: str = "",
    height: int = HEIGHT,
    min_step: float = 0.0,
    min_top: float = 0.0,
) -> Spec:
    """Stacked bars over time that can be clicked; the running bucket is pale. ``min_step``: between the
    marks of the axis; ``min_top``: the least value of its end."""
    x = theme.time_x(data, most)
    top = max(float(table["to"].max()) * (alerts.ROOM if notes else 1.06), min_top) if len(table) else 1.0
    table = table.assign(to=np.maximum(table["to"], table["from"] + top * SEEN / height))
    behind, front = alerts.rules(notes, look, x)
    drawn = view(
        "rect",
        table,
        {
            "x": q("bar", **x),
            "x2": to("bar_end"),
            "y2": to("to"),
            "color": color,
            "tooltip": tooltip,
            "y": q(
                "from",
                title=None,
                scale={"domain": [0, top], "nice": False},
                axis={"tickCount": 4, "tickMinStep": min_step, "format": ",~r"},
            ),
            "opacity": when("datum.running", theme.PALE, 1),
            "stroke": picked(look.ink, None),
        },
        pick=fields,
        cursor="pointer",
        strokeWidth=1.5,
    )
    return layers(*behind, drawn, *front, height=height, title=title)


def _table(data: Data, frame: pd.DataFrame) -> pd.DataFrame:
    names = theme.names_of(data)
    return pd.DataFrame(
        {
            "bucket": frame["bucket"],
            "deployment": frame["deployment_id"].map(names),
            "deployment_id": frame["deployment_id"],
            "calls": frame["calls"],
            "calls_per_minute": frame["calls_per_min"],
            "output_tokens_per_s": frame["out_tok_s"],
            "calls_in_flight_mean": frame["in_flight"],
            "still_running": frame["running"],
        }
    )


# --- how they ended ------------------------------------------------------------------------------------------------


@st.fragment(key="hs_states_panel")
def draw_states(data: Data) -> None:
    """How the calls ended over time, each end in its own colour."""
    title, subtitle = (
        "How the calls ended",
        f"calls per {theme.step_words(data.window.step)} · only “done” enters the times",
    )
    frame, look, notes = figures.states(data), theme.look(), theme.notes_of(data)
    there = [state for state in theme.STATES if state in set(frame["state"])]
    there += sorted(set(frame["state"]) - set(there))
    labels = bucket_labels(data)
    with panel(title, subtitle) as menu:
        with menu:
            only = st.toggle(
                "Without done", key="failures", bind="query-params", help="Only calls that did not succeed."
            )
            states = [state for state in there if state != "succeeded"] if only else there
            table = stack(data, frame[frame["state"].isin(states)], "n", "state", states)
            panels.export(
                data,
                panels.Export(
                    "states",
                    lambda: frame.rename(columns={"n": "calls", "running": "still_running"}),
                    lambda: {**_states(data, table, states, look, notes), "width": panels.WIDTH},
                ),
                title,
                subtitle,
            )
        if table.empty:
            st.caption("Every call succeeded." if only else "No call ended in this time.")
            return
        panels.draw_chart(
            _states(data, table, states, look, notes),
            f"{ENDS}__all",
            _states_alt(frame),
            lambda point: _state_mark(data, point, labels),
            look=look,
            legend=[(theme.state_color(state, look), theme.state_words(state), "■") for state in states],
        )
        panels.draw_calls(data, ENDS)


def _states(data: Data, table: pd.DataFrame, states: Sequence[str], look: Look, notes: Sequence[Annotation]) -> Spec:
    table = table.assign(words=table["state"].map(theme.state_words))
    color = word(
        "state",
        scale={"domain": list(states), "range": [theme.state_color(state, look) for state in states]},
        legend=theme.legend_of([theme.state_words(state) for state in states], states),
    )
    tooltip = tips(("words", "Ended"), ("when", "Bucket"), ("n", "Calls", ","))
    return bars(data, table, ["at", "state"], color, tooltip, look, notes, most=6, height=TALL, min_step=1.0)


def _state_mark(data: Data, point: JsonMapping, labels: Mapping[int, datetime]) -> Mark | None:
    label, state = labels.get(int(point.get("at", -1))), str(point.get("state"))
    if label is None or state not in theme.STATES:
        return None
    title = f"{theme.state_words(state)}, {theme.bucket_words(data, label)}"
    return Mark(title, {"bucket": label}, (state,))


def _states_alt(frame: pd.DataFrame) -> str:
    sums = frame.groupby("state")["n"].sum().sort_values(ascending=False)
    return "How the calls ended: " + ", ".join(f"{n:,} {theme.state_words(str(state))}" for state, n in sums.items())
