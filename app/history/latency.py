"""Latency: over time for each deployment, as a distribution, and by weekday and hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.charts import panel as panels
from app.charts import theme as looks
from app.glossary import FIGURES
from app.history import latency_charts as charts
from app.history.calls import Mark
from app.widgets.text import clip, plain
from services import formatting
from services.dashboard import figures
from services.dashboard.figures import Data

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
            metric = st.selectbox("Figure", list(charts.TITLES), key="metric", bind="query-params", width=190,
                                  format_func=charts.TITLES.__getitem__, label_visibility="collapsed")  # fmt: skip
            view = st.segmented_control("View", list(VIEWS), key="spread", bind="query-params", default="time",
                                        required=True, format_func=VIEWS.__getitem__,
                                        label_visibility="collapsed")  # fmt: skip
            menu = st.container(width="content")
    metric = metric if metric in charts.TITLES else "ttft"
    title.markdown(f"**{charts.TITLES[metric]}**", help=FIGURES[metric])
    with slot:
        {"distribution": _distribution, "hours": _hours}.get(str(view), _time)(data, metric, menu)
        panels.draw_calls(data, PLACE)


def _menu(data: Data, menu: Any, what: panels.Export, metric: str, subtitle: str) -> None:
    with menu:
        panels.export(data, what, charts.TITLES[metric], subtitle)


# --- over time -----------------------------------------------------------------------------------------------------


def _time(data: Data, metric: str, menu: Any) -> None:
    unit = "seconds" if charts.UNIT[metric] == "s" else "milliseconds"
    subtitle = panels.hint((
        f"{unit}, log scale", "line p50, band p50–p95, thin p99",
        f"calls per {looks.step_words(data.window.step)} below", "gaps: no calls",
    ))  # fmt: skip
    st.caption(subtitle)
    frame = figures.latency(data, metric)
    found = charts.over_time(data, frame, metric)
    domain = looks.log_domain(pd.concat([found["p50"], found["p95"], found["p99"]]))
    shown_ids = [one for one in data.ids if found.loc[found["deployment_id"] == one, "n"].any()]
    _menu(data, menu, panels.Export(
        f"latency-{metric}", lambda: _table(data, frame, metric),
        (lambda: _all(data, found, metric, shown_ids, domain, shown, notes)) if domain else None,
    ), metric, subtitle)  # fmt: skip
    shown, notes = looks.look(), looks.notes_of(data)
    if domain is None:
        st.caption("No call of this selection has this figure: it needs calls that succeeded.")
        return
    middles = _middles(data, found, metric)
    labels = dict(zip(looks.millis(data.buckets.edges[:-1]).tolist(), data.buckets.labels, strict=True))
    alone = len(shown_ids) == 1
    below = charts.below_titles(middles, alone=alone)
    with st.grid(min(PER_ROW, len(shown_ids)), min_column_width=200, gap="small"):
        for one in shown_ids:
            chart = _facet(data, found, one, domain, shown, notes, below, alone=alone)
            panels.draw_chart(
                chart, f"{PLACE}__{one}", _alt(data, one, metric, middles, found), opener(data, one, labels, metric),
                shown=shown,
            )  # fmt: skip
    silent = [plain(looks.names_of(data)[one]) for one in data.ids if one not in shown_ids]
    if silent:
        st.caption(f"Without a measured call: {', '.join(silent)}")


def _facet(
    data: Data, found: pd.DataFrame, one: str, domain: Any, shown: looks.Look, notes: Any,
    below: Mapping[str, Sequence[str]], *, alone: bool = False, width: int | None = None,
) -> Any:  # fmt: skip
    chart = charts.facet(
        data, found, one, shown, domain=domain, notes=notes, alone=alone, title=clip(looks.names_of(data)[one], 36),
        subtitle=below.get(one, ()),
    )  # fmt: skip
    return {**chart, "width": width} if width else chart


def _middles(data: Data, found: pd.DataFrame, metric: str) -> dict[str, str]:
    """The median of each deployment in words, with its n and with what is not drawn. How many calls there have to be
    is a rule for each bucket: all of them together may well be more."""
    some = found.groupby("deployment_id")[["p95", "p99"]].count()
    return {
        row["deployment_id"]: panels.hint((
            f"p50 {formatting.seconds(row['p50'])} · n {row['n']:,}",
            "no p95 band: fewer than 20 calls in each bucket" if not some["p95"][row["deployment_id"]] else
            "no p99 line: fewer than 100 calls in each bucket" if not some["p99"][row["deployment_id"]] else "",
        ))
        for row in figures.medians(data, metric).to_dict("records") if row["n"]
    }  # fmt: skip


def _all(data: Data, found: pd.DataFrame, metric: str, ids: list[str], domain: Any, shown: Any, notes: Any) -> Any:
    below = charts.below_titles(_middles(data, found, metric), alone=len(ids) == 1)
    width = panels.WIDTH if len(ids) == 1 else 210
    parts = [_facet(data, found, one, domain, shown, notes, below, alone=len(ids) == 1, width=width)
             for one in ids]  # fmt: skip
    return {"concat": parts, "columns": PER_ROW, "spacing": 26}


def opener(
    data: Data, one: str, labels: Mapping[int, Any], metric: str = "ttft"
) -> Callable[[Mapping[str, Any]], Mark | None]:
    """What makes a mark of a bucket that was clicked. ``labels``: its position → its label."""

    def mark(found: Mapping[str, Any]) -> Mark | None:
        label = labels.get(int(found.get("at", -1)))
        if label is None:
            return None
        title = f"{looks.names_of(data)[one]}, {looks.bucket_words(data, label)}"
        return Mark(title, {"deployment_id": one, "bucket": label}, MEASURED, figure=metric)

    return mark


def _alt(data: Data, one: str, metric: str, middles: dict[str, str], found: pd.DataFrame) -> str:
    rows = found[(found["deployment_id"] == one) & (found["n"] > 0)]
    return (
        f"{charts.TITLES[metric]} of {looks.names_of(data)[one]} over time: {middles.get(one, '')}, "
        f"calls in {len(rows):,} of {len(data.buckets):,} buckets"
    )


def _table(data: Data, frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    names = looks.names_of(data)
    return pd.DataFrame({
        "bucket": frame["bucket"], "deployment": frame["deployment_id"].map(names),
        "deployment_id": frame["deployment_id"], "measured_calls": frame["n"],
        **{f"{metric}_{p}_ms": frame[p] for p in ("p50", "p95", "p99")}, "still_running": frame["running"],
    })  # fmt: skip


# --- distribution --------------------------------------------------------------------------------------------------


def _distribution(data: Data, metric: str, menu: Any) -> None:
    subtitle = "share of the calls that took at most so long · further left is faster · succeeded calls only"
    st.caption(subtitle)
    frame, shown = figures.distribution(data, metric), looks.look()
    names, middles = looks.names_of(data), figures.medians(data, metric)
    _menu(data, menu, panels.Export(
        f"distribution-{metric}",
        lambda: frame.assign(deployment=frame["deployment_id"].map(names)).rename(columns={"value": f"{metric}_ms"}),
        (lambda: {**charts.ecdf(data, frame, metric, shown), "width": panels.WIDTH}) if len(frame) else None,
    ), metric, subtitle)  # fmt: skip
    if frame.empty:
        st.caption("No call of this selection has this figure: it needs calls that succeeded.")
        return
    left, right = st.columns([3, 2], gap="medium")
    with left:
        panels.draw_chart(
            charts.ecdf(data, frame, metric, shown), f"{PLACE}__ecdf",
            f"Distribution of {charts.TITLES[metric]} by deployment",
            lambda found: Mark(names[found["deployment_id"]], {"deployment_id": found["deployment_id"]}, MEASURED,
                               figure=metric) if found.get("deployment_id") in names else None, shown=shown,
            legend=looks.legend_entries(data, list(dict.fromkeys(frame["deployment_id"])), shown),
        )  # fmt: skip
    with right:
        _medians(data, middles, metric, names, shown)


def _medians(data: Data, middles: pd.DataFrame, metric: str, names: dict[str, str], shown: looks.Look) -> None:
    middles = middles[middles["n"] > 0].sort_values("p50")
    colors = [f"color: {looks.color_of(data, one, shown)}" for one in middles["deployment_id"]]
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
        frame.style.apply(lambda _: colors, subset=["color"], axis=0), hide_index=True, height="content",
        key=f"{PLACE}_medians", alt=f"Median {charts.TITLES[metric]} of each deployment with its 95 % interval",
        column_config={
            "color": text(" ", width=28), "name": text("Deployment", width=150),
            "p50": text("Median", alignment="right"),
            "interval": text("95 % interval", help="Where intervals overlap, no difference is shown.", width=130),
            "n": st.column_config.NumberColumn("n", format="localized"),
        },
    )  # fmt: skip


def _interval(low: float, high: float) -> str:
    return (
        "needs 6 calls" if pd.isna(low) or pd.isna(high) else f"{formatting.seconds(low)} – {formatting.seconds(high)}"
    )


# --- time of day ---------------------------------------------------------------------------------------------------


def _hours(data: Data, metric: str, menu: Any) -> None:
    frame, shown = figures.heatmap(data, metric), looks.look()
    subtitle = panels.hint((
        "median by weekday and hour", f"hours of {plain(data.window.zone)}", "empty: no calls",
        figures.heatmap_said(data),
    ))  # fmt: skip
    st.caption(subtitle)
    filled = bool(frame["n"].any())
    _menu(data, menu, panels.Export(
        f"hours-{metric}", lambda: frame.rename(columns={"p50": f"{metric}_p50_ms", "n": "measured_calls"}),
        (lambda: {**charts.heat(frame, metric, shown), "width": panels.WIDTH}) if filled else None,
    ), metric, subtitle)  # fmt: skip
    if not filled:
        st.caption("No call of this selection has this figure: it needs calls that succeeded.")
        return
    panels.draw_chart(
        charts.heat(frame, metric, shown), f"{PLACE}__heat",
        f"Median {charts.TITLES[metric]} by weekday and hour in {data.window.zone}",
        lambda found: hour_mark(found, metric), shown=shown,
    )  # fmt: skip


def hour_mark(found: Mapping[str, Any], metric: str = "ttft") -> Mark | None:
    """An hour of the week that was clicked."""
    day, hour = int(found.get("weekday", -1)), int(found.get("hour", -1))
    if not (0 <= day < 7 and 0 <= hour < 24):
        return None
    title = f"{charts.WEEKDAYS[day]} {hour:02}:00 to {hour:02}:59"
    return Mark(title, states=MEASURED, hour_of_week=(day, hour), figure=metric)
