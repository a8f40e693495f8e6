"""How charts look: one colour for each deployment for ever, ink and grid of both themes, time and log axes.

Positions in time are true instants (milliseconds of UTC) and the words below them are made here, in the reader's zone:
the browser's own zone has no say, and an hour that the clock shows twice is drawn twice.

The eight colours of each theme are tuned for colour blindness. From the ninth slot on they come
round again with another dash and another shape, so that no two deployments look alike in a chart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import streamlit as st

from db import small_tables
from db.models import Annotation
from services.dashboard.figures import Data
from services.types import Deployment

if TYPE_CHECKING:
    import altair as alt


PALE = 0.4  # how much ink the running bucket gets

FONT = "Source Sans, Source Sans Pro, sans-serif"


# Succeeded is the backdrop; what went wrong has a colour of its own, apart from the deployments' colours.
STATES: Mapping[str, tuple[str, str, str]] = {
    "succeeded": ("done", "#cfd3cd", "#5d5b54"),
    "cancelled": ("stopped", "#8a8f8a", "#9b978c"),
    "throttled": ("throttled", "#e3a008", "#e8b93f"),
    "timed_out": ("timed out", "#a35d00", "#c98a3c"),
    "cut_off": ("cut off", "#7b5ea7", "#b49ae0"),
    "refused": ("refused", "#2f7f8f", "#6cc3d1"),
    "failed": ("failed", "#b3261e", "#ff8a80"),
    "denied": ("denied", "#4d6b2c", "#a5c97e"),
    "lost": ("lost", "#1d1d1b", "#eeece6"),
    "replayed": ("replayed", "#bdb7a4", "#6f6a5a"),
}


# (step, words of a tick); the first that gives few enough ticks is taken.
_STEPS = (
    [timedelta(minutes=m) for m in (5, 10, 15, 30)]
    + [timedelta(hours=h) for h in (1, 2, 3, 6, 12)]
    + [timedelta(days=d) for d in (1, 2, 4, 7, 14)]
)


Theme = Literal["light", "dark"]


@dataclass(frozen=True, slots=True)
class Look:
    """The colours of a theme that are not data."""

    theme: Theme
    ink: str
    muted: str
    grid: str
    bars: str
    ground: str
    good: str


LIGHT = Look("light", "#1d1d1b", "#6b6b66", "#e9e9e5", "#c9c9c2", "#ffffff", "#0f6b4f")

DARK = Look("dark", "#eeece6", "#a3a096", "#2f2d29", "#55524b", "#171614", "#5fd3a8")


def look() -> Look:
    """The look of the theme that the page is drawn in."""
    return DARK if st.context.theme.type == "dark" else LIGHT


def color_of(data: Data, deployment_id: str, look: Look) -> str:
    """The colour of a deployment; that of quiet ink for one that is declared nowhere."""
    deployment = data.deployments.get(deployment_id)
    return color(deployment.color_slot, look.theme) if deployment else look.muted


def names_of(data: Data) -> dict[str, str]:
    """What to call each deployment: its name, with its id where two are called alike."""
    names = [data.name(deployment_id) for deployment_id in data.ids]
    return {
        deployment_id: n if names.count(n) == 1 else f"{n} ({deployment_id})"
        for deployment_id, n in zip(data.ids, names, strict=True)
    }


def state_color(state: str, look: Look) -> str:
    """The colour of a call's end."""
    return STATES.get(state, ("", look.muted, look.muted))[2 if look.theme == "dark" else 1]


def state_words(state: str) -> str:
    """How a call ended, in the words of every page."""
    return STATES[state][0] if state in STATES else state


def deployment_colors(data: Data, ids: Sequence[str], look: Look, *, legend: bool = True) -> dict[str, Any]:
    """The colour channel of a field ``deployment_id``, with names in its legend."""
    called = names_of(data)
    return {
        "field": "deployment_id",
        "type": "nominal",
        "scale": {"domain": list(ids), "range": [color_of(data, deployment_id, look) for deployment_id in ids]},
        "legend": legend_of([called.get(deployment_id, deployment_id) for deployment_id in ids], ids)
        if legend and len(ids) > 1
        else None,
    }


def legend_entries(data: Data, ids: Sequence[str], look: Look) -> list[tuple[str, str, str]]:
    """Colour, name and sign of each deployment, for a legend in words."""
    called = names_of(data)
    return [
        (color_of(data, deployment_id, look), called.get(deployment_id, deployment_id), "■") for deployment_id in ids
    ]


def slots(data: Data, ids: Sequence[str], of: Callable[[int], Any]) -> dict[str, Any]:
    """The scale of what a deployment's slot decides beside its colour: dash or shape."""
    return {"domain": list(ids), "range": [of(min(data.slot(deployment_id), 10**5)) for deployment_id in ids]}


def legend_of(words: Sequence[str], values: Sequence[str]) -> dict[str, Any]:
    """A legend below the chart whose entries are called ``words``."""
    return {
        "title": None,
        "orient": "bottom",
        "columns": 4,
        "labelExpr": lookup(dict(zip(values, words, strict=True))),
        "symbolType": "square",
        "labelLimit": 180,
        "offset": 4,
        "rowPadding": 2,
    }


def lookup(words: Mapping[Any, str]) -> str:
    """A Vega expression for the words of a value."""
    entries = ", ".join(f"{_quoted(str(key))}: {_quoted(value)}" for key, value in words.items())
    return "{" + entries + "}[datum.value]"


def _quoted(text: str) -> str:
    return (
        "'"
        + "".join(c if c.isalnum() or c in " .:%$/·-_" else f"\\u{ord(c):04x}" for c in text if ord(c) < 65536)
        + "'"
    )


def notes_of(data: Data) -> list[Annotation]:
    """The notes on moments of the window, oldest first."""
    return small_tables.notes(data.engine, data.window.start, data.window.end)[::-1]


# --- axes ----------------------------------------------------------------------------------------------------------
def millis(moments: Any) -> Any:
    """Instants as milliseconds of UTC."""
    return pd.DatetimeIndex(pd.to_datetime(moments, utc=True)).tz_convert("UTC").as_unit("ms").asi8


def ticks(start: datetime, end: datetime, zone: str, limit: int) -> dict[int, str]:
    """Instants to mark on a time axis, with their words in the zone."""
    tz = ZoneInfo(zone)
    step = next((step for step in _STEPS if (end - start) / step <= limit), None)
    local = pd.Timestamp(start).tz_convert(tz)
    if step is None:
        months = pd.date_range(local.normalize().replace(day=1), pd.Timestamp(end).tz_convert(tz), freq="MS")
        every = -(-len(months) // limit)
        starts = [month for month in months if (month.month - 1) % every == 0 or every > 12]
        return {int(t.value // 10**6): f"{t:%b %Y}" for t in starts if start <= t <= end}
    days = pd.date_range(local.normalize(), pd.Timestamp(end).tz_convert(tz).normalize(), freq="D")
    if step >= timedelta(days=1):
        every = step.days
        starts = [
            day
            for day in days
            if (every < 7 and day.toordinal() % every == 0)
            or (every >= 7 and day.weekday() == 0 and (every == 7 or day.toordinal() // 7 % 2 == 0))
        ]
    else:
        minutes = int(step.total_seconds() // 60)
        starts = [day.tz_localize(None) + timedelta(minutes=m) for day in days for m in range(0, 1440, minutes)]
        starts = [
            t for t in pd.DatetimeIndex(starts).tz_localize(tz, ambiguous="NaT", nonexistent="NaT") if not pd.isna(t)
        ]
    return {int(t.value // 10**6): _tick_words(t) for t in starts if start <= t <= end}


def _tick_words(moment: Any) -> str:
    at_midnight = moment.hour == 0 and moment.minute == 0
    return f"{moment.day} {moment:%b}" if at_midnight else f"{moment:%H:%M}"


def time_x(data: Data, limit: int = 8, *, zone: str | None = None) -> dict[str, Any]:
    """What every x axis over time shares: the window, with ticks in the zone."""
    begin, end = data.window.start, data.window.end
    marks = ticks(begin, end, zone or data.window.zone, limit)
    lo, hi = (int(moment) for moment in millis([begin, end]))
    return {
        "scale": {"domain": [lo, hi], "nice": False, "zero": False},
        "axis": {
            "values": list(marks),
            "labelExpr": lookup(marks),
            "grid": False,
            "title": None,
            "labelOverlap": "greedy",
            "labelFlush": True,
        },
    }


def log_ticks(lo: float, hi: float) -> list[float]:
    """Round values 1, 2, 5 × 10ⁿ between two positive numbers; fewer where there would be many."""
    for parts in ((1, 2, 5), (1, 3), (1,)):
        powers = [
            m * 10.0**e for e in range(math.floor(math.log10(lo)) - 1, math.ceil(math.log10(hi)) + 1) for m in parts
        ]
        inside = [power for power in powers if lo <= power * 1.0001 and power <= hi * 1.0001]
        if len(inside) <= 5:
            return inside
    return inside[:: -(-len(inside) // 6)]


def log_domain(values: Any, *, pad: float = 1.25) -> tuple[float, float] | None:
    """A domain around positive values, at least a factor of three wide; None where there is none."""
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
    if not len(numbers):
        return None
    lo, hi = float(numbers.min()) / pad, float(numbers.max()) * pad
    middle = math.sqrt(lo * hi)
    return min(lo, middle / 1.75), max(hi, middle * 1.75)


# --- words ---------------------------------------------------------------------------------------------------------
def step_words(step: timedelta) -> str:
    """How wide a bucket is: "6 h", "15 min", "day", "week", "2 weeks"."""
    minutes = int(step.total_seconds() // 60)
    if minutes < 60:
        return "minute" if minutes == 1 else f"{minutes} min"
    if minutes < 1440:
        return "hour" if minutes == 60 else f"{minutes // 60} h"
    days = minutes // 1440
    return "day" if days == 1 else "week" if days == 7 else f"{days // 7} weeks" if days % 7 == 0 else f"{days} days"


def bucket_words(data: Data, begin: Any) -> str:
    """Which bucket, in words of the zone: "Mon 2026-11-23 06:00, 6 h"."""
    return f"{begin:%a %Y-%m-%d %H:%M}, {step_words(data.window.step)}"


LIGHT_COLOURS = ("#0450B9", "#E37300", "#008246", "#C56893", "#302073", "#624500", "#3FA3DC", "#5A1A1A")

DARK_COLOURS = ("#4984CA", "#F16A29", "#12CC8B", "#F7A8DC", "#8B65FE", "#F6E950", "#DEFFE2", "#B0457B")

DASHES: tuple[tuple[int, ...], ...] = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3))

SHAPES = ("circle", "square", "triangle-up", "diamond")


# Cost drivers share one hue in lightness steps, apart from the deployments' colours.
DRIVERS_LIGHT = ("#2f3e46", "#52676f", "#7b9199", "#a8bac0", "#d3dde0")


DRIVERS_DARK = ("#e3ebee", "#b7c7cd", "#8aa0a8", "#617780", "#43545b")


def colors(theme: Theme) -> tuple[str, ...]:
    """The eight colours of a theme, as hex strings."""
    return DARK_COLOURS if theme == "dark" else LIGHT_COLOURS


def color(slot: int, theme: Theme = "light") -> str:
    """Hex colour of a slot (0 or above; the ninth slot takes the first colour again)."""
    palette = colors(theme)
    return palette[slot % len(palette)]


def dash(slot: int) -> list[int]:
    """Stroke dash of a slot: solid for the first eight, another pattern for each further round."""
    return list(DASHES[slot // len(LIGHT_COLOURS) % len(DASHES)])


def shape(slot: int) -> str:
    """Point shape of a slot: circles for the first eight, another shape for each further round."""
    return SHAPES[slot // len(LIGHT_COLOURS) % len(SHAPES)]


def scale(deployments: Sequence[Deployment], theme: Theme = "light") -> alt.Scale:
    """Altair colour scale whose domain is the deployments' ids. Give ids, not names, to the colour channel."""
    import altair as alt

    return alt.Scale(domain=[d.id for d in deployments], range=[color(d.color_slot, theme) for d in deployments])
