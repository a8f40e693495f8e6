"""Rollup cells of very many calls at once, into an SQLite database that has none of them yet: `db.rollups.add` reads
each cell before it adds to it, which is right for a few calls and too slow for a million.
"""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from db import sketch
from db.rollups import KEYS, SKETCHES, SUMS

US = 1_000_000
GRAINS = (("h", 3600 * US, False), ("d", 86_400 * US, False), ("p", 86_400 * US, True))
NAMES = KEYS[2:]
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
    driver: sqlite3.Connection, grain: str, bucket: NDArray[np.int64], step: int, by_person: bool,
    coded: dict[str, Any], sums: NDArray[np.int64], bins: dict[str, NDArray[np.int64]],
) -> int:  # fmt: skip
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
    columns += [_packed(cell, bins[name], len(starts)) for name in SKETCHES]
    driver.executemany(_INSERT, zip(*columns, strict=True))
    return len(starts)


def _moments(at_us: NDArray[np.int64]) -> list[str]:
    """As SQLAlchemy writes moments into SQLite."""
    return [text.replace("T", " ") for text in np.datetime_as_string(at_us.astype("M8[us]"), unit="us").tolist()]


def _packed(cell: NDArray[np.int64], bins: NDArray[np.int64], cells: int) -> list[bytes | None]:
    """The stored sketch of each cell (`db.sketch.Sketch.pack`); None for an empty one."""
    there = bins != _NONE
    low = int(bins[there].min()) if there.any() else 0
    width = 2 * _NONE
    found, count = np.unique(cell[there] * width + (bins[there] - low), return_counts=True)
    edges = np.searchsorted(found // width, np.arange(cells + 1)).tolist()
    index, counts = (found % width + low).astype("<i2").tobytes(), count.astype("<u4").tobytes()
    return [index[2 * a : 2 * b] + counts[4 * a : 4 * b] if a < b else None for a, b in pairwise(edges)]
