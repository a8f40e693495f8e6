"""Rolling calls up: what ended and is not in the rollups yet is added, in one transaction with its mark on the call.

So a process that dies at any moment leaves nothing counted twice or not at all, and a reader who takes the rollups and
the calls without the mark has every call exactly once.

There are two writers, held together by tests/test_demo.py: `add` for the few calls that end between two turns, and
`insert_cells` for the hundreds of thousands of a simulated history, which it groups as arrays (100,000 calls: 0.6 s of
CPU, its arrays made; `add` takes 3.1 s). The arithmetic as arrays is `measured`, which readers of the history take too.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import RowMapping, Table, and_, bindparam, delete, func, insert, literal_column, select, update
from sqlmodel import Session

from db import sketch
from db.models import Call, Rollup
from db.run_queries import WARM_SHARE
from db.run_rows import Counted, Json, MeasuredCall
from db.types import rows_of

US = 1_000_000

GRAINS = (("h", 3600 * US, False), ("d", 86_400 * US, False), ("p", 86_400 * US, True))

KEYS = ("grain", "bucket", "deployment_id", "model", "kind", "source", "person", "outcome", "state", "cache")

NAMES = KEYS[2:]

COUNTS: tuple[Counted, ...] = get_args(Counted)

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
Figure = Literal["ttft_ms", "ttfat_ms", "ttlt_ms", "tpot_ms", "decode_tps", "e2e_tps"]

SKETCHES: Mapping[str, Figure] = {
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
    bins = np.full(len(values), _NONE, dtype=np.int64)
    there = ~np.isnan(values)
    bins[there] = sketch.bins_of(values[there])
    return bins


_NONE = 2**15


def _insert(
    driver: sqlite3.Connection,
    grain: str,
    bucket: NDArray[np.int64],
    step: int,
    by_person: bool,
    coded: Mapping[str, tuple[NDArray[np.int64], Any]],
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
    places, count = np.unique(cell[there] * width + (bins[there] - low), return_counts=True)
    edges = np.searchsorted(places // width, np.arange(cells + 1)).tolist()
    index, counts = (places % width + low).astype("<i2").tobytes(), count.astype("<u4").tobytes()
    return [index[2 * a : 2 * b] + counts[4 * a : 4 * b] if a < b else None for a, b in pairwise(edges)]


ROLLUP: Table = Rollup.__table__  # type: ignore[attr-defined]  # SQLModel adds __table__ at run time

CALL: Table = Call.__table__  # type: ignore[attr-defined]


# Ended and not in the rollups yet, in the very words of the partial index: "rolled IS 0" would not be found in it.
WAITING = and_(~CALL.c.rolled, CALL.c.state != literal_column("'running'"))


BATCH = 500

FEW = 200  # calls in one turn of an idle engine

FOLD_LOCK = 0x1AB_F01D

INPUT = COUNTS[:4]

DIMENSIONS = ("deployment_id", "model", "kind", "source", "person", "outcome", "state", "cache")


def fold(*, session: Session, limit: int = BATCH) -> int:
    """Add up to ``limit`` ended calls that are not rolled up yet; returns how many there were.

    On PostgreSQL one engine at a time does it: another that comes meanwhile finds nothing to do.
    """
    if session.get_bind().dialect.name == "postgresql":
        locked = session.execute(select(func.pg_try_advisory_xact_lock(FOLD_LOCK))).scalar()
        if not locked:
            return 0
    waiting = (
        select(*(CALL.c[name] for name in MeasuredCall.__annotations__))
        .where(WAITING)
        .order_by(CALL.c.created_at)
        .limit(limit)
    )
    rows = rows_of(MeasuredCall, session.execute(waiting))
    if not rows:
        return 0
    add(session=session, rows=rows)
    marked = update(CALL).where(CALL.c.id == bindparam("rolled_id")).values(rolled=True)
    session.execute(marked, [{"rolled_id": row["id"]} for row in rows])
    return len(rows)


def add(*, session: Session, rows: Iterable[MeasuredCall]) -> None:
    """Add ended calls to their cells of all three grains.

    In plain Python: up to a thousand calls at once that is quicker than pandas is (20 calls: 1 ms beside 16 ms, 500: 20
    beside 36, 2,000: 64 beside 52), and it holds the interpreter's lock for less while calls are being stamped.
    """
    for cells in cells_of(rows).values():
        _store(session, cells)


def measured(rows: Sequence[MeasuredCall]) -> pd.DataFrame:
    """One line for each call: its dimensions, what it adds to the sums, and its figures where they may be compared.

    A figure is NaN unless the call succeeded and its stamps were not late by our own fault.
    """
    # Column by column, and one frame at the end: for a few hundred calls, pandas' own operations would take longer than
    # reading them did.
    columns: Json = {name: [row.get(name) for row in rows] for name in MeasuredCall.__annotations__}
    for name in ("outcome", "model", "kind", "source", "person"):
        columns[name] = ["" if _missing(value) else str(value) for value in columns[name]]
    total_input, read = (
        sum((_whole(columns[name]) for name in INPUT), np.zeros(len(rows), np.int64)),
        _number(columns["cache_read"]),
    )
    warm = (read > 0) & (read * WARM_SHARE >= total_input)
    columns["cache"] = np.where(warm, "warm", np.where(np.isfinite(read), "cold", "")).astype(object)
    late = np.array([not _missing(value) and bool(value) for value in columns["lag_marked"]], dtype=bool)
    succeeded = np.array([state == "succeeded" for state in columns["state"]], dtype=bool)
    columns["n"], columns["n_late"] = np.ones(len(rows), np.int64), (succeeded & late).astype(np.int64)
    columns["n_priced"] = np.array([not _missing(value) for value in columns["cost_nanousd"]], dtype=np.int64)
    columns["n_bounded"] = np.array([state == "lower_bound" for state in columns["cost_state"]], dtype=np.int64)
    columns["n_estimated"] = np.array([source != "provider" for source in columns["usage_source"]], dtype=np.int64)
    drivers = [cost if isinstance(cost, Mapping) else {} for cost in columns["cost_drivers"]]
    for name, driver in zip(COUNTS, DRIVERS, strict=True):
        columns[driver] = [cost.get(name) for cost in drivers]
    columns["plain_nanousd"] = [
        cost if _missing(plain) else plain
        for plain, cost in zip(columns["plain_nanousd"], columns["cost_nanousd"], strict=True)
    ]
    columns["busy_ms"] = np.round(np.nan_to_num(_number(columns["end_ms"])))
    columns |= {name: _whole(columns[name]) for name in SUMS}
    for name, column in SKETCHES.items():
        values = _number(columns[column])
        columns[name] = np.where(succeeded & ~late & np.isfinite(values), values, np.nan)
    return pd.DataFrame(columns)


def _missing(value: object) -> bool:
    return value is None or value != value


def _number(values: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _whole(values: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    if isinstance(values, np.ndarray):
        return values.astype(np.int64)
    return np.array([0 if _missing(value) else int(value) for value in values], dtype=np.int64)


def _store(session: Session, cells: list[Cell]) -> None:
    stored: dict[tuple[Any, ...], RowMapping] = {}
    grain = cells[0].key[0] if cells else ""
    buckets = sorted({cell.key[1] for cell in cells})
    # By bucket, which the index knows, and not by cell: SQLite would read the whole table for a list of row values.
    for start in range(0, len(buckets), BATCH):
        in_buckets = select(ROLLUP).where(ROLLUP.c.grain == grain, ROLLUP.c.bucket.in_(buckets[start : start + BATCH]))
        for row in session.execute(in_buckets).mappings():
            stored[tuple(row[name] for name in KEYS)] = row
    new: list[Json] = []
    changed: list[Json] = []
    for cell in cells:
        row_before = stored.get(cell.key)
        sketches = {name: _sketch(counter) for name, counter in cell.bins.items()}
        if row_before is None:
            packed = {name: _packed(added) for name, added in sketches.items()}
            new.append(dict(zip(KEYS, cell.key, strict=True)) | cell.sums | packed)
            continue
        sums = {name: row_before[name] + cell.sums[name] for name in SUMS}
        merged = {
            name: _packed(sketch.merged((sketch.unpack(row_before[name]), added))) for name, added in sketches.items()
        }
        changed.append(sums | merged | {"cell_id": row_before["id"]})
    if new:
        session.execute(insert(ROLLUP), new)
    if changed:
        session.execute(update(ROLLUP).where(ROLLUP.c.id == bindparam("cell_id")), changed)


def _packed(values: sketch.Sketch) -> bytes | None:
    return values.pack() if len(values.index) else None


# --- making them anew ----------------------------------------------------------------------------------------------
def unroll_days(*, session: Session, days: Sequence[datetime]) -> int:
    """Take the rollups of these UTC days away and unmark their calls, which are then added anew; returns how many.

    For days whose calls are all still there: `db.runs` never leaves a day with some of them.
    """
    unmarked = 0
    for day in days:
        next_day = day + timedelta(days=1)
        session.execute(delete(ROLLUP).where(ROLLUP.c.bucket >= day, ROLLUP.c.bucket < next_day))
        done = session.execute(
            update(CALL)
            .where(CALL.c.created_at >= day, CALL.c.created_at < next_day, CALL.c.rolled.is_(True))
            .values(rolled=False)
        )
        unmarked += max(done.rowcount, 0)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
    return unmarked


def days_of_runs(*, session: Session, run_ids: Sequence[str]) -> list[datetime]:
    """The UTC days on which calls of these runs were made that are rolled up already."""
    days: set[datetime] = set()
    for start in range(0, len(run_ids), BATCH):
        statement = select(CALL.c.created_at).where(
            CALL.c.run_id.in_(run_ids[start : start + BATCH]), CALL.c.rolled.is_(True)
        )
        days |= {day_of(moment) for moment in session.execute(statement).scalars()}
    return sorted(days)


def day_of(moment: datetime) -> datetime:
    """The UTC day of a moment, as its first instant."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@dataclass(slots=True)
class Cell:
    """What is added to one row of the rollups: its key (`KEYS`), its sums, and how many values fall into each bin."""

    key: tuple[Any, ...]
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SUMS, 0))
    bins: dict[str, Counter[int]] = field(default_factory=lambda: {name: Counter() for name in SKETCHES})


def cells_of(calls: Iterable[MeasuredCall]) -> dict[str, list[Cell]]:
    """The cells of ended calls by grain ("h", "d", "p")."""
    grains: dict[str, dict[tuple[Any, ...], Cell]] = {"h": {}, "d": {}, "p": {}}
    for call in calls:
        sums, bins = _sums(call), _bins(call)
        names = {name: str(call.get(name) or "") for name in ("deployment_id", "model", "kind", "source", "outcome")}
        names |= {"state": str(call["state"]), "cache": _cache(call)}
        for grain, cells in grains.items():
            values = names | {
                "grain": grain,
                "bucket": _floor(call["created_at"], grain),
                "person": str(call.get("person") or "") if grain == "p" else "",
            }
            key = tuple(values[name] for name in KEYS)
            cell = cells.get(key)
            if cell is None:
                cell = cells[key] = Cell(key)
            for name, amount in sums.items():
                cell.sums[name] += amount
            for name, bin_index in bins.items():
                cell.bins[name][bin_index] += 1
    return {grain: list(cells.values()) for grain, cells in grains.items()}


def _sums(call: MeasuredCall) -> dict[str, int]:
    succeeded, drivers, cost = call["state"] == "succeeded", call.get("cost_drivers") or {}, call.get("cost_nanousd")
    plain = call.get("plain_nanousd")
    return {
        "n": 1,
        "n_late": int(succeeded and bool(call.get("lag_marked"))),
        "n_priced": int(cost is not None),
        "n_bounded": int(call.get("cost_state") == "lower_bound"),
        "n_estimated": int(call.get("usage_source") != "provider"),
        **{name: call.get(name) or 0 for name in COUNTS},
        "cost_nanousd": int(cost or 0),
        "plain_nanousd": int((cost if plain is None else plain) or 0),
        **{driver: int(drivers.get(name) or 0) for name, driver in zip(COUNTS, DRIVERS, strict=True)},
        "busy_ms": round(call.get("end_ms") or 0),
    }


def _bins(call: MeasuredCall) -> dict[str, int]:
    """The bin of each figure; none unless the call succeeded and its stamps were not late by our own fault."""
    if call["state"] != "succeeded" or call.get("lag_marked"):
        return {}
    values = {name: call.get(column) for name, column in SKETCHES.items()}
    return {name: sketch.bin_of(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def _cache(call: MeasuredCall) -> str:
    cache_read = call.get("cache_read")
    if cache_read is None:
        return ""
    total = sum(call.get(name) or 0 for name in INPUT)
    return "warm" if cache_read > 0 and cache_read * WARM_SHARE >= total else "cold"


def _floor(moment: datetime, grain: str) -> datetime:
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour if grain == "h" else hour.replace(hour=0)


def _sketch(counter: Counter[int]) -> sketch.Sketch:
    if not counter:
        return sketch.EMPTY
    index = sorted(counter)
    return sketch.Sketch(np.array(index, dtype=np.int64), np.array([counter[i] for i in index], dtype=np.int64))
