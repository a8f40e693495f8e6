"""The pictures of latency: over time, as a distribution, by weekday and hour."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from app.charts import palette
from app.charts import theme as looks
from app.charts.theme import Look, millis
from app.charts.vega import Spec, layers, picked, q, tips, to, view, when, word
from app.history import notes as history_notes
from services import formatting
from services.dashboard.figures import Data
from services.dashboard.quantiles import why_missing

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
    found = frame.drop(columns="bucket")
    edges, wide = millis(data.buckets.edges), len(data.buckets)
    place = np.tile(np.arange(wide), len(found) // wide if wide else 0)
    found["at"], found["until"] = edges[place], edges[place + 1]
    found["middle"] = (found["at"] + found["until"]) // 2
    gap = (found["until"] - found["at"]) * 0.12
    found["bar"], found["bar_end"] = found["at"] + gap, found["until"] - gap
    found["when"] = np.array([f"{one:%a %Y-%m-%d %H:%M}" for one in data.buckets.labels], dtype=object)[place]
    # A line's end is drawn in its own ink once more where it is alone: between two gaps there is no line.
    n = found["n"].to_numpy()
    for name, quantile in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
        values = found[name].to_numpy()
        found[f"{name}_words"] = [
            formatting.seconds(value) if value == value else f"– ({why_missing(quantile, int(k))})"
            for value, k in zip(values, n, strict=True)
        ]
        found[name] = values * scaled(metric)
        there = np.isfinite(values).reshape(-1, wide) if wide else np.zeros((0, 0), dtype=bool)
        padded = np.pad(there, ((0, 0), (1, 1)))
        found[f"{name}_lone"] = (there & ~padded[:, :-2] & ~padded[:, 2:]).ravel()
    # What is complete is drawn in full, the step out of or into a bucket that the window cuts or that still fills pale.
    # A band needs both of its edges.
    partial = data.buckets.is_partial
    found["whole"] = ~partial[place]
    found["pale_first"] = (place < 2) & bool(wide and partial[0])
    found["pale_last"] = (place >= wide - 2) & bool(wide and partial[-1] and not (wide <= 2 and partial[0]))
    found["band"] = found["p50"].where(found["p95"].notna())
    return found


def below_titles(middles: Mapping[str, str], *, alone: bool) -> dict[str, list[str]]:
    """The words below each facet's title, in lines that a facet has room for. All have as many lines, so that the plots
    of a row stand level."""
    if alone:
        return {one: [said] for one, said in middles.items()}
    lines = {}
    for one, said in middles.items():
        median, _, missing = said.partition(" · no ")
        lines[one] = [median, *(textwrap.wrap(f"no {missing}", LINE) if missing else [])]
    most = max(map(len, lines.values()), default=0)
    return {one: found + [" "] * (most - len(found)) for one, found in lines.items()}


def facet(
    data: Data, found: pd.DataFrame, deployment_id: str, shown: Look, *, domain: tuple[float, float],
    notes: Sequence[Mapping[str, Any]], title: str, subtitle: str | Sequence[str], alone: bool = False,
) -> Spec:  # fmt: skip
    """One deployment over time: p50 line, p50–p95 band, thin p99, calls below; what is missing stays a gap."""
    rows = found[found["deployment_id"] == deployment_id].drop(columns="deployment_id")
    height = ALONE if alone else FACET
    color, x = looks.color_of(data, deployment_id, shown), looks.time_x(data, 8 if alone else 3)
    dash = palette.dash(min(data.slot(deployment_id), 10**5))
    y = {
        "scale": {"type": "log", "domain": list(domain), "range": [height - BARS - 12, 0], "nice": False},
        "axis": {"values": looks.log_ticks(*domain), "format": "~r", "title": None},
    }
    gaps = {"invalid": "break-paths-show-path-domains"}
    drawn: list[Spec] = []
    pale = [f"datum.{one}" for one in ("pale_first", "pale_last") if rows[one].any()]
    parts = [("datum.whole", 1.0), *((one, looks.PALE) for one in pale)]
    for part, ink in parts:
        drawn.append(view("area", rows, {"x": q("middle", **x), "y": q("band", **y), "y2": to("p95")}, only=part,
                          color=color, opacity=0.2 * ink, **gaps))  # fmt: skip
        for name, width, opacity in (("p99", 0.9, 0.75), ("p50", 2, 1.0)):
            drawn.append(view("line", rows, {"x": q("middle", **x), "y": q(name, **y)}, only=part, color=color,
                              strokeWidth=width, opacity=opacity * ink, strokeDash=dash, strokeCap="round",
                              **gaps))  # fmt: skip
    for name, size in (("p99", 10), ("p95", 14), ("p50", 34)):
        if rows[f"{name}_lone"].any():
            opacity_ = when("datum.running", looks.PALE, 1 if name == "p50" else 0.7)
            drawn.append(view("point", rows, {"x": q("middle", **x), "y": q(name, **y), "opacity": opacity_},
                              only=f"datum.{name}_lone", filled=True, color=color, size=size))  # fmt: skip
    count = {"scale": {"domain": [0, max(int(found["n"].max()), 1)], "range": [height, height - BARS], "nice": False}}
    bars = view("rect", rows, {
        "x": q("bar", **x), "x2": to("bar_end"), "y": q("n", axis=None, **count), "y2": {"datum": 0},
        "opacity": when("datum.running", looks.PALE, 1),
    }, only="datum.n > 0", color=shown.bars)  # fmt: skip
    hit = bucket_hits(rows, x, height, shown, ("n", "Calls measured", ","), ("p50_words", "p50"), ("p95_words", "p95"),
                      ("p99_words", "p99"))  # fmt: skip
    behind, front = history_notes.rules(notes, shown, x)
    return layers(
        # A facet has no room for a note's words: its sign says them on hovering.
        *behind, {"layer": drawn}, bars, *front[:1], hit, height=height, title=title, subtitle=subtitle,
        resolve={"scale": {"y": "independent"}},
    )  # fmt: skip


def bucket_hits(rows: pd.DataFrame, x: Spec, height: int, shown: Look, *said: Any) -> Spec:
    """An unseen column for each bucket, to point at and to click; the clicked one is tinted."""
    return view("rect", rows, {
        "x": q("at", **x), "x2": to("until"), "y": {"value": 0}, "y2": {"value": height},
        "opacity": picked(0.12, 0), "tooltip": tips(("when", "Bucket"), *said),
    }, pick=["at"], color=shown.ink, cursor="pointer")  # fmt: skip


# --- distribution --------------------------------------------------------------------------------------------------


def ecdf(data: Data, frame: pd.DataFrame, metric: str, shown: Look) -> Spec:
    """Which share of the calls took how long at most, one line for each deployment, on a log axis."""
    # Each curve begins at its smallest time with a step up from zero: else that of a single call would be nowhere.
    feet = frame.groupby("deployment_id", sort=False)["value"].min().reset_index().assign(share=0.0)
    found = pd.concat([feet, frame], ignore_index=True)
    found = found.assign(shown=found["value"] * scaled(metric), percent=found["share"] * 100)
    found = found[found["shown"] > 0]
    ids = [one for one in data.ids if one in set(found["deployment_id"])]
    found["name"] = found["deployment_id"].map(looks.names_of(data))
    domain = looks.log_domain(found["shown"], pad=1.05) or (0.1, 10)
    base = {
        "x": q("shown", title=f"{TITLES[metric]}, {UNIT[metric]} (log)",
               scale={"type": "log", "domain": list(domain), "nice": False},
               axis={"values": looks.log_ticks(*domain), "format": "~r", "grid": False}),
        "y": q("percent", title="calls that took at most so long, %", scale={"domain": [0, 100]},
               axis={"values": [0, 25, 50, 75, 95]}),
        "color": looks.deployment_colors(data, ids, shown),
        "strokeDash": word("deployment_id", legend=None, scale=looks.slots(data, ids, palette.dash)),
    }  # fmt: skip
    said = tips(("name", "Deployment"), ("shown", f"{TITLES[metric]}, {UNIT[metric]}", ".3~g"),
                ("percent", "of its calls, %", ".0f"))  # fmt: skip
    return layers(
        view("line", found, base, interpolate="step-after", strokeWidth=2),
        # What is pointed at and clicked: the same line, wide and all but unseen.
        view("line", found, {**base, "tooltip": said}, pick=["deployment_id"], interpolate="step-after",
             strokeWidth=14, opacity=0.001, cursor="pointer"),
        height=300,
    )  # fmt: skip


# --- heat map ------------------------------------------------------------------------------------------------------


def heat(frame: pd.DataFrame, metric: str, shown: Look) -> Spec:
    """The median by weekday and hour; an hour without calls stays empty."""
    found = frame[frame["n"] > 0].copy()
    found["shown"] = found["p50"] * scaled(metric)
    found["day"] = [WEEKDAYS[one] for one in found["weekday"]]
    found["words"] = [formatting.seconds(value) for value in found["p50"]]
    domain = looks.log_domain(found["shown"], pad=1.0) or (0.1, 1)
    legend = {"title": f"median, {UNIT[metric]} (log)", "orient": "bottom", "gradientLength": 180,
              "gradientThickness": 8, "format": ".2~r",
              "values": [domain[0], math.sqrt(domain[0] * domain[1]), domain[1]]}  # fmt: skip
    return layers(view("rect", found, {
        "x": {"field": "hour", "type": "ordinal", "title": None,
              "scale": {"domain": list(range(24)), "paddingInner": 0.06},
              "axis": {"values": [0, 3, 6, 9, 12, 15, 18, 21], "labelExpr": "datum.value + ':00'", "labelAngle": 0}},
        "y": {"field": "day", "type": "ordinal", "title": None,
              "scale": {"domain": list(WEEKDAYS), "paddingInner": 0.08}},
        "color": q("shown", legend=legend,
                   scale={"type": "log", "domain": list(domain), "range": RAMP[shown.theme], "interpolate": "rgb"}),
        "stroke": picked(shown.ink, "transparent"),
        "tooltip": tips(("day", "Weekday"), ("hour", "Hour"), ("n", "Calls measured", ","), ("words", "Median")),
    }, pick=["weekday", "hour"], cursor="pointer", cornerRadius=2, strokeWidth=2), height=7 * 26)  # fmt: skip
