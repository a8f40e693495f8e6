"""Percentiles of many groups at once, from single values or from the bins of sketches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from db import sketch
from services.runs.compare import NEEDED

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Measured:
    """The values of one figure. ``owner``: the row each one belongs to. ``exact``: ``value`` holds the values
    themselves (``count`` is 1 for each), else it holds bins of `db.sketch`, each of them ``count`` times."""

    owner: Ints
    value: Floats
    count: Ints
    exact: bool


def measured(stored: Sequence[bytes | None], loose: Floats) -> Measured:
    """The values of rows: first rows with a stored sketch each, then rows with one value each (NaN for none)."""
    there = np.flatnonzero(np.isfinite(loose))
    if not any(stored):
        return Measured(there + len(stored), loose[there], np.ones(len(there), dtype=np.int64), exact=True)
    owner, index, count = sketch.flattened(stored)
    return Measured(
        np.concatenate([owner, there + len(stored)]),
        np.concatenate([index, sketch.bins_of(loose[there])]).astype(float),
        np.concatenate([count, np.ones(len(there), dtype=np.int64)]),
        exact=False,
    )


def by_group(measured: Measured, codes: Ints, groups: int, qs: Sequence[float] | Floats) -> tuple[Ints, Floats]:
    """How many values each group has, and its quantiles (one line for each q). ``codes``: the group of each row, −1
    for none. A group without values has NaN. Interpolated between ranks, as everywhere (`services.runs.compare`)."""
    of = codes[measured.owner]
    grouped = of >= 0
    of, value, count = of[grouped], measured.value[grouped], measured.count[grouped]
    n = np.bincount(of, weights=count, minlength=groups).astype(np.int64)
    if not len(of):
        return n, np.full((len(qs), groups), np.nan)
    return n, _exact(of, value, n, qs) if measured.exact else _binned(of, value, count, n, qs)


def _exact(of: Ints, value: Floats, n: Ints, qs: Sequence[float] | Floats) -> Floats:
    ordered = value[np.lexsort((value, of))]
    starts = np.concatenate([[0], np.cumsum(n)[:-1]])
    last = len(ordered) - 1
    table = np.full((len(qs), len(n)), np.nan)
    for line, q in enumerate(qs):
        place = q * np.maximum(n - 1, 0)
        below = np.floor(place).astype(np.int64)
        low = ordered[np.minimum(starts + below, last)]
        high = ordered[np.minimum(starts + np.minimum(below + 1, np.maximum(n - 1, 0)), last)]
        table[line] = np.where(n > 0, low + (high - low) * (place - below), np.nan)
    return table


def _binned(of: Ints, value: Floats, count: Ints, n: Ints, qs: Sequence[float] | Floats) -> Floats:
    bins = value.astype(np.int64)
    low, span = int(bins.min()), int(bins.max() - bins.min()) + 1
    flat = np.bincount(of * span + (bins - low), weights=count, minlength=len(n) * span)
    reached = np.cumsum(flat.reshape(len(n), span), axis=1)
    table = np.full((len(qs), len(n)), np.nan)
    for line, q in enumerate(qs):
        place = q * np.maximum(n - 1, 0)
        below = np.floor(place)
        first, second = (
            values_of(np.minimum((reached <= rank[:, None]).sum(axis=1), span - 1) + low)
            for rank in (below, np.minimum(below + 1, np.maximum(n - 1, 0)))
        )
        table[line] = np.where(n > 0, first + (second - first) * (place - below), np.nan)
    return table


def values_of(bins: Ints) -> Floats:
    """The value that stands for each bin."""
    table, lowest = _table()
    values_of_bins: Floats = table[np.clip(bins - lowest, 0, len(table) - 1)]
    return values_of_bins


@cache
def _table() -> tuple[Floats, int]:
    lowest, highest = (int(bin_number) for bin_number in sketch.bins_of([sketch.SMALLEST, sketch.LARGEST]))
    return np.array([sketch.value_of(index) for index in range(lowest, highest + 1)], dtype=float), lowest


def shown(q: float, n: Ints, values: Floats) -> Floats:
    """The values of a percentile, NaN where too few calls stand behind it (p95: 20, p99: 100)."""
    shown_values: Floats = np.where(n >= NEEDED.get(q, 1), values, np.nan)
    return shown_values


def why_missing(q: float, n: int) -> str | None:
    """Why a percentile is not shown, in words; None where it is."""
    needed = NEEDED.get(q, 1)
    if n >= needed:
        return None
    return "no call was measured" if n == 0 else f"p{q * 100:g} needs {needed} calls, there are {n}"


def median_interval(measured: Measured, codes: Ints, groups: int) -> tuple[Ints, Floats]:
    """n of each group, and three lines: median and the ends of its 95 % interval.

    The interval is that between two order statistics (binomial, by its normal approximation): free of any assumption
    about the distribution, and to be had from a sketch, where a bootstrap is not. NaN below 6 values, where not even
    the smallest and the largest enclose the median with 95 %.
    """
    n, middle = by_group(measured, codes, groups, [0.5])
    table = np.full((3, groups), np.nan)
    table[0] = middle[0]
    for group in np.flatnonzero(n >= 6):
        half = 0.98 / np.sqrt(n[group])  # 1.96 · √(n/4) / n
        of_it = np.where(codes == group, 0, -1)
        _, ends = by_group(measured, of_it, 1, [max(0.5 - half, 0.0), min(0.5 + half, 1.0)])
        table[1:, group] = ends[:, 0]
    return n, table
