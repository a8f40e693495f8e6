"""Nothing ticks without a run, a viewer or a batch, and whatever rests wakes at once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket

import httpx
import pytest
import uvicorn

from app.asgi import StillServer
from db.rollups import FEW
from services.calls import clock
from services.embedded import pool
from services.engine import alert_loop
from tests.engine.house import House, frames_of, table

pytestmark = pytest.mark.slow

SOON_S = 9.0  # less than what the heartbeat of a database with more owners takes


def due_soon() -> list[str]:
    """What the running loop will do within `SOON_S`."""
    loop = asyncio.get_running_loop()
    handles = [one for one in loop._scheduled if not one.cancelled() and one.when() < loop.time() + SOON_S]  # type: ignore[attr-defined]
    return [repr(one) for one in handles]


async def until_still() -> None:
    """Wait until the loop has nothing to do. Raises TimeoutError with what there is."""
    left: list[str] = []
    try:
        async with asyncio.timeout(30):
            # Twice: what has just run out may be about to plan the next.
            while left := [*due_soon(), *(await _a_moment_later())]:
                pass
    except TimeoutError:
        raise AssertionError(f"still due: {left}") from None


async def _a_moment_later() -> list[str]:
    await asyncio.sleep(0.05)
    return due_soon()


async def test_an_engine_with_nobody_there_plans_nothing_and_wakes_for_a_run_and_its_rollup(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "AFTER_S", 0.0)
    monkeypatch.setattr(alert_loop, "EVERY_S", 0.0)
    await until_still()
    for _ in range(2):
        await house.declare(table("a", "fake?tokens=20&itl=20&ttft=5", house.fake.url))
        run = await house.start(["a"])
        kinds = [frame["type"] for frame in await frames_of(run)]
        assert len(kinds) > 5 and kinds[-1] == "end", kinds
        before = house.engine.rolling.added
        async with asyncio.timeout(10):
            while house.engine.rolling.added == before and before == 0:
                await asyncio.sleep(0.01)
        await until_still()
    assert house.engine.rolling.added == 2 <= FEW


async def test_a_deadline_ends_a_call_that_began_after_a_rest(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "AFTER_S", 0.0)
    await until_still()
    await house.declare(table("a", "fake?ttft=60000", house.fake.url, first_token_s=0.3, headers_s=0.3))
    row = (await house.ask(["a"]))[0]
    assert row["state"] == "timed_out", row["message"]


async def test_what_the_last_run_left_is_collected_when_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "AFTER_S", 0.0)
    collected: list[str] = []
    note = lambda phase, info: collected.append(phase) if info["generation"] == 2 else None  # noqa: E731
    gc.callbacks.append(note)
    ticker = clock.Ticker(lambda: (), lambda: ())
    ticker.start()
    try:
        async with asyncio.timeout(10):
            while "stop" not in collected:
                await asyncio.sleep(0.01)
    finally:
        gc.callbacks.remove(note)
        await ticker.close()


async def test_a_server_that_nobody_asks_for_is_left_alone_and_is_probed_as_soon_as_somebody_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probes: list[str] = []

    async def answers(url: str) -> bool:
        probes.append(url)
        return True

    monkeypatch.setattr(pool, "is_healthy", answers)
    monkeypatch.setattr(pool, "PROBE_EVERY_S", 0.01)
    process = await asyncio.create_subprocess_exec("sleep", "60", stdout=asyncio.subprocess.PIPE)
    use = pool.Use()
    watching = asyncio.create_task(pool.watch(process, "http://x", use))
    try:
        await until_still()
        assert probes == []
        use.touch()
        async with asyncio.timeout(10):
            while len(probes) < 3:
                await asyncio.sleep(0.01)
    finally:
        process.kill()
        assert await watching == "it was ended by SIGKILL"


async def test_the_pages_server_plans_nothing_dates_its_answers_and_ends_when_it_is_told_to() -> None:
    async def app(scope: dict, receive: object, send) -> None:  # type: ignore[no-untyped-def,type-arg]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_keep_alive=1)
        server = StillServer(config)
        # Not `serve`, which takes the signals of the test's own process.
        task = asyncio.create_task(server._serve([listening]))
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(url)
        assert answer.text == "here" and answer.headers["date"].endswith("GMT")
        await until_still()
        server.handle_exit(15, None)
        async with asyncio.timeout(10):
            with contextlib.suppress(SystemExit):
                await task
