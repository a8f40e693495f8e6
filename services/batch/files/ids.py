"""Double ids in a file of any length, in 24 bytes for each record: no id is kept.

Of each id a 128-bit digest is kept, with the line. That is exact for every purpose: the chance that two different ids
of a billion meet is below 10⁻²⁰. The digests lie in a few sorted arrays that are merged as they grow, so a batch of
records is looked up at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_U64 = NDArray[np.uint64]


class _Run(NamedTuple):
    first: _U64  # sorted
    second: _U64
    line: _U64


def key_of(record_id: str) -> bytes:
    """The digest under which an id is known: capitals and spaces do not make ids different."""
    same = " ".join(record_id.split()).casefold()
    return blake2b(same.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Ids:
    """The ids of a file so far."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def look(self, keys: Sequence[bytes]) -> list[int]:
        """For each key the line it was first seen on, 0 for a new one. Nothing is added."""
        found = np.zeros(len(keys), dtype=np.uint64)
        if not keys or not self._runs:
            return found.tolist()
        pairs = np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(-1, 2)
        first, second = pairs[:, 0], pairs[:, 1]
        for run in self._runs:
            places = np.searchsorted(run.first, first)
            inside = places < len(run.first)
            hit = np.zeros(len(keys), dtype=bool)
            hit[inside] = run.first[places[inside]] == first[inside]
            for index in np.flatnonzero(hit):
                place = int(places[index])
                while place < len(run.first) and run.first[place] == first[index]:
                    if run.second[place] == second[index]:
                        found[index] = run.line[place]
                        break
                    place += 1
        return found.tolist()

    def add(self, keys: Sequence[bytes], lines: Sequence[int]) -> None:
        """Keep new keys, none of which is known yet."""
        if not keys:
            return
        pairs = np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(-1, 2)
        self._runs.append(_sorted(pairs[:, 0], pairs[:, 1], np.asarray(lines, dtype=np.uint64)))
        while len(self._runs) > 1 and len(self._runs[-2].first) < 2 * len(self._runs[-1].first):
            last, before = self._runs.pop(), self._runs.pop()
            self._runs.append(_sorted(*(np.concatenate(both) for both in zip(before, last, strict=True))))


def _sorted(first: _U64, second: _U64, line: _U64) -> _Run:
    order = np.argsort(first, kind="stable")
    return _Run(first[order], second[order], line[order])
