"""How much one person may have under way: counted when it is taken, given back when it ends, whatever the end was."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from db import runs
from db.models import Batch
from services.batch import service
from services.batch.files import spool
from services.deployments.config import CALLS_PER_PERSON
from services.engine import engine as call_limits
from services.runs.spec import MAX_COLUMNS, MAX_REPETITIONS, new_id
from tests.engine.house import table
from tests.rights.door import SENT, SLOW, Door

pytestmark = pytest.mark.slow

ADA, EVE = "ada@example.com", "eve@example.com"


async def limited(door: Door, calls: int, *, quick: str = SENT) -> None:
    url = door.house.fake.url
    limits = f"[limits]\ncalls_per_person = {calls}\n\n"
    await door.house.declare(limits, table("quick", quick, url), table("slow", SLOW, url))


async def begin(
    door: Door, person: str, name: str = "slow", columns: int = 1, repetitions: int = 1, **more: Any
) -> tuple[int, dict[str, Any]]:
    body = {"prompt": "Hi", "columns": [{"deployment_id": name}] * columns, "repetitions": repetitions} | more
    return await door.ask(person, "member", "POST", "/runs", body)


async def all_over(door: Door, *, stop: bool = True) -> None:
    for run in list(door.house.engine.runs.values()):
        if stop:
            door.house.engine.stop_columns(run, None)
        await door.house.over(run)


async def settled(door: Door, person: str, calls: int) -> None:
    async with asyncio.timeout(20):
        while door.house.engine.allowance.under_way(person) != calls:
            await asyncio.sleep(0.01)


def test_the_largest_run_fits_into_what_a_person_may_have() -> None:
    assert CALLS_PER_PERSON >= MAX_COLUMNS * MAX_REPETITIONS


@pytest.mark.slow
async def test_a_hundred_requests_at_once_are_not_a_hundred_runs(door: Door) -> None:
    await limited(door, 10)
    names = (ADA, ADA.upper(), ADA.title())  # one mailbox, however it is written
    done = await asyncio.gather(*(begin(door, names[n % 3], columns=3) for n in range(60)))
    assert [status for status, _ in done].count(200) == 3, "nine calls, and no tenth of a run of three"
    refusals = {said["error"] for status, said in done if status == 429}
    assert len(done) - 3 == [status for status, _ in done].count(429)
    assert refusals == {
        "Nothing was sent: 9 of your calls are under way or waiting, and with 3 more it would be above the 10 that "
        "this server takes of a person at once. Wait until some have ended, or stop a run."
    }
    assert (await begin(door, EVE))[0] == 200, "somebody else is not in the way"
    assert (await begin(door, ADA))[0] == 200, "one more fits"
    await all_over(door)
    await settled(door, ADA, 0)
    assert (await begin(door, ADA, "quick", columns=8))[0] == 200


@pytest.mark.slow
async def test_calls_are_given_back_however_they_end(door: Door) -> None:
    await limited(door, 12)
    engine = door.house.engine
    assert (await begin(door, ADA, "quick", columns=2, repetitions=3))[0] == 200
    await all_over(door, stop=False)
    await settled(door, ADA, 0)
    assert (await begin(door, ADA, "slow", columns=2, repetitions=3))[0] == 200
    await settled(door, ADA, 6)
    run = next(iter(engine.runs.values()))
    engine.stop_columns(run, 0)
    await settled(door, ADA, 3)
    await all_over(door)
    await settled(door, ADA, 0)
    assert (await begin(door, ADA, "slow", columns=2, repetitions=3, start="sequential", pause_s=600))[0] == 200
    await all_over(door)
    await settled(door, ADA, 0)
    for refused in ({"name": "nobody"}, {"columns": 0}, {"columns": 9}, {"repetitions": 99}, {"prompt": ""}):
        assert (await begin(door, ADA, **refused))[0] == 422  # type: ignore[arg-type]
        assert engine.allowance.under_way(ADA) == 0, refused
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door.house.writer, "_closed", True)
        assert (await begin(door, ADA))[0] == 503
    assert engine.allowance.under_way(ADA) == 0, "what could not be recorded was not sent"


async def test_retries_and_tests_count_too_and_a_run_that_never_fits_says_so(door: Door) -> None:
    await limited(door, 2)
    status, run = await begin(door, ADA, "quick")
    assert status == 200
    await all_over(door, stop=False)
    await settled(door, ADA, 0)
    for _ in range(2):
        assert (await begin(door, ADA))[0] == 200
    for path, body in ((f"/runs/{run['run_id']}/retry", {"column": 0}), ("/deployments/quick/test", {})):
        status, said = await door.ask(ADA, "member", "POST", path, body)
        assert (status, "2 of your calls are under way" in said["error"]) == (429, True), path
    await all_over(door)
    await settled(door, ADA, 0)
    assert (await door.ask(ADA, "member", "POST", f"/runs/{run['run_id']}/retry", {"column": 0}))[0] == 200
    await settled(door, ADA, 0)
    status, said = await begin(door, ADA, columns=3)
    assert status == 429
    assert said["error"] == (
        "Nothing was sent: this is 3 calls, and this server takes 2 of a person at once. Send fewer columns or "
        "repetitions, or a batch."
    )


async def test_everybody_together_is_bounded_too(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await limited(door, 3)
    monkeypatch.setattr(call_limits, "TOGETHER", 7)
    people = [f"p{number}@example.com" for number in range(4)]
    done = [await begin(door, person, columns=2) for person in people]
    assert [status for status, _ in done] == [200, 200, 200, 429]
    assert "everybody together has 6 calls" in done[3][1]["error"]
    await all_over(door)


async def test_batches_under_way_are_bounded_for_a_person(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "EACH", 3)
    full = service.FULL.replace("50", "3")
    monkeypatch.setattr(service, "FULL", full)
    door.house.batches._data = tmp_path
    deployment = next(one for one in door.house.engine.registry.statuses() if one.deployment.id == "quick").deployment
    run = {"id": new_id(), "created_at": datetime.now(UTC), "person": ADA, "source": "batch"}
    await door.write(runs.insert_run, values=run)
    row = Batch(
        id=new_id(),
        created_at=datetime.now(UTC),
        person=ADA,
        name="paused",
        deployment_id="quick",
        deployment=deployment.to_json(),
        route="runner",
        state="paused",
        wanted="pause",
        file_name="w.csv",
        file_sha256="b" * 64,
        run_id=run["id"],
        n_lines=1,
        n_left_out=0,
    )

    def add(session: Any) -> None:
        session.add(row)

    await door.house.engine.writer.write(add)

    def body(number: int) -> dict[str, Any]:
        stored = spool([f"word\n{number}\n".encode()], tmp_path / "uploads", "words.csv")
        asked = {"deployment_id": "quick", "sha256": stored.parent.name, "file_name": "words.csv"}
        return asked | {"options": {"prompt": "Say {{word}}"}}

    asked = [door.ask(ADA, "member", "POST", "/batches", body(number)) for number in range(20)]
    done = await asyncio.gather(*asked)
    assert [status for status, _ in done].count(200) <= 2, "one is there already"
    refused = {said["error"] for status, said in done if status != 200}
    assert refused == {full}
    assert (await door.ask(EVE, "member", "POST", "/batches", body(99)))[0] == 200
