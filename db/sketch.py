"""Mergeable quantile sketches: DDSketch (Masson, Rim and Lee, VLDB 2019) with a relative error of at most 0.5 %.

The mapping from values to bins is the one of Datadog's ``ddsketch``; the bins themselves are NumPy arrays, because
thousands of sketches are merged for one picture. A sketch is stored as its bins: little-endian int16 indices in
ascending order, then uint32 counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ddsketch.mapping import LogarithmicMapping
from numpy.typing import NDArray

RELATIVE_ERROR = 0.005
SMALLEST, LARGEST = 1e-3, 1e9  # milliseconds or tokens per second: nothing that is measured lies outside
_MAPPING = LogarithmicMapping(RELATIVE_ERROR)
_LOG_GAMMA = float(np.log(_MAPPING.gamma))
_PER_BIN = 6

Bins = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sketch:
    """Bins in ascending order and how many values fell into each."""

    index: Bins
    count: Bins

    @property
    def n(self) -> int:
        """How many values it holds."""
        return int(self.count.sum())

    def quantile(self, q: float) -> float | None:
        """The q-quantile (0 ≤ q ≤ 1), linear between the closest ranks as NumPy's, within `RELATIVE_ERROR` of it; None
        when it is empty."""
        n = self.n
        if n == 0:
            return None
        rank = q * (n - 1)
        below = int(rank)
        low, high = np.searchsorted(np.cumsum(self.count), [below, min(below + 1, n - 1)], side="right")
        first, second = (float(_MAPPING.value(int(self.index[place]))) for place in (low, high))
        return first + (second - first) * (rank - below)

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The empirical distribution: the value of each bin, and the share of values up to and including it."""
        values = np.array([_MAPPING.value(int(i)) for i in self.index], dtype=float)
        total = max(self.n, 1)
        return values, np.cumsum(self.count) / total

    def pack(self) -> bytes:
        """The bytes that are stored; `unpack` gives the same sketch back."""
        return self.index.astype("<i2").tobytes() + self.count.astype("<u4").tobytes()


EMPTY = Sketch(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def bins_of(values: Any) -> Bins:
    """The bin of each value (same shape, one dimension); values outside the measurable are put at its ends."""
    clipped = np.clip(np.asarray(values, dtype=float), SMALLEST, LARGEST)
    bins: Bins = np.ceil(np.log(clipped) / _LOG_GAMMA).astype(np.int64)
    return bins


def bin_of(value: float) -> int:
    """The bin of one value; the same as `bins_of` of it."""
    return math.ceil(math.log(min(max(value, SMALLEST), LARGEST)) / _LOG_GAMMA)


def of_values(values: Sequence[float]) -> Sketch:
    """A sketch of these values (all finite)."""
    if len(values) == 0:
        return EMPTY
    index, count = np.unique(bins_of(values), return_counts=True)
    return Sketch(index.astype(np.int64), count.astype(np.int64))


def unpack(stored: bytes | memoryview | None) -> Sketch:
    """The sketch of stored bytes; an empty one for None. Raises ValueError for bytes that are no sketch."""
    if not stored:
        return EMPTY
    data = bytes(stored)
    bins, surplus = divmod(len(data), _PER_BIN)
    if surplus:
        raise ValueError(f"{len(data)} bytes are no sketch")
    index = np.frombuffer(data, dtype="<i2", count=bins).astype(np.int64)
    count = np.frombuffer(data, dtype="<u4", offset=2 * bins).astype(np.int64)
    return Sketch(index, count)


def merged(sketches: Iterable[Sketch]) -> Sketch:
    """One sketch of everything that the given ones hold; the order does not matter."""
    parts = [sketch for sketch in sketches if len(sketch.index)]
    if not parts:
        return EMPTY
    if len(parts) == 1:
        return parts[0]
    return _summed(
        np.concatenate([sketch.index for sketch in parts]), np.concatenate([sketch.count for sketch in parts])
    )


def flattened(stored: Sequence[bytes | memoryview | None]) -> tuple[Bins, Bins, Bins]:
    """All bins of many stored sketches in one row: which sketch each is of, its index, its count."""
    lengths = np.array([len(packed) // _PER_BIN if packed else 0 for packed in stored], dtype=np.int64)
    owner = np.repeat(np.arange(len(stored), dtype=np.int64), lengths)
    data = np.frombuffer(b"".join(bytes(packed) for packed in stored if packed), dtype=np.uint8)
    # A sketch is its indices and then its counts: the bytes of the i-th bin lie 2i and 2·bins + 4i behind its start.
    begins = np.cumsum(lengths) - lengths
    place = np.arange(len(owner), dtype=np.int64) - begins[owner]
    start = begins[owner] * _PER_BIN
    place_of_byte = start + 2 * place
    index = (
        (data[place_of_byte].astype(np.uint16) | data[place_of_byte + 1].astype(np.uint16) << 8)
        .view(np.int16)
        .astype(np.int64)
    )
    place_of_byte = start + 2 * lengths[owner] + 4 * place
    count = sum(
        (data[place_of_byte + byte].astype(np.int64) << 8 * byte for byte in range(4)), np.zeros(len(owner), np.int64)
    )
    return owner, index, count


def value_of(index: int) -> float:
    """The value that stands for a bin."""
    return float(_MAPPING.value(index))


def _summed(index: Bins, count: Bins) -> Sketch:
    bins, place = np.unique(index, return_inverse=True)
    return Sketch(bins, np.bincount(place, weights=count).astype(np.int64))
