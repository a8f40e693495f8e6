"""What lines cost with all their attempts: the same as the history says of their run, to the nano-dollar."""

from __future__ import annotations

import io
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event, select, update

from db import batches
from db.batch_queries import CALL
from db.history import Wanted, spent_behind
from services.batch import export, reconcile, stats
from tests.batch.runner.desk import Desk
from tests.batch.runner.test_hands import claim

AGAIN = {"state": "waiting", "worker": None, "lease_until": None}


def attempt(desk: Desk, batch_id: str, no: int, cost: int | None, *, last: bool, how: str = "exact") -> str:
    """One call of a line, which ended at this cost."""
    call = claim(desk, batch_id, no, "worker-a")
    assert call is not None
    ended: dict[str, Any] = {
        "state": "succeeded" if last else "cut_off",
        "outcome": "ok" if last else "truncated",
        "cost_state": how if cost is not None else "unknown",
        "cost_nanousd": cost,
        "cost_high_nanousd": cost,
        "plain_nanousd": None if cost is None else 2 * cost,
        "ended_at": datetime.now(UTC),
        "answer_output": 5,
    }
    line = {"state": "succeeded", "outcome": "ok", "answer": "yes"} if last else AGAIN
    assert desk.do(batches.end_call, batch_id=batch_id, no=no, call_id=call["id"], call=ended, line=line)
    return str(call["id"])


def chain(desk: Desk, before: str, after: str) -> None:
    """The second is a retry of the first, as the runner records it."""
    desk.do(lambda *, session: session.execute(update(CALL).where(CALL.c.id == after).values(retry_of=before)) and None)


def line(desk: Desk, batch_id: str, no: int) -> dict[str, Any]:
    return next(row for row in batches.each_line(desk.reader, batch_id) if row["no"] == no)


def of_history(desk: Desk) -> int:
    now = datetime.now(UTC)
    day = timedelta(days=1)
    return spent_behind(desk.reader, Wanted(now - day, now + day, sources=("batch",)))[0]


def test_the_sum_of_a_batch_is_that_of_the_history(either: Desk) -> None:
    batch_id = either.batch(4)
    first = [
        attempt(either, batch_id, 1, 100, last=False),
        attempt(either, batch_id, 1, 20, last=False, how="estimated"),
        attempt(either, batch_id, 1, 7, last=True),
    ]
    chain(either, first[0], first[1])
    chain(either, first[1], first[2])
    attempt(either, batch_id, 2, 1_000, last=True)
    # Another worker had line 3 in between, so that its last call names no call before it.
    attempt(either, batch_id, 3, 30_000, last=False)
    attempt(either, batch_id, 3, 5, last=True)
    rows = list(batches.each_line(either.reader, batch_id))
    assert [row["cost_nanousd"] for row in rows] == [127, 1_000, 30_005, None]
    assert [row["earlier_nanousd"] for row in rows] == [120, None, 30_000, None]
    assert [row["plain_nanousd"] for row in rows] == [254, 2_000, 60_010, None]
    assert [row["cost_state"] for row in rows] == ["estimated", "exact", "exact", None]
    assert [row["answer_output"] for row in rows] == [5, 5, 5, None], "counts are those of the last attempt"
    total = 31_132
    found = stats.summary(rows)
    assert (found.cost_nanousd, found.earlier_nanousd, found.n_again) == (total, 30_120, 2)
    assert total == batches.spent(either.reader, batch_id) == of_history(either)
    assert sum(row["cost_nanousd"] or 0 for row in batches.lines(either.reader, batch_id)[0]) == total


def test_an_attempt_whose_cost_nobody_knows_makes_a_lower_bound(desk: Desk) -> None:
    batch_id = desk.batch(2)
    lost, last = attempt(desk, batch_id, 1, None, last=False), attempt(desk, batch_id, 1, 7, last=True)
    chain(desk, lost, last)
    row = line(desk, batch_id, 1)
    assert (row["cost_nanousd"], row["cost_state"], row["cost_high_nanousd"]) == (7, "lower_bound", None)
    assert stats.summary([row]).mark == "≥"
    # Turned away for nothing, and then of no known price: nothing is known, not a lower bound of $0.
    turned_away = attempt(desk, batch_id, 2, 0, last=False, how="not_billed")
    chain(desk, turned_away, attempt(desk, batch_id, 2, None, last=True))
    row = line(desk, batch_id, 2)
    assert (row["cost_nanousd"], row["cost_state"]) == (None, "unknown")


def test_an_attempt_that_a_kill_lost_costs_nothing_where_the_deployment_is_free(either: Desk) -> None:
    batch_id = either.batch(2)
    for no, per_hour in ((1, "0"), (2, "3.5")):
        gone = claim(either, batch_id, no, "worker-gone")
        assert gone is not None
        price = {"source": "deployment", "date": "2026-11-24", "rates": None, "per_hour": per_hour}
        priced = update(CALL).where(CALL.c.id == gone["id"]).values(price=price)
        either.do(lambda *, session, priced=priced: session.execute(priced) and None)
        either.do(batches.release, worker="worker-gone", batch_ids=[batch_id])
    attempt(either, batch_id, 1, 0, last=True, how="free")
    attempt(either, batch_id, 2, None, last=True)
    rows = list(batches.each_line(either.reader, batch_id))
    assert [(row["attempts"], row["cost_nanousd"], row["cost_state"]) for row in rows] == [
        (2, 0, "free"),
        (2, None, "unknown"),
    ]
    found = stats.summary(rows[:1])
    assert (found.cost_nanousd, found.mark, dict(found.cost_states)) == (0, "", {"free": 1})


def test_a_batch_of_many_attempts_is_read_without_a_look_at_every_call(desk: Desk) -> None:
    batch_id = desk.batch(3)
    for no in (1, 2, 3):
        calls = [attempt(desk, batch_id, no, 1, last=False) for _ in range(6)]
        calls.append(attempt(desk, batch_id, no, 1, last=True))
        for before, after in itertools.pairwise(calls):
            chain(desk, before, after)
    asked: list[str] = []
    event.listen(desk.reader, "before_cursor_execute", lambda *given: asked.append(given[2]))
    rows = list(batches.each_line(desk.reader, batch_id))
    assert [row["cost_nanousd"] for row in rows] == [7, 7, 7]
    assert not any("run_id = (SELECT" in one for one in asked)


def test_the_attempts_are_in_the_reconciliation_and_in_every_download(desk: Desk) -> None:
    batch_id = desk.batch(2)
    calls = [attempt(desk, batch_id, 1, 2_000_000, last=False), attempt(desk, batch_id, 1, 500_000, last=True)]
    chain(desk, *calls)
    attempt(desk, batch_id, 2, 500_000, last=True)
    account = reconcile.account(batches.each_line(desk.reader, batch_id), name="Fake", n_recorded=2)
    assert account.sentence == (
        "2 sent = 2 succeeded. 1 line was sent more than once: that cost $0.002, which is in what the batch cost."
    )
    target = io.BytesIO()
    done = export.write(batches.each_line(desk.reader, batch_id), ["x"], "jsonl", target)
    rows = [json.loads(one) for one in target.getvalue().splitlines()]
    assert [row["lab_cost_usd"] for row in rows] == ["0.0025", "0.0005"]
    assert [row["lab_attempts"] for row in rows] == [2, 1]
    assert done.notes == (
        "1 line was sent more than once: “lab_cost_usd” is what all attempts cost, the rest is of the last one.",
    )


def test_calls_of_another_batch_are_not_counted(desk: Desk) -> None:
    one, other = desk.batch(1), desk.batch(1)
    for batch_id, cost in ((one, 10), (other, 1_000)):
        attempt(desk, batch_id, 1, cost, last=False)
        attempt(desk, batch_id, 1, cost, last=True)
    assert [line(desk, batch_id, 1)["cost_nanousd"] for batch_id in (one, other)] == [20, 2_000]
    with desk.reader.connect() as connection:
        assert len(connection.execute(select(CALL.c.id)).all()) == 4
