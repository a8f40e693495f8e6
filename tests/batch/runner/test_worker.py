"""The worker as the process that it is, against the fake server: sent, paused, resumed, cancelled, limited, refused."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from db import batches
from services.batch import stats
from tests.batch.runner.desk import Desk, desk_at
from tests.fake.fixture import closed_address

pytestmark = pytest.mark.slow

SLOW = "fake?tokens=2&ttft=150&itl=1"


def spans(desk: Desk) -> list[float]:
    """When the server received each request, in seconds from the first."""
    at = sorted(one.received_ns for one in list(desk.fake.requests) if one.wire)
    return [(one - at[0]) / 1e9 for one in at]


def want(desk: Desk, batch_id: str, wanted: str, **values: object) -> None:
    desk.do(batches.set_batch, batch_id=batch_id, wanted=wanted, **values)


class Hook(BaseHTTPRequestHandler):
    """A webhook that keeps what it is sent."""

    received: ClassVar[list[dict[str, str]]] = []

    def do_POST(self) -> None:
        self.received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hook() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}/secret"
    server.shutdown()


@pytest.fixture
def notices() -> list[dict[str, str]]:
    Hook.received.clear()
    return Hook.received


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, hook: str) -> Iterator[Desk]:
    with pytest.MonkeyPatch.context() as patch, desk_at(tmp_path_factory.mktemp("worker")) as desk:
        patch.delenv("DATABASE_URL", raising=False)
        patch.setenv("ALERT_TEST", hook)
        desk.worker()
        yield desk


@pytest.fixture
def busy(made: Desk) -> Desk:
    """A desk with a worker that all these tests share: it takes seconds to load."""
    made.afresh()
    return made


def test_every_line_is_answered_once_and_the_ledger_agrees(busy: Desk) -> None:
    batch_id = busy.batch(200)
    row = busy.until_over(batch_id)
    assert (row["state"], row["said"], row["lanes"]) == ("ended", "200 answered of 200 lines.", None)
    assert row["started_at"] < row["ended_at"]
    asked, ledger = busy.asked(batch_id), busy.ledger(batch_id)
    assert (len(asked), max(asked.values())) == (200, 1)
    assert (ledger["calls"], ledger["lines_answered"], ledger["running"]) == (200, 200, 0)
    assert ledger["cost"] == busy.line_costs(batch_id) == batches.spent(busy.reader, batch_id) > 0
    first = next(batches.each_line(busy.reader, batch_id))
    assert first["answer"] and first["ttft_ms"] > 0 and first["original"] == {"x": 1}


def test_a_notice_is_sent_once(busy: Desk, notices: list[dict[str, str]]) -> None:
    batch_id = busy.batch(20, notify=["ALERT_TEST", "ALERT_GONE"])
    busy.until_over(batch_id)
    busy.until(lambda: busy.row(batch_id)["notified"])
    assert busy.row(batch_id)["notified"] == (
        "Sent to ALERT_TEST; ALERT_GONE is not set any more, so nothing was sent to it."
    )
    assert [one["message"] for one in notices] == ["Batch “test” has ended: 20 answered of 20 lines; $0.00032."]


def test_two_go_on_side_by_side_and_one_is_paused_resumed_and_cancelled(busy: Desk) -> None:
    busy.deploy(SLOW)
    one, two = busy.batch(60, max_lanes=3), busy.batch(60, max_lanes=3)
    busy.until(lambda: busy.done(one) > 3 and busy.done(two) > 3)
    want(busy, one, "pause", state="pausing", said="Paused by hand.")
    busy.until(lambda: busy.row(one)["state"] == "paused")
    kept = batches.counts(busy.reader, one)
    assert kept["waiting"] > 0 and "running" not in kept
    busy.until_over(two)
    assert batches.counts(busy.reader, one) == kept, "a paused batch sends nothing"
    want(busy, one, "run", state="queued")
    busy.until(lambda: busy.done(one) > kept["succeeded"])
    want(busy, one, "cancel", state="cancelling")
    row = busy.until_over(one)
    counts = batches.counts(busy.reader, one)
    assert row["state"] == "cancelled" and counts["cancelled"] > 0
    assert sum(counts.values()) == 60 and set(counts) == {"succeeded", "cancelled"}
    told = f"{counts['succeeded']:,} answered, {counts['cancelled']:,} cancelled of 60 lines."
    assert row["said"] == told, "none of them waits any more"
    assert busy.ledger(one)["running"] == 0
    assert max(busy.asked(one).values()) == 1
    assert busy.row(two)["state"] == "ended"


def test_a_worker_that_is_stopped_gives_its_lines_back_and_the_next_goes_on_at_once(desk: Desk) -> None:
    desk.deploy(SLOW)
    batch_id = desk.batch(60, max_lanes=4)
    worker = desk.worker()
    desk.until(lambda: desk.done(batch_id) >= 8)
    desk.kill(worker, signal.SIGTERM)
    assert worker.returncode == 0
    assert "running" not in batches.counts(desk.reader, batch_id)
    assert desk.ledger(batch_id)["running"] == 0
    desk.deploy("fake?tokens=2&ttft=4")
    desk.worker()
    assert desk.until_over(batch_id)["state"] == "ended"
    assert max(desk.asked(batch_id).values()) == 1, "what was under way was waited for"


def test_a_rate_limit_is_kept_from_the_first_line_to_the_last(busy: Desk) -> None:
    batch_id = busy.batch(60, per_minute=2400)
    busy.until_over(batch_id)
    at = spans(busy)
    assert len(at) == 60
    assert at[-1] >= 59 / 40 - 0.1, "40 a second"
    for start in at:
        assert sum(start <= one < start + 1 for one in at) <= 46, "40, and what the way to the server shifts"


def test_what_passes_is_tried_again_and_each_attempt_is_a_call(busy: Desk) -> None:
    busy.fake.core.enqueue("fake?status=500", "fake?fault=drop&at=1", "fake?status=503", "fake?status=400")
    batch_id = busy.batch(20, max_lanes=1)
    row = busy.until_over(batch_id)
    counts = batches.counts(busy.reader, batch_id)
    assert counts == {"succeeded": 19, "failed": 1}, (row, counts)
    assert row["said"] == "19 answered, 1 failed of 20 lines."
    ledger = busy.ledger(batch_id)
    assert ledger["calls"] == 23
    found = stats.summary(batches.each_line(busy.reader, batch_id))
    assert found.cost_nanousd == busy.line_costs(batch_id) == ledger["cost"] == batches.spent(busy.reader, batch_id)
    assert found.n_again >= 1 and found.earlier_nanousd > 0, "the answer that was cut off is paid for"
    failed = batches.lines(busy.reader, batch_id, states=["failed"])[0][0]
    assert failed["http_status"] == 400 and failed["message"], "a refusal is no matter of trying again"
    attempts = [line["attempts"] for line in batches.each_line(busy.reader, batch_id)]
    assert sum(attempts) == 23 and max(attempts) <= 4


def test_a_service_that_asks_to_wait_is_waited_for_by_every_lane(busy: Desk) -> None:
    busy.fake.core.enqueue("fake?fault=http_429&retry_after=1", "fake?fault=http_429&retry_after=1")
    batch_id = busy.batch(40, max_lanes=2)
    busy.until_over(batch_id)
    assert batches.counts(busy.reader, batch_id) == {"succeeded": 40}
    at = spans(busy)
    gap = max(later - earlier for earlier, later in itertools.pairwise(at))
    assert gap >= 0.9, "nobody was sent in the second that was asked for"


def _paused(desk: Desk, batch_id: str) -> str:
    desk.until(lambda: desk.row(batch_id)["state"] == "paused")
    return str(desk.row(batch_id)["said"])


def test_what_would_fail_for_every_line_pauses_the_batch_and_says_why(busy: Desk) -> None:
    """A wrong key, then a server that is gone."""
    busy.fake.core.enqueue(*["fake?status=401"] * 4)
    refused = busy.batch(30, max_lanes=2)
    said = _paused(busy, refused)
    assert said.startswith("Paused: fake did not accept the key") and said.endswith("Then resume.")
    assert batches.counts(busy.reader, refused) == {"waiting": 30}, "no line is given up for it"
    busy.until(lambda: not busy.fake.live)
    busy.fake.core.reset()
    want(busy, refused, "run", state="queued")
    assert busy.until_over(refused)["state"] == "ended"

    with closed_address() as nowhere:
        busy.deploy("fake?tokens=2&ttft=4", nowhere)
        gone = busy.batch(30, max_lanes=2)
        said = _paused(busy, gone)
    assert "could not be reached" in said and said.endswith("Resume when it is well again.")
    assert batches.counts(busy.reader, gone) == {"waiting": 30}


def test_a_budget_is_never_passed_and_more_of_it_lets_the_batch_go_on(busy: Desk) -> None:
    # 12 tokens in at $1 and 2 out at $2 a million: 16,000 nano-dollars a line, and at most 70,000 + of 4 tokens.
    batch_id = busy.batch(60, params={"max_tokens": 4}, budget_nanousd=400_000)
    said = _paused(busy, batch_id)
    spent = batches.spent(busy.reader, batch_id)
    assert spent is not None and 300_000 <= spent <= 400_000
    assert "of the budget of $0.0004" in said
    want(busy, batch_id, "run", state="queued", budget_nanousd=10_000_000)
    assert busy.until_over(batch_id)["state"] == "ended"
    assert busy.done(batch_id) == 60


def _workflows(desk: Desk) -> set[str]:
    with contextlib.closing(sqlite3.connect(desk.folder / "batches" / "dbos.sqlite3")) as connection:
        found = connection.execute("SELECT workflow_uuid FROM workflow_status").fetchall()
    return {str(one[0]).partition(".")[0] for one in found}


def test_the_workflows_of_batches_that_are_over_are_cleared_away(busy: Desk) -> None:
    over = {row["id"] for row in batches.batches(busy.reader) if row["state"] in batches.OVER}
    assert over
    busy.until(lambda: not over & _workflows(busy), 20)
