"""Latency: over time for each deployment, as a distribution, and by weekday and hour."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.charts import theme
from app.charts.theme import Look, millis
from app.charts.vega import Spec, layers, picked, q, tips, to, view, when, word
from app.glossary import FIGURES
from app.history import alerts
from app.history import panel as panels
from app.history.calls import Mark
from app.widgets.text import clip, plain
from db.models import Annotation
from services import formatting
from services.dashboard import figures
from services.dashboard.figures import Data
from services.dashboard.quantiles import why_missing
from services.types import JsonMapping

PLACE = "hs_latency"

VIEWS = {"time": "Over time", "distribution": "Distribution", "hours": "Time of day"}

PER_ROW = 4

MEASURED = ("succeeded",)  # no other call is in a time


@st.fragment(key="hs_latency_panel")
def draw(data: Data) -> None:
    """The panel; its figure and its view are part of the page's address."""
    slot = st.container(gap="xsmall")
    with slot, st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        title = st.container(width="content")
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            metric = st.selectbox(
                "Figure",
                list(TITLES),
                key="metric",
                bind="query-params",
                width=190,
                format_func=TITLES.__getitem__,
                label_visibility="collapsed",
            )
            view = st.segmented_control(
                "View",
                list(VIEWS),
                key="spread",
                bind="query-params",
                default="time",
                required=True,
                format_func=VIEWS.__getitem__,
                label_visibility="collapsed",
            )
            menu = st.container(width="content")
    metric = metric if metric in TITLES else "ttft"
    title.markdown(f"**{TITLES[metric]}**", help=FIGURES[metric])
    with slot:
        {"distribution": _distribution, "hours": _hours}.get(str(view), _time)(data, metric, menu)
        panels.draw_calls(data, PLACE)


def _menu(data: Data, menu: DeltaGenerator, exported: panels.Export, metric: str, subtitle: str) -> None:
    with menu:
        panels.export(data, exported, TITLES[metric], subtitle)


# --- over time -----------------------------------------------------------------------------------------------------
def _time(data: Data, metric: str, menu: DeltaGenerator) -> None:
    unit = "seconds" if UNIT[metric] == "s" else "milliseconds"
    subtitle = panels.hint(
        (
            f"{unit}, log scale",
            "line p50, band p50–p95, thin p99",
            f"calls per {theme.step_words(data.window.step)} below",
            "gaps: no calls",
        )
    )
    st.caption(subtitle)
    frame = figures.latency(data, metric)
    table = over_time(data, frame, metric)
    domain = theme.log_domain(pd.concat([table["p50"], table["p95"], table["p99"]]))
    shown_ids = [
        deployment_id for deployment_id in data.ids if table.loc[table["deployment_id"] == deployment_id, "n"].any()
    ]
    _menu(
        data,
        menu,
        panels.Export(
            f"latency-{metric}",
            lambda: _table(data, frame, metric),
            (lambda: _all(data, table, metric, shown_ids, domain, look, notes)) if domain else None,
        ),
        metric,
        subtitle,
    )
    look, notes = theme.look(), theme.notes_of(data)
    if domain is None:
        st.caption("No call of this selection has this figure: it needs calls that succeeded.")
        return
    middles = _middles(data, table, metric)
    labels = dict(zip(theme.millis(data.buckets.edges[:-1]).tolist(), data.buckets.labels, strict=True))
    alone = len(shown_ids) == 1
    below = below_titles(middles, alone=alone)
    with st.grid(min(PER_ROW, len(shown_ids)), min_column_width=200, gap="small"):
        for deployment_id in shown_ids:
            chart = _facet(data, table, deployment_id, domain, look, notes, below, alone=alone)
            panels.draw_chart(
                chart,
                f"{PLACE}__{deployment_id}",
                _alt(data, deployment_id, metric, middles, table),
                opener(data, deployment_id, labels, metric),
                look=look,
            )
    silent = [
        plain(theme.names_of(data)[deployment_id]) for deployment_id in data.ids if deployment_id not in shown_ids
    ]
    if silent:
        st.caption(f"Without a measured call: {', '.join(silent)}")


def _facet(
    data: Data,
    table: pd.DataFrame,
    deployment_id: str,
    domain: Any,
    look: theme.Look,
    notes: Sequence[Annotation],
    below: Mapping[str, Sequence[str]],
    *,
    alone: bool = False,
    width: int | None = None,
) -> Any:
    chart = facet(
        data,
        table,
        deployment_id,
        look,
        domain=domain,
        notes=notes,
        alone=alone,
        title=clip(theme.names_of(data)[deployment_id], 36),
        subtitle=below.get(deployment_id, ()),
    )
    return {**chart, "width": width} if width else chart


def _middles(data: Data, table: pd.DataFrame, metric: str) -> dict[str, str]:
    """The median of each deployment in words, with its n and with what is not drawn. How many calls there have to be
    is a rule for each bucket: all of them together may well be more."""
    some = table.groupby("deployment_id")[["p95", "p99"]].count()
    return {
        row["deployment_id"]: panels.hint(
            (
                f"p50 {formatting.seconds(row['p50'])} · n {row['n']:,}",
                "no p95 band: fewer than 20 calls in each bucket"
                if not some["p95"][row["deployment_id"]]
                else "no p99 line: fewer than 100 calls in each bucket"
                if not some["p99"][row["deployment_id"]]
                else "",
            )
        )
        for row in figures.medians(data, metric).to_dict("records")
        if row["n"]
    }


def _all(
    data: Data, table: pd.DataFrame, metric: str, ids: list[str], domain: Any, look: Look, notes: Sequence[Annotation]
) -> Any:
    below = below_titles(_middles(data, table, metric), alone=len(ids) == 1)
    width = panels.WIDTH if len(ids) == 1 else 210
    parts = [
        _facet(data, table, deployment_id, domain, look, notes, below, alone=len(ids) == 1, width=width)
        for deployment_id in ids
    ]
    return {"concat": parts, "columns": PER_ROW, "spacing": 26}


def opener(
    data: Data, deployment_id: str, labels: Mapping[int, datetime], metric: str = "ttft"
) -> Callable[[JsonMapping], Mark | None]:
    """What makes a mark of a bucket that was clicked. ``labels``: its position → its label."""

    def mark(point: JsonMapping) -> Mark | None:
        label = labels.get(int(point.get("at", -1)))
        if label is None:
            return None
        title = f"{theme.names_of(data)[deployment_id]}, {theme.bucket_words(data, label)}"
        return Mark(title, {"deployment_id": deployment_id, "bucket": label}, MEASURED, figure=metric)

    return mark


def _alt(data: Data, deployment_id: str, metric: str, middles: dict[str, str], table: pd.DataFrame) -> str:
    rows = table[(table["deployment_id"] == deployment_id) & (table["n"] > 0)]
    return (
        f"{TITLES[metric]} of {theme.names_of(data)[deployment_id]} over time: {middles.get(deployment_id, '')}, "
        f"calls in {len(rows):,} of {len(data.buckets):,} buckets"
    )


def _table(data: Data, frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    names = theme.names_of(data)
    return pd.DataFrame(
        {
            "bucket": frame["bucket"],
            "deployment": frame["deployment_id"].map(names),
            "deployment_id": frame["deployment_id"],
            "measured_calls": frame["n"],
            **{f"{metric}_{p}_ms": frame[p] for p in ("p50", "p95", "p99")},
            "still_running": frame["running"],
        }
    )


# --- distribution --------------------------------------------------------------------------------------------------
def _distribution(data: Data, metric: str, menu: DeltaGenerator) -> None:
    subtitle = "share of the calls that took at most so long · further left is faster · succeeded calls only"
    st.caption(subtitle)
    frame, look = figures.distribution(data, metric), theme.look()
    names, middles = theme.names_of(data), figures.medians(data, metric)
    _menu(
        data,
        menu,
        panels.Export(
            f"distribution-{metric}",
            lambda: frame.assign(deployment=frame["deployment_id"].map(names)).rename(
                columns={"value": f"{metric}_ms"}
            ),
            (lambda: {**ecdf(data, frame, metric, look), "width": panels.WIDTH}) if len(frame) else None,
        ),
        metric,
        subtitle,
    )
    if frame.empty:
        st.caption("No call of this selection has this figure: it needs calls that succeeded.")
        return
    left_column, right = st.columns([3, 2], gap="medium")
    with left_column:
        panels.draw_chart(
            ecdf(data, frame, metric, look),
            f"{PLACE}__ecdf",
            f"Distribution of {TITLES[metric]} by deployment",
            lambda point: (
                Mark(names[point["deployment_id"]], {"deployment_id": point["deployment_id"]}, MEASURED, figure=metric)
                if point.get("deployment_id") in names
                else None
            ),
            look=look,
            legend=theme.legend_entries(data, list(dict.fromkeys(frame["deployment_id"])), look),
        )
    with right:
        _medians(data, middles, metric, names, look)


def _medians(data: Data, middles: pd.DataFrame, metric: str, names: dict[str, str], look: theme.Look) -> None:
    middles = middles[middles["n"] > 0].sort_values("p50")
    colors = [f"color: {theme.color_of(data, deployment_id, look)}" for deployment_id in middles["deployment_id"]]
    frame = pd.DataFrame(
        {
            "color": "●",
            "name": middles["deployment_id"].map(names),
            "p50": [formatting.seconds(v) for v in middles["p50"]],
            "interval": [_interval(a, b) for a, b in zip(middles["low"], middles["high"], strict=True)],
            "n": middles["n"],
        }
    )
    text = st.column_config.TextColumn
    st.dataframe(
        frame.style.apply(lambda _: colors, subset=["color"], axis=0),
        hide_index=True,
        height="content",
        key=f"{PLACE}_medians",
        alt=f"Median {TITLES[metric]} of each deployment with its 95 % interval",
        column_config={
            "color": text(" ", width=28),
            "name": text("Deployment", width=150),
            "p50": text("Median", alignment="right"),
            "interval": text("95 % interval", help="Where intervals overlap, no difference is shown.", width=130),
            "n": st.column_config.NumberColumn("n", format="localized"),
        },
    )


def _interval(low: float, high: float) -> str:
    return (
        "needs 6 calls" if pd.isna(low) or pd.isna(high) else f"{formatting.seconds(low)} – {formatting.seconds(high)}"
    )


# --- time of day ---------------------------------------------------------------------------------------------------
def _hours(data: Data, metric: str, menu: DeltaGenerator) -> None:
    frame, look = figures.heatmap(data, metric), theme.look()
    subtitle = panels.hint(
        (
            "median by weekday and hour",
            f"hours of {plain(data.window.zone)}",
            "empty: no calls",
            figures.heatmap_said(data),
        )
    )
    st.caption(subtitle)
    filled = bool(frame["n"].any())
    _menu(
        data,
        menu,
        panels.Export(
            f"hours-{metric}",
            lambda: frame.rename(columns={"p50": f"{metric}_p50_ms", "n": "measured_calls"}),
            (lambda: {**heat(frame, metric, look), "width": panels.WIDTH}) if filled else None,
        ),
        metric,
        subtitle,
    )
    if not filled:
        st.caption("No call of this selection has this figure: it needs calls that succeeded.")
        return
    panels.draw_chart(
        heat(frame, metric, look),
        f"{PLACE}__heat",
        f"Median {TITLES[metric]} by weekday and hour in {data.window.zone}",
        lambda point: hour_mark(point, metric),
        look=look,
    )


def hour_mark(point: JsonMapping, metric: str = "ttft") -> Mark | None:
    """An hour of the week that was clicked."""
    day, hour = int(point.get("weekday", -1)), int(point.get("hour", -1))
    if not (0 <= day < 7 and 0 <= hour < 24):
        return None
    title = f"{WEEKDAYS[day]} {hour:02}:00 to {hour:02}:59"
    return Mark(title, states=MEASURED, hour_of_week=(day, hour), figure=metric)


TITLES = {"ttft": "First token", "ttfat": "First answer token", "ttlt": "Last token", "tpot": "Time per output token"}

UNIT = {"ttft": "s", "ttfat": "s", "ttlt": "s", "tpot": "ms"}

FACET, ALONE, BARS = 150, 250, 26

LINE = 34  # letters of a line below a facet's title

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

RAMP = {"light": ["#eaf1f8", "#9cc0de", "#3f7fb5", "#0b3a66"], "dark": ["#24303a", "#3f6d8f", "#8fc1e0", "#eef7fc"]}


def scaled(metric: str) -> float:
    """What a millisecond is in the unit of the axis."""
    return 0.001 if UNIT[metric] == "s" else 1.0


# --- over time -----------------------------------------------------------------------------------------------------
def over_time(data: Data, frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The lines of `figures.latency` with what is drawn: positions, words for the tooltip, lone points."""
    table = frame.drop(columns="bucket")
    edges, wide = millis(data.buckets.edges), len(data.buckets)
    place = np.tile(np.arange(wide), len(table) // wide if wide else 0)
    table["at"], table["until"] = edges[place], edges[place + 1]
    table["middle"] = (table["at"] + table["until"]) // 2
    gap = (table["until"] - table["at"]) * 0.12
    table["bar"], table["bar_end"] = table["at"] + gap, table["until"] - gap
    table["when"] = np.array([f"{moment:%a %Y-%m-%d %H:%M}" for moment in data.buckets.labels], dtype=object)[place]
    # A line's end is drawn in its own ink once more where it is alone: between two gaps there is no line.
    n = table["n"].to_numpy()
    for name, quantile in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
        values = table[name].to_numpy()
        table[f"{name}_words"] = [
            formatting.seconds(value) if value == value else f"– ({why_missing(quantile, int(k))})"
            for value, k in zip(values, n, strict=True)
        ]
        table[name] = values * scaled(metric)
        there = np.isfinite(values).reshape(-1, wide) if wide else np.zeros((0, 0), dtype=bool)
        padded = np.pad(there, ((0, 0), (1, 1)))
        table[f"{name}_lone"] = (there & ~padded[:, :-2] & ~padded[:, 2:]).ravel()
    # What is complete is drawn in full, the step out of or into a bucket that the window cuts or that still fills pale.
    # A band needs both of its edges.
    partial = data.buckets.is_partial
    table["whole"] = ~partial[place]
    table["pale_first"] = (place < 2) & bool(wide and partial[0])
    table["pale_last"] = (place >= wide - 2) & bool(wide and partial[-1] and not (wide <= 2 and partial[0]))
    table["band"] = table["p50"].where(table["p95"].notna())
    return table


def below_titles(middles: Mapping[str, str], *, alone: bool) -> dict[str, list[str]]:
    """The words below each facet's title, in lines that a facet has room for. All have as many lines, so that the plots
    of a row stand level."""
    if alone:
        return {facet: [line] for facet, line in middles.items()}
    lines = {}
    for facet, line in middles.items():
        median, _, missing = line.partition(" · no ")
        lines[facet] = [median, *(textwrap.wrap(f"no {missing}", LINE) if missing else [])]
    longest = max(map(len, lines.values()), default=0)
    return {facet: lines_of_facet + [" "] * (longest - len(lines_of_facet)) for facet, lines_of_facet in lines.items()}


def facet(
    data: Data,
    table: pd.DataFrame,
    deployment_id: str,
    look: Look,
    *,
    domain: tuple[float, float],
    notes: Sequence[Annotation],
    title: str,
    subtitle: str | Sequence[str],
    alone: bool = False,
) -> Spec:
    """One deployment over time: p50 line, p50–p95 band, thin p99, calls below; what is missing stays a gap."""
    rows = table[table["deployment_id"] == deployment_id].drop(columns="deployment_id")
    height = ALONE if alone else FACET
    color, x = theme.color_of(data, deployment_id, look), theme.time_x(data, 8 if alone else 3)
    dash = theme.dash(min(data.slot(deployment_id), 10**5))
    y = {
        "scale": {"type": "log", "domain": list(domain), "range": [height - BARS - 12, 0], "nice": False},
        "axis": {"values": theme.log_ticks(*domain), "format": "~r", "title": None},
    }
    gaps = {"invalid": "break-paths-show-path-domains"}
    drawn: list[Spec] = []
    pale = [f"datum.{column}" for column in ("pale_first", "pale_last") if rows[column].any()]
    parts = [("datum.whole", 1.0), *((column, theme.PALE) for column in pale)]
    for condition, ink in parts:
        drawn.append(
            view(
                "area",
                rows,
                {"x": q("middle", **x), "y": q("band", **y), "y2": to("p95")},
                only=condition,
                color=color,
                opacity=0.2 * ink,
                **gaps,
            )
        )
        for name, width, opacity in (("p99", 0.9, 0.75), ("p50", 2, 1.0)):
            drawn.append(
                view(
                    "line",
                    rows,
                    {"x": q("middle", **x), "y": q(name, **y)},
                    only=condition,
                    color=color,
                    strokeWidth=width,
                    opacity=opacity * ink,
                    strokeDash=dash,
                    strokeCap="round",
                    **gaps,
                )
            )
    for name, size in (("p99", 10), ("p95", 14), ("p50", 34)):
        if rows[f"{name}_lone"].any():
            opacity_ = when("datum.running", theme.PALE, 1 if name == "p50" else 0.7)
            drawn.append(
                view(
                    "point",
                    rows,
                    {"x": q("middle", **x), "y": q(name, **y), "opacity": opacity_},
                    only=f"datum.{name}_lone",
                    filled=True,
                    color=color,
                    size=size,
                )
            )
    count = {"scale": {"domain": [0, max(int(table["n"].max()), 1)], "range": [height, height - BARS], "nice": False}}
    bars = view(
        "rect",
        rows,
        {
            "x": q("bar", **x),
            "x2": to("bar_end"),
            "y": q("n", axis=None, **count),
            "y2": {"datum": 0},
            "opacity": when("datum.running", theme.PALE, 1),
        },
        only="datum.n > 0",
        color=look.bars,
    )
    hit = bucket_hits(
        rows,
        x,
        height,
        look,
        ("n", "Calls measured", ","),
        ("p50_words", "p50"),
        ("p95_words", "p95"),
        ("p99_words", "p99"),
    )
    behind, front = alerts.rules(notes, look, x)
    return layers(
        # A facet has no room for a note's words: its sign says them on hovering.
        *behind,
        {"layer": drawn},
        bars,
        *front[:1],
        hit,
        height=height,
        title=title,
        subtitle=subtitle,
        resolve={"scale": {"y": "independent"}},
    )


def bucket_hits(rows: pd.DataFrame, x: Spec, height: int, look: Look, *tooltips: Any) -> Spec:
    """An unseen column for each bucket, to point at and to click; the clicked one is tinted."""
    return view(
        "rect",
        rows,
        {
            "x": q("at", **x),
            "x2": to("until"),
            "y": {"value": 0},
            "y2": {"value": height},
            "opacity": picked(0.12, 0),
            "tooltip": tips(("when", "Bucket"), *tooltips),
        },
        pick=["at"],
        color=look.ink,
        cursor="pointer",
    )


# --- distribution --------------------------------------------------------------------------------------------------
def ecdf(data: Data, frame: pd.DataFrame, metric: str, look: Look) -> Spec:
    """Which share of the calls took how long at most, one line for each deployment, on a log axis."""
    # Each curve begins at its smallest time with a step up from zero: else that of a single call would be nowhere.
    feet = frame.groupby("deployment_id", sort=False)["value"].min().reset_index().assign(share=0.0)
    table = pd.concat([feet, frame], ignore_index=True)
    table = table.assign(shown=table["value"] * scaled(metric), percent=table["share"] * 100)
    table = table[table["shown"] > 0]
    ids = [deployment_id for deployment_id in data.ids if deployment_id in set(table["deployment_id"])]
    table["name"] = table["deployment_id"].map(theme.names_of(data))
    domain = theme.log_domain(table["shown"], pad=1.05) or (0.1, 10)
    base = {
        "x": q(
            "shown",
            title=f"{TITLES[metric]}, {UNIT[metric]} (log)",
            scale={"type": "log", "domain": list(domain), "nice": False},
            axis={"values": theme.log_ticks(*domain), "format": "~r", "grid": False},
        ),
        "y": q(
            "percent",
            title="calls that took at most so long, %",
            scale={"domain": [0, 100]},
            axis={"values": [0, 25, 50, 75, 95]},
        ),
        "color": theme.deployment_colors(data, ids, look),
        "strokeDash": word("deployment_id", legend=None, scale=theme.slots(data, ids, theme.dash)),
    }
    tooltip = tips(
        ("name", "Deployment"),
        ("shown", f"{TITLES[metric]}, {UNIT[metric]}", ".3~g"),
        ("percent", "of its calls, %", ".0f"),
    )
    return layers(
        view("line", table, base, interpolate="step-after", strokeWidth=2),
        # What is pointed at and clicked: the same line, wide and all but unseen.
        view(
            "line",
            table,
            {**base, "tooltip": tooltip},
            pick=["deployment_id"],
            interpolate="step-after",
            strokeWidth=14,
            opacity=0.001,
            cursor="pointer",
        ),
        height=300,
    )


# --- heat map ------------------------------------------------------------------------------------------------------
def heat(frame: pd.DataFrame, metric: str, look: Look) -> Spec:
    """The median by weekday and hour; an hour without calls stays empty."""
    table = frame[frame["n"] > 0].copy()
    table["shown"] = table["p50"] * scaled(metric)
    table["day"] = [WEEKDAYS[weekday] for weekday in table["weekday"]]
    table["words"] = [formatting.seconds(value) for value in table["p50"]]
    domain = theme.log_domain(table["shown"], pad=1.0) or (0.1, 1)
    legend = {
        "title": f"median, {UNIT[metric]} (log)",
        "orient": "bottom",
        "gradientLength": 180,
        "gradientThickness": 8,
        "format": ".2~r",
        "values": [domain[0], math.sqrt(domain[0] * domain[1]), domain[1]],
    }
    return layers(
        view(
            "rect",
            table,
            {
                "x": {
                    "field": "hour",
                    "type": "ordinal",
                    "title": None,
                    "scale": {"domain": list(range(24)), "paddingInner": 0.06},
                    "axis": {
                        "values": [0, 3, 6, 9, 12, 15, 18, 21],
                        "labelExpr": "datum.value + ':00'",
                        "labelAngle": 0,
                    },
                },
                "y": {
                    "field": "day",
                    "type": "ordinal",
                    "title": None,
                    "scale": {"domain": list(WEEKDAYS), "paddingInner": 0.08},
                },
                "color": q(
                    "shown",
                    legend=legend,
                    scale={"type": "log", "domain": list(domain), "range": RAMP[look.theme], "interpolate": "rgb"},
                ),
                "stroke": picked(look.ink, "transparent"),
                "tooltip": tips(
                    ("day", "Weekday"), ("hour", "Hour"), ("n", "Calls measured", ","), ("words", "Median")
                ),
            },
            pick=["weekday", "hour"],
            cursor="pointer",
            cornerRadius=2,
            strokeWidth=2,
        ),
        height=7 * 26,
    )
