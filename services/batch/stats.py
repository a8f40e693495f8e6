"""The figures of a batch from its lines: latency, tokens, cost, pace. One pass, whatever the number of lines. Also how
long it worked and how long it was idle, and what the same lines would have cost one by one.

A line is a mapping as `db.batches.each_line` gives it: ``state`` is the line's own ("succeeded", "failed" …), the
times and counts are those of its last call, the costs those of all its calls together, and any may be missing.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Literal, get_args

import numpy as np
from sqlalchemy import Engine

from db import batch_queries
from db.batch_queries import run_stretches
from db.batch_rows import BatchRow, CalledLine, FinishedBatch, RecentCall
from services.batch.text import short_span
from services.pricing.cost import money
from services.runs import compare

CountName = Literal[
    "uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning_output", "answer_output"
]
TimeName = Literal["ttft_ms", "ttlt_ms"]
COUNTS: tuple[CountName, ...] = get_args(CountName)
INPUT = COUNTS[:4]
OUTPUT = COUNTS[4:]
TIMES: tuple[TimeName, ...] = get_args(TimeName)
Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Spread:
    """One latency over ``n`` succeeded lines, in ms. A percentile is None below the n that it needs (p95: 20)."""

    n: int
    p50: float | None
    p95: float | None
    p99: float | None
    mean: float | None
    total: float | None

    @property
    def why(self) -> str | None:
        """Why p95 is not told, in words; None where it is."""
        if self.p95 is not None:
            return None
        if not self.n:
            return "no line was timed: a batch service tells no times of single lines"
        return f"p95 needs 20 lines that succeeded, there are {self.n}"


@dataclass(frozen=True, slots=True)
class Summary:
    """What a batch came to. Money is nano-dollars; None: not known.

    ``cost_nanousd`` sums what is priced; ``n_unpriced`` lines that were sent have no price, so that it is then a lower
    bound (``mark`` "≥"), and ``mark`` is "~" where counts of ours are in it. ``plain_nanousd``: the same counts at the
    plain price (`services.pricing.cost`), of lines where both are known, ``plained_nanousd`` what those cost.
    The costs are of every attempt, as in the history; ``earlier_nanousd`` is what of them went into attempts before the
    last one of a line, of which ``n_again`` had several. ``n_late`` lines succeeded, but their times are left out
    because our own process was late (``lag_marked``).
    """

    n: int
    states: Mapping[str, int]
    times: Mapping[TimeName, Spread]
    counts: Mapping[CountName, int | None]
    n_counted: int
    cost_nanousd: int | None
    n_priced: int
    n_unpriced: int
    mark: str
    plain_nanousd: int | None
    plained_nanousd: int | None
    n_plain: int
    at_limit: int
    seconds: float | None = None
    chars_out: int = 0
    cost_states: Mapping[str, int] = field(default_factory=dict)
    n_again: int = 0
    earlier_nanousd: int = 0
    n_late: int = 0

    @property
    def untimed(self) -> str | None:
        """Why the times are not of all lines that succeeded, in a sentence; None where they are, or where `Spread.why`
        says it (no line was timed at all)."""
        timed, answered = self.times["ttlt_ms"].n, self.states.get("succeeded", 0)
        untold = answered - timed - self.n_late
        if not self.n_late and (not timed or untold <= 0):
            return None
        late = f"for {self.n_late:,} our own machine was too busy to time them exactly" if self.n_late else ""
        without_time = f"{untold:,} came without a time" if untold > 0 else ""
        clauses = " and ".join(clause for clause in (late, without_time) if clause)
        return f"Times are of {timed:,} of {answered:,} answers: {clauses}."

    @property
    def input_tokens(self) -> int | None:
        """All input tokens that were counted; None when no line was."""
        return _sum_known(self.counts, INPUT)

    @property
    def output_tokens(self) -> int | None:
        """All output tokens that were counted; None when no line was."""
        return _sum_known(self.counts, OUTPUT)

    @property
    def over(self) -> int:
        """Lines that are neither waiting nor running."""
        return self.n - self.states.get("waiting", 0) - self.states.get("running", 0)

    @property
    def per_1000_nanousd(self) -> int | None:
        """Cost of 1,000 lines, from those that are priced; None when none is."""
        priced = self.n_priced
        return None if self.cost_nanousd is None or not priced else round(self.cost_nanousd * 1000 / priced)

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens per second of the batch's duration, all lanes together."""
        n_tokens = self.output_tokens
        return n_tokens / self.seconds if self.seconds and n_tokens is not None else None


@dataclass(slots=True)
class Sums:
    """Adds lines up one by one; `summary` tells what they came to. 8 bytes a time are kept for each line."""

    states: dict[str, int] = field(default_factory=dict)
    times: dict[TimeName, array[float]] = field(default_factory=lambda: {name: array("d") for name in TIMES})
    counts: dict[CountName, int] = field(default_factory=dict)
    cost_states: dict[str, int] = field(default_factory=dict)
    n: int = 0
    n_counted: int = 0
    cost: int = 0
    n_priced: int = 0
    n_unpriced: int = 0
    plain: int = 0
    plained: int = 0
    n_plain: int = 0
    at_limit: int = 0
    chars_out: int = 0
    n_again: int = 0
    earlier: int = 0
    n_late: int = 0

    def add(self, row: CalledLine) -> None:
        """One line."""
        self.n += 1
        state = str(row["state"])
        self.states[state] = self.states.get(state, 0) + 1
        self.chars_out += len(row.get("answer") or "")
        if state == "succeeded":
            self.at_limit += row.get("outcome") == "max_tokens"
            if row.get("lag_marked"):
                self.n_late += 1
            else:
                for name, times in self.times.items():
                    if (time := row.get(name)) is not None:
                        times.append(time)
        counted = False
        for count in COUNTS:
            if (n_tokens := row.get(count)) is not None:
                self.counts[count] = self.counts.get(count, 0) + n_tokens
                counted = True
        self.n_counted += counted
        self._money(row)

    def _money(self, row: CalledLine) -> None:
        how = row.get("cost_state")
        self.n_again += (row.get("attempts") or 0) > 1
        self.earlier += row.get("earlier_nanousd") or 0
        if how is not None:
            self.cost_states[how] = self.cost_states.get(how, 0) + 1
        cost, plain = row.get("cost_nanousd"), row.get("plain_nanousd")
        if cost is not None:
            self.cost += cost
            self.n_priced += 1
            if plain is not None:
                self.plain += plain
                self.plained += cost
                self.n_plain += 1
        elif how is not None or row.get("call_id") is not None:
            self.n_unpriced += 1

    def summary(self, seconds: float | None = None) -> Summary:
        """What all lines so far came to; ``seconds``: how long the batch took."""
        bounded = self.cost_states.get("lower_bound", 0) or self.n_unpriced
        mark = "≥" if bounded else "~" if self.cost_states.get("estimated") else ""
        return Summary(
            n=self.n,
            states=dict(self.states),
            times={name: spread(values) for name, values in self.times.items()},
            counts={name: self.counts.get(name) for name in COUNTS},
            n_counted=self.n_counted,
            cost_nanousd=self.cost if self.n_priced else None,
            n_priced=self.n_priced,
            n_unpriced=self.n_unpriced,
            mark=mark if self.n_priced else "",
            plain_nanousd=self.plain if self.n_plain else None,
            plained_nanousd=self.plained if self.n_plain else None,
            n_plain=self.n_plain,
            at_limit=self.at_limit,
            seconds=seconds,
            chars_out=self.chars_out,
            cost_states=dict(self.cost_states),
            n_again=self.n_again,
            earlier_nanousd=self.earlier,
            n_late=self.n_late,
        )


def summary(rows: Iterable[CalledLine], *, seconds: float | None = None) -> Summary:
    """The figures of lines; ``seconds``: how long the batch took (`duration`), None when that is not known."""
    sums = Sums()
    for row in rows:
        sums.add(row)
    return sums.summary(seconds)


def duration(batch: BatchRow, now: datetime | None = None) -> float | None:
    """Seconds from the beginning of a batch to its end, or to ``now`` while it runs; None before it began."""
    begun, ended = batch.get("started_at"), batch.get("ended_at") or now
    return None if begun is None or ended is None else max((ended - begun).total_seconds(), 0.0)


def spread(values: array[float]) -> Spread:
    """Percentiles of times, each with the n that it needs (`services.runs.compare.percentile`)."""
    data = np.frombuffer(values, dtype=float) if len(values) else np.empty(0)
    if not data.size:
        return Spread(0, None, None, None, None, None)
    p50, p95, p99 = (compare.percentile(data, q) for q in (0.5, 0.95, 0.99))  # type: ignore[arg-type]  # an array
    return Spread(int(data.size), p50, p95, p99, float(data.mean()), float(data.sum()))


def wilson(hits: int, n: int) -> tuple[float, float] | None:
    """The 95 % interval of a share (Wilson 1927): holds also near 0 and 1 and for few; None for n = 0."""
    if n <= 0:
        return None
    share, z2 = hits / n, Z95 * Z95
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    low = 0.0 if hits == 0 else max(middle - half, 0.0)
    return low, 1.0 if hits == n else min(middle + half, 1.0)


def _sum_known(counts: Mapping[CountName, int | None], names: Iterable[CountName]) -> int | None:
    numbers = [value for name in names if (value := counts.get(name)) is not None]
    return sum(numbers) if numbers else None


# --- work and idleness -----------------------------------------------------------------------------------------------
# Pauses are not recorded; they are computed from the calls. A batch of our own runner is idle while none of its calls
# is under way: it is paused, its worker is away, or it waits before a retry. What a batch service does is not known.
LEAST_S = 5.0  # shorter gaps are the way from one line to the next


def still(
    calls: Iterable[tuple[datetime, datetime | None]], began: datetime, ended: datetime, min_s: float = LEAST_S
) -> float:
    """Seconds of the gaps of at least ``min_s`` seconds between ``began`` and ``ended`` in which no call was under way.
    ``calls``: (from, to) in the order in which they began."""
    reached, idle_s, any_call = began, 0.0, False
    for first, last in calls:
        any_call = True
        idle_s += _gap(reached, first, min_s)
        reached = max(reached, last or first)
    return idle_s + _gap(reached, ended, min_s) if any_call else 0.0


def _gap(since: datetime, until: datetime, min_s: float) -> float:
    seconds = (until - since).total_seconds()
    return seconds if seconds >= min_s else 0.0


@dataclass(frozen=True, slots=True)
class Worked:
    """Seconds from beginning to end, and in how many of them it stood still; None: not known."""

    seconds: float | None = None
    still: float | None = None

    @property
    def working(self) -> float | None:
        """Seconds in which it worked, as far as that can be told apart."""
        return None if self.seconds is None else self.seconds - (self.still or 0.0)


def worked(database: Engine, row: BatchRow) -> Worked:
    """Of a batch that is over; of any other, and of one that a service worked on, only what is known."""
    seconds, began, ended = duration(row), row["started_at"], row["ended_at"]
    if seconds is None or began is None or ended is None or row["route"] != "runner" or not row.get("run_id"):
        return Worked(seconds)
    calls = run_stretches(database, str(row["run_id"]))
    return Worked(seconds, min(still(calls, began, ended, least_s(row.get("per_minute"))), seconds))


MINUTE = 60.0

MOST_LINES = 100_000  # of finished batches, whose calls are read in one go

KEPT = 10_000

_cache: dict[tuple[str, str], float] = {}  # (database, run) → seconds: a batch that is over changes no more


def least_s(per_minute: int | None) -> float:
    """The shortest gap that is a standstill, in seconds: at one line a minute a gap of a minute is ordinary."""
    return max(LEAST_S, 2 * MINUTE / per_minute) if per_minute else LEAST_S


def rate(database: Engine, batch: BatchRow, window_s: float, now: datetime | None = None) -> tuple[int, float]:
    """(lines that ended, in how many seconds of work) of a batch of our own runner, in the last ``window_s`` seconds:
    what of them it stood still is left out, and so is what lies before it began."""
    until = now or datetime.now(UTC)
    since = until - timedelta(seconds=window_s)
    since = max(since, batch.get("started_at") or since)
    n, calls = batch_queries.latest(database, str(batch["id"]), since)
    under_way = ((first, last or until) for first, last in calls)
    cached = (
        calls[0][0] if len(calls) >= batch_queries.LATEST else since
    )  # so many leave no room for a pause before them
    stood = still(under_way, max(since, cached), until, least_s(batch.get("per_minute"))) if n else 0.0
    return n, max((until - since).total_seconds() - stood, 1.0)


def working(database: Engine, finished: Sequence[FinishedBatch]) -> list[FinishedBatch]:
    """Finished batches (`db.batch_queries.finished_batches`) with ``seconds`` of work alone, where our own runner did
    it.

    The calls of each are read once; of more than `MOST_LINES` lines together only those of the latest batches are, and
    the seconds of the others stay those from beginning to end. One statement.
    """
    address, lines, missing = str(database.url), 0, list[FinishedBatch]()
    for row in finished:
        if row["route"] == "runner" and row["run_id"] and (address, row["run_id"]) not in _cache:
            lines += row["n_lines"]
            if lines > MOST_LINES:
                break
            missing.append(row)
    if missing:
        _learn(database, address, missing)
    return [
        {**row, "seconds": max(row["seconds"] - _cache.get((address, row["run_id"] or ""), 0.0), 1e-3)}
        for row in finished
    ]


def _learn(database: Engine, address: str, rows: Sequence[FinishedBatch]) -> None:
    calls: dict[str, list[tuple[datetime, datetime | None]]] = defaultdict(list)
    for run_id, began, ended in batch_queries.stretches(database, [row["run_id"] for row in rows]):
        calls[run_id].append((began, ended))
    if len(_cache) > KEPT:
        _cache.clear()
    for row in rows:
        stood = still(calls[row["run_id"]], row["began"], row["ended_at"], least_s(row.get("per_minute")))
        _cache[address, row["run_id"]] = min(stood, row["seconds"])


# --- a batch beside one call after the other -------------------------------------------------------------------------
INTERACTIVE = ("playground", "cli", "load")

CONCURRENCY = 8

FEW = 5


@dataclass(frozen=True, slots=True)
class Against:
    """A batch beside the same lines one by one. Money is nano-dollars over the ``n_priced`` lines where both costs are
    known; times are seconds for all ``n`` lines, of ``n_history`` recorded interactive calls whose median is
    ``median_ms``. None: not known."""

    n: int
    cost_nanousd: int | None
    plain_nanousd: int | None
    n_priced: int
    seconds: float | None
    one_by_one_s: float | None
    at_once_s: float | None
    concurrency: int
    median_ms: float | None
    n_history: int
    route: str

    @property
    def saved_nanousd(self) -> int | None:
        """What was saved; negative where interactive would have been cheaper."""
        if self.cost_nanousd is None or self.plain_nanousd is None:
            return None
        return self.plain_nanousd - self.cost_nanousd

    @property
    def saved_share(self) -> float | None:
        """The same as a share of the interactive cost; None where that is nothing."""
        saved = self.saved_nanousd
        return None if saved is None or not self.plain_nanousd else saved / self.plain_nanousd

    @property
    def cost_sentence(self) -> str:
        """The cost in words."""
        if self.cost_nanousd is None or self.plain_nanousd is None:
            return "What the same lines would have cost interactively is not known: one of the two prices is missing."
        cost, plain = money(self.cost_nanousd), money(self.plain_nanousd)
        some = f" (over the {self.n_priced:,} of {self.n:,} lines where both are known)"
        of = "" if self.n_priced == self.n else some
        saved, share = self.saved_nanousd or 0, self.saved_share
        if not saved:
            own = self.route == "runner"
            same = "they were sent one by one at the ordinary price" if own else "the prices are the same"
            return f"{cost}, and {plain} interactively{of}: {same}."
        much = f" ({abs(share):.0%})" if share else ""
        return f"{cost} instead of {plain}{of}: {money(abs(saved))}{much} {'saved' if saved > 0 else 'more'}."

    @property
    def time_sentence(self) -> str:
        """The time in words."""
        took = "The batch has not ended yet" if self.seconds is None else f"The batch took {short_span(self.seconds)}"
        if self.one_by_one_s is None or self.at_once_s is None or self.median_ms is None:
            n = self.n_history
            few = f"{n or 'no'} interactive {'call is' if n == 1 else 'calls are'}"
            unknown = "how long the lines would have taken interactively is not known"
            return f"{took}; {unknown}: {few} among the latest recorded of this deployment."
        return (
            f"{took}; {self.n:,} calls of {self.median_ms / 1000:,.3g} s (the median of {self.n_history:,} recorded) "
            f"one after the other take {short_span(self.one_by_one_s)}, {self.concurrency} at once "
            f"{short_span(self.at_once_s)} if that slows none of them down."
        )


def against(
    engine: Engine, batch: BatchRow, summary: Summary, *, seconds: float | None = None, concurrency: int = CONCURRENCY
) -> Against:
    """A batch beside the same lines one by one, from the sums of its lines (`summary`) and its deployment's interactive
    history.

    Costs are those recorded with each call: the plain price of the same counts (`services.pricing.cost`), never
    a price of today. ``seconds``: how long the batch took (`duration`).
    """
    past = batch_queries.recent_calls(engine, [str(batch["deployment_id"])], sources=INTERACTIVE)
    return of_history(past, batch, summary, seconds=seconds, concurrency=concurrency)


def of_history(
    past: Sequence[RecentCall],
    batch: BatchRow,
    summary: Summary,
    *,
    seconds: float | None,
    concurrency: int = CONCURRENCY,
) -> Against:
    """`against` from interactive calls that were read already."""
    times = [time for row in past if (time := row.get("ttlt_ms")) is not None and not row.get("lag_marked")]
    middle = median(times) if len(times) >= FEW else None
    seconds_each = None if middle is None else middle / 1000
    lanes = max(1, min(concurrency, summary.n or 1))
    return Against(
        n=summary.n,
        cost_nanousd=summary.plained_nanousd,
        plain_nanousd=summary.plain_nanousd,
        n_priced=summary.n_plain,
        seconds=seconds,
        one_by_one_s=None if seconds_each is None else seconds_each * summary.n,
        at_once_s=None if seconds_each is None else seconds_each * summary.n / lanes,
        concurrency=lanes,
        median_ms=middle,
        n_history=len(times),
        route=str(batch.get("route") or ""),
    )
