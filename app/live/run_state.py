"""A run's live state as the board's frames have told it, so that a viewer who comes late gets all of it.

Positions are counted in code points (Python's `len`), by both sides of the wire.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.types import Json, JsonMapping

# For each column index: (repetition, attempt, characters of answer, characters of reasoning) a viewer already has.
Cursor = tuple[int, int, int, int]
Have = Mapping[int, Cursor]

CURSOR_KEYS = ("i", "rep", "attempt", "answer", "reasoning")
# What says who answers. In a blind run it stays here: the page, which knows who has voted, gives the names.
# Notes too: they are sentences about a deployment by its name. And how its server is: an API has no such thing.
_WHO = {
    "deployment": "",
    "name": "",
    "badge": "",
    "kind": "",
    "model": "",
    "labels": [],
    "color": 0,
    "note": None,
    "gauge": None,
}
_HIDDEN = frozenset({"note", "gauge"})  # of these, what a delta can carry
_TEXT_KEYS = frozenset({"a", "r", "reset", "i", "answer", "reasoning", "answer_from", "reasoning_from"})


@dataclass(slots=True)
class Column:
    """One column: its last known fields, and its texts in the pieces they came in."""

    fields: Json
    answer: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    answer_len: int = 0
    reasoning_len: int = 0
    told_at: float = 0.0

    def add(self, answer: str, reasoning: str) -> None:
        """Append what arrived."""
        if answer:
            self.answer.append(answer)
            self.answer_len += len(answer)
        if reasoning:
            self.reasoning.append(reasoning)
            self.reasoning_len += len(reasoning)

    def empty(self) -> None:
        """Forget the texts: another repetition or attempt begins."""
        self.answer, self.reasoning = [], []
        self.answer_len = self.reasoning_len = 0

    @property
    def cursor(self) -> Cursor:
        """How far this column has come."""
        return (self.fields.get("rep", 1), self.fields.get("attempt", 1), self.answer_len, self.reasoning_len)

    def view(self, have: Cursor | None, now: float) -> Json:
        """The column's object for a snapshot; only the tails beyond ``have`` when it is of the same attempt."""
        mine = self.cursor
        answer_from = reasoning_from = 0
        if have and have[:2] == mine[:2] and 0 <= have[2] <= mine[2] and 0 <= have[3] <= mine[3]:
            answer_from, reasoning_from = have[2], have[3]
        shown = {**self.fields, "answer_from": answer_from, "reasoning_from": reasoning_from}
        shown["answer"] = "".join(self.answer)[answer_from:]
        shown["reasoning"] = "".join(self.reasoning)[reasoning_from:]
        if shown.get("phase") != "done":
            passed = (now - self.told_at) * 1000.0
            for clock in ("elapsed_ms", "idle_ms"):
                if isinstance(shown.get(clock), (int, float)):
                    shown[clock] += passed
        return shown


class Mirror:
    """The state of one run, fed with frames; `snapshot` is what a viewer with the given cursors still lacks."""

    def __init__(self) -> None:
        self.seq = 0
        self._head: Json = {}
        self._columns: dict[int, Column] = {}

    @property
    def known(self) -> bool:
        """True once a snapshot has been seen."""
        return bool(self._head)

    @property
    def live(self) -> bool:
        """False once the run has ended."""
        return bool(self._head.get("live"))

    def apply(self, frame: JsonMapping, now: float | None = None) -> None:
        """Take in a snapshot, delta or end frame; other frames change nothing."""
        now = time.monotonic() if now is None else now
        kind = frame.get("type")
        if kind == "snapshot":
            self._take_snapshot(frame, now)
        elif kind == "delta":
            for change in frame["cols"]:
                self._take_change(change, now)
        elif kind == "end":
            self._head["live"] = False
        self.seq = int(frame.get("seq", self.seq))

    def _take_snapshot(self, frame: JsonMapping, now: float) -> None:
        self._head = {key: value for key, value in frame.items() if key != "columns"}
        self._columns = {}
        for shown in frame["columns"]:
            column = Column({k: v for k, v in shown.items() if k not in _TEXT_KEYS} | {"i": shown["i"]}, told_at=now)
            column.add(shown.get("answer", ""), shown.get("reasoning", ""))
            self._columns[shown["i"]] = column

    def _take_change(self, change: JsonMapping, now: float) -> None:
        column = self._columns.get(change["i"])
        if column is None:
            return
        if change.get("reset"):
            column.empty()
        fresh = {k: v for k, v in change.items() if k not in _TEXT_KEYS}
        text = bool(change.get("a") or change.get("r"))
        if column.fields.get("phase") != "done":
            passed = (now - column.told_at) * 1000.0
            for clock in ("elapsed_ms", "idle_ms"):
                if clock not in fresh and isinstance(column.fields.get(clock), (int, float)):
                    fresh[clock] = 0.0 if text and clock == "idle_ms" else column.fields[clock] + passed
        column.fields.update(fresh)
        column.told_at = now
        column.add(change.get("a", ""), change.get("r", ""))

    def line(self, frame: JsonMapping, line: bytes) -> str:
        """A frame as viewers are sent it: as it came, without what tells who answers while the run is blind."""
        if not self._head.get("blind") or not any(_HIDDEN & change.keys() for change in frame.get("cols", ())):
            return line.decode()
        columns = [{name: v for name, v in change.items() if name not in _HIDDEN} for change in frame["cols"]]
        return orjson.dumps({**frame, "cols": columns}).decode()

    def cursors(self) -> dict[int, Cursor]:
        """How far each column has come: what a viewer who got every frame has."""
        return {i: column.cursor for i, column in self._columns.items()}

    def snapshot(self, have: Have | None = None, now: float | None = None) -> str:
        """The snapshot frame as JSON text: only the tails beyond the cursors, and no names while the run is blind."""
        now = time.monotonic() if now is None else now
        have = have or {}
        columns = [column.view(have.get(i), now) for i, column in self._columns.items()]
        if self._head.get("blind"):
            columns = [{**column, **_WHO} for column in columns]
        return orjson.dumps({**self._head, "seq": self.seq, "columns": columns}).decode()


def read_have(told: Any) -> dict[int, Cursor]:
    """The cursors a browser sent; whatever cannot be understood is left out, so that its column is sent in full."""
    have: dict[int, Cursor] = {}
    for entry in told if isinstance(told, Sequence) and not isinstance(told, str) else ():
        if not isinstance(entry, Mapping):
            continue
        numbers = [value for name in CURSOR_KEYS if type(value := entry.get(name)) is int]
        if len(numbers) == len(CURSOR_KEYS):
            i, rep, attempt, answer, reasoning = numbers
            have[i] = (rep, attempt, answer, reasoning)
    return have
