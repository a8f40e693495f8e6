"""Throughput: calls a minute, output tokens a second, calls in flight; and how the calls ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.charts import panel as panels
from app.charts import theme
from app.charts.theme import Look, millis
from app.charts.vega import Spec, layers, picked, q, tips, to, view, when, word
from app.history import alerts
from app.history.calls import Mark
from services.dashboard import figures
from services.dashboard.figures import Data

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
    frame, shown, notes = figures.throughput(data), theme.look(), theme.notes_of(data)
    stacked = {rate: stack(data, frame, rate, "deployment_id", data.ids) for rate in RATES}
    labels = bucket_labels(data)

    def all_of_them() -> Spec:
        width = panels.WIDTH // 3 - 50
        # What the page writes below its charts has to be in the picture; once is enough, the colours are the same.
        parts = [{**chart(data, stacked[rate], rate, shown, notes, legend=True), "width": width} for rate in RATES]
        return {"concat": parts, "columns": 3, "spacing": 30}

    with panels.panel(title, subtitle) as menu:
        with menu:
            picture = all_of_them if data.n else None
            panels.export(data, panels.Export("throughput", lambda: _table(data, frame), picture), title, subtitle)
        if not data.n:
            st.caption("No call was made in this time.")
            return
        with st.grid(3, min_column_width=260, gap="small"):
            for rate, words in RATES.items():
                panels.draw_chart(
                    chart(data, stacked[rate], rate, shown, notes),
                    f"{PLACE}__{rate}",
                    f"{words} over time, stacked by deployment",
                    lambda found: _mark(data, found, labels),
                    shown=shown,
                )
        panels.draw_legend(theme.legend_entries(data, data.ids, shown), shown)
        panels.draw_calls(data, PLACE)


def _mark(data: Data, found: dict[str, Any], labels: Mapping[int, Any]) -> Mark | None:
    label, one, names = labels.get(int(found.get("at", -1))), found.get("deployment_id"), theme.names_of(data)
    if label is None or one not in names:
        return None
    title = f"{names[one]}, {theme.bucket_words(data, label)}"
    return Mark(title, {"deployment_id": one, "bucket": label})


def bucket_labels(data: Data) -> dict[int, Any]:
    """The position of each bucket → its label."""
    return dict(zip(millis(data.buckets.edges[:-1]).tolist(), data.buckets.labels, strict=True))


def stack(data: Data, frame: pd.DataFrame, value: str, series: str, order: Sequence[str]) -> pd.DataFrame:
    """Bars of each bucket on top of each other in a given order: at, until, from, to; bars of nothing are left out."""
    found = frame[[series, "bucket", "running", value]]
    edges = millis(data.buckets.edges)
    place = {label: number for number, label in enumerate(data.buckets.labels)}
    number = found["bucket"].map(place).to_numpy()
    found = found.assign(number=number)
    found["at"], found["until"] = edges[number], edges[number + 1]
    gap = (found["until"] - found["at"]) * 0.08
    found["bar"], found["bar_end"] = found["at"] + gap, found["until"] - gap
    found["rank"] = found[series].map({one: rank for rank, one in enumerate(order)})
    found = found.sort_values(["at", "rank"])
    found["to"] = found.groupby("at")[value].cumsum()
    found["from"] = found["to"] - found[value]
    words = np.array([f"{one:%a %Y-%m-%d %H:%M}" for one in data.buckets.labels], dtype=object)
    found["when"] = words[found.pop("number")]
    return found.drop(columns="bucket")[found[value] > 0]


def chart(data: Data, found: pd.DataFrame, rate: str, shown: Look, notes: Any, *, legend: bool = False) -> Spec:
    """One rate over time; ``legend``: with what its colours mean, even where there is one only."""
    found = found.assign(name=found["deployment_id"].map(theme.names_of(data)))
    color = theme.deployment_colors(data, data.ids, shown, legend=False)
    if legend:
        names = [theme.names_of(data)[one] for one in data.ids]
        color = {**color, "legend": theme.legend_of(names, data.ids)}
    said = tips(("name", "Deployment"), ("when", "Bucket"), (rate, RATES[rate], ",.3~g"))
    return bars(
        data, found, ["at", "deployment_id"], color, said, shown, notes, most=4, title=RATES[rate], least=LEAST[rate]
    )


def bars(
    data: Data,
    found: pd.DataFrame,
    fields: list[str],
    color: Spec,
    said: Any,
    shown: Look,
    notes: Any,
    *,
    most: int,
    title: str = "",
    height: int = HEIGHT,
    whole: float = 0.0,
    least: float = 0.0,
) -> Spec:
    """Stacked bars over time that can be clicked; the running bucket is pale. ``whole``: the least step of a mark;
    ``least``: the least top of the axis."""
    x = theme.time_x(data, most)
    top = max(float(found["to"].max()) * (alerts.ROOM if notes else 1.06), least) if len(found) else 1.0
    found = found.assign(to=np.maximum(found["to"], found["from"] + top * SEEN / height))
    behind, front = alerts.rules(notes, shown, x)
    drawn = view(
        "rect",
        found,
        {
            "x": q("bar", **x),
            "x2": to("bar_end"),
            "y2": to("to"),
            "color": color,
            "tooltip": said,
            "y": q(
                "from",
                title=None,
                scale={"domain": [0, top], "nice": False},
                axis={"tickCount": 4, "tickMinStep": whole, "format": ",~r"},
            ),
            "opacity": when("datum.running", theme.PALE, 1),
            "stroke": picked(shown.ink, None),
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
    frame, shown, notes = figures.states(data), theme.look(), theme.notes_of(data)
    there = [state for state in theme.STATES if state in set(frame["state"])]
    there += sorted(set(frame["state"]) - set(there))
    labels = bucket_labels(data)
    with panels.panel(title, subtitle) as menu:
        with menu:
            only = st.toggle(
                "Without done", key="failures", bind="query-params", help="Only calls that did not succeed."
            )
            kept = [one for one in there if one != "succeeded"] if only else there
            found = stack(data, frame[frame["state"].isin(kept)], "n", "state", kept)
            panels.export(
                data,
                panels.Export(
                    "states",
                    lambda: frame.rename(columns={"n": "calls", "running": "still_running"}),
                    lambda: {**_states(data, found, kept, shown, notes), "width": panels.WIDTH},
                ),
                title,
                subtitle,
            )
        if found.empty:
            st.caption("Every call succeeded." if only else "No call ended in this time.")
            return
        panels.draw_chart(
            _states(data, found, kept, shown, notes),
            f"{ENDS}__all",
            _states_alt(frame),
            lambda found: _state_mark(data, found, labels),
            shown=shown,
            legend=[(theme.state_color(one, shown), theme.state_words(one), "■") for one in kept],
        )
        panels.draw_calls(data, ENDS)


def _states(data: Data, found: pd.DataFrame, kept: Sequence[str], shown: Look, notes: Any) -> Spec:
    found = found.assign(words=found["state"].map(theme.state_words))
    color = word(
        "state",
        scale={"domain": list(kept), "range": [theme.state_color(one, shown) for one in kept]},
        legend=theme.legend_of([theme.state_words(one) for one in kept], kept),
    )
    said = tips(("words", "Ended"), ("when", "Bucket"), ("n", "Calls", ","))
    return bars(data, found, ["at", "state"], color, said, shown, notes, most=6, height=TALL, whole=1.0)


def _state_mark(data: Data, found: dict[str, Any], labels: Mapping[int, Any]) -> Mark | None:
    label, state = labels.get(int(found.get("at", -1))), str(found.get("state"))
    if label is None or state not in theme.STATES:
        return None
    title = f"{theme.state_words(state)}, {theme.bucket_words(data, label)}"
    return Mark(title, {"bucket": label}, (state,))


def _states_alt(frame: pd.DataFrame) -> str:
    sums = frame.groupby("state")["n"].sum().sort_values(ascending=False)
    return "How the calls ended: " + ", ".join(f"{n:,} {theme.state_words(str(state))}" for state, n in sums.items())
