"""What the end of a call means for its line and for its batch, in a time of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from services.batch import concurrency, runner
from services.batch.concurrency import BELIEVED_S, LONGEST_PAUSE_S, Lanes, Spacing, Turns
from services.batch.runner import AGAIN, RetryPolicy, Tries
from services.call_record import CallOutcome


class Clock:
    """`time.monotonic` of the modules under test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(runner, "time", made)
    monkeypatch.setattr(concurrency, "time", made)
    return made


def judge(patient_s: float = 300.0, lanes: int = 4) -> RetryPolicy:
    return RetryPolicy("fake", Turns(Lanes(first=lanes), Spacing(None)), patient_s)


def end(outcome: str, asked: float | None = None, **more: Any) -> CallOutcome:
    state = "succeeded" if outcome == "ok" else "failed"
    return CallOutcome(state=state, name=outcome, retry_after_s=asked, message=f"fake: {outcome}.", **more)


def told(one: RetryPolicy, final: CallOutcome, tries: Tries | None = None) -> Any:
    return one.verdict(final, "yes" if final.succeeded else "", tries or Tries(), refused=False, cancelled=False)


def answered(one: RetryPolicy) -> None:
    """A line is answered, as the sender tells it to both."""
    told(one, end("ok"))
    one._turns.ended(began=0.0, latency_ms=5.0)


def storm(one: RetryPolicy, clock: Clock, lines: list[Tries], asked: float | None = None) -> tuple[float, Any, int]:
    """Everything is throttled until the batch is paused: seconds that took, the verdict, and how many were asked."""
    began, n = clock.now, 0
    while True:
        for tries in lines:
            n += 1
            verdict = told(one, end("throttled", asked), tries)
            assert verdict.line["state"] == "waiting", "no line is given up"
            if verdict.pause is not None:
                return clock.now - began, verdict, n
        clock.now += verdict.wait_s


@pytest.mark.parametrize("asked", [None, 0.0, 0.01, 1.0, 7.0, 45.0])
def test_a_service_that_refuses_everything_pauses_the_batch_within_the_patience_and_costs_no_line(
    clock: Clock, asked: float | None
) -> None:
    lines = [Tries() for _ in range(4)]
    took, verdict, n = storm(judge(), clock, lines, asked)
    assert 120 < took <= 300
    assert verdict.pause.startswith("Paused: fake has answered nothing for")
    assert verdict.pause.endswith("No line was given up for it. Resume when it is well again.")
    assert "fake: throttled." in verdict.pause
    assert n <= 4 * 100, "it is not hammered, whatever short waits it asks for"
    assert max(tries.counts.total() for tries in lines) == 1


def test_a_wait_beyond_the_patience_pauses_at_once_and_is_named(clock: Clock) -> None:
    took, verdict, n = storm(judge(), clock, [Tries()], 3600.0)
    assert (took, n) == (0, 1)
    assert "answers nothing and asks for a wait of 60 min" in verdict.pause


def test_a_wait_that_is_asked_for_is_kept_exactly_while_it_helps(clock: Clock) -> None:
    one = judge()
    for _ in range(20):
        assert told(one, end("throttled", 3.0)).wait_s == 3.0
        clock.now += 3.0
        answered(one)


def test_a_service_whose_short_waits_do_not_help_is_asked_less_and_less_often(clock: Clock) -> None:
    made, waits = Turns(Lanes(), Spacing(None)), []
    for _ in range(9):
        waits.append(made.pause(0.5))
        clock.now += waits[-1]
    assert waits[0] == waits[3] == 0.5
    assert waits[4] > BELIEVED_S and waits[-1] == LONGEST_PAUSE_S


def test_one_answer_begins_the_patience_anew(clock: Clock) -> None:
    one = judge(patient_s=10.0)
    for _ in range(30):
        assert told(one, end("overloaded", 4.0)).pause is None
        clock.now += 4.0
        answered(one)


def test_a_line_that_is_refused_while_others_are_answered_is_given_up_in_the_end(clock: Clock) -> None:
    one, tries = judge(), Tries()
    for _ in range(AGAIN["throttled"]):
        assert told(one, end("throttled"), tries).wait_s is not None
        told(one, end("ok"))
        clock.now += 60.0
    assert told(one, end("throttled"), tries).line["state"] == "failed"


def test_that_a_service_is_waited_for_is_said_while_it_is_and_not_for_a_moment(clock: Clock) -> None:
    one = judge()
    assert one.said is None
    told(one, end("throttled"))
    assert one.said is None, "that is how the number of lanes is found"
    clock.now += 20.0
    told(one, end("throttled"))
    said = one.said
    assert (
        said is not None
        and said.startswith("Waiting since ")
        and said.endswith("UTC: fake: throttled. If nothing is answered for 5 min, the batch is paused.")
    )
    clock.now += 20.0
    told(one, end("throttled"))
    assert one.said == said, "it is not written anew each time"
    told(one, end("ok"))
    assert one.said is None


def test_what_would_fail_for_every_line_pauses_and_one_lines_own_failure_does_not(clock: Clock) -> None:
    assert told(judge(), end("unauthorised")).pause == "Paused: fake: unauthorised. Then resume."
    one = judge()
    told(one, end("ok"))
    assert told(one, end("not_found")).line["state"] == "failed", "others are answered"
    assert told(one, end("not_found")).pause is not None, "twice in a row it is the service"
    assert told(judge(), end("filtered")).line["state"] == "failed"
    assert told(judge(), end("http_error", http_status=400)).line["state"] == "failed"
    assert told(judge(), end("http_error", http_status=500)).wait_s is not None


def test_a_server_that_is_gone_pauses_before_a_line_has_used_up_its_tries(clock: Clock) -> None:
    one, lines = judge(lanes=2), [Tries(), Tries()]
    for n in range(20):
        verdict = told(one, end("unreachable"), lines[n % 2])
        assert verdict.line["state"] == "waiting"
        if verdict.pause is not None:
            break
        clock.now += verdict.wait_s or 0.0
    assert verdict.pause is not None and verdict.pause.endswith("Resume when it is well again.")


def test_a_stop_by_hand_ends_a_line_and_a_stopped_worker_leaves_it() -> None:
    one = judge()
    assert one.verdict(end("cancelled"), "", Tries(), refused=False, cancelled=True).line["state"] == "cancelled"
    assert one.verdict(end("cancelled"), "", Tries(), refused=False, cancelled=False).line["state"] == "waiting"
