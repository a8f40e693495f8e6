"""Rolling calls up: what ended and is not in the rollups yet is added, in one transaction with its mark on the call.

So a process that dies at any moment leaves nothing counted twice or not at all, and a reader who takes the rollups and
the calls without the mark has every call exactly once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Table, and_, bindparam, delete, func, insert, literal_column, select, update
from sqlmodel import Session

from db import rollup_few, sketch
from db.history_tables import Rollup
from db.models import Call
from db.run_queries import WARM_SHARE

ROLLUP: Table = Rollup.__table__  # type: ignore[attr-defined]  # SQLModel adds __table__ at run time
CALL: Table = Call.__table__  # type: ignore[attr-defined]
# Ended and not in the rollups yet, in the very words of the partial index: "rolled IS 0" would not be found in it.
WAITING = and_(~CALL.c.rolled, CALL.c.state != literal_column("'running'"))
BATCH = 500
FEW = 200
FOLD_LOCK = 0x1AB_F01D
KEYS = ("grain", "bucket", "deployment_id", "model", "kind", "source", "person", "outcome", "state", "cache")
COUNTS = ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning_output", "answer_output")
INPUT = COUNTS[:4]
DRIVERS = tuple(f"cost_{name}" for name in COUNTS)
SUMS = (
    "n", "n_late", "n_priced", "n_bounded", "n_estimated", *COUNTS, "cost_nanousd", "plain_nanousd", *DRIVERS,
    "busy_ms",
)  # fmt: skip
# Sketch → the column of the call that it holds.
SKETCHES: Mapping[str, str] = {
    "ttft": "ttft_ms", "ttfat": "ttfat_ms", "ttlt": "ttlt_ms", "tpot": "tpot_ms", "decode": "decode_tps",
    "e2e": "e2e_tps",
}  # fmt: skip
NEEDED = (
    "id", "created_at", "deployment_id", "model", "kind", "source", "person", "outcome", "state", "lag_marked",
    "cost_state", "cost_nanousd", "plain_nanousd", "cost_drivers", "usage_source", "end_ms", *COUNTS,
    *SKETCHES.values(),
)  # fmt: skip
DIMENSIONS = ("deployment_id", "model", "kind", "source", "person", "outcome", "state", "cache")


def fold(*, session: Session, limit: int = BATCH) -> int:
    """Add up to ``limit`` ended calls that are not rolled up yet; returns how many there were.

    On PostgreSQL one engine at a time does it: another that comes meanwhile finds nothing to do.
    """
    if session.get_bind().dialect.name == "postgresql":
        mine = session.execute(select(func.pg_try_advisory_xact_lock(FOLD_LOCK))).scalar()
        if not mine:
            return 0
    waiting = select(*(CALL.c[name] for name in NEEDED)).where(WAITING).order_by(CALL.c.created_at).limit(limit)
    rows = [dict(row) for row in session.execute(waiting).mappings()]
    if not rows:
        return 0
    if len(rows) <= FEW:
        for cells in rollup_few.cells(rows, counts=COUNTS, sketches=SKETCHES, keys=KEYS).values():
            _store(session, cells)
    else:
        add(session=session, frame=measured(rows))
    marked = update(CALL).where(CALL.c.id == bindparam("rolled_id")).values(rolled=True)
    session.execute(marked, [{"rolled_id": row["id"]} for row in rows])
    return len(rows)


def measured(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One line for each call: its dimensions, what it adds to the sums, and its figures where they may be compared.

    A figure is NaN unless the call succeeded and its stamps were not late by our own fault.
    """
    # Column by column, and one frame at the end: for a few hundred calls, pandas' own operations would take longer than
    # reading them did.
    made: dict[str, Any] = {name: [row.get(name) for row in rows] for name in NEEDED}
    for name in ("outcome", "model", "kind", "source", "person"):
        made[name] = ["" if _missing(value) else str(value) for value in made[name]]
    given, read = (
        sum((_whole(made[name]) for name in INPUT), np.zeros(len(rows), np.int64)),
        _number(made["cache_read"]),
    )
    warm = (read > 0) & (read * WARM_SHARE >= given)
    made["cache"] = np.where(warm, "warm", np.where(np.isfinite(read), "cold", "")).astype(object)
    late = np.array([not _missing(value) and bool(value) for value in made["lag_marked"]], dtype=bool)
    succeeded = np.array([state == "succeeded" for state in made["state"]], dtype=bool)
    made["n"], made["n_late"] = np.ones(len(rows), np.int64), (succeeded & late).astype(np.int64)
    made["n_priced"] = np.array([not _missing(value) for value in made["cost_nanousd"]], dtype=np.int64)
    made["n_bounded"] = np.array([state == "lower_bound" for state in made["cost_state"]], dtype=np.int64)
    made["n_estimated"] = np.array([source != "provider" for source in made["usage_source"]], dtype=np.int64)
    drivers = [cost if isinstance(cost, Mapping) else {} for cost in made["cost_drivers"]]
    for name, driver in zip(COUNTS, DRIVERS, strict=True):
        made[driver] = [cost.get(name) for cost in drivers]
    made["plain_nanousd"] = [
        cost if _missing(plain) else plain
        for plain, cost in zip(made["plain_nanousd"], made["cost_nanousd"], strict=True)
    ]
    made["busy_ms"] = np.round(np.nan_to_num(_number(made["end_ms"])))
    made |= {name: _whole(made[name]) for name in SUMS}
    for name, column in SKETCHES.items():
        values = _number(made[column])
        made[name] = np.where(succeeded & ~late & np.isfinite(values), values, np.nan)
    return pd.DataFrame(made)


def _missing(value: Any) -> bool:
    return value is None or value != value


def _number(values: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _whole(values: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    if isinstance(values, np.ndarray):
        return values.astype(np.int64)
    return np.array([0 if _missing(value) else int(value) for value in values], dtype=np.int64)


def add(*, session: Session, frame: pd.DataFrame) -> int:
    """Add measured calls (`measured`) to their cells of all three grains; returns how many cells were touched."""
    moments = pd.to_datetime(frame["created_at"], utc=True)
    touched = 0
    for grain, floor, person in (("h", "h", False), ("d", "D", False), ("p", "D", True)):
        part = frame.assign(grain=grain, bucket=moments.dt.floor(floor))
        if not person:
            part["person"] = ""
        touched += _add(session, part)
    return touched


def _add(session: Session, part: pd.DataFrame) -> int:
    groups = part.groupby(list(KEYS), sort=False)
    sums = groups[list(SUMS)].sum()
    number = groups.ngroup().to_numpy()
    fresh = {name: _sketches(part[name].to_numpy(), number, len(sums)) for name in SKETCHES}
    cells: list[dict[str, Any]] = []
    for at, (key, row) in enumerate(zip(sums.index, sums.to_numpy(), strict=True)):
        cell: dict[str, Any] = dict(zip(KEYS, key, strict=True)) | {
            name: int(value) for name, value in zip(SUMS, row, strict=True)
        }
        cell["bucket"] = key[1].to_pydatetime()
        cells.append(cell | {name: found[at] for name, found in fresh.items()})
    _store(session, cells)
    return len(cells)


def _sketches(values: Any, number: Any, groups: int) -> list[sketch.Sketch]:
    there = ~np.isnan(values)
    if not there.any():
        return [sketch.EMPTY] * groups
    bins, owner = sketch.bins_of(values[there]), number[there]
    order = np.lexsort((bins, owner))
    bins, owner = bins[order], owner[order]
    starts = np.searchsorted(owner, np.arange(groups + 1))
    found = []
    for begin, end in pairwise(starts):
        index, count = np.unique(bins[begin:end], return_counts=True)
        found.append(sketch.Sketch(index.astype(np.int64), count.astype(np.int64)))
    return found


def _store(session: Session, cells: list[dict[str, Any]]) -> None:
    known: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    grain = cells[0]["grain"] if cells else ""
    buckets = sorted({cell["bucket"] for cell in cells})
    # By bucket, which the index knows, and not by cell: SQLite would read the whole table for a list of row values.
    for start in range(0, len(buckets), BATCH):
        there = select(ROLLUP).where(ROLLUP.c.grain == grain, ROLLUP.c.bucket.in_(buckets[start : start + BATCH]))
        for row in session.execute(there).mappings():
            known[tuple(row[name] for name in KEYS)] = dict(row)
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for cell in cells:
        before = known.get(tuple(cell[name] for name in KEYS))
        if before is None:
            new.append(cell | {name: _packed(cell[name]) for name in SKETCHES})
            continue
        values: dict[str, Any] = {name: before[name] + cell[name] for name in SUMS}
        for name in SKETCHES:
            values[name] = _packed(sketch.merged((sketch.unpack(before[name]), cell[name])))
        changed.append(values | {"cell_id": before["id"]})
    if new:
        session.execute(insert(ROLLUP), new)
    if changed:
        session.execute(update(ROLLUP).where(ROLLUP.c.id == bindparam("cell_id")), changed)


def _packed(held: sketch.Sketch) -> bytes | None:
    return held.pack() if len(held.index) else None


# --- making them anew ----------------------------------------------------------------------------------------------


def unroll_days(*, session: Session, days: Sequence[datetime]) -> int:
    """Take the rollups of these UTC days away and unmark their calls, which are then added anew; returns how many.

    For days whose calls are all still there: `db.retention` never leaves a day with some of them.
    """
    unmarked = 0
    for day in days:
        after = day + timedelta(days=1)
        session.execute(delete(ROLLUP).where(ROLLUP.c.bucket >= day, ROLLUP.c.bucket < after))
        done = session.execute(
            update(CALL)
            .where(CALL.c.created_at >= day, CALL.c.created_at < after, CALL.c.rolled.is_(True))
            .values(rolled=False)
        )
        unmarked += max(done.rowcount, 0)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
    return unmarked


def days_of_runs(*, session: Session, run_ids: Sequence[str]) -> list[datetime]:
    """The UTC days on which calls of these runs were made that are rolled up already."""
    days: set[datetime] = set()
    for start in range(0, len(run_ids), BATCH):
        made = select(CALL.c.created_at).where(
            CALL.c.run_id.in_(run_ids[start : start + BATCH]), CALL.c.rolled.is_(True)
        )
        days |= {day_of(moment) for moment in session.execute(made).scalars()}
    return sorted(days)


def day_of(moment: datetime) -> datetime:
    """The UTC day of a moment, as its first instant."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def first_call(session: Session) -> datetime | None:
    """When the oldest call that is still there was made."""
    found: datetime | None = session.execute(select(func.min(CALL.c.created_at))).scalar()
    return found
