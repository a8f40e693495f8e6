"""How long a batch worked, and how long it stood still: nobody writes down when a batch is paused, but its calls tell.

A batch of our own runner stands still while no call of it is under way: it is paused, its worker is away, or it waits
before it tries again. What a batch service does meanwhile is not known, so its batches only have a beginning and an
end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from db.batch_called import stretches
from services.batch import stats

Row = Mapping[str, Any]
LEAST_S = 5.0  # shorter gaps are the way from one line to the next
MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Worked:
    """Seconds from beginning to end, and in how many of them it stood still; None: not known."""

    seconds: float | None = None
    still: float | None = None

    @property
    def working(self) -> float | None:
        """Seconds in which it worked, as far as that can be told apart."""
        return None if self.seconds is None else self.seconds - (self.still or 0.0)


def worked(database: Engine, row: Row) -> Worked:
    """Of a batch that is over; of any other, and of one that a service worked on, only what is known."""
    seconds = stats.duration(dict(row))
    if seconds is None or row["route"] != "runner" or not row.get("run_id"):
        return Worked(seconds)
    least = LEAST_S
    if row.get("per_minute"):  # at one line a minute a gap of a minute is its ordinary pace
        least = max(least, 2 * MINUTE / row["per_minute"])
    calls = stretches(database, str(row["run_id"]))
    return Worked(seconds, min(still(calls, row["started_at"], row["ended_at"], least), seconds))


def still(
    calls: Iterable[tuple[datetime, datetime | None]], began: datetime, ended: datetime, least: float = LEAST_S
) -> float:  # fmt: skip
    """Seconds of the gaps of at least ``least`` seconds between ``began`` and ``ended`` in which no call was under way.
    ``calls``: (from, to) in the order in which they began."""
    at, found, any_call = began, 0.0, False
    for first, last in calls:
        any_call = True
        found += _gap(at, first, least)
        at = max(at, last or first)
    return found + _gap(at, ended, least) if any_call else 0.0


def _gap(since: datetime, until: datetime, least: float) -> float:
    seconds = (until - since).total_seconds()
    return seconds if seconds >= least else 0.0
