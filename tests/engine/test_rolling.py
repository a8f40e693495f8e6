"""Calls are added to the rollups while others are being made, without falling behind for as long as that lasts."""

from __future__ import annotations

import asyncio
import re

import pytest

from services.engine import background
from services.runs.spec import new_id


class Backlog:
    """A writer before whom so many calls wait; it tells how many a turn took."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.turns: list[int] = []

    async def write(self, unit: object) -> int:
        (limit,) = unit.args  # type: ignore[attr-defined]  # a partial
        took = min(limit, self.waiting)
        self.waiting -= took
        self.turns.append(took)
        return took


async def test_an_engine_that_is_never_idle_works_its_backlog_off_in_crumbs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "BEHIND_EVERY_S", 0)
    backlog = Backlog(205)
    task = asyncio.create_task(background.Rolling(backlog, lambda: True).run())  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        while backlog.waiting:
            await asyncio.sleep(0)
    task.cancel()
    assert backlog.turns == [background.BUSY_BATCH] * 10 + [5]


def test_it_rests_longest_where_calls_are_being_made_and_little_waits() -> None:
    rests = [
        background.pause_s(*one[:1], busy=one[1])
        for one in (
            (background.BUSY_BATCH - 1, True),
            (0, False),
            (background.BUSY_BATCH, True),
            (background.IDLE_BATCH, False),
        )
    ]
    assert rests == sorted(rests, reverse=True)
    assert len(set(rests)) == 4


def test_no_id_looks_like_an_option_of_a_command_line() -> None:
    ids = {new_id() for _ in range(3_000)}
    assert len(ids) == 3_000
    assert not [one for one in ids if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{15}", one)]
