"""Who may do what, asked through the engine's own socket: every action, every role, on one's own and on others'."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlmodel import Session

from db import batch_queries, run_queries, runs, small_tables
from db.models import Batch
from services.runs.spec import new_id
from services.security.access import owns
from tests.engine.house import House
from tests.rights.door import Door

OWNERS = ("ada@example.com", "eve@example.com", "local", "")


async def a_run(door: Door, owner: str, *, live: bool = False) -> str:
    name = "slow" if live else "quick"
    status, said = await door.ask(
        owner, "admin", "POST", "/runs", {"prompt": "Hi", "columns": [{"deployment_id": name}]}
    )
    assert status == 200, said
    run = door.house.engine.runs.get(said["run_id"])
    if not live and run is not None:
        await door.house.over(run)
    return str(said["run_id"])


async def a_batch(door: Door, owner: str, state: str) -> str:
    deployment = next(one for one in door.house.engine.registry.statuses() if one.deployment.id == "quick").deployment
    run = {
        "id": new_id(),
        "created_at": datetime.now(UTC),
        "person": owner,
        "source": "batch",
        "start_mode": "together",
    }
    await door.write(runs.insert_run, values=run)
    row = Batch(
        id=new_id(),
        created_at=datetime.now(UTC),
        person=owner,
        name="words",
        deployment_id="quick",
        deployment=deployment.to_json(),
        route="runner",
        state=state,
        wanted="pause" if state == "paused" else "run",
        file_name="words.csv",
        file_sha256="a" * 64,
        run_id=run["id"],
        n_lines=1,
        n_left_out=0,
    )
    batch_id = row.id

    def add(session: Session) -> None:
        session.add(row)

    await door.house.engine.writer.write(add)
    return batch_id


@dataclass(frozen=True)
class Case:
    """One thing to be done to what somebody recorded: how it is made, how it is asked for, whether it was changed."""

    name: str
    make: Callable[[Door, str], Any]
    method: str
    path: str
    body: dict[str, Any] | None = None
    lists: bool = False
    cleans: bool = False


async def _note(door: Door, owner: str) -> str:
    note_id = new_id()
    await door.write(small_tables.add, note_id=note_id, at=datetime.now(UTC), note="x", person=owner)
    return note_id


async def _scenario(door: Door, owner: str) -> str:
    kept = new_id()
    await door.write(
        small_tables.save_scenario, scenario_id=kept, name=kept, state={"rpm": "1"}, person=owner, at=datetime.now(UTC)
    )
    return kept


CASES = (
    Case("delete a run", a_run, "POST", "/runs/delete", lists=True),
    Case("star a run", a_run, "PATCH", "/runs/{id}", {"starred": True}),
    Case("tag a run", a_run, "PATCH", "/runs/{id}", {"tags": ["x"]}),
    Case("note a run", a_run, "PATCH", "/runs/{id}", {"note": "x"}),
    Case("retry a run", a_run, "POST", "/runs/{id}/retry", {"column": 0}),
    Case("stop a run", lambda door, owner: a_run(door, owner, live=True), "POST", "/runs/{id}/stop", cleans=True),
    Case("pause a batch", lambda door, owner: a_batch(door, owner, "running"), "POST", "/batches/{id}/pause"),
    Case("resume a batch", lambda door, owner: a_batch(door, owner, "paused"), "POST", "/batches/{id}/resume"),
    Case("cancel a batch", lambda door, owner: a_batch(door, owner, "running"), "POST", "/batches/{id}/cancel"),
    Case("resend a batch", lambda door, owner: a_batch(door, owner, "failed"), "POST", "/batches/{id}/resend"),
    Case("delete a batch", lambda door, owner: a_batch(door, owner, "failed"), "DELETE", "/batches/{id}"),
    Case("delete a note", _note, "DELETE", "/history/notes/{id}"),
    Case("delete a scenario", _scenario, "DELETE", "/scenarios/{id}"),
)
PEOPLE = (
    ("ada@example.com", "member"),
    ("ADA@example.com", "member"),
    ("ada@example.com", "viewer"),
    ("ada@example.com", "root"),
    ("bob@example.com", "admin"),
    ("local", "admin"),
    ("local", "member"),
    ("", "member"),
    ("ada", "member"),
    ("ada@example.com ", "member"),
    ("visitor", "member"),
    ("unknown", "member"),
)


def as_it_is(house: House, ident: str) -> Any:
    """Everything of the records that the action could have changed."""
    run = run_queries.run_by_id(house.reader, ident)
    return [
        run and (run["starred"], run["tags"], run["note"]),
        len(run_queries.calls_of_run(house.reader, ident)),
        batch_queries.batch(house.reader, ident),
        small_tables.owners(house.reader, ident),
        small_tables.scenario_owners(house.reader, ident),
    ]


@pytest.mark.slow
async def test_members_change_what_is_theirs_and_administrators_everything(door: Door) -> None:
    wrong = []
    for case in CASES:
        for owner in OWNERS:
            for person, role in PEOPLE:
                may = role in ("member", "admin") and owns(role, person.strip(), owner)
                expected = role == "admin" or (
                    role == "member" and owner == "ada@example.com" and person.strip().lower() == owner
                )
                assert may is expected, "the rule in a table of its own"
                if case.name != "star a run" and person not in ("ada@example.com", "bob@example.com", "local"):
                    continue  # names are told apart in one place
                ident = await case.make(door, owner)
                before = as_it_is(door.house, ident)
                path = case.path.replace("{id}", ident)
                body = {"run_ids": [ident]} if case.lists else case.body
                status, said = await door.ask(person, role, case.method, path, body)
                sentence = str(said.get("error", ""))
                let_in = status != 403
                untouched = as_it_is(door.house, ident) == before
                if let_in is not may or status >= 500:
                    wrong.append((case.name, owner, person, role, status, sentence))
                elif not may and (not untouched or not sentence.endswith(".") or "@" in sentence):
                    wrong.append((case.name, owner, person, role, "changed" if not untouched else sentence))
                elif may and status == 200 and untouched and case.name not in ("stop a run", "pause a batch"):
                    wrong.append((case.name, owner, person, role, "nothing was done"))
                if case.cleans:
                    live = door.house.engine.runs.get(ident)
                    if not may and (live is None or any(column.stopped for column in live.columns)):
                        wrong.append((case.name, owner, person, role, "it was stopped"))
                    if live is not None:
                        door.house.engine.stop_columns(live, None)
                        await door.house.over(live)
    assert not wrong


async def test_of_several_runs_none_is_deleted_when_one_is_somebody_elses(door: Door) -> None:
    mine, theirs = [await a_run(door, OWNERS[0]) for _ in range(2)], await a_run(door, OWNERS[1])
    status, said = await door.ask(OWNERS[0], "member", "POST", "/runs/delete", {"run_ids": [*mine, theirs]})
    assert (status, said["error"]) == (
        403,
        "1 of these 3 runs is somebody else's, so none was deleted: leave it out.",
    )
    assert all(run_queries.run_by_id(door.house.reader, one) for one in [*mine, theirs])
    asked = {"run_ids": [*mine, *mine, "not-there"]}
    assert await door.ask(OWNERS[0], "member", "POST", "/runs/delete", asked) == (200, {"deleted": 2})


async def test_a_scenario_of_somebody_elses_is_not_replaced_by_its_name(door: Door) -> None:
    body = {"name": "Support bot", "state": {"rpm": "1"}}
    assert (await door.ask(OWNERS[0], "member", "POST", "/scenarios", body))[0] == 200
    other = body | {"state": {"rpm": "99"}}
    status, said = await door.ask(OWNERS[1], "member", "POST", "/scenarios", other)
    assert (status, said["error"]) == (
        422,
        "Somebody else keeps a scenario called “Support bot”: give yours another name.",
    )
    assert small_tables.scenarios(door.house.reader)[0].state == {"rpm": "1"}
    assert (await door.ask(OWNERS[0], "member", "POST", "/scenarios", other))[0] == 200
    assert (await door.ask("root@example.com", "admin", "POST", "/scenarios", body))[0] == 200


async def test_a_batch_cannot_be_hung_below_somebody_elses(door: Door) -> None:
    """Such a child would stand in the way of its owner, whose lines then count as sent again."""
    parent = await a_batch(door, OWNERS[0], "failed")
    spec = {"deployment_id": "quick", "sha256": "a" * 64, "file_name": "words.csv", "parent_id": parent}
    status, said = await door.ask(OWNERS[1], "member", "POST", "/batches", spec)
    assert (status, "somebody else's" in said["error"]) == (403, True)


async def test_votes_are_everybodys_and_ones_own(door: Door) -> None:
    run = await a_run(door, OWNERS[0])
    for person, choice in ((OWNERS[0], "a"), (OWNERS[1], "b"), (OWNERS[1], "tie")):
        body = {"choice": choice, "column_a": 0, "column_b": 1}
        assert (await door.ask(person, "member", "POST", f"/runs/{run}/votes", body))[0] == 200
    kept = {(row["person"], row["choice"]) for row in run_queries.votes_of_run(door.house.reader, run)}
    assert kept == {(OWNERS[0], "a"), (OWNERS[1], "tie")}
    assert (await door.ask(OWNERS[0], "viewer", "POST", f"/runs/{run}/votes", {"choice": "a"}))[0] == 403


async def test_two_requests_to_retry_one_column_are_one_retry(door: Door) -> None:
    run = await a_run(door, OWNERS[0])
    asked = [door.ask(OWNERS[0], "member", "POST", f"/runs/{run}/retry", {"column": 0}) for _ in range(20)]
    done = [status for status, _ in await asyncio.gather(*asked)]
    live = door.house.engine.runs.get(run)
    if live is not None:
        await door.house.over(live)
    assert len(door.house.calls(run)) == 1 + done.count(200)
    assert set(done) <= {200, 422}
