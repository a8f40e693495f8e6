"""How the figures were computed and what is not in them, in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from db.history import EXACT_UP_TO, Pieces
from db.sketch import RELATIVE_ERROR
from services.dashboard.window import DAY, HOUR, MINUTE, WEEK, Buckets, Window
from services.types import Deployment

if TYPE_CHECKING:
    from services.dashboard.data import Period


def how(found: Pieces, totals: Mapping[str, int], asked: Window, drawn: Window, buckets: Buckets) -> str:
    """Where the figures come from, how exact percentiles are, whose days are meant, and how wide a bucket is."""
    n = totals["n"]
    if len(found.cells) == 0:
        parts = [f"{n:,} {calls(n)}, each one read"]
        if not found.exact:
            parts.append("some calls of this range were forgotten and only the rollups know them")
    else:
        kind = "daily" if found.grain == "d" else "hourly"
        parts = [f"{n:,} {calls(n)} from {kind} rollups; percentiles within {RELATIVE_ERROR * 100:g} %"]
        if drawn.step > asked.step:
            parts.append(f"more than {EXACT_UP_TO:,} calls, so a bucket is at least {width(drawn)} wide")
    parts.append(f"buckets of {width(drawn)}")
    if drawn.grain == "d":
        parts.append("days are UTC days, as above 31 days hours are not kept apart")
    elif len(found.cells) and _off_the_hour(drawn, buckets):
        parts.append("buckets begin on whole hours of UTC")
    return " · ".join(parts)


def stretch(view: Window) -> str:
    """The time that is shown, to the minute: "Tue 17 Nov 12:00 to now (Tue 24 Nov 16:10) · 7 d 4 h · Europe/Berlin"."""
    zone = ZoneInfo(view.zone)
    first, last = view.start.astimezone(zone), view.end.astimezone(zone)
    years = first.year != last.year
    end = f"now ({_moment(last, year=years)})" if view.running else _moment(last, year=years or not view.running)
    begin = _moment(first, year=years or not view.running)
    return f"{begin} to {end} · {_length(view.end - view.start)} · {view.zone}"


def _moment(local: datetime, *, year: bool) -> str:
    return f"{local:%a} {local.day} {local:%b}{f' {local.year}' if year else ''} {local:%H:%M}"


def _length(span: timedelta) -> str:
    """The two largest units: "7 d 4 h", "24 h", "1 h 20 min"."""
    minutes = round(span / MINUTE)
    days, hours, rest = minutes // 1440, minutes % 1440 // 60, minutes % 60
    if days < 2:
        days, hours = 0, minutes // 60
    parts = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (rest, "min")) if n]
    return " ".join(parts[:2]) or "under 1 min"


def _off_the_hour(drawn: Window, buckets: Buckets) -> bool:
    """Whether the zone is off by part of an hour, so that the edges were moved."""
    return any(moment.minute for moment in buckets.labels[1:2].tolist()) and drawn.step >= HOUR


def notes(period: Period, known: Mapping[str, Deployment]) -> tuple[str, ...]:
    """One sentence for each kind of call that some figure leaves out or knows only partly."""
    del known
    totals = period.totals
    hourly = np.isin(period.rows["deployment_id"], period.hours["deployment_id"].unique())
    unpriced = totals["n"] - totals["n_priced"]
    by_the_hour = int((period.rows["n"] - period.rows["n_priced"])[hourly].sum())
    unpriced -= by_the_hour
    found = []
    if n := totals["n_late"]:
        found.append(f"{n:,} {calls(n)} left out of the times, because our own stamps were late.")
    if unpriced:
        found.append(f"{unpriced:,} {calls(unpriced)} without a known price or count: in no sum of money.")
    if n := totals["n_bounded"]:
        found.append(f"{n:,} {calls(n)} stopped or cut: what they cost is a lower bound (≥).")
    return tuple(found)


def calls(n: int) -> str:
    """ "call" or "calls"."""
    return "call" if n == 1 else "calls"


def width(view: Window) -> str:
    """The width of a bucket: "15 min", "6 h", "a day"."""
    step = view.step
    if step >= WEEK:
        return "a week" if step == WEEK else f"{step // WEEK} weeks"
    if step >= DAY:
        return "a day"
    return f"{step // HOUR} h" if step >= HOUR else f"{step // MINUTE} min"
