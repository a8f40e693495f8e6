"""The life of runs and columns: stopped, retried, continued, watched, and left alone."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from services.call_record import CalledDeployment, CallRecord
from services.calls.live import LiveCall, LiveRun
from services.calls.stream import Progress
from services.runs.spec import MAX_COLUMNS, Attachment, ColumnSpec, RunSpec
from services.types import Ask, Deployment, Limits
from tests.engine.house import House, frames_of, table, told

SLOW = "fake?tokens=400&itl=5&ttft=5"
QUICK = "fake?tokens=6&itl=1&ttft=1"


async def answering(run: LiveRun, column: int, deltas: int = 5) -> None:
    """Wait until a column has that many deltas."""
    async with asyncio.timeout(20):
        while (call := run.columns[column].call) is None or len(call.progress.delta_ns) < deltas:
            await asyncio.sleep(0.005)


async def test_one_column_is_stopped_and_the_others_go_on(house: House) -> None:
    await house.declare(
        table("a", "fake?tokens=60&itl=5", house.fake.url),
        table("b", SLOW, house.fake.url),
        table("c", "fake?tokens=60&itl=5", house.fake.url, "messages"),
    )
    run = await house.start("abc")
    await answering(run, 1)
    house.engine.stop_columns(run, 1)
    rows = await house.over(run)
    assert [row["state"] for row in rows] == ["succeeded", "cancelled", "succeeded"]
    stopped = rows[1]
    assert len(stopped["answer"].split()) >= 5, "what had come is kept"
    assert stopped["cost_state"] == "lower_bound"
    assert stopped["cost_nanousd"] > 0
    assert "stopped by hand" in stopped["message"]
    assert stopped["ttft_ms"] is not None
    assert rows[0]["n_deltas"] == 60
    async with asyncio.timeout(5):
        while not any(request.aborted for request in house.fake.requests):
            await asyncio.sleep(0.01)


async def test_stopping_all_ends_every_column_at_once_and_later_repetitions_are_not_sent(house: House) -> None:
    await house.declare(table("a", SLOW, house.fake.url), table("b", SLOW, house.fake.url))
    run = await house.start("ab", repetitions=3)
    await answering(run, 0)
    await answering(run, 1)
    house.engine.stop_columns(run, None)
    rows = await house.over(run)
    assert [row["state"] for row in rows] == ["cancelled", "cancelled"]


async def test_a_column_that_is_stopped_before_its_turn_is_never_sent(house: House) -> None:
    await house.declare(table("a", SLOW, house.fake.url), table("b", QUICK, house.fake.url))
    run = await house.start("ab", start="sequential")
    await answering(run, 0)
    house.engine.stop_columns(run, 1)
    house.engine.stop_columns(run, 0)
    rows = await house.over(run)
    assert [row["outcome"] for row in rows] == ["cancelled", "cancelled"]
    assert rows[1]["cost_state"] == "not_billed"
    assert len(house.fake.requests) == 1


async def test_what_the_end_of_the_lab_stops_is_not_said_to_be_stopped_by_hand(house: House) -> None:
    await house.declare(table("a", SLOW, house.fake.url), table("b", SLOW, house.fake.url))
    run = await house.start("ab")
    in_turn = await house.start("ab", start="sequential")
    await answering(run, 0)
    await answering(run, 1)
    await answering(in_turn, 0)
    house.engine.stop_columns(run, 0)
    await house.close()
    await house.open()
    calls = [*house.calls(run.id), *house.calls(in_turn.id)]
    assert [call["state"] for call in calls] == ["cancelled"] * 4
    by_hand = ["stopped by hand" in call["message"] for call in calls]
    by_lab = ["because the lab was stopped" in call["message"] for call in calls]
    assert (by_hand, by_lab) == ([True, False, False, False], [False, True, True, True])
    assert "tokens received were kept" in calls[1]["message"]


async def test_a_retry_is_a_further_attempt_and_leaves_the_first_one_as_it_was(house: House) -> None:
    await house.declare(table("a", "fake?fault=http_500", house.fake.url), table("b", QUICK, house.fake.url))
    run = await house.start("ab")
    before = await house.over(run)
    await house.declare(table("a", QUICK, house.fake.url), table("b", QUICK, house.fake.url))
    await house.engine.retry(run.id, 0)
    rows = await house.over(house.engine.runs.get(run.id, run))
    assert [(row["column_no"], row["attempt_no"], row["state"]) for row in rows] == [
        (0, 1, "failed"),
        (0, 2, "succeeded"),
        (1, 1, "succeeded"),
    ]
    assert rows[1]["retry_of"] == rows[0]["id"]
    assert rows[1]["waited_ms"] > 0
    assert rows[0] == before[0]


async def test_a_run_of_an_engine_that_is_gone_can_be_retried(house: House) -> None:
    await house.declare(table("a", QUICK, house.fake.url))
    run = await house.start("a", "What was it?")
    await house.over(run)
    await house.close()
    await house.open()
    await house.engine.retry(run.id, 0)
    rows = await house.over(house.engine.runs[run.id])
    assert [row["state"] for row in rows] == ["succeeded", "succeeded"]
    assert house.fake.requests[-1].json["messages"][-1]["content"] == "What was it?"


async def test_what_cannot_be_retried_is_refused_in_a_sentence(house: House) -> None:
    await house.declare(table("a", SLOW, house.fake.url))
    run = await house.start("a")
    with pytest.raises(ValueError, match="still at work"):
        await house.engine.retry(run.id, 0)
    with pytest.raises(ValueError, match="no such column"):
        await house.engine.retry(run.id, 3)
    with pytest.raises(ValueError, match="not in the records"):
        await house.engine.retry("nothing-like-it", 0)
    house.engine.stop_columns(run, None)
    await house.over(run)


async def test_an_engine_that_closes_finishes_its_rows(house: House) -> None:
    await house.declare(table("a", SLOW, house.fake.url))
    run = await house.start("a")
    await answering(run, 0)
    await house.close()
    await house.open()
    row = house.calls(run.id)[0]
    assert row["state"] == "cancelled"
    assert row["answer"]


async def test_calls_of_an_engine_that_vanished_become_lost_with_a_sentence(house: House) -> None:
    await house.declare(table("a", QUICK, house.fake.url))
    run = await house.start("a")
    await house.over(run)
    # As a killed process leaves it: a row that is running, under an owner that never said goodbye.
    with house.writer._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE call SET state='running', ended_at=NULL, owner='one that was killed'")
    await house.close()
    await house.open()
    row = house.calls(run.id)[0]
    assert (row["state"], row["cost_state"]) == ("lost", "unknown")
    assert row["message"].endswith(".")
    assert house.engine.lost_at_start == [row["id"]]


async def test_a_late_watcher_gets_everything_and_the_frames_add_up_to_the_row(house: House) -> None:
    await house.declare(table("a", "fake?tokens=80&itl=4&reasoning=10", house.fake.url))
    run = await house.start("a")
    early = asyncio.create_task(frames_of(run))
    await answering(run, 0, 30)
    late = await frames_of(run)
    row = (await house.over(run))[0]
    assert told(await early) == told(late) == row["answer"]
    assert late[0]["type"] == "snapshot"
    assert late[0]["columns"][0]["reasoning"] == row["reasoning"]
    last = next(c for frame in reversed(late) for c in frame.get("cols", ()) if "fig" in c)
    assert last["fig"]["ttft_ms"] == row["ttft_ms"]
    assert last["fig"]["out"] == row["answer_output"] + row["reasoning_output"]
    assert last["phase"] == "done"


async def test_a_watcher_who_cannot_keep_up_is_let_go_and_nobody_waits_for_him(house: House) -> None:
    await house.declare(table("a", "fake?tokens=100&itl=2", house.fake.url))
    run = await house.start("a")
    queue = run.watch()
    for _ in range(1000):
        run.ping()
    assert queue not in run.watchers
    assert queue.get_nowait() is None
    assert told(await frames_of(run)) == (await house.over(run))[0]["answer"]


async def test_columns_start_together_staggered_or_one_after_the_other(house: House) -> None:
    await house.declare(*(table(name, "fake?tokens=30&itl=5&ttft=5", house.fake.url) for name in "abc"))
    for how in ("together", "staggered", "sequential"):
        since = len(house.fake.requests)
        rows = await house.ask("abc", start=how, stagger_s=0.4)
        sent = sorted(row["started_at"] for row in rows)
        gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(sent)]
        ends = sorted(row["ended_at"] for row in rows)
        assert len(house.fake.requests) == since + 3
        if how == "together":
            assert sent[-1] < ends[0], "all were sent before the first one was done"
        elif how == "staggered":
            assert all(gap >= 0.35 for gap in gaps)
        else:
            assert all(later >= earlier for later, earlier in zip(sent[1:], ends, strict=False))


async def test_repetitions_are_calls_of_their_own(house: House) -> None:
    await house.declare(table("a", QUICK, house.fake.url))
    rows = await house.ask("a", repetitions=4)
    assert [row["repetition"] for row in rows] == [1, 2, 3, 4]
    assert len({row["id"] for row in rows}) == 4
    assert all(row["state"] == "succeeded" for row in rows)


async def test_each_column_continues_its_own_conversation(house: House) -> None:
    await house.declare(
        table("a", "fake?tokens=4&text=utf8", house.fake.url),
        table("b", "fake?tokens=7", house.fake.url, "messages"),
        table("c", "fake?fault=http_500", house.fake.url),
    )
    first = await house.start("abc", "One?", system="Be short.")
    rows = await house.over(first)
    await house.ask("abc", "Two?", system="Be short.", parent_run_id=first.id)
    asked = {request.json["model"]: request.json["messages"] for request in house.fake.requests[3:]}
    a = asked["fake?tokens=4&text=utf8"]
    assert [m["content"] for m in a] == ["Be short.", "One?", rows[0]["answer"], "Two?"]
    b = asked["fake?tokens=7"]
    assert [m["content"] for m in b] == ["One?", rows[1]["answer"], "Two?"]
    c = asked["fake?fault=http_500"]
    assert [m["content"] for m in c] == ["Be short.", "Two?"], "an error is never an assistant turn"


async def test_the_prompt_is_sent_with_its_variables_and_files(house: House) -> None:
    await house.declare(table("a", QUICK, house.fake.url))
    await house.ask(
        "a", "Sum up {{what}}.", variables={"what": "the file"}, attachments=(Attachment("n.txt", "in it"),)
    )
    sent = house.fake.requests[0].json["messages"][-1]["content"]
    assert sent.startswith("Sum up the file.")
    assert "n.txt" in sent
    assert "in it" in sent


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (RunSpec("Hi", ()), "between 1 and 8"),
        (RunSpec("Hi", (ColumnSpec("a"),) * (MAX_COLUMNS + 1)), "between 1 and 8"),
        (RunSpec("  \n", (ColumnSpec("a"),)), "empty"),
        (RunSpec("x" * 1_000_001, (ColumnSpec("a"),)), "1,000,001 characters"),
        (RunSpec("Hi", (ColumnSpec("nobody"),)), "no deployment called “nobody”"),
        (RunSpec("Hi", (ColumnSpec("a"),), params={"temperature": "warm"}), "Temperature is a number"),
        (RunSpec("Hi", (ColumnSpec("a"),), params={"temprature": 1}), "temprature"),
        (RunSpec("Hi", (ColumnSpec("a"),), repetitions=0), "1 to 30"),
        (RunSpec("Hi {{who}}", (ColumnSpec("a"),), variables={"what": "x"}), "who"),
    ],
)
async def test_a_run_that_makes_no_sense_is_refused_and_nothing_is_recorded(
    house: House, spec: RunSpec, words: str
) -> None:
    await house.declare(table("a", QUICK, house.fake.url))
    with pytest.raises(ValueError, match=words):
        await house.engine.start_run(spec, "ada")
    with house.reader.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM run").scalar() == 0
    assert not house.fake.requests


async def test_a_prompt_of_a_million_characters_is_sent_whole(house: House) -> None:
    await house.declare(table("a", QUICK, house.fake.url))
    row = (await house.ask("a", "x" * 1_000_000))[0]
    assert row["state"] == "succeeded"
    assert len(house.fake.requests[0].json["messages"][-1]["content"]) == 1_000_000


async def test_an_answer_of_the_responses_wire_that_used_up_its_limit_is_not_called_complete(house: House) -> None:
    await house.declare(table("a", "fake?tokens=12", house.fake.url, "responses"))
    assert (await house.ask("a", params={"max_tokens": 12}))[0]["outcome"] == "max_tokens"
    assert (await house.ask("a", params={"max_tokens": 13}))[0]["outcome"] == "ok"


async def test_a_mistake_of_our_own_ends_the_call_in_a_sentence(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.declare(table("a", QUICK, house.fake.url))
    with monkeypatch.context() as broken:
        broken.setattr("services.calls.record.timing.figures", lambda *_a, **_k: 1 / 0)
        row = (await house.ask("a"))[0]
    assert (row["state"], row["cost_state"]) == ("failed", "unknown")
    assert "text was kept" in row["message"]
    assert row["answer"]
    with monkeypatch.context() as broken:
        broken.setattr("services.calls.calls.attempt", lambda *_a, **_k: 1 / 0)
        row = (await house.ask("a"))[0]
    assert row["state"] == "failed"
    assert "our own engine" in row["message"]
    assert (await house.ask("a"))[0]["state"] == "succeeded"


async def test_without_storage_of_texts_none_is_kept(tmp_path: Path) -> None:
    async with House(tmp_path) as house:
        await house.declare("[privacy]\nstore_text = false\n\n", table("a", QUICK, house.fake.url))
        run = await house.start("a", "a very secret prompt")
        row = (await house.over(run))[0]
        assert row["answer"] is None
        assert row["answer_sha256"]
        assert row["ttft_ms"]
        with pytest.raises(ValueError, match="not kept"):
            await house.close()
            await house.open()
            await house.engine.retry(run.id, 0)
    assert b"secret prompt" not in (tmp_path / "lab.sqlite3").read_bytes()


async def test_a_sequential_run_pauses_between_its_repetitions_and_a_stop_ends_the_pause(house: House) -> None:
    await house.declare(table("a", "fake?tokens=2&itl=1&ttft=1", house.fake.url))
    rows = await house.ask("a", start="sequential", repetitions=3, pause_s=0.3)
    sent = sorted(row["started_at"] for row in rows)
    assert all((later - earlier).total_seconds() >= 0.3 for earlier, later in itertools.pairwise(sent))
    run = await house.start("a", start="sequential", repetitions=2, pause_s=300)
    while not any(row["state"] == "succeeded" for row in house.calls(run.id)):
        await asyncio.sleep(0.01)
    house.engine.stop_columns(run, None)
    rows = await house.over(run)
    assert len(rows) == 1, "the second call was never sent"
    with pytest.raises(ValueError, match="one after the other can pause"):
        await house.start("a", pause_s=1.0)


async def test_a_call_that_is_ended_before_its_first_step_still_writes_its_end() -> None:
    deployment = Deployment("d", "D", "openai-compatible", "m", "http://h/v1")
    record = CallRecord("c", "r", 0, CalledDeployment("d"))
    call = LiveCall(record, deployment, Ask(()), Progress(None, Limits()))
    ends: list[str | None] = []

    async def execute() -> CallRecord:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append(call.progress.abort)
        return record

    call.task = asyncio.create_task(execute())
    call.abort("cancelled")
    call.abort("timeout_total")
    await call.task
    assert ends == ["cancelled"]
