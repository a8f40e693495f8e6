"""The living state of one HTTP attempt: what the reader writes, and what the board and the deadlines look at.

One object, one writer (the attempt's own task), many lookers on the same event loop: no locks, no callbacks.
"""

from __future__ import annotations

from array import array
from time import perf_counter_ns

from services.providers.base import Decoder
from services.types import Limits, Outcome, Phase

NS = 1_000_000_000


class Progress:
    """Stamps (perf_counter_ns; 0 = not yet), content so far, and the reason if somebody ends it early."""

    __slots__ = (
        "abort",
        "accepted",
        "answer",
        "answer_chars",
        "connect_end",
        "connect_start",
        "decoder",
        "delta_kinds",
        "delta_ns",
        "end",
        "first",
        "first_answer",
        "handed",
        "headers",
        "keepalives",
        "last",
        "limits",
        "n_bytes",
        "n_events",
        "phase",
        "reasoning",
        "reasoning_chars",
        "reused",
        "status",
        "t0",
        "t0_wall",
        "via",
    )

    def __init__(self, decoder: Decoder | None, limits: Limits) -> None:
        self.decoder = decoder
        self.limits = limits
        self.phase: Phase = "queued"
        self.accepted = perf_counter_ns()
        self.handed = 0
        self.connect_start = 0
        self.connect_end = 0
        self.reused = False
        self.via: str | None = None  # the setting of the proxy that it goes through
        self.t0 = 0
        self.t0_wall: float | None = None
        self.headers = 0
        self.first = 0
        self.first_answer = 0
        self.last = 0
        self.end = 0
        self.status: int | None = None
        self.delta_ns: array[int] = array("q")
        self.delta_kinds = bytearray()  # "a" answer, "r" reasoning, "t" tool arguments
        self.answer: list[str] = []
        self.reasoning: list[str] = []
        self.answer_chars = 0
        self.reasoning_chars = 0
        self.n_bytes = 0
        self.n_events = 0
        self.keepalives = 0
        self.abort: Outcome | None = None

    @property
    def over(self) -> bool:
        """True once the attempt has ended in any way."""
        return self.phase == "done"

    def overdue(self, now: int) -> Outcome | None:
        """The deadline that has passed at ``now`` (perf_counter_ns), if any.

        Deadlines are on content: keep-alive comments and empty deltas do not hold them off.
        """
        limits = self.limits
        if self.phase == "connecting":
            return "timeout_connect" if now - self.handed > limits.connect_s * NS else None
        if not self.t0 or self.over:
            return None
        if now - self.t0 > limits.total_s * NS:
            return "timeout_total"
        if not self.headers:
            return "timeout_headers" if now - self.t0 > limits.headers_s * NS else None
        if not self.last:
            return "timeout_first_token" if now - self.t0 > limits.first_token_s * NS else None
        return "timeout_idle" if now - self.last > limits.idle_s * NS else None
