"""The stretch of time of a filter and the buckets it is drawn in.

A bucket that is named by the clock on the wall begins when that clock says so: a day has 23 or 25 hours where summer
time begins or ends. Above 31 days the rollups are read by whole UTC days, and days are then UTC days.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from services.dashboard.filters import EARLIEST, RANGE_WORDS, Filter

MOST_BUCKETS = 120
MINUTE, HOUR, DAY, WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)
# Up to such a length → such a step.
STEPS = (
    (2 * HOUR, MINUTE),
    (6 * HOUR, 5 * MINUTE),
    (30 * HOUR, 15 * MINUTE),
    (4 * DAY, HOUR),
    (10 * DAY, 6 * HOUR),
    (100 * DAY, DAY),
    (800 * DAY, WEEK),
)
LENGTHS = {
    "1h": HOUR,
    "24h": DAY,
    "7d": 7 * DAY,
    "30d": 30 * DAY,
    "90d": 90 * DAY,
    "365d": 365 * DAY,
}
# 31 days of the wall's clock can be an hour longer.
HOURS_UP_TO = 31 * DAY + HOUR
Instants = NDArray[np.datetime64]


@dataclass(frozen=True, slots=True)
class Window:
    """``start`` to ``end`` (UTC, exclusive), the stretch of the same length before it, and the width of a bucket.

    ``grain`` "h": hours are kept apart and days are those of ``zone``. "d": days are UTC days. ``previous`` is None
    where there can be nothing before ("all"). ``running``: the end is now, so the last bucket is still filling.
    """

    start: datetime
    end: datetime
    step: timedelta
    grain: Literal["h", "d"]
    zone: str
    running: bool
    previous: tuple[datetime, datetime] | None
    words: str

    @property
    def day_zone(self) -> str:
        """The zone whose days and weeks are meant."""
        return "UTC" if self.grain == "d" else self.zone


@dataclass(frozen=True, slots=True)
class Buckets:
    """Consecutive buckets. ``edges``: one instant more than there are buckets (UTC without a zone, microseconds).

    ``cut``: whether the window begins, and ends, inside a bucket, which then is shorter than the others.
    """

    edges: Instants
    zone: str
    running: bool
    cut: tuple[bool, bool] = (False, False)

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def labels(self) -> pd.DatetimeIndex:
        """When each bucket begins, in the zone."""
        return pd.DatetimeIndex(self.edges[:-1]).tz_localize("UTC").tz_convert(self.zone)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """How long each bucket lasts, or has lasted: the last one ends at the window's end."""
        seconds: NDArray[np.float64] = np.diff(self.edges) / np.timedelta64(1, "s")
        return seconds

    @property
    def is_running(self) -> NDArray[np.bool_]:
        """Which bucket is still filling: the last, or none."""
        flags = np.zeros(len(self), dtype=bool)
        if self.running and len(flags):
            flags[-1] = True
        return flags

    @property
    def is_partial(self) -> NDArray[np.bool_]:
        """Which buckets the window holds only a part of: the first, the last, which may still be filling, or none."""
        flags = self.is_running
        if len(flags):
            flags[0] |= self.cut[0]
            flags[-1] |= self.cut[1]
        return flags

    def number(self, moments: Instants) -> NDArray[np.int64]:
        """The bucket of each instant. What lies outside is put into the first or the last: nothing gets lost."""
        numbers = np.searchsorted(self.edges, moments, side="right") - 1
        return np.clip(numbers, 0, len(self) - 1).astype(np.int64)


def resolve(chosen: Filter, now: datetime, first: datetime | None = None) -> Window:
    """The stretch of time that a filter means at ``now`` (aware). ``first``: the oldest call there is, for "all".

    A preset is as long as its name says and begins at the last whole hour before that (whole hours are what the rollups
    keep), above 31 days with the UTC day, and the last hour with the minute: in every zone it holds the same calls.
    """
    zone, utc = ZoneInfo(chosen.zone), ZoneInfo("UTC")
    now = now.astimezone(UTC)
    end = min(chosen.end or now, now) if chosen.range == "custom" else now
    start = max(_start(chosen, end, zone, first), EARLIEST)
    if start >= end:
        start, end = (start, start + MINUTE) if chosen.range == "custom" else (end - HOUR, end)
    step = step_for(end - start)
    grain: Literal["h", "d"] = "h" if end - start <= HOURS_UP_TO else "d"
    if chosen.range != "custom" and grain == "d":
        start = floor(start, DAY, utc)
    elif chosen.range not in ("custom", "mtd"):
        start = floor(start, MINUTE if step == MINUTE else HOUR, utc)
    grain = "h" if end - start <= HOURS_UP_TO else "d"
    previous = None if chosen.range == "all" or start - EARLIEST < end - start else (start - (end - start), start)
    return Window(start, end, step, grain, chosen.zone, end >= now, previous, RANGE_WORDS[chosen.range])


def _start(chosen: Filter, end: datetime, zone: ZoneInfo, first: datetime | None) -> datetime:
    if chosen.range == "custom":
        return (chosen.start or first or end - 7 * DAY).astimezone(UTC)
    if chosen.range == "all":
        return min((first or end - HOUR).astimezone(UTC), end - HOUR)
    if chosen.range == "mtd":
        local = end.astimezone(zone)
        return _midnight(local.date().replace(day=1), zone)
    return end - LENGTHS[chosen.range]


def step_for(length: timedelta) -> timedelta:
    """The width of a bucket for a stretch of that length: at most 120 of them (one more where days are cut)."""
    for longest, step in STEPS:
        if length <= longest:
            return step
    return WEEK * -(-length // (WEEK * MOST_BUCKETS))


def floor(moment: datetime, step: timedelta, zone: ZoneInfo) -> datetime:
    """The last moment, not after this one, at which a bucket of that width begins in the zone; in UTC."""
    local = moment.astimezone(zone)
    if step >= WEEK:
        return _midnight(local.date() - timedelta(days=local.weekday()), zone)
    midnight = _midnight(local.date(), zone)
    if step >= DAY:
        return midnight
    wall = local.replace(tzinfo=None) - datetime.combine(local.date(), time())
    # Back by what the clock is past the step: hours that exist twice stay themselves.
    return max(moment.astimezone(UTC) - wall % step, midnight)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def buckets(window: Window, *, step: timedelta | None = None, whole_hours: bool = False) -> Buckets:
    """The buckets of a window. ``step``: another width than its own. ``whole_hours``: every edge inside the window is
    moved to the next whole hour of UTC, because nothing finer is kept (zones that are half an hour off)."""
    zone = ZoneInfo(window.day_zone)
    every = [edge.replace(tzinfo=None) for edge in _edges(window, step or window.step, zone)]
    begun = np.array(every, dtype="datetime64[us]")
    if whole_hours:
        hours = begun.astype("datetime64[h]").astype("datetime64[us]")
        begun = np.where(hours < begun, hours + np.timedelta64(1, "h"), hours)
    first, last = np.array(
        [moment.replace(tzinfo=None) for moment in (window.start, window.end)], dtype="datetime64[us]"
    )
    edges = np.unique([first, *begun[(first < begun) & (begun < last)], last])
    return Buckets(edges, window.day_zone, window.running, (first not in begun, last not in begun))


def days(window: Window) -> Buckets:
    """The days of a window (of its zone, or of UTC above 31 days), the first and the last as far as they are in it."""
    return buckets(window, step=DAY, whole_hours=False)


def _edges(window: Window, step: timedelta, zone: ZoneInfo) -> list[datetime]:
    """Every moment around the window at which a bucket begins, ascending."""
    begin = floor(window.start, step, zone)
    if step <= HOUR:
        return [begin + number * step for number in range((window.end - begin) // step + 1)]
    first = begin.astimezone(zone).date()
    last = window.end.astimezone(zone).date()
    if step >= DAY:
        dates = [first + number * step for number in range((last - first) // step + 1)]
        return sorted({_midnight(day, zone) for day in dates})
    walls = [
        datetime.combine(first + timedelta(days=day), time(), zone).replace(hour=hour)
        for day in range((last - first).days + 1)
        for hour in range(0, 24, step // HOUR)
    ]
    return sorted({wall.astimezone(UTC) for wall in walls})
