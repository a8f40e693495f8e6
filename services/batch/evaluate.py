"""Checks of each answer against what is expected, and a comparison of two batches of one file, line by line.

What is expected is a fixed text or holds columns of the file as ``{{label}}``. Patterns and schemas of a person run in
a process of their own (`sandbox_process`), one second a line: `Sandbox` ends it when it does not answer in time.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, TypedDict

from db.batch_rows import BatchRow, CalledLine, VoteRow
from services.batch.stats import Summary, Sums, wilson
from services.runs import compare as runs_compare
from services.types import JsonMapping

CheckKind = Literal["exact", "contains", "regex", "json", "schema", "number"]

NORMALISED = "letters in either case, blanks and a full stop at the end do not count"

TITLES: Mapping[CheckKind, str] = {
    "exact": f"Exact match ({NORMALISED})",
    "contains": "Contains",
    "regex": "Regular expression",
    "json": "Is JSON",
    "schema": "Fits a JSON schema",
    "number": "Number within a tolerance",
}

LONGEST_PATTERN = 10_000

LONGEST_ANSWER = 1_000_000  # characters that a check looks at

_VARIABLE = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")


# "1,234.5", "-3", "+.5e-3"; not the digits inside a word.
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,4})?(?![\w])")


FENCE = "```"

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Check:
    """One check. ``expected``: the text, the pattern, the schema (as JSON) or the number; not used by "json".

    ``exactly``: for "exact", "contains" and "regex" every letter counts, its case too. ``tolerance``: for "number", how
    far off it may be; a share of what is expected where ``relative``. Of several numbers in an answer the last counts,
    because models reason first. "json" and "schema" look into a fence of three backticks.
    """

    kind: CheckKind
    expected: str = ""
    exactly: bool = False
    tolerance: float = 0.0
    relative: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it needs."""
        return tuple(dict.fromkeys(_VARIABLE.findall(self.expected))) if self.kind != "json" else ()

    def why_not(self, columns: Sequence[str] | None = None) -> str | None:
        """Why it cannot be used, in a sentence; ``columns``: of the file. Whether a pattern or a schema can be used is
        told when it is run."""
        if self.kind != "json" and not self.expected.strip():
            return "Write what is expected: a fixed text, or a column of the file as {{column}}."
        if len(self.expected) > LONGEST_PATTERN and self.kind != "schema":
            return f"What is expected is longer than {LONGEST_PATTERN:,} characters."
        missing = [column for column in self.columns if columns is not None and column not in columns]
        if missing:
            return f"The file has no column “{missing[0]}”; it has {', '.join(columns or ())}."
        if self.kind == "number":
            if not self.columns and _number(self.expected) is None:
                return f"“{self.expected[:_SHOWN]}” is no number."
            if not 0 <= self.tolerance < float("inf"):
                return "The tolerance has to be 0 or more."
        return None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says of one line: passed, failed, or None, not known. ``why`` is empty where it passed."""

    no: int
    passed: bool | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many lines passed, of those that could be judged. ``unknown``: no answer, no expected value, too slow."""

    passed: int
    failed: int
    unknown: int

    @property
    def n(self) -> int:
        """Lines that were judged."""
        return self.passed + self.failed

    @property
    def rate(self) -> float | None:
        """The share that passed; None without any."""
        return self.passed / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval (Wilson)."""
        return wilson(self.passed, self.n)

    @property
    def sentence(self) -> str:
        """The rate in words, with what was left out."""
        lines = "line" if self.unknown == 1 else "lines"
        left_out = f" {self.unknown:,} {lines} could not be judged." if self.unknown else ""
        if self.interval is None:
            return f"No line could be judged.{left_out}"
        low, high = self.interval
        return (
            f"{self.passed:,} of {self.n:,} passed ({self.passed / self.n:.1%}, 95 % interval {low:.1%} – {high:.1%})."
            f"{left_out}"
        )


def rate(verdicts: Iterable[Verdict]) -> Rate:
    """Verdicts added up."""
    n = {True: 0, False: 0, None: 0}
    for verdict in verdicts:
        n[verdict.passed] += 1
    return Rate(n[True], n[False], n[None])


def run(check: Check, rows: Iterable[CalledLine]) -> Iterator[Verdict]:
    """A verdict on each line, in order. Raises ValueError in words before the first for a check that cannot be used."""
    if why := check.why_not():
        raise ValueError(why)
    with ExitStack() as stack:
        sandbox = stack.enter_context(_sandbox_of(check)) if check.kind in ("regex", "schema") else None
        for row in rows:
            yield _verdict(check, row, sandbox)


def _sandbox_of(check: Check) -> Sandbox:
    fixed = None if check.columns else check.expected
    if check.kind == "regex":
        return Sandbox("regex", fixed, flags=0 if check.exactly else re.IGNORECASE)
    return Sandbox("schema", fixed)


def _verdict(check: Check, row: CalledLine, sandbox: Sandbox | None) -> Verdict:
    no = int(row["no"])
    if row["state"] != "succeeded" or row.get("answer") is None:
        return Verdict(no, None, "the line has no answer")
    answer = str(row["answer"])
    if len(answer) > LONGEST_ANSWER:
        return Verdict(no, None, f"the answer is longer than {LONGEST_ANSWER:,} characters")
    expected = check.expected
    if check.columns:
        filled = _filled(check, row.get("original") or {})
        if isinstance(filled, Verdict):
            return Verdict(no, None, filled.why)
        expected = filled
    passed, why = _judged(check, answer, expected, sandbox)
    return Verdict(no, passed, why)


def _filled(check: Check, original: JsonMapping) -> str | Verdict:
    values = {}
    for name in check.columns:
        value = original.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return Verdict(0, None, f"the column “{name}” is empty in this line")
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        values[name] = re.escape(text) if check.kind == "regex" else text
    return _VARIABLE.sub(lambda match: values[match.group(1)], check.expected)


def _judged(check: Check, answer: str, expected: str, sandbox: Sandbox | None) -> tuple[bool | None, str]:
    if check.kind == "exact":
        same = answer == expected if check.exactly else normalised(answer) == normalised(expected)
        return same, "" if same else f"“{_short(answer)}” is not “{_short(expected)}”"
    if check.kind == "contains":
        within = expected in answer if check.exactly else normalised(expected) in normalised(answer)
        return within, "" if within else f"“{_short(expected)}” is not in the answer"
    if check.kind == "number":
        return _near(check, answer, expected)
    if check.kind == "json":
        return _json(answer)
    assert sandbox is not None
    if check.kind == "regex":
        return sandbox.ask(answer, expected if check.columns else None)
    parsed, why = _json(answer)
    return sandbox.ask(unfenced(answer), expected if check.columns else None) if parsed else (parsed, why)


def unfenced(answer: str) -> str:
    """What stands in a fence of three backticks, where that is the whole answer; else the answer."""
    text = answer.strip()
    if len(text) < 6 or not (text.startswith(FENCE) and text.endswith(FENCE)):
        return answer
    first, newline, body = text[len(FENCE) : -len(FENCE)].partition("\n")
    return body if newline and (not first.strip() or first.strip().isalnum()) else answer


def _json(answer: str) -> tuple[bool, str]:
    try:
        json.loads(unfenced(answer), parse_constant=_no_constant)
    except RecursionError:
        return False, "the JSON is nested too deeply"
    except ValueError as error:
        return False, f"not JSON: {' '.join(str(error).split())[:_SHOWN]}"
    return True, ""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _near(check: Check, answer: str, expected: str) -> tuple[bool | None, str]:
    expected_number, number = _number(expected), _number(answer)
    if expected_number is None:
        return None, f"“{_short(expected)}” in the file is no number"
    if number is None:
        return False, "there is no number in the answer"
    allowed = Decimal(str(check.tolerance)) * (abs(expected_number) if check.relative else 1)
    near = abs(number - expected_number) <= allowed
    return near, "" if near else f"{number} is not {expected_number}{f' ± {allowed}' if allowed else ''}"


def _number(text: str) -> Decimal | None:
    """The last number in a text."""
    for match in reversed(_NUMBER.findall(text)):
        try:
            value = Decimal(match.replace(",", "").replace("−", "-"))
        except InvalidOperation:
            continue  # a sign or an exponent alone
        if value.is_finite():
            return value
    return None


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _SHOWN else plain[: _SHOWN - 1] + "…"


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
    a: CalledLine | None
    b: CalledLine | None

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
    def diff(self) -> runs_compare.Diff:
        """What the second answer has in place of what the first has, word by word."""
        return runs_compare.diff(_answer(self.a), _answer(self.b))


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
        return self.sentence_with("the first", "the second")

    def sentence_with(self, first: str, second: str) -> str:
        """The agreement in words, with names for the two."""
        left_out = self._not_compared(first, second)
        if not self.n_answered:
            return f"No line was answered by both, so there is nothing to compare.{left_out}"
        low, high = self.interval or (0.0, 1.0)
        n = self.n_answered
        return (
            f"{self.n_same / n:.1%} the same of {n:,} {'line' if n == 1 else 'lines'} that both answered "
            f"({self.n_same:,} the same, {n - self.n_same:,} different; 95 % interval {low:.1%} – {high:.1%}); "
            f"{NORMALISED}.{left_out}"
        )

    def _not_compared(self, first: str, second: str) -> str:
        clauses = [
            f"{n:,} {'line' if n == 1 else 'lines'} that only {who} answered"
            for n, who in ((self.a_alone, first), (self.b_alone, second))
            if n
        ]
        clauses += [
            f"{n:,} {'line' if n == 1 else 'lines'} that {'is' if n == 1 else 'are'} only in {who}"
            for n, who in ((self.only_a, first), (self.only_b, second))
            if n
        ]
        return f" Not compared: {', '.join(clauses)}." if clauses else ""


def normalised(text: str) -> str:
    """An answer without what does not make it another one (`NORMALISED`)."""
    plain = _BLANKS.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()
    return plain[:-1].rstrip() if plain and plain[-1] in _ENDING else plain


def pairs(a: Iterable[CalledLine], b: Iterable[CalledLine], *, same_file: bool) -> Iterator[Pair]:
    """The lines of two batches side by side, in the order of the file.

    Of the same file (`same_sha`): both come in its order, so they are joined by where the record begins, in constant
    memory; records that begin in one line of it (a JSON array) by their ids. Of two files: by id, with the second one
    held in memory.
    """
    return _by_place(a, b) if same_file else _by_id(a, b)


def same_sha(batch_a: BatchRow, batch_b: BatchRow) -> bool:
    """Whether two batches were made of the same bytes."""
    return bool(batch_a.get("file_sha256")) and batch_a["file_sha256"] == batch_b.get("file_sha256")


def compare(a: Iterable[CalledLine], b: Iterable[CalledLine], *, same_file: bool) -> Comparison:
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
        SAME_FILE if same_file else BY_ID,
        n["pairs"],
        n["answered"],
        n["same"],
        n["only_a"],
        n["only_b"],
        first.summary(),
        second.summary(),
        n["a_alone"],
        n["b_alone"],
    )


def _by_place(a: Iterable[CalledLine], b: Iterable[CalledLine]) -> Iterator[Pair]:
    groups_a, right = (groupby(rows, lambda row: int(row["line"])) for rows in (a, b))
    at_a, at_b = next(groups_a, None), next(right, None)
    while at_a is not None or at_b is not None:
        if at_b is None or (at_a is not None and at_a[0] < at_b[0]):
            assert at_a is not None
            yield from (Pair(_key(row), row, None) for row in at_a[1])
            at_a = next(groups_a, None)
        elif at_a is None or at_b[0] < at_a[0]:
            yield from (Pair(_key(row), None, row) for row in at_b[1])
            at_b = next(right, None)
        else:
            yield from _pairs_of_line(list(at_a[1]), list(at_b[1]))
            at_a, at_b = next(groups_a, None), next(right, None)


def _pairs_of_line(a: list[CalledLine], b: list[CalledLine]) -> Iterator[Pair]:
    if len(a) == len(b) == 1:
        yield Pair(_key(a[0]), a[0], b[0])
        return
    yield from _by_id(a, b)


def _by_id(a: Iterable[CalledLine], b: Iterable[CalledLine]) -> Iterator[Pair]:
    waiting: dict[str, list[CalledLine]] = {}
    for row in b:
        waiting.setdefault(_key(row), []).append(row)
    for row in a:
        same_key = waiting.get(_key(row))
        yield Pair(_key(row), row, same_key.pop(0) if same_key else None)
    for rows in waiting.values():
        yield from (Pair(_key(row), None, row) for row in rows)


def _key(row: CalledLine) -> str:
    return str(row.get("record_id") or row["no"])


def _answer(row: CalledLine | None) -> str:
    return str(row.get("answer") or "") if row is not None else ""


def _answered(row: CalledLine | None) -> bool:
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


def tally(votes: Iterable[VoteRow]) -> Tally:
    """The votes of `db.batch_queries.votes` added up."""
    lines: dict[int, dict[str, str]] = {}
    n: Counter[str] = Counter()
    for vote in votes:
        lines.setdefault(int(vote["no"]), {})[str(vote["person"])] = str(vote["choice"])
        n[str(vote["choice"])] += 1
    return Tally(n["a"], n["b"], n["tie"], lines)


PROGRAM = Path(__file__).with_name("sandbox_process.py")
SECONDS = 1.0  # for one text
GRACE_S = 3.0  # then the process is ended
START_S = 20.0
MOST_SLOW = 3  # texts that took too long, until the rest is not tried


class _Task(TypedDict):
    """What the process is told first: ``what`` is the pattern or the schema, None where each text brings its own."""

    kind: Literal["regex", "schema"]
    what: str | None
    flags: int
    seconds: float


class _Begun(TypedDict):
    """Whether the pattern or schema can be used, and why not."""

    ok: bool
    why: str


class Sandbox:
    """Verdicts of one pattern or one schema on many texts, each within ``seconds``. To be used with ``with``.

    Entering raises ValueError in words for a pattern or a schema that cannot be used.
    """

    def __init__(
        self, kind: Literal["regex", "schema"], pattern: str | None, *, flags: int = 0, seconds: float = SECONDS
    ) -> None:
        self._first: _Task = {"kind": kind, "what": pattern, "flags": flags, "seconds": seconds}
        self._seconds = seconds
        self._name = "pattern" if kind == "regex" else "schema"
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._due: float | None = None
        self._closed = threading.Event()
        self.slow = 0

    def __enter__(self) -> Sandbox:
        """Start the process and have it look at the pattern."""
        threading.Thread(target=self._watch, name="checks-watch", daemon=True).start()
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, text: str, pattern: str | None = None) -> tuple[bool | None, str]:
        """The verdict on one text and why; None: not known. ``pattern``: a pattern or schema for this text alone."""
        if self.slow >= MOST_SLOW:
            return None, f"not checked: the {self._name} took more than {self._seconds:g} s on {self.slow} lines"
        if self._process is None:
            self._start()
        answer: tuple[bool | None, str] | None = self._exchange([pattern, text], self._seconds + GRACE_S)
        if answer is None or answer[1] == "slow":
            self.slow += 1
            return None, f"not checked: the {self._name} took more than {self._seconds:g} s on this answer"
        return answer[0], answer[1]

    def close(self) -> None:
        """End the process."""
        self._closed.set()
        self._end()

    def _start(self) -> None:
        # Isolated (-I): neither the working directory nor variables of Python's decide what it imports.
        self._process = subprocess.Popen(  # noqa: S603  # our own program, the pattern goes through its input
            [sys.executable, "-I", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        answer: _Begun | None = self._exchange(self._first, START_S)
        if answer is None:
            raise ValueError(f"The {self._name} is too much to be looked at: make it simpler.")
        if not answer["ok"]:
            raise ValueError(f"The {self._name} cannot be used: {answer['why']}.")

    def _exchange(self, message: _Task | list[str | None], seconds: float) -> Any:
        """One question and its answer, as JSON; None when the process had to be ended or ended by itself."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        self._due = time.monotonic() + seconds
        try:
            process.stdin.write(json.dumps(message) + "\n")  # ASCII: no character of a text ends the line
            process.stdin.flush()
            line = process.stdout.readline()
        except (OSError, ValueError):
            line = ""
        finally:
            self._due = None
        if not line:
            self._end()
            return None
        return json.loads(line)

    def _watch(self) -> None:
        while not self._closed.wait(0.25):
            due, process = self._due, self._process
            if due is not None and process is not None and time.monotonic() > due:
                process.kill()

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
