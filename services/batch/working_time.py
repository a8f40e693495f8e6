"""How long a batch worked, and how long it stood still (`services.batch.pauses`). A batch that a service worked on only
has a beginning and an end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from db.batch_called import stretches
from services.batch import stats
from services.batch.pauses import least_s, still

__all__ = ["Worked", "still", "worked"]

Row = Mapping[str, Any]


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
    calls = stretches(database, str(row["run_id"]))
    return Worked(seconds, min(still(calls, row["started_at"], row["ended_at"], least_s(row)), seconds))
