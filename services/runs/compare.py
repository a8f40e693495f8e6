"""Statistics for few values, honest comparisons, the playground's table, and the difference of two answers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from db.run_rows import CallRow
from services import formatting
from services.call_record import CallRecord, from_row
from services.runs import view as runs_view

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
    segments: list[Segment] = []
    for tag, a0, a1, b0, b1 in SequenceMatcher(None, a, b, autojunk=len(a) + len(b) > 1000).get_opcodes():
        if tag == "equal":
            segments.append(Segment("equal", "".join(a[a0:a1])))
            continue
        if a1 > a0:
            segments.append(Segment("delete", "".join(a[a0:a1])))
        if b1 > b0:
            segments.append(Segment("insert", "".join(b[b0:b1])))
    return tuple(segments)


RESAMPLES = 2000

SEED = 20_240_501

NEEDED = {0.95: 20, 0.99: 100}


@dataclass(frozen=True, slots=True)
class MedianInterval:
    """The median of n values with a bootstrap interval; low and high are None below two values."""

    n: int
    median: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """The interval of the difference of two medians (a − b); ``seen`` when it does not contain zero."""

    low: float | None
    high: float | None
    seen: bool


def median_interval(values: Sequence[float], *, confidence: float = 0.95, seed: int = SEED) -> MedianInterval:
    """Median with a percentile-bootstrap interval (Efron and Tibshirani 1993, chapter 13); same in, same out."""
    data = np.asarray(values, dtype=float)
    if data.size == 0:
        return MedianInterval(0, None)
    middle = float(np.median(data))
    if data.size == 1:
        return MedianInterval(1, middle)
    low, high = np.quantile(_medians(data, seed), [(1 - confidence) / 2, (1 + confidence) / 2])
    return MedianInterval(int(data.size), middle, float(low), float(high))


def difference(a: Sequence[float], b: Sequence[float], *, confidence: float = 0.95, seed: int = SEED) -> Difference:
    """Interval of median(a) − median(b) by independent resampling; not seen when either has fewer than two values."""
    if len(a) < 2 or len(b) < 2:
        return Difference(None, None, seen=False)
    gaps = _medians(np.asarray(a, dtype=float), seed) - _medians(np.asarray(b, dtype=float), seed + 1)
    low, high = (float(x) for x in np.quantile(gaps, [(1 - confidence) / 2, (1 + confidence) / 2]))
    return Difference(low, high, seen=not low <= 0 <= high)


def percentile(values: Sequence[float], q: float) -> float | None:
    """The q-quantile (0 < q < 1) with linear interpolation; None below the n that it needs (p95: 20, p99: 100)."""
    if len(values) < max([n for level, n in NEEDED.items() if q >= level], default=1):
        return None
    return float(np.quantile(np.asarray(values, dtype=float), q))


def _medians(data: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    picks = np.random.default_rng(seed).integers(0, data.size, size=(RESAMPLES, data.size))
    return np.median(data[picks], axis=1)


# --- the playground's comparison -----------------------------------------------------------------------------------
At = tuple[int, str | None]  # a line of the table: its column, and cold or warm where the column has both


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of the comparison: how to read it from a call, how to write it, and which way is better."""

    key: str
    title: str
    better: Literal["low", "high", "none"]
    read: Callable[[CallRecord], float | None]
    write: Callable[[float], str]
    timed: bool = True  # rests on our clock, so a call whose stamps were late is left out


def _cost_per_1000(call: CallRecord) -> float | None:
    cost = call.cost
    return cost.nanousd / 1e6 if cost.state in ("exact", "estimated") and cost.nanousd is not None else None


METRICS: tuple[Metric, ...] = (
    Metric("ttft", "First token", "low", lambda call: call.timing.ttft_ms, formatting.seconds),
    Metric("ttlt", "Last token", "low", lambda call: call.timing.ttlt_ms, formatting.seconds),
    Metric("decode", "Decode speed", "high", lambda call: call.timing.decode_tps, formatting.rate),
    Metric(
        "out",
        "Output tokens",
        "none",
        lambda call: call.usage.output_total,
        lambda value: f"{value:,.0f}",
        timed=False,
    ),
    Metric("cost", "Cost per 1,000 calls", "low", _cost_per_1000, lambda value: f"${value:,.4g}", timed=False),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of the table: its text, whether it is the best, and its distance from the best in words."""

    text: str
    value: float | None
    best: bool = False
    beside: str = ""


@dataclass(frozen=True, slots=True)
class CompareRow:
    """One deployment's line, or one of its two when its calls found the prompt cache cold and warm (``cache`` says
    which). ``succeeded`` reads "8 of 10, 2 cut off"; ``note`` says what was left out and why, and cold or warm."""

    column: int
    name: str
    deployment_id: str
    cells: Mapping[str, Cell]
    succeeded: str
    note: str
    cache: str | None = None
    warm: bool = False


def compare(calls: Sequence[CallRow]) -> list[CompareRow]:
    """The comparison of a run's columns from its calls' rows: only succeeded calls, the last attempt of each.

    Calls whose stamps were late by our own fault are left out of the comparison and counted in ``note``. With more
    than one repetition a cell is a median with its 95 % interval, and a difference from the best that could be chance
    reads "no difference seen".

    A column whose succeeded calls found the prompt cache cold and warm gets a line for each, and warm lines are
    compared with warm ones only: a median over both would be nobody's time.
    """
    columns: dict[int, list[CallRecord]] = {}
    for row in runs_view.last_attempts(calls):
        call = from_row(row)
        columns.setdefault(call.column, []).append(call)
    lines = {at: rows for column, ended in columns.items() for at, rows in _by_cache(column, ended).items()}
    cells: dict[str, dict[At, Cell]] = {}
    for metric in METRICS:
        values = {line: _values(metric, rows) for line, rows in lines.items()}
        cells[metric.key] = {}
        for warm in (False, True):
            alike = {line: measured for line, measured in values.items() if _warm(lines[line]) is warm}
            cells[metric.key] |= _cells(metric, alike, lines)
    return [
        CompareRow(
            line[0],
            _name(line, rows),
            rows[0].deployment.id,
            {metric.key: cells[metric.key][line] for metric in METRICS},
            _succeeded(columns[line[0]]),
            "; ".join(filter(None, (_left_out(rows), runs_view.counted(filter(_counts, rows))))),
            line[1],
            _warm(rows),
        )
        for line, rows in lines.items()
    ]


def _counts(call: CallRecord) -> bool:
    return call.outcome.succeeded


def _by_cache(column: int, rows: Sequence[CallRecord]) -> dict[At, Sequence[CallRecord]]:
    """A column's calls apart by what the prompt cache did, where some were cold and some warm; else all together.

    Calls that did not succeed enter no figure, so it does not matter where they stand.
    """
    states = {state for row in rows if _counts(row) and (state := runs_view.state(row.usage))}
    if len(states) < 2:
        return {(column, None): rows}
    order = [*sorted(states), runs_view.NOT_REPORTED]
    groups: dict[At, list[CallRecord]] = {(column, name): [] for name in order}
    for row in filter(_counts, rows):
        groups[column, runs_view.cache_words(row.usage)].append(row)
    return {at: group for at, group in groups.items() if group}


def _warm(rows: Sequence[CallRecord]) -> bool:
    return any(_counts(row) and runs_view.state(row.usage) == "warm" for row in rows)


def _name(at: At, rows: Sequence[CallRecord]) -> str:
    name = rows[0].deployment.name
    return f"{name} · {at[1]}" if at[1] else name


def _usable(metric: Metric, call: CallRecord) -> bool:
    return call.outcome.succeeded and not (metric.timed and call.timing.lag_marked)


def _values(metric: Metric, rows: Sequence[CallRecord]) -> list[float]:
    return [value for row in rows if _usable(metric, row) and (value := metric.read(row)) is not None]


def _cells(
    metric: Metric, values: Mapping[At, list[float]], columns: Mapping[At, Sequence[CallRecord]]
) -> dict[At, Cell]:
    medians = {line: median_interval(measured) for line, measured in values.items()}
    centres = {line: m.median for line, m in medians.items() if m.median is not None}
    best = _best(metric, centres)
    cells = {}
    for line, interval in medians.items():
        if interval.median is None:
            cells[line] = Cell(formatting.DASH, None, beside=_why_missing(metric, columns[line]))
            continue
        text = metric.write(interval.median)
        if interval.low is not None and interval.high is not None:
            text += f" ({metric.write(interval.low)} – {metric.write(interval.high)})"
        beside = ""
        if best is not None and line != best:
            several = len(values[line]) > 1 and len(values[best]) > 1
            chance = several and not difference(values[line], values[best]).seen
            beside = "no difference seen" if chance else _distance(interval.median, centres[best])
        cells[line] = Cell(text, interval.median, best=line == best, beside=beside)
    return cells


def _best(metric: Metric, centres: Mapping[At, float]) -> At | None:
    """The line with the best value; None for a tie, for a lone value, and where more is not better."""
    if metric.better == "none" or len(centres) < 2:
        return None
    pick = min if metric.better == "low" else max
    top = pick(centres.values())
    winners = [line for line, value in centres.items() if math.isclose(value, top, rel_tol=1e-9)]
    return winners[0] if len(winners) == 1 else None


def _distance(value: float, best: float) -> str:
    """How far a value lies from the best: "+41 %", "−17 %", and from the double on "5.4 ×"."""
    if best == 0:
        return ""
    ratio = value / best
    if ratio >= 2:
        return f"{ratio:.1f} ×"
    percent = round((ratio - 1) * 100)
    return f"+{percent} %" if percent > 0 else f"−{-percent} %" if percent < 0 else "±0 %"


def _why_missing(metric: Metric, rows: Sequence[CallRecord]) -> str:
    if not any(_counts(row) for row in rows):
        return "no call succeeded"
    if not any(_usable(metric, row) for row in rows):
        return "our own clock was late"
    if metric.key == "decode":
        hidden = str(rows[-1].timing.decode_hidden or "not measured")
        return hidden.partition(":")[0].replace("too short to mean anything", "too short to tell")
    if metric.key == "cost":
        return runs_view.cost_of_1000(rows)
    return "not reported"


def _succeeded(rows: Sequence[CallRecord]) -> str:
    states = Counter(row.state for row in rows)
    text = f"{states.pop('succeeded', 0)} of {len(rows)}"
    failures = [f"{n} {runs_view.STATE_WORDS.get(state, state)}" for state, n in sorted(states.items())]
    return ", ".join([text, *failures])


def _left_out(rows: Sequence[CallRecord]) -> str:
    if not any(_counts(row) for row in rows):
        return "not compared: no call succeeded"
    late = sum(1 for row in rows if _counts(row) and row.timing.lag_marked)
    if not late:
        return ""
    return f"{late} left out: our own clock was late" if late < len(rows) else "left out: our own clock was late"
