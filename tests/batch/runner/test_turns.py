"""Turns: as many at once as there are lanes, none in a pause that the service asked for, none once it is closed."""

from __future__ import annotations

import asyncio
import time

from services.batch.concurrency import Lanes, Spacing, Turns


def turns(first: int = 2, per_minute: float | None = None) -> Turns:
    return Turns(Lanes(first=first), Spacing(per_minute))


async def test_no_more_than_there_are_lanes_and_in_order_of_coming() -> None:
    made, began = turns(), []

    async def line(number: int) -> None:
        assert await made.take()
        began.append(number)
        assert made.in_use <= 2
        await asyncio.sleep(0)
        made.release()

    await asyncio.gather(*(line(number) for number in range(50)))
    assert began == list(range(50))
    assert made.in_use == 0


async def test_a_pause_that_the_service_asked_for_holds_for_everybody() -> None:
    made = turns(first=8)
    start = time.monotonic()
    made.pause(0.15)
    assert all(await asyncio.gather(*(made.take() for _ in range(8))))
    assert time.monotonic() - start >= 0.14


def test_pauses_grow_while_nothing_succeeds_and_one_burst_is_one_pause() -> None:
    made = turns()
    first = made.pause(None)
    assert abs(made.pause(None) - first) < 0.1, "the same burst"
    made._open_at = 0.0
    assert made.pause(None) > 1.5 * first
    made.ended(began=0.0, latency_ms=5.0)
    made._open_at = 0.0
    assert made.pause(None) < 1.5 * first


async def test_closing_lets_everybody_who_waits_go_without_a_turn() -> None:
    made = turns(first=1)
    assert await made.take()
    waiting = [asyncio.create_task(made.take()) for _ in range(5)]
    await asyncio.sleep(0)
    made.close()
    assert await asyncio.gather(*waiting) == [False] * 5
    made.release()
    assert made.in_use == 0
    assert not await made.take()


async def test_whoever_is_cancelled_while_waiting_takes_no_turn_away() -> None:
    made = turns(first=1)
    assert await made.take()
    waiting = asyncio.create_task(made.take())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    made.release()
    assert await asyncio.wait_for(made.take(), 1)


async def test_the_rate_limit_spaces_the_lines() -> None:
    made = turns(first=50, per_minute=3000)
    start = time.monotonic()
    for _ in range(11):
        assert await made.take()
        made.release()
    assert time.monotonic() - start >= 0.19
