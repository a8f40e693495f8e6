"""Checks of answers: each line passes, fails, or cannot be judged, with the reason; and the rate with its interval.

What is expected is a fixed text or holds columns of the file as ``{{label}}``. Patterns and schemas of a person run in
a process of their own, one second a line (`services.batch.sandbox`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NoReturn

from services.batch.compare import NORMALISED, normalised
from services.batch.sandbox import Watched
from services.batch.stats import wilson

Row = Mapping[str, Any]
CheckKind = Literal["exact", "contains", "regex", "json", "schema", "number"]
TITLES: Mapping[CheckKind, str] = {
    "exact": f"Exact match ({NORMALISED})", "contains": "Contains", "regex": "Regular expression", "json": "Is JSON",
    "schema": "Fits a JSON schema", "number": "Number within a tolerance",
}  # fmt: skip
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
        missing = [one for one in self.columns if columns is not None and one not in columns]
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
        rest = f" {self.unknown:,} {lines} could not be judged." if self.unknown else ""
        if self.interval is None:
            return f"No line could be judged.{rest}"
        low, high = self.interval
        return (
            f"{self.passed:,} of {self.n:,} passed ({self.passed / self.n:.1%}, 95 % interval {low:.1%} – {high:.1%})."
            f"{rest}"
        )


def rate(verdicts: Iterable[Verdict]) -> Rate:
    """Verdicts added up."""
    n = {True: 0, False: 0, None: 0}
    for one in verdicts:
        n[one.passed] += 1
    return Rate(n[True], n[False], n[None])


def run(check: Check, rows: Iterable[Row]) -> Iterator[Verdict]:
    """A verdict on each line, in order. Raises ValueError in words before the first for a check that cannot be used."""
    if why := check.why_not():
        raise ValueError(why)
    with ExitStack() as stack:
        watched = stack.enter_context(_watched(check)) if check.kind in ("regex", "schema") else None
        for row in rows:
            yield _verdict(check, row, watched)


def _watched(check: Check) -> Watched:
    fixed = None if check.columns else check.expected
    if check.kind == "regex":
        return Watched("regex", fixed, flags=0 if check.exactly else re.IGNORECASE)
    return Watched("schema", fixed)


def _verdict(check: Check, row: Row, watched: Watched | None) -> Verdict:
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
    passed, why = _judged(check, answer, expected, watched)
    return Verdict(no, passed, why)


def _filled(check: Check, original: Mapping[str, Any]) -> str | Verdict:
    values = {}
    for name in check.columns:
        value = original.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return Verdict(0, None, f"the column “{name}” is empty in this line")
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        values[name] = re.escape(text) if check.kind == "regex" else text
    return _VARIABLE.sub(lambda found: values[found.group(1)], check.expected)


def _judged(check: Check, answer: str, expected: str, watched: Watched | None) -> tuple[bool | None, str]:
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
    assert watched is not None
    if check.kind == "regex":
        return watched.ask(answer, expected if check.columns else None)
    parsed, why = _json(answer)
    return watched.ask(unfenced(answer), expected if check.columns else None) if parsed else (parsed, why)


def unfenced(answer: str) -> str:
    """What stands in a fence of three backticks, where that is the whole answer; else the answer."""
    text = answer.strip()
    if len(text) < 6 or not (text.startswith(FENCE) and text.endswith(FENCE)):
        return answer
    first, newline, rest = text[len(FENCE) : -len(FENCE)].partition("\n")
    return rest if newline and (not first.strip() or first.strip().isalnum()) else answer


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
    wanted, found = _number(expected), _number(answer)
    if wanted is None:
        return None, f"“{_short(expected)}” in the file is no number"
    if found is None:
        return False, "there is no number in the answer"
    allowed = Decimal(str(check.tolerance)) * (abs(wanted) if check.relative else 1)
    near = abs(found - wanted) <= allowed
    return near, "" if near else f"{found} is not {wanted}{f' ± {allowed}' if allowed else ''}"


def _number(text: str) -> Decimal | None:
    """The last number in a text."""
    for found in reversed(_NUMBER.findall(text)):
        try:
            value = Decimal(found.replace(",", "").replace("−", "-"))
        except InvalidOperation:
            continue  # a sign or an exponent alone
        if value.is_finite():
            return value
    return None


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _SHOWN else plain[: _SHOWN - 1] + "…"
