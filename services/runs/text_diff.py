"""The difference of two answers, word by word, in bounded time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

MAX_WORDS = 4000
MAX_LINES = 4000
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of text that both answers share, or that only the first ("delete") or the second ("insert") has."""

    kind: Literal["equal", "delete", "insert"]
    text: str


@dataclass(frozen=True, slots=True)
class Diff:
    """The segments in order. ``unit`` is "word", or "line" where the texts were too long for words."""

    segments: tuple[Segment, ...]
    unit: Literal["word", "line"]
    same: bool


def diff(first: str, second: str) -> Diff:
    """Compare two texts. Joining the segments that are not "insert" gives the first, not "delete" the second."""
    if first == second:
        return Diff((Segment("equal", first),) if first else (), "word", same=True)
    a, b = _WORDS.findall(first), _WORDS.findall(second)
    if len(a) <= MAX_WORDS and len(b) <= MAX_WORDS:
        return Diff(_segments(a, b), "word", same=False)
    lines_a, lines_b = first.splitlines(keepends=True), second.splitlines(keepends=True)
    if len(lines_a) <= MAX_LINES and len(lines_b) <= MAX_LINES:
        return Diff(_segments(lines_a, lines_b), "line", same=False)
    return Diff((Segment("delete", first), Segment("insert", second)), "line", same=False)


def _segments(a: list[str], b: list[str]) -> tuple[Segment, ...]:
    found: list[Segment] = []
    for tag, a0, a1, b0, b1 in SequenceMatcher(None, a, b, autojunk=len(a) + len(b) > 1000).get_opcodes():
        if tag == "equal":
            found.append(Segment("equal", "".join(a[a0:a1])))
            continue
        if a1 > a0:
            found.append(Segment("delete", "".join(a[a0:a1])))
        if b1 > b0:
            found.append(Segment("insert", "".join(b[b0:b1])))
    return tuple(found)
