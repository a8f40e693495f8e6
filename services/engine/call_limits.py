"""How many calls one person, and everybody together, may have under way or waiting in this engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from services.security.access import folded

TOGETHER = 2_000  # calls of everybody; each holds its prompt and its answer in memory until it ends


class TooMany(ValueError):
    """More was asked for than is taken at once. The text is a sentence for the person."""


class Hold:
    """Calls that were taken and are not over."""

    def __init__(self, allowance: Allowance, person: str, calls: int) -> None:
        self._allowance, self._person, self._calls = allowance, person, calls

    def release(self, calls: int = 1) -> None:
        """So many of them are over."""
        calls = min(calls, self._calls)
        self._calls -= calls
        self._allowance._give_back(self._person, calls)

    def close(self) -> None:
        """None of them is under way any more."""
        self.release(self._calls)


class Allowance:
    """The calls of an engine by the person who asked for them. ``allowed``: how many one person may have now."""

    def __init__(self, allowed: Callable[[], int]) -> None:
        self._allowed = allowed
        self._taken: Counter[str] = Counter()

    def take(self, person: str, calls: int) -> Hold:
        """Take so many calls on, all or none: nothing is awaited between the look and the count. Raises `TooMany`."""
        person = folded(person)  # one mailbox, however it is written
        allowed, has = self._allowed(), self._taken[person]
        if has + calls > allowed:
            raise TooMany(_own_limit_sentence(has, calls, allowed))
        limit = max(TOGETHER, allowed)
        if (busy := self._taken.total()) + calls > limit:
            raise TooMany(
                f"Nothing was sent: everybody together has {busy:,} calls under way or waiting, and this server takes "
                f"{limit:,} at once. Send it again when some have ended."
            )
        self._taken[person] += calls
        return Hold(self, person, calls)

    def under_way(self, person: str) -> int:
        """How many calls a person has."""
        return self._taken[folded(person)]

    def _give_back(self, person: str, calls: int) -> None:
        self._taken[person] -= calls
        if self._taken[person] <= 0:
            del self._taken[person]


def _own_limit_sentence(has: int, calls: int, allowed: int) -> str:
    if not has:
        return (
            f"Nothing was sent: this is {calls:,} calls, and this server takes {allowed:,} of a person at once. Send "
            "fewer columns or repetitions, or a batch."
        )
    return (
        f"Nothing was sent: {has:,} of your calls are under way or waiting, and with {calls:,} more it would be above "
        f"the {allowed:,} that this server takes of a person at once. Wait until some have ended, or stop a run."
    )
