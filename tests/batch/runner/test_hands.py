"""Who has a line in hand: claims, leases and ends on both databases, and the places of workers."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db import batch_queries, runs
from db import batches as batches_module
from db.batch_queries import CALL, LINE
from db.batch_rows import (
    BatchRow,
    CalledLine,
    FinishedBatch,
    JobRow,
    LineRow,
    RecentCall,
    ResentBatch,
    VoteRow,
    WorkerRow,
)
from services import paths
from services.batch.worker import place_of, take_place
from services.runs.spec import new_id
from tests.batch.runner.desk import Desk

OVER = {"state": "succeeded", "outcome": "ok", "answer": "yes", "lease_until": None}
GOOD = {"state": "succeeded", "outcome": "ok", "cost_nanousd": 7, "cost_state": "exact", "ended_at": datetime.now(UTC)}


def call_for(batch_id: str, no: int, owner: str) -> dict[str, Any]:
    return {
        "id": new_id(),
        "run_id": f"run-{batch_id}",
        "column_no": 0,
        "repetition": no,
        "attempt_no": 1,
        "deployment_id": "fake",
        "kind": "openai-compatible",
        "model": "fake",
        "wire": "chat",
        "source": "batch",
        "person": "ada",
        "owner": owner,
        "state": "running",
        "created_at": datetime.now(UTC),
        "retry_of": None,
    }


def claim(desk: Desk, batch_id: str, no: int, worker: str, lease_s: float = 60.0) -> dict[str, Any] | None:
    call = call_for(batch_id, no, worker)
    found: dict[str, Any] | None = desk.do(
        batches_module.claim, batch_id=batch_id, no=no, worker=worker, lease_s=lease_s, call=call
    )
    return found


def end(desk: Desk, batch_id: str, no: int, call: dict[str, Any]) -> bool:
    done: bool = desk.do(batches_module.end_call, batch_id=batch_id, no=no, call_id=call["id"], call=GOOD, line=OVER)
    return done


def line(desk: Desk, batch_id: str, no: int) -> dict[str, Any]:
    return batches_module.lines_between(desk.reader, batch_id, no, no)[0]


def state_of(desk: Desk, call: dict[str, Any]) -> str:
    with desk.reader.connect() as connection:
        return str(connection.execute(select(CALL.c.state).where(CALL.c.id == call["id"])).scalar())


def test_a_line_in_hand_is_nobody_elses_and_an_answered_one_is_never_taken_again(either: Desk) -> None:
    batch_id = either.batch(3)
    first = claim(either, batch_id, 1, "worker-a")
    assert first is not None
    assert claim(either, batch_id, 1, "worker-b") is None
    assert claim(either, batch_id, 1, "worker-a") is None, "a step that is repeated changes nothing"
    assert end(either, batch_id, 1, first)
    assert not end(either, batch_id, 1, first), "an end happens once"
    assert claim(either, batch_id, 1, "worker-b", 0.0) is None
    assert either.ledger(batch_id)["calls"] == 1


def test_an_expired_lease_is_taken_over_and_the_late_answer_is_left_aside(either: Desk) -> None:
    batch_id = either.batch(2)
    lost = claim(either, batch_id, 2, "worker-a", -1.0)
    taken = claim(either, batch_id, 2, "worker-b")
    assert lost is not None and taken is not None
    assert (taken["attempt_no"], taken["retry_of"]) == (2, lost["id"])
    assert state_of(either, lost) == "lost"
    assert not end(either, batch_id, 2, lost)
    assert line(either, batch_id, 2)["worker"] == "worker-b"
    assert end(either, batch_id, 2, taken)
    ledger = either.ledger(batch_id)
    assert (ledger["calls"], ledger["succeeded"], ledger["lost"]) == (2, 1, 1)
    assert either.line_costs(batch_id) == ledger["cost"] == 7


def test_a_call_that_was_given_up_as_lost_leaves_its_line_to_be_sent_again(either: Desk) -> None:
    batch_id = either.batch(1)
    call = claim(either, batch_id, 1, "worker-a")
    assert call is not None
    either.do(batches_module.lose_calls, call_ids=[call["id"]])
    assert not end(either, batch_id, 1, call)
    assert (line(either, batch_id, 1)["state"], state_of(either, call)) == ("waiting", "lost")


def test_renewing_holds_a_lease_and_releasing_gives_every_line_back(either: Desk) -> None:
    batch_id = either.batch(4)
    calls = [claim(either, batch_id, no, "worker-a", -1.0) for no in (1, 2)]
    assert either.do(batches_module.renew, worker="worker-a", batch_ids=[batch_id], lease_s=60.0) == 2
    assert claim(either, batch_id, 1, "worker-b") is None
    assert either.do(batches_module.release, worker="worker-a", batch_ids=[batch_id]) == 2
    assert [state_of(either, call) for call in calls if call] == ["lost", "lost"]
    assert claim(either, batch_id, 1, "worker-b") is not None


def test_an_engine_that_starts_leaves_the_calls_of_living_workers_alone(either: Desk) -> None:
    batch_id = either.batch(2)
    for worker in ("worker-alive", "worker-dead"):
        either.do(batches_module.adopt_worker, worker=worker, host="h", pid=1)
    alive, dead = claim(either, batch_id, 1, "worker-alive"), claim(either, batch_id, 2, "worker-dead")
    assert alive is not None and dead is not None
    either.do(batches_module.leave, worker="worker-dead")
    single = either.url.startswith("sqlite")
    either.do(runs.adopt_owner, owner_id="engine", pid=1, host="h")
    lost = either.do(runs.mark_lost, owner_id="engine", stale_after_s=45, single_owner=single)
    assert lost == [dead["id"]]
    assert either.do(batches_module.alive, stale_after_s=45) == ["worker-alive"]


@pytest.mark.slow
def test_lines_sent_again_keep_their_place_in_the_file_and_get_numbers_of_their_own(either: Desk) -> None:
    old, new = either.batch(5), either.batch(0)
    for no, state in ((2, "failed"), (4, "missing"), (5, "succeeded")):
        either.do(
            lambda *, session, no, state: (
                session.execute(LINE.update().where(LINE.c.batch_id == old, LINE.c.no == no).values(state=state))
                and None
            ),
            no=no,
            state=state,
        )
    assert either.do(batches_module.copy_lines, source=old, target=new, states=("failed", "missing")) == 2
    rows, total = batches_module.lines(either.reader, new)
    assert [(row["no"], row["line"], row["record_id"], row["state"]) for row in rows] == [
        (1, 3, "2", "waiting"),
        (2, 5, "4", "waiting"),
    ]
    assert total == 2


@pytest.mark.slow
def test_lines_are_found_by_their_text_and_their_state(either: Desk) -> None:
    batch_id = either.batch(30)
    call = claim(either, batch_id, 7, "worker-a")
    assert call is not None and end(either, batch_id, 7, call)
    rows, total = batches_module.lines(either.reader, batch_id, text="LINE 1", limit=5)
    assert (total, len(rows)) == (11, 5)
    rows, total = batches_module.lines(either.reader, batch_id, states=["succeeded"])
    assert (total, rows[0]["answer"], rows[0]["cost_nanousd"], rows[0]["call_state"]) == (1, "yes", 7, "succeeded")
    assert batches_module.lines(either.reader, batch_id, text="100%")[1] == 0
    assert [row["no"] for row in batches_module.each_line(either.reader, batch_id)] == list(range(1, 31))
    assert batches_module.counts(either.reader, batch_id) == {"succeeded": 1, "waiting": 29}
    assert batches_module.spent(either.reader, batch_id) == 7


def test_a_row_has_the_columns_that_its_type_names(either: Desk) -> None:
    batch_id, other = either.batch(2), either.batch(1, state="ended", ended_at=datetime.now(UTC) + timedelta(hours=1))
    call = claim(either, batch_id, 1, "worker-a")
    assert call is not None and end(either, batch_id, 1, call)
    again = claim(either, batch_id, 2, "worker-a", -1.0)
    assert again is not None and claim(either, batch_id, 2, "worker-b") is not None
    job = {"batch_id": batch_id, "no": 1, "token": "t", "first_no": 1, "last_no": 2, "n_lines": 2, "state": "waiting"}
    either.do(batches_module.insert_jobs, rows=[job])
    either.do(batches_module.adopt_worker, worker="worker-a", host="h", pid=1)
    either.do(batch_queries.vote, batch_a=batch_id, batch_b=other, no=1, person="ada", choice="a")
    resent = either.batch(1, parent_id=batch_id)
    read = either.reader
    rows = [
        (BatchRow, batches_module.batch(read, batch_id)),
        (BatchRow, batch_queries.called(read, batch_id)[0]),
        (LineRow, batches_module.lines_between(read, batch_id, 1, 1)[0]),
        (CalledLine, batches_module.lines(read, batch_id)[0][1]),
        (CalledLine, next(batches_module.each_line(read, batch_id))),
        (JobRow, batches_module.jobs(read, batch_id)[0]),
        (WorkerRow, batches_module.workers(read)[0]),
        (VoteRow, batch_queries.votes(read, batch_id, other)[0]),
        (RecentCall, batch_queries.recent_calls(read, ["fake"])[0]),
        (FinishedBatch, batch_queries.finished_batches(read)[0]),
        (ResentBatch, batch_queries.sent_again(read, batch_id)),
    ]
    for kind, row in rows:
        assert row is not None and row.keys() == kind.__annotations__.keys(), kind
    sent = batch_queries.sent_again(read, batch_id)
    assert sent is not None and sent["id"] == resent


def test_a_place_is_held_by_one_process_and_free_again_when_it_is_gone(tmp_path: Path) -> None:
    first, second = take_place(tmp_path), take_place(tmp_path)
    assert first.place != second.place
    assert place_of(first.id) == first.place
    program = (
        "import sys; from pathlib import Path; from services.batch.worker import take_place; "
        "print(take_place(Path(sys.argv[1])).place)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    there = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True)
    assert there.stdout.strip() not in (first.place, second.place)
    first.lock.close()
    again = take_place(tmp_path)
    assert again.place == first.place
    assert again.id != first.id
