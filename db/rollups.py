"""Rolling calls up: what ended and is not in the rollups yet is added, in one transaction with its mark on the call.

So a process that dies at any moment leaves nothing counted twice or not at all, and a reader who takes the rollups and
the calls without the mark has every call exactly once.

It gives the same cells as `db.rollups.measured` and its grouping; tests/db/test_rollups.py holds the two together.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Table, and_, bindparam, delete, func, insert, literal_column, select, update
from sqlmodel import Session

from db import sketch
from db.models import Call, Rollup
from db.run_queries import WARM_SHARE

US = 1_000_000

GRAINS = (("h", 3600 * US, False), ("d", 86_400 * US, False), ("p", 86_400 * US, True))

KEYS = ("grain", "bucket", "deployment_id", "model", "kind", "source", "person", "outcome", "state", "cache")

NAMES = KEYS[2:]

COUNTS = ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning_output", "answer_output")

DRIVERS = tuple(f"cost_{name}" for name in COUNTS)

SUMS = (
    "n",
    "n_late",
    "n_priced",
    "n_bounded",
    "n_estimated",
    *COUNTS,
    "cost_nanousd",
    "plain_nanousd",
    *DRIVERS,
    "busy_ms",
)


# Sketch → the column of the call that it holds.
SKETCHES: Mapping[str, str] = {
    "ttft": "ttft_ms",
    "ttfat": "ttfat_ms",
    "ttlt": "ttlt_ms",
    "tpot": "tpot_ms",
    "decode": "decode_tps",
    "e2e": "e2e_tps",
}


_COLUMNS = (*KEYS, *SUMS, *SKETCHES)

_INSERT = f"INSERT INTO rollup ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - names of ours


def insert_cells(driver: sqlite3.Connection, frame: pd.DataFrame) -> int:
    """Insert the cells of measured calls (`db.rollups.measured`), all grains; returns how many there are.

    The calls have to be all those of their UTC days; a cell that is there already breaks the uniqueness of cells.
    """
    at_us = pd.to_datetime(frame["created_at"], utc=True).astype("datetime64[us, UTC]").astype("int64").to_numpy()
    coded = {name: pd.factorize(frame[name], sort=False) for name in NAMES}
    bins = {name: _binned(frame[name].to_numpy(dtype=float)) for name in SKETCHES}
    sums = frame[list(SUMS)].to_numpy(dtype=np.int64)
    return sum(_insert(driver, grain, at_us // step, step, person, coded, sums, bins) for grain, step, person in GRAINS)


def _binned(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each value; a number outside all bins where there is none."""
    found = np.full(len(values), _NONE, dtype=np.int64)
    there = ~np.isnan(values)
    found[there] = sketch.bins_of(values[there])
    return found


_NONE = 2**15


def _insert(
    driver: sqlite3.Connection,
    grain: str,
    bucket: NDArray[np.int64],
    step: int,
    by_person: bool,
    coded: dict[str, Any],
    sums: NDArray[np.int64],
    bins: dict[str, NDArray[np.int64]],
) -> int:
    key = bucket - bucket.min()
    for name in NAMES:
        codes, values = coded[name]
        if name != "person" or by_person:
            key = key * len(values) + codes
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    first = order[starts]
    cell = np.empty(len(key), dtype=np.int64)
    cell[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(key))))
    columns: list[Any] = [[grain] * len(starts), _moments(bucket[first] * step)]
    for name in NAMES:
        codes, values = coded[name]
        hidden = name == "person" and not by_person
        columns.append([""] * len(starts) if hidden else np.asarray(values, dtype=object)[codes[first]].tolist())
    columns += np.add.reduceat(sums[order], starts, axis=0).T.tolist()
    columns += [_packed_cells(cell, bins[name], len(starts)) for name in SKETCHES]
    driver.executemany(_INSERT, zip(*columns, strict=True))
    return len(starts)


def _moments(at_us: NDArray[np.int64]) -> list[str]:
    """As SQLAlchemy writes moments into SQLite."""
    return [text.replace("T", " ") for text in np.datetime_as_string(at_us.astype("M8[us]"), unit="us").tolist()]


def _packed_cells(cell: NDArray[np.int64], bins: NDArray[np.int64], cells: int) -> list[bytes | None]:
    """The stored sketch of each cell (`db.sketch.Sketch.pack`); None for an empty one."""
    there = bins != _NONE
    low = int(bins[there].min()) if there.any() else 0
    width = 2 * _NONE
    found, count = np.unique(cell[there] * width + (bins[there] - low), return_counts=True)
    edges = np.searchsorted(found // width, np.arange(cells + 1)).tolist()
    index, counts = (found % width + low).astype("<i2").tobytes(), count.astype("<u4").tobytes()
    return [index[2 * a : 2 * b] + counts[4 * a : 4 * b] if a < b else None for a, b in pairwise(edges)]


ROLLUP: Table = Rollup.__table__  # type: ignore[attr-defined]  # SQLModel adds __table__ at run time

CALL: Table = Call.__table__  # type: ignore[attr-defined]


# Ended and not in the rollups yet, in the very words of the partial index: "rolled IS 0" would not be found in it.
WAITING = and_(~CALL.c.rolled, CALL.c.state != literal_column("'running'"))


BATCH = 500

FEW = 200

FOLD_LOCK = 0x1AB_F01D

INPUT = COUNTS[:4]

NEEDED = (
    "id",
    "created_at",
    "deployment_id",
    "model",
    "kind",
    "source",
    "person",
    "outcome",
    "state",
    "lag_marked",
    "cost_state",
    "cost_nanousd",
    "plain_nanousd",
    "cost_drivers",
    "usage_source",
    "end_ms",
    *COUNTS,
    *SKETCHES.values(),
)

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
        for cells in cells_of_few(rows, counts=COUNTS, sketches=SKETCHES, keys=KEYS).values():
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


Row = Mapping[str, Any]

Cell = dict[str, Any]


def cells_of_few(
    rows: Iterable[Row], *, counts: Sequence[str], sketches: Mapping[str, str], keys: Sequence[str]
) -> dict[str, list[Cell]]:
    """The cells of ended calls by grain ("h", "d", "p"): keys, sums, and a `Sketch` for each of ``sketches``."""
    found: dict[str, dict[tuple[Any, ...], Cell]] = {"h": {}, "d": {}, "p": {}}
    bins: dict[int, dict[str, Counter[int]]] = {}
    for row in rows:
        sums, figures = _sums(row, counts), _figures(row, sketches)
        named = {name: str(row.get(name) or "") for name in ("deployment_id", "model", "kind", "source", "outcome")}
        named |= {"state": str(row["state"]), "cache": _cache(row, counts[:4])}
        for grain, cellmap in found.items():
            key = named | {
                "grain": grain,
                "bucket": _floor(row["created_at"], grain),
                "person": str(row.get("person") or "") if grain == "p" else "",
            }
            cell = cellmap.setdefault(tuple(key[name] for name in keys), {})
            if not cell:
                cell |= key | dict.fromkeys(sums, 0)
                bins[id(cell)] = {name: Counter() for name in sketches}
            for name, value in sums.items():
                cell[name] += value
            for name, bin_ in figures.items():
                bins[id(cell)][name][bin_] += 1
    for cellmap in found.values():
        for cell in cellmap.values():
            cell |= {name: _sketch(counted) for name, counted in bins[id(cell)].items()}
    return {grain: list(cellmap.values()) for grain, cellmap in found.items()}


def _sums(row: Row, counts: Sequence[str]) -> dict[str, int]:
    succeeded, drivers, cost = row["state"] == "succeeded", row.get("cost_drivers") or {}, row.get("cost_nanousd")
    plain = row.get("plain_nanousd")
    return {
        "n": 1,
        "n_late": int(succeeded and bool(row.get("lag_marked"))),
        "n_priced": int(cost is not None),
        "n_bounded": int(row.get("cost_state") == "lower_bound"),
        "n_estimated": int(row.get("usage_source") != "provider"),
        **{name: int(row.get(name) or 0) for name in counts},
        "cost_nanousd": int(cost or 0),
        "plain_nanousd": int((cost if plain is None else plain) or 0),
        **{f"cost_{name}": int(drivers.get(name) or 0) for name in counts},
        "busy_ms": round(row.get("end_ms") or 0),
    }


def _figures(row: Row, sketches: Mapping[str, str]) -> dict[str, int]:
    if row["state"] != "succeeded" or row.get("lag_marked"):
        return {}
    values = {name: row.get(column) for name, column in sketches.items()}
    return {name: sketch.bin_of(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def _cache(row: Row, given: Sequence[str]) -> str:
    read = row.get("cache_read")
    if read is None:
        return ""
    return "warm" if read > 0 and read * WARM_SHARE >= sum(int(row.get(name) or 0) for name in given) else "cold"


def _floor(moment: datetime, grain: str) -> datetime:
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour if grain == "h" else hour.replace(hour=0)


def _sketch(counted: Counter[int]) -> sketch.Sketch:
    if not counted:
        return sketch.EMPTY
    index = sorted(counted)
    return sketch.Sketch(np.array(index, dtype=np.int64), np.array([counted[i] for i in index], dtype=np.int64))
