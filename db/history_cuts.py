"""How a stretch of time is cut into what rollup cells know and what has to be read call by call."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import BigInteger, ColumnElement, String, cast, extract, type_coerce

from db.rollups import ROLLUP, day_of

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
Grain = Literal["h", "d"]


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where the cells of a stretch lie: days from a to b, hours around them; the rest are calls."""

    days: tuple[datetime, datetime] | None
    hours: list[tuple[datetime, datetime]] = field(default_factory=list)
    loose: list[tuple[datetime, datetime]] = field(default_factory=list)


def cut(start: datetime, end: datetime, grain: Grain) -> Cuts:
    """Cut a stretch into whole UTC days ("d" only), whole hours, and what is left at its ends."""
    first, last = up(start, HOUR), down(end, HOUR)
    if first >= last:
        return Cuts(None, [], [(start, end)])
    loose = [(a, b) for a, b in ((start, first), (last, end)) if a < b]
    if grain == "d":
        day, after = up(first, DAY), down(last, DAY)
        if day < after:
            return Cuts((day, after), [(a, b) for a, b in ((first, day), (after, last)) if a < b], loose)
    return Cuts(None, [(first, last)], loose)


def down(moment: datetime, step: timedelta) -> datetime:
    """The last whole step of a UTC day that is not after a moment."""
    day = day_of(moment)
    return day + (moment - day) // step * step


def up(moment: datetime, step: timedelta) -> datetime:
    """The first whole step of a UTC day that is not before a moment."""
    whole = down(moment, step)
    return whole if whole == moment else whole + step


def covered(cuts: Cuts) -> list[tuple[datetime, datetime]]:
    """What the cells cover: one stretch without a gap, so that one look at the index finds what waits in it."""
    spans = [*([cuts.days] if cuts.days else []), *cuts.hours]
    return [(min(start for start, _ in spans), max(end for _, end in spans))] if spans else []


def bucket(dialect: str) -> ColumnElement[Any]:
    """When a rollup's cell begins, as it is quickest to read thousands of times: SQLite's own text (UTC), PostgreSQL's
    whole seconds since 1970. Reading them one by one as moments takes longer than the query."""
    if dialect == "sqlite":
        return type_coerce(ROLLUP.c.bucket, String).label("bucket")
    return cast(extract("epoch", ROLLUP.c.bucket), BigInteger).label("bucket")
