"""How long a file takes: our own runner from recorded latency, a batch service from what it promises and has done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from services.batch.tokens import ENOUGH, Tokens, few_words
from services.batch.types import RouteLimits

Row = Mapping[str, Any]
# How many lines our runner has under way: it finds the number that is best while it runs, so this is an assumption.
LANES, MOST_LANES = 4, 16
FEW_BATCHES = 5
LONG_ENOUGH = 20  # lines of a finished batch, for its pace to mean something
LATEST = 20
MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds for a whole file, and where they are from. None: not known."""

    low: float | None = None
    mid: float | None = None
    high: float | None = None
    notes: tuple[str, ...] = ()


def by_runner(
    past: Sequence[Row], batches: Sequence[Row], n: int, made: Tokens, lanes: int | None, per_minute: int | None
) -> Pace:
    """Our own runner: from the pace of finished batches of this deployment, else from recorded times of single calls
    and an assumed number of lanes."""
    rates = [row["n_lines"] / row["seconds"] for row in batches[:LATEST] if row["n_lines"] >= LONG_ENOUGH]
    found = _by_pace(rates, n) if rates else _by_calls(past, n, made, lanes)
    if per_minute and found.mid is not None:
        least = n / per_minute * MINUTE
        if least > found.mid:
            note = f"At most {per_minute:,} lines a minute were allowed, which alone takes {words(least)}."
            low, mid, high = (max(one or least, least) for one in (found.low, found.mid, found.high))
            return Pace(low, mid, high, (*found.notes, note))
    return found


def _by_pace(rates: Sequence[float], n: int) -> Pace:
    middle = median(rates)
    low, high = (float(x) for x in np.quantile(rates, (0.1, 0.9)))
    if len(rates) < FEW_BATCHES:
        low, high = min(low, middle / 2), max(high, middle * 2)
    note = (
        f"Time: from {len(rates)} finished {'batch' if len(rates) == 1 else 'batches'} of this deployment, "
        f"{middle * MINUTE:,.4g} lines a minute."
    )
    return Pace(n / high, n / middle, n / low, (note,))


def _by_calls(past: Sequence[Row], n: int, made: Tokens, lanes: int | None) -> Pace:
    timed = [row for row in past if row.get("ttlt_ms") is not None and not row.get("lag_marked")]
    if len(timed) < ENOUGH:
        return Pace(notes=(f"Time: not known, {few_words(len(timed), 'times')}.",))
    each = _seconds_each(timed, n, made)
    at_once = min(lanes, n) if lanes else min(LANES, n)
    most = min(lanes, n) if lanes else min(MOST_LANES, n)
    assumed = "" if lanes else " (an assumption: the runner finds the best number while it runs)"
    note = (
        f"Time: from {len(timed):,} recorded calls, {words(each)} a line, with {at_once} at once{assumed}; the range "
        f"is one after the other to {most} at once."
    )
    return Pace(n * each / most, n * each / at_once, n * each, (note,))


def _seconds_each(timed: Sequence[Row], n: int, made: Tokens) -> float:
    """Seconds of one line: the first token and then the expected number of tokens; else the mean of all recorded."""
    first = [row["ttft_ms"] for row in timed if row.get("ttft_ms") is not None]
    pace = [row["tpot_ms"] for row in timed if row.get("tpot_ms") is not None]
    if len(first) >= ENOUGH and len(pace) >= ENOUGH and made.mid is not None:
        return float(median(first) + max(made.mid / n - 1, 0) * median(pace)) / 1000
    return float(fmean(row["ttlt_ms"] for row in timed)) / 1000


def by_service(title: str, limits: RouteLimits, mine: Sequence[Row], others: Sequence[Row], n: int) -> Pace:
    """A batch service: at most its window, and what finished batches say: of this deployment, else of the service."""
    window = None if limits.window_h is None else limits.window_h * 3600
    promised = f"{title} promises an end within {limits.window_h:g} h" if limits.window_h is not None else ""
    rows, whose = (mine, "of this deployment there") if mine else (others, "there")
    seconds = [float(row["seconds"]) for row in rows[:LATEST]]
    if not seconds:
        known = f"{promised}, often much sooner" if promised else f"{title} promises no time"
        return Pace(None, None, window, (f"Time: {known}; nothing was recorded yet.",))
    middle = median(seconds)
    high = window if window is not None else max(seconds)
    ending = f"; {promised}" if promised else ""
    lines = median(row["n_lines"] for row in rows[:LATEST])
    note = (
        f"Time: the latest {len(seconds)} {'batch' if len(seconds) == 1 else 'batches'} {whose} took {words(middle)} "
        f"({lines:,.0f} lines; yours has {n:,}){ending}."
    )
    return Pace(min(seconds), middle, max(high, middle), (note,))


def words(seconds: float) -> str:
    """A stretch of time as "40 s", "12 min", "3.5 h", "2.1 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.2g} s"
    if seconds < 90 * MINUTE:
        return f"{seconds / MINUTE:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
