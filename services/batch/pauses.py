"""How long batches worked and how long they were idle. Pauses are not recorded; they are computed from the calls.

A batch of our own runner is idle while none of its calls is under way: it is paused, its worker is away, or it waits
before a retry. What a batch service does is not known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from db import batch_queries
from db.batch_queries import run_stretches
from services.batch import stats
from services.batch.types import ReadRow as Row
from services.types import Json

LEAST_S = 5.0  # shorter gaps are the way from one line to the next


def still(
    calls: Iterable[tuple[datetime, datetime | None]], began: datetime, ended: datetime, min_s: float = LEAST_S
) -> float:
    """Seconds of the gaps of at least ``min_s`` seconds between ``began`` and ``ended`` in which no call was under way.
    ``calls``: (from, to) in the order in which they began."""
    reached, idle_s, any_call = began, 0.0, False
    for first, last in calls:
        any_call = True
        idle_s += _gap(reached, first, min_s)
        reached = max(reached, last or first)
    return idle_s + _gap(reached, ended, min_s) if any_call else 0.0


def _gap(since: datetime, until: datetime, min_s: float) -> float:
    seconds = (until - since).total_seconds()
    return seconds if seconds >= min_s else 0.0


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
    calls = run_stretches(database, str(row["run_id"]))
    return Worked(seconds, min(still(calls, row["started_at"], row["ended_at"], least_s(row)), seconds))


MINUTE = 60.0

MOST_LINES = 100_000  # of finished batches, whose calls are read in one go

KEPT = 10_000

_cache: dict[tuple[str, str], float] = {}  # (database, run) → seconds: a batch that is over changes no more


def least_s(batch: Row) -> float:
    """The shortest gap that is a standstill, in seconds: at one line a minute a gap of a minute is ordinary."""
    per_minute = batch.get("per_minute")
    return max(LEAST_S, 2 * MINUTE / per_minute) if per_minute else LEAST_S


def rate(database: Engine, batch: Row, window_s: float, now: datetime | None = None) -> tuple[int, float]:
    """(lines that ended, in how many seconds of work) of a batch of our own runner, in the last ``window_s`` seconds:
    what of them it stood still is left out, and so is what lies before it began."""
    until = now or datetime.now(UTC)
    since = until - timedelta(seconds=window_s)
    since = max(since, batch.get("started_at") or since)
    n, calls = batch_queries.latest(database, str(batch["id"]), since)
    under_way = ((first, last or until) for first, last in calls)
    cached = (
        calls[0][0] if len(calls) >= batch_queries.LATEST else since
    )  # so many leave no room for a pause before them
    stood = still(under_way, max(since, cached), until, least_s(batch)) if n else 0.0
    return n, max((until - since).total_seconds() - stood, 1.0)


def working(database: Engine, finished: Sequence[Row]) -> list[Json]:
    """Finished batches (`db.batch_queries.finished_batches`) with ``seconds`` of work alone, where our own runner did
    it.

    The calls of each are read once; of more than `MOST_LINES` lines together only those of the latest batches are, and
    the seconds of the others stay those from beginning to end. One statement.
    """
    address, lines, missing = str(database.url), 0, list[Row]()
    for row in finished:
        if row["route"] == "runner" and row["run_id"] and (address, row["run_id"]) not in _cache:
            lines += row["n_lines"]
            if lines > MOST_LINES:
                break
            missing.append(row)
    if missing:
        _learn(database, address, missing)
    return [
        dict(row) | {"seconds": max(row["seconds"] - _cache.get((address, row["run_id"] or ""), 0.0), 1e-3)}
        for row in finished
    ]


def _learn(database: Engine, address: str, rows: Sequence[Row]) -> None:
    calls: dict[str, list[tuple[datetime, datetime | None]]] = defaultdict(list)
    for run_id, began, ended in batch_queries.stretches(database, [row["run_id"] for row in rows]):
        calls[run_id].append((began, ended))
    if len(_cache) > KEPT:
        _cache.clear()
    for row in rows:
        stood = still(calls[row["run_id"]], row["began"], row["ended_at"], least_s(row))
        _cache[address, row["run_id"]] = min(stood, row["seconds"])
