"""Two batches of the same file, line beside line: where they agree, what they cost and took, whom people voted for."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from services.batch.stats import Summary, Sums, wilson
from services.runs import text_diff

Row = Mapping[str, Any]
NORMALISED = "letters in either case, blanks and a full stop at the end do not count"
_BLANKS = re.compile(r"\s+")
_ENDING = ".。"
SAME_FILE = "the same file, line by line"
BY_ID = "two different files, by the id of each line"
# differ, same: both answered. one, neither: both have the line, and so many of them an answer. only_a, only_b: the
# other batch has no such line, so that nothing is compared.
Kind = Literal["differ", "same", "one", "neither", "only_a", "only_b"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One record in both batches; a side is None where the batch has no such line. ``key`` names it for a person."""

    key: str
    a: Row | None
    b: Row | None

    @property
    def answered(self) -> bool:
        """Whether both sides have an answer."""
        return _answered(self.a) and _answered(self.b)

    @property
    def agrees(self) -> bool | None:
        """Whether both answers are the same after `normalised`; None where one of them is missing."""
        return normalised(_answer(self.a)) == normalised(_answer(self.b)) if self.answered else None

    @property
    def kind(self) -> Kind:
        """What can be said of the two."""
        if self.a is None or self.b is None:
            return "only_b" if self.a is None else "only_a"
        if self.answered:
            return "same" if self.agrees else "differ"
        return "one" if _answered(self.a) or _answered(self.b) else "neither"

    @property
    def diff(self) -> text_diff.Diff:
        """What the second answer has in place of what the first has, word by word."""
        return text_diff.diff(_answer(self.a), _answer(self.b))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two batches as a whole. ``a`` and ``b`` sum up all lines of each; agreement is over the ``n_answered`` lines that
    both answered. ``only_a``, ``only_b``: lines that the other has not."""

    joined: str
    n_pairs: int
    n_answered: int
    n_same: int
    only_a: int
    only_b: int
    a: Summary
    b: Summary
    a_alone: int = 0  # lines that only the first answered, although both have them
    b_alone: int = 0

    @property
    def agreement(self) -> float | None:
        """The share of equal answers; None without any to compare."""
        return self.n_same / self.n_answered if self.n_answered else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval (Wilson)."""
        return wilson(self.n_same, self.n_answered)

    @property
    def sentence(self) -> str:
        """The agreement in words."""
        return self.told("the first", "the second")

    def told(self, first: str, second: str) -> str:
        """The agreement in words, with names for the two."""
        rest = self._not_compared(first, second)
        if not self.n_answered:
            return f"No line was answered by both, so there is nothing to compare.{rest}"
        low, high = self.interval or (0.0, 1.0)
        n = self.n_answered
        return (
            f"{self.n_same / n:.1%} the same of {n:,} {'line' if n == 1 else 'lines'} that both answered "
            f"({self.n_same:,} the same, {n - self.n_same:,} different; 95 % interval {low:.1%} – {high:.1%}); "
            f"{NORMALISED}.{rest}"
        )

    def _not_compared(self, first: str, second: str) -> str:
        left = [f"{n:,} {'line' if n == 1 else 'lines'} that only {who} answered"
                for n, who in ((self.a_alone, first), (self.b_alone, second)) if n]  # fmt: skip
        left += [f"{n:,} {'line' if n == 1 else 'lines'} that {'is' if n == 1 else 'are'} only in {who}"
                 for n, who in ((self.only_a, first), (self.only_b, second)) if n]  # fmt: skip
        return f" Not compared: {', '.join(left)}." if left else ""


def normalised(text: str) -> str:
    """An answer without what does not make it another one (`NORMALISED`)."""
    plain = _BLANKS.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()
    return plain[:-1].rstrip() if plain and plain[-1] in _ENDING else plain


def pairs(a: Iterable[Row], b: Iterable[Row], *, same_file: bool) -> Iterator[Pair]:
    """The lines of two batches side by side, in the order of the file.

    Of the same file (`same_sha`): both come in its order, so they are joined by where the record begins, in constant
    memory; records that begin in one line of it (a JSON array) by their ids. Of two files: by id, with the second one
    held in memory.
    """
    return _by_place(a, b) if same_file else _by_id(a, b)


def same_sha(batch_a: Row, batch_b: Row) -> bool:
    """Whether two batches were made of the same bytes."""
    return bool(batch_a.get("file_sha256")) and batch_a["file_sha256"] == batch_b.get("file_sha256")


def compare(a: Iterable[Row], b: Iterable[Row], *, same_file: bool) -> Comparison:
    """The totals of two batches (`db.batches.each_line` of each) in one pass."""
    first, second = Sums(), Sums()
    n: Counter[str] = Counter()
    for pair in pairs(a, b, same_file=same_file):
        if pair.a is not None:
            first.add(pair.a)
        if pair.b is not None:
            second.add(pair.b)
        if pair.a is None or pair.b is None:
            n["only_b" if pair.a is None else "only_a"] += 1
            continue
        n["pairs"] += 1
        if pair.answered:
            n["answered"] += 1
            n["same"] += bool(pair.agrees)
        elif _answered(pair.a):
            n["a_alone"] += 1
        elif _answered(pair.b):
            n["b_alone"] += 1
    return Comparison(
        SAME_FILE if same_file else BY_ID, n["pairs"], n["answered"], n["same"], n["only_a"], n["only_b"],
        first.summary(), second.summary(), n["a_alone"], n["b_alone"],
    )  # fmt: skip


def _by_place(a: Iterable[Row], b: Iterable[Row]) -> Iterator[Pair]:
    left, right = (groupby(rows, lambda row: int(row["line"])) for rows in (a, b))
    at_a, at_b = next(left, None), next(right, None)
    while at_a is not None or at_b is not None:
        if at_b is None or (at_a is not None and at_a[0] < at_b[0]):
            assert at_a is not None
            yield from (Pair(_key(row), row, None) for row in at_a[1])
            at_a = next(left, None)
        elif at_a is None or at_b[0] < at_a[0]:
            yield from (Pair(_key(row), None, row) for row in at_b[1])
            at_b = next(right, None)
        else:
            yield from _of_one_place(list(at_a[1]), list(at_b[1]))
            at_a, at_b = next(left, None), next(right, None)


def _of_one_place(a: list[Row], b: list[Row]) -> Iterator[Pair]:
    if len(a) == len(b) == 1:
        yield Pair(_key(a[0]), a[0], b[0])
        return
    yield from _by_id(a, b)


def _by_id(a: Iterable[Row], b: Iterable[Row]) -> Iterator[Pair]:
    waiting: dict[str, list[Row]] = {}
    for row in b:
        waiting.setdefault(_key(row), []).append(row)
    for row in a:
        found = waiting.get(_key(row))
        yield Pair(_key(row), row, found.pop(0) if found else None)
    for rows in waiting.values():
        yield from (Pair(_key(row), None, row) for row in rows)


def _key(row: Row) -> str:
    return str(row.get("record_id") or row["no"])


def _answer(row: Row | None) -> str:
    return str(row.get("answer") or "") if row is not None else ""


def _answered(row: Row | None) -> bool:
    return row is not None and row["state"] == "succeeded" and row.get("answer") is not None


# --- votes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tally:
    """Votes on pairs of lines, of people or of a judge."""

    a: int
    b: int
    tie: int
    lines: Mapping[int, Mapping[str, str]] = field(default_factory=dict)  # line → person → choice

    @property
    def decided(self) -> int:
        """Votes for one of the two."""
        return self.a + self.b

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the first one's share of the decided votes; None without any."""
        return wilson(self.a, self.decided)

    @property
    def sentence(self) -> str:
        """Who is preferred, or that no difference was seen."""
        ties = f", {self.tie:,} ties" if self.tie != 1 else ", 1 tie"
        if self.interval is None:
            return f"No vote for one of the two{ties if self.tie else ''}."
        low, high = self.interval
        counts = f"{self.a:,} for the first, {self.b:,} for the second{ties if self.tie else ''}"
        share = f"the first has {self.a / self.decided:.0%} of the decided (95 % interval {low:.0%} – {high:.0%})"
        if low <= 0.5 <= high:
            return f"No difference seen: {counts}; {share}."
        return f"{'The first' if low > 0.5 else 'The second'} is preferred: {counts}; {share}."


def tally(votes: Iterable[Row]) -> Tally:
    """The votes of `db.batch_votes.votes` added up."""
    lines: dict[int, dict[str, str]] = {}
    n: Counter[str] = Counter()
    for vote in votes:
        lines.setdefault(int(vote["no"]), {})[str(vote["person"])] = str(vote["choice"])
        n[str(vote["choice"])] += 1
    return Tally(n["a"], n["b"], n["tie"], lines)
