"""Words for batches: states, routes, progress and the time that remains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from services.batch.types import OVER, Checked, Format
from services.batch.types import ReadRow as Row

STATES: dict[str, str] = {
    "queued": "waiting for a worker",
    "sending": "the file is on its way to the service",
    "checking": "the service is checking the file",
    "waiting_for_quota": "waiting: the service takes it later",
    "running": "running",
    "pausing": "pausing: lines under way are finished first",
    "paused": "paused",
    "cancelling": "cancelling",
    "collecting": "the answers are being collected",
    "ended": "ended",
    "cancelled": "cancelled",
    "expired": "expired: the service ran out of time",
    "failed": "refused by the service",
}
ICONS: dict[str, str] = {
    "queued": "hourglass_empty",
    "sending": "upload",
    "checking": "fact_check",
    "waiting_for_quota": "hourglass_top",
    "running": "play_circle",
    "pausing": "pause_circle",
    "paused": "pause_circle",
    "cancelling": "cancel",
    "collecting": "download",
    "ended": "check_circle",
    "cancelled": "cancel",
    "expired": "timer_off",
    "failed": "error",
}
LINES: dict[str, str] = {
    "waiting": "waiting",
    "running": "under way",
    "succeeded": "answered",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
    "missing": "missing",
}
ROUTES: dict[str, str] = {
    "runner": "our own runner",
    "openai": "OpenAI Batch",
    "anthropic": "Anthropic Message Batches",
    "bedrock": "Bedrock Batch Inference",
    "transform": "SageMaker Batch Transform",
    "async": "SageMaker Async",
}
FORMATS: dict[Format, str] = {
    "csv": "CSV",
    "tsv": "TSV",
    "jsonl": "JSONL",
    "json": "JSON array",
    "openai": "OpenAI's batch format",
    "anthropic": "Anthropic's batch format",
    "bedrock": "Bedrock's batch format",
    "parquet": "Parquet",
    "excel": "Excel",
}
NAMED = 8  # columns that are named in the line of a file
ENDED: tuple[str, ...] = ("succeeded", "failed", "cancelled", "expired", "missing")
SURE_BELOW = 3  # lines: fewer in a window tell no rate
NO_COUNTS = "Anthropic tells no counts before the end: how many lines are answered is known when it has ended."


def line(checked: Checked) -> str:
    """The file in one line: "CSV · 200 lines · 4 columns: id, question, … · 34 kB"."""
    names = [*checked.columns[:NAMED], *(["…"] if len(checked.columns) > NAMED else [])]
    parts = [
        FORMATS.get(checked.format, "") if checked.format else "",
        f"{checked.n_records:,} {'line' if checked.n_records == 1 else 'lines'}",
        f"{len(checked.columns)} {'column' if len(checked.columns) == 1 else 'columns'}: {', '.join(names)}"
        if names
        else "",
        size(checked.n_bytes),
    ]
    return " · ".join(clause for clause in parts if clause)


def size(n_bytes: int) -> str:
    """Bytes as people say them: "812 B", "34 kB", "1.2 GB"."""
    if n_bytes < 1000:
        return f"{n_bytes} B"
    for unit, worth in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if n_bytes < worth * 1000 or unit == "GB":
            n = n_bytes / worth
            return f"{n:.1f} {unit}" if n < 10 else f"{n:,.0f} {unit}"
    raise AssertionError


def state(name: str, *, short: bool = False) -> str:
    """A state in words; ``short``: without what stands behind its colon."""
    label = STATES.get(name, name)
    return label.partition(":")[0] if short else label


def over(row: Row) -> bool:
    """Whether nothing changes any more."""
    return row["state"] in OVER


def route(name: str) -> str:
    """A route as people call it."""
    return ROUTES.get(name, name)


def done(counts: Mapping[str, int]) -> int:
    """Lines that have ended, in whatever way."""
    return sum(n for state, n in counts.items() if state in ENDED)


def by_state(counts: Mapping[str, int]) -> str:
    """ "130 answered · 7 failed · 4 under way"; states without a line are left out."""
    order = ("succeeded", "failed", "missing", "expired", "cancelled", "running", "waiting")
    return " · ".join(f"{counts[state]:,} {LINES[state]}" for state in order if counts.get(state))


def span(seconds: float) -> str:
    """A stretch of time: "40 s", "6 min", "2 h 10 min", "1 d 4 h"."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, remainder = divmod(minutes, 60)
    if hours < 36:
        return f"{hours} h {remainder} min" if remainder and hours < 10 else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def spans(low: float, high: float) -> str:
    """A range of time: "6–9 min", "50 s – 2 min"; one figure where both read alike."""
    a, b = span(low), span(high)
    if a == b:
        return a
    (number, _, unit), (_, _, other) = a.partition(" "), b.partition(" ")
    return f"{number}–{b}" if unit == other else f"{a} – {b}"


def eta_s(n_left: int, ended: int, window_s: float) -> tuple[float, float] | None:
    """From how many seconds to how many the rest takes, after ``ended`` lines in the last ``window_s`` seconds.

    The range is what chance alone makes of such a count (twice its root). None where too few have ended to tell.
    """
    if not n_left:
        return 0.0, 0.0
    if ended < SURE_BELOW or window_s <= 0:
        return None
    spread = min(2 * math.sqrt(ended), 0.8 * ended)
    return n_left * window_s / (ended + spread), n_left * window_s / (ended - spread)


def rate(ended: int, window_s: float) -> str:
    """ "2.4 lines/s", or per minute where that is easier to read; a dash before the first has ended."""
    if not ended or window_s <= 0:
        return "–"
    per_second = ended / window_s
    return f"{per_second:.1f} lines/s" if per_second >= 1 else f"{per_second * 60:.1f} lines/min"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago: "just now", "5 min ago", "3 h ago", "2 d ago"."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    return "just now" if seconds < 45 else f"{span(seconds)} ago"


def simulated(row: Row) -> bool:
    """Whether the deployment only plays a service: its figures are no measurement of one."""
    return "simulated" in ((row.get("deployment") or {}).get("labels") or ())
