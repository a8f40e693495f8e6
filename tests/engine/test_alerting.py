"""The engine's alerts: measured on real rows, written down, sent, and out of the way of what is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from db import runs, small_tables
from services.engine import alert_loop
from services.engine.alert_loop import Alerting
from services.pricing import budget
from tests.db.rows import call_row, run_row
from tests.engine.house import House, table
from tests.sinks import Webhook

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


async def ended(house: House, n: int, *, at: datetime, **values: Any) -> None:
    """``n`` ended calls, made at ``at``."""
    run_id = f"r-{at.timestamp()}-{values}"
    calls = [
        call_row(
            f"{run_id}-{one}",
            run_id,
            state="succeeded",
            created_at=at,
            end_ms=900.0,
            cost_nanousd=10**9,
            usage_source="provider",
        )
        | values
        for one in range(n)
    ]

    def write(session: Any) -> None:
        runs.insert_run(session=session, values=run_row(run_id))
        runs.insert_calls(session=session, rows=calls)

    await house.writer.write(write)


async def watch(house: House, **values: Any) -> str:
    row = {
        "name": "",
        "metric": "p95_ttft",
        "threshold": 1000.0,
        "window_s": 900,
        "deployments": [],
        "targets": [],
        "enabled": True,
    } | values
    await house.writer.write(lambda s: small_tables.save(session=s, alert_id="a1", values=row, person="ada", at=NOW))
    return "a1"


def events(house: House) -> list[tuple[bool, str | None]]:
    return [(one.firing, one.delivered) for one in small_tables.events(house.reader)[::-1]]


async def until(said: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not said():
            await asyncio.sleep(0.02)


async def test_an_alert_fires_once_is_sent_and_ends(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Webhook() as hook:
        monkeypatch.setenv("ALERT_WEBHOOK", hook.address)
        await watch(house, targets=["ALERT_WEBHOOK"])
        await ended(house, 25, at=NOW, ttft_ms=1500.0)
        for minutes in (1, 2, 3):
            await house.engine.alerting.once(NOW + timedelta(minutes=minutes))
        await until(lambda: events(house) == [(True, "sent to ALERT_WEBHOOK")])
        assert small_tables.firing(house.reader)[0].since == NOW + timedelta(minutes=1)
        await house.engine.alerting.once(NOW + timedelta(minutes=30))  # the calls have left the window: not enough
        assert small_tables.alerts(house.reader)[0].n == 0 and small_tables.alerts(house.reader)[0].firing
        await ended(house, 25, at=NOW + timedelta(minutes=40), ttft_ms=300.0)
        await house.engine.alerting.once(NOW + timedelta(minutes=41))
        await until(lambda: events(house)[1:] == [(False, "sent to ALERT_WEBHOOK")])
        assert [one["message"] for one in hook.received] == [
            "p95 time to first token was 1.5 s over the last 15 min (25 calls): above 1 s.",
            "p95 time to first token was 300 ms over the last 15 min (25 calls): no longer above 1 s.",
        ]


async def test_a_notice_that_is_not_taken_is_tried_again_and_the_event_says_so(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await gate.wait()

    async with Webhook(500, 503, 200) as hook:
        monkeypatch.setenv("ALERT_WEBHOOK", hook.address)
        monkeypatch.setattr(alert_loop, "_pause", pause)
        await watch(house, targets=["ALERT_WEBHOOK", "ALERT_GONE"])
        await ended(house, 25, at=NOW, ttft_ms=1500.0)
        await house.engine.alerting.once(NOW + MINUTE)
        gone = "ALERT_GONE is not set any more, so nothing was sent to it"
        await until(
            lambda: events(house) == [(True, f"{gone}; ALERT_WEBHOOK did not accept it (500): will be tried again")]
        )
        gate.set()
        await until(lambda: events(house) == [(True, f"{gone}; sent to ALERT_WEBHOOK")])
        assert len(hook.received) == 3 and pauses == list(alert_loop.BACKOFF_S[:2])


async def test_a_notice_is_given_up_after_three_more_tries(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Webhook(500) as hook:
        monkeypatch.setenv("ALERT_WEBHOOK", hook.address)
        monkeypatch.setattr(alert_loop, "BACKOFF_S", (0.0, 0.0, 0.0))
        await watch(house, targets=["ALERT_WEBHOOK"])
        await ended(house, 25, at=NOW, ttft_ms=1500.0)
        await house.engine.alerting.once(NOW + MINUTE)
        given_up = "ALERT_WEBHOOK did not accept it (500): given up after 4 tries"
        await until(lambda: events(house) == [(True, given_up)])
        assert len(hook.received) == 4


async def test_the_next_engine_sends_what_the_last_one_was_about_to(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Webhook() as hook:
        monkeypatch.setenv("ALERT_WEBHOOK", hook.address)
        await watch(house, targets=["ALERT_WEBHOOK"])
        seen = small_tables.alerts(house.reader)[0]
        event = {"id": "e1", "sentence": "It was slow.", "delivered": None}
        await house.writer.write(
            lambda s: small_tables.checked(session=s, seen=seen, at=NOW, value=1500.0, n=25, firing=True, event=event)
        )
        await house.engine.alerting.once(NOW + timedelta(minutes=2))
        assert not hook.received  # the engine that wrote it may still be trying
        await house.engine.alerting.once(NOW + timedelta(hours=1))
        await until(lambda: events(house) == [(True, "sent to ALERT_WEBHOOK")])
        await house.engine.alerting.once(NOW + timedelta(hours=2))
        assert len(hook.received) == 1


async def test_spend_counts_the_hours_of_being_on(house: House) -> None:
    await house.declare(
        table("gpu", "m", "http://127.0.0.1:1").replace("{ input = 1.0, output = 2.0 }", "{ per_hour = 48 }")
    )
    await watch(house, metric="spend_day", threshold=5.0, window_s=86_400)
    now = datetime.now(UTC) + timedelta(minutes=15)
    await ended(house, 2, at=now - timedelta(minutes=1))
    (seen,) = await house.engine.alerting.once(now)
    assert seen.measured.value == pytest.approx(2 + 12, rel=0.05)
    assert seen.verdict.firing and events(house) == [(True, alert_loop.TO_NOBODY)]


async def test_an_alert_that_is_changed_while_it_is_measured_keeps_nothing_of_the_old_result(house: House) -> None:
    await watch(house)
    await ended(house, 25, at=NOW, ttft_ms=1500.0)
    found = alert_loop.evaluate(house.reader, NOW + MINUTE)
    assert found[0].verdict.changed
    await watch(house, threshold=9000.0)
    await house.engine.alerting._keep(found[0], NOW + MINUTE)
    assert events(house) == [] and not small_tables.alerts(house.reader)[0].firing


def test_it_looks_at_most_every_30_s_every_60_while_calls_are_under_way_and_only_when_something_moved() -> None:
    busy, rolled = [False], [0]
    watcher = Alerting(None, None, busy=lambda: busy[0], rolled=lambda: rolled[0])  # type: ignore[arg-type]
    clock = float(int(time.monotonic()))  # whole seconds: the differences are exact
    assert watcher.due(clock)
    watcher._last, watcher._seen_rolled, watcher._moving = clock, 0, True
    assert not watcher.due(clock + 29) and watcher.due(clock + 30)
    busy[0] = True
    assert not watcher.due(clock + 59) and watcher.due(clock + 60)
    busy[0], watcher._moving = False, False
    assert not watcher.due(clock + 599) and watcher.due(clock + 600)
    rolled[0] = 1
    assert watcher.due(clock + 30)


@pytest.fixture
async def door(house: House) -> Any:
    async with TestClient(TestServer(house.app()), headers={"host": "engine"}) as client:
        yield client


async def asked(
    door: TestClient[Any, Any], method: str, path: str, body: Any = None, role: str = "admin"
) -> tuple[int, Any]:
    async with door.request(method, path, json=body, headers={"x-lab-role": role, "x-lab-person": "ada"}) as answer:
        return answer.status, await answer.json()


async def test_alerts_notes_and_budget_are_changed_through_the_door_by_those_who_may(
    house: House, door: TestClient[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALERT_WEBHOOK", "json://127.0.0.1:9/secret-hook-path")
    alert = {"metric": "error_rate", "threshold": 0.1, "window_s": 900, "targets": ["ALERT_WEBHOOK"]}
    assert (await asked(door, "POST", "/history/alerts", alert, "member"))[0] == 403
    status, made = await asked(door, "POST", "/history/alerts", alert)
    assert status == 200
    status, listed = await asked(door, "GET", "/history/alerts", role="viewer")
    assert listed["alerts"][0]["id"] == made["id"] and listed["targets"] == ["ALERT_WEBHOOK"]
    assert "secret-hook-path" not in str(listed)
    changed = alert | {"id": made["id"], "enabled": False}
    assert (await asked(door, "POST", "/history/alerts", changed))[0] == 200
    assert [one.enabled for one in small_tables.alerts(house.reader)] == [False]
    for wrong in (
        {"targets": ["ANTHROPIC_API_KEY"]},
        {"targets": ["json://10.0.0.1/x"]},
        {"threshold": 7},
        {"id": "x"},
    ):
        status, said = await asked(door, "POST", "/history/alerts", alert | wrong)
        assert status == 422 and said["error"].endswith("."), wrong
    assert (await asked(door, "DELETE", f"/history/alerts/{made['id']}", role="member"))[0] == 403
    assert (await asked(door, "DELETE", f"/history/alerts/{made['id']}"))[0] == 200
    assert small_tables.alerts(house.reader) == []

    note = {"at": "2026-11-20T12:00:00+01:00", "note": "  moved\nto Haiku "}
    assert (await asked(door, "POST", "/history/notes", note, "viewer"))[0] == 403
    status, kept = await asked(door, "POST", "/history/notes", note, "member")
    (row,) = small_tables.notes(house.reader)
    assert (row.id, row.note, row.person) == (kept["id"], "moved to Haiku", "ada")
    assert row.at == datetime(2026, 11, 20, 11, tzinfo=UTC)
    for wrong in ({"at": "2026-11-20T12:00:00"}, {"at": "noon"}, {"note": " "}):
        assert (await asked(door, "POST", "/history/notes", note | wrong))[0] == 422
    assert (await asked(door, "DELETE", f"/history/notes/{kept['id']}", role="member"))[1] == {"deleted": True}

    assert (await asked(door, "PUT", "/history/budget", {"monthly_usd": "600"}, "member"))[0] == 403
    assert (await asked(door, "PUT", "/history/budget", {"monthly_usd": "6000.50"}))[0] == 200
    assert str(budget.monthly(house.reader)) == "6000.50"
    assert (await asked(door, "GET", "/history/budget", role="viewer"))[1] == {"monthly_usd": "6000.50"}
    for wrong_sum in ("0", "-5", "much"):
        assert (await asked(door, "PUT", "/history/budget", {"monthly_usd": wrong_sum}))[0] == 422
    assert (await asked(door, "PUT", "/history/budget", {"monthly_usd": None}))[0] == 200
    assert budget.monthly(house.reader) is None


async def test_calls_are_forgotten_after_their_days_part_by_part_and_their_figures_stay(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    from db import history as history_module
    from services.engine import background

    monkeypatch.setattr(background, "FORGET_AT_ONCE", 7)
    today = datetime.now(UTC)
    for days in (40, 12, 11, 2):
        await ended(house, 10, at=today - timedelta(days=days))
    while await house.engine.rolling.once(500):
        pass
    assert await house.engine.upkeep.forget_calls() == 0  # nothing is forgotten that nobody asked for
    house.file.write_text("[privacy]\ncall_days = 10\n")
    house.engine.registry._stamp = -1.0
    await house.engine.registry.refresh()
    assert await house.engine.upkeep.forget_calls() == 30
    assert await house.engine.upkeep.forget_calls() == 0
    wanted = history_module.Wanted(today - timedelta(days=60), today + timedelta(days=1))
    assert history_module.calls_behind(house.reader, wanted)[1] == 10
    found = history_module.pieces(house.reader, wanted, grain="d")
    assert int(found.cells["n"].sum()) + int(found.calls["n"].sum() if len(found.calls) else 0) == 40


async def test_a_call_keeps_what_it_would_have_cost_at_the_plain_price(house: House) -> None:
    await house.declare(table("a", "fake?tokens=5&itl=1&ttft=1", house.fake.url))
    (row,) = await house.ask(["a"])
    tokens = sum(row[name] or 0 for name in ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h"))
    out = (row["reasoning_output"] or 0) + (row["answer_output"] or 0)
    assert row["state"] == "succeeded" and row["plain_nanousd"] == tokens * 1_000 + out * 2_000
