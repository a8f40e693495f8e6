"""What can go wrong at the emulated services. Positions of lines count from 0 in the order of the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Faults:
    """Everything is off at first.

    ``refuse``: the file fails validation, with this message for line 2. ``over_quota``: it fails because too many
    tokens wait. ``throttle``: (status, retry-after seconds or None) for the next submits, one each. ``lost``: of so
    many submits the job is made and the connection closed without an answer. ``dropped``: of so many submits nothing
    is made and the connection closed. ``late``: a lost job is listed only after so many lists. ``errors``: lines that
    fail. ``missing``, ``double``: lines that are left out or come twice. ``unknown``: so many lines that nobody sent.
    ``cut``: bytes cut off the end of the results. ``expire_after`` and ``cancel_after``: lines that are finished when
    the job runs out of time or is stopped. ``bad_polls``: so many polls are answered 500. ``gone``: results are
    deleted. ``shuffle``: their order is another one. ``hold``: jobs do not move. ``usage``: of every answer, instead of
    a count of words. ``echo_key``: error messages repeat the key that was sent, as careless gateways do.
    """

    refuse: str | None = None
    over_quota: bool = False
    throttle: list[tuple[int, float | None]] = field(default_factory=list)
    lost: int = 0
    dropped: int = 0
    late: int = 0
    errors: set[int] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)
    double: set[int] = field(default_factory=set)
    unknown: int = 0
    cut: int = 0
    expire_after: int | None = None
    cancel_after: int = 0
    bad_polls: int = 0
    gone: bool = False
    shuffle: bool = True
    hold: bool = False
    usage: dict[str, Any] | None = None
    echo_key: bool = False

    def fate(self, index: int, *, stopped: bool, expired: bool) -> str:
        """What becomes of a line: "ok", "error", "cancelled", "expired"."""
        if stopped and index >= self.cancel_after:
            return "cancelled"
        if expired and index >= (self.expire_after or 0):
            return "expired"
        return "error" if index in self.errors else "ok"
