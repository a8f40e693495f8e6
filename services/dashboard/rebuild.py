"""Making the rollups anew from the calls, day by day, so that it can be stopped at any moment.

What was taken away and is not added yet is missing nowhere: readers take it from the calls, and the engine adds it in
its own time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

from sqlmodel import Session

from db import rollups
from db.writer import Writer

AT_ONCE = 2000


class Rollups(Protocol):
    """Who writes them: the engine that runs, or a writer of our own where none does."""

    def unroll(self, day: datetime) -> int:
        """Take a UTC day away and unmark its calls; returns how many."""
        ...

    def fold(self) -> int:
        """Add some of the calls that wait; returns how many there were, 0 when none is left."""
        ...


class OwnRollups:
    """The rollups of a database that no engine works on."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def unroll(self, day: datetime) -> int:
        """See `Rollups.unroll`."""
        return self._writer.submit(partial(_unroll, day)).result()

    def fold(self) -> int:
        """See `Rollups.fold`."""
        return self._writer.submit(_fold).result()


def _unroll(day: datetime, session: Session) -> int:
    return rollups.unroll_days(session=session, days=[day])


def _fold(session: Session) -> int:
    return rollups.fold(session=session, limit=AT_ONCE)


def rebuild(rollups: Rollups, days: Sequence[datetime], tell: Callable[[int, int], None]) -> int:
    """Make the rollups of these UTC days anew and add whatever else waits; returns how many calls were added.

    ``tell(days done, calls added)`` is called after every step.
    """
    added = 0
    for done, day in enumerate((*days, None)):
        if day is not None:
            rollups.unroll(day)
        while folded := rollups.fold():
            added += folded
            tell(done, added)
        tell(done + (day is not None), added)
    return added
