"""What the end of a call means: for its line, which is tried again where that helps, and for the whole batch, which is
paused for what would end the same for every line.

A service that asks to wait (throttled, overloaded, its model loading) is waited for as it asks, by all lanes. While it
answers nobody that is no line's fault: no line uses up its tries on it. After `PATIENT_S` without one answer, or when
it asks for a longer wait, the batch is paused and says so, because somebody may have to do something about it.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from services.batch.duration import words
from services.batch.line_calls import Verdict
from services.batch.turns import Turns

Row = dict[str, Any]
# How often a line is tried once more after each of these. What is not here ends the line at once.
AGAIN: Mapping[str, int] = {
    "throttled": 5, "overloaded": 5, "not_ready": 5, "unreachable": 5, "proxy_error": 5, "stream_error": 2,
    "truncated": 2,
    "timeout_connect": 2, "timeout_headers": 2, "timeout_first_token": 2, "timeout_idle": 2, "timeout_total": 1,
    "http_error": 2,
}  # fmt: skip
UNREACHED = frozenset({"unreachable", "proxy_error"})
ASKS_TO_WAIT = frozenset({"throttled", "overloaded", "not_ready"})  # nobody is sent for a while
# The same for every line: the batch is paused until somebody has seen to it.
BLOCKING = frozenset({"unauthorised", "quota_exhausted", "not_found", "config_error"})
# Calls that fail one after the other, none succeeding in between, before the batch is paused. Less where nothing can be
# reached at all: a line must not use up its tries on that.
MOST_FAILED, MOST_UNREACHABLE = 12, 6
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0
PATIENT_S = max(0.1, float(os.environ.get("LAB_BATCH_PATIENCE", "300")))
SAID_AFTER_S = 5.0  # shorter refusals are a part of finding the right number of lanes
RESUME = "Resume when it is well again."
WAITS: Row = {"state": "waiting", "worker": None, "lease_until": None}


@dataclass(slots=True)
class Tries:
    """How often a line has failed in this worker, by outcome. ``answered``: how many others had been answered when it
    was asked to wait last."""

    counts: Counter[str] = field(default_factory=Counter)
    answered: int | None = None

    def one_more(self, outcome: str) -> bool:
        """Count a failure; whether the line may be tried once more."""
        self.counts[outcome] += 1
        return self.counts[outcome] <= AGAIN[outcome] and self.counts.total() <= max(AGAIN.values())


class Patience:
    """The judgement of one batch in one worker. ``name``: of the deployment. Call `verdict` for every call that ended;
    ``patient_s``: so long nothing need be answered."""

    def __init__(self, name: str, turns: Turns, patient_s: float = PATIENT_S) -> None:
        self._name = name
        self._turns = turns
        self._patient_s = patient_s
        self._answered = 0
        self._failed_in_a_row = 0
        self._refused_at: float | None = None  # since then the service has asked everybody to wait
        self._said = ""

    @property
    def said(self) -> str | None:
        """That the service is waited for, in a sentence; None while it is not, or not for long."""
        if self._refused_at is None or time.monotonic() - self._refused_at < SAID_AFTER_S:
            return None
        return self._said

    def verdict(self, final: Row, tries: Tries, *, refused: bool, cancelled: bool) -> Verdict:
        """What the end of a call means. ``refused``: the request could not even be made; ``cancelled``: the person has
        cancelled the batch."""
        outcome = str(final.get("outcome"))
        if final.get("state") == "succeeded":
            self._answered += 1
            self._failed_in_a_row, self._refused_at = 0, None
            return Verdict(over(final, "succeeded"))
        if outcome == "cancelled":
            # By the person: the line is cancelled. Because the worker is stopped: somebody else sends it.
            return Verdict(over(final, "cancelled") if cancelled else WAITS)
        if outcome in ASKS_TO_WAIT:
            return self._asked_to_wait(final, outcome, tries)
        if not refused:
            self._failed_in_a_row += 1
        if outcome in BLOCKING and not refused and (not self._answered or self._failed_in_a_row > 1):
            return Verdict(WAITS, pause=f"Paused: {final.get('message')} Then resume.")
        if outcome not in AGAIN or (outcome == "http_error" and (final.get("http_status") or 0) < 500):
            self._refused_at = None  # it does answer
            return Verdict(over(final, "failed"))
        return self._failed(final, outcome, tries)

    def _failed(self, final: Row, outcome: str, tries: Tries) -> Verdict:
        lanes = self._turns.lanes.limit
        most = MOST_UNREACHABLE if outcome in UNREACHED else MOST_FAILED
        if self._failed_in_a_row >= max(most, 2 * lanes if lanes > 1 else 0):
            said = f"Paused: {self._failed_in_a_row} calls in a row failed. The last one: {final.get('message')}"
            return Verdict(WAITS, pause=f"{said} {RESUME}")
        if not tries.one_more(outcome):
            return Verdict(over(final, "failed"))
        asked = final.get("retry_after_s")
        if outcome in UNREACHED:
            return Verdict(WAITS, wait_s=self._turns.pause(asked))
        wait = asked or min(LONGEST_WAIT_S, FIRST_WAIT_S * 4 ** (tries.counts[outcome] - 1))
        return Verdict(WAITS, wait_s=wait)

    def _asked_to_wait(self, final: Row, outcome: str, tries: Tries) -> Verdict:
        # A line counts it only when others were answered meanwhile: then it may be too large for what is allowed.
        if tries.answered != self._answered:
            tries.answered = self._answered
            if not tries.one_more(outcome):
                return Verdict(over(final, "failed"))
        now = time.monotonic()
        if self._refused_at is None:
            self._refused_at = now
            since = f"{datetime.now(UTC):%H:%M} UTC"
            self._said = (
                f"Waiting since {since}: {final.get('message')} If nothing is answered for {words(self._patient_s)}, "
                "the batch is paused."
            )
        wait = self._turns.pause(final.get("retry_after_s"))
        if now + wait - self._refused_at <= self._patient_s:
            return Verdict(WAITS, wait_s=wait)
        lasted, asked = now - self._refused_at, final.get("retry_after_s")
        long = f"has answered nothing for {words(lasted)}" if lasted >= 1 else "answers nothing"
        asks = f" and asks for a wait of {words(asked)}" if asked else ""
        said = f"Paused: {self._name} {long}{asks}. The last one: {final.get('message')} No line was given up for it."
        return Verdict(WAITS, pause=f"{said} {RESUME}")


def over(final: Row, state: str) -> Row:
    """A line that is over after this call."""
    return {
        "state": state, "outcome": final.get("outcome"), "message": final.get("message"),
        "answer": final.get("answer") or None, "lease_until": None, "ended_at": datetime.now(UTC),
    }  # fmt: skip
