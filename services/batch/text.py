"""Words for batches: how one stands (with an icon and a colour, as its lines support it), routes, progress and the
time that remains."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from db.batch_rows import BatchRow, JobRow, NewBatch
from services.batch.types import LINES_OVER, OVER, Checked, Format

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


def over(row: BatchRow) -> bool:
    """Whether nothing changes any more."""
    return row["state"] in OVER


def route(name: str) -> str:
    """A route as people call it."""
    return ROUTES.get(name, name)


def done(counts: Mapping[str, int]) -> int:
    """Lines that have ended, in whatever way."""
    return sum(n for state, n in counts.items() if state in LINES_OVER)


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


def short_span(seconds: float) -> str:
    """A stretch of time as "40 s", "12 min", "3.5 h", "2.1 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.2g} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


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


def deployment_name(row: NewBatch) -> str:
    """What the batch's deployment was called when it was submitted, or its id."""
    return str((row.get("deployment") or {}).get("name") or row["deployment_id"])


def simulated(row: BatchRow) -> bool:
    """Whether the deployment only plays a service: its figures are no measurement of one."""
    return "simulated" in ((row.get("deployment") or {}).get("labels") or ())


UNANSWERED = ("failed", "missing", "expired", "cancelled")
ENDINGS = {"ended": "check_circle", "cancelled": "cancel", "expired": "timer_off"}
_TALLY = re.compile(r"^(?:Nothing|[\d,]+ [a-z]+[a-z ,\d]*) of [\d,]+ lines?\.\s*")


class Status(NamedTuple):
    """Words as they stand in a sentence, an icon of Material, a colour of Streamlit (None: that of the text)."""

    words: str
    icon: str
    colour: str | None = None

    @property
    def markdown(self) -> str:
        """As the page shows it; nothing in it is from elsewhere."""
        label = f":material/{self.icon}: **{self.words[:1].upper()}{self.words[1:]}**"
        return f":{self.colour}[{label}]" if self.colour else label


def recording(row: BatchRow) -> bool:
    """Whether its lines are still being recorded, so that how many there are is not known yet."""
    return not row["n_lines"] and not over(row)


def status_of(row: BatchRow, counts: Mapping[str, int], *, short: bool = False) -> Status:
    """How it stands. ``counts``: its lines by state. ``short``: without what stands behind a colon."""
    name = str(row["state"])
    if name == "queued" and recording(row):
        return Status("its lines are being recorded", "hourglass_empty")
    if not over(row):
        return Status(state(name, short=short), ICONS.get(name, "info"))
    if name == "failed":
        # A batch whose file could not be recorded never came to a service.
        return Status(state(name) if counts else "not sent", "error", "red")
    total, answered = sum(counts.values()), counts.get("succeeded", 0)
    label, _, why = state(name).partition(":")
    why = f":{why}" if why and not short else ""
    if not total:
        return Status(f"{label}, no line was sent{why}", ENDINGS[name], "orange")
    if not answered:
        return Status(
            f"{label}, nothing answered{why}",
            "error" if name == "ended" else ENDINGS[name],
            "red" if name == "ended" else "orange",
        )
    if answered == total:
        return Status(f"{label}, all answered{why}", ENDINGS[name], "green" if name == "ended" else "orange")
    if name != "ended":
        return Status(f"{label}, {answered:,} of {total:,} answered{why}", ENDINGS[name], "orange")
    return Status(f"{label}, {_unanswered(counts, total)}", "warning", "orange")


def last_sentence(row: BatchRow) -> str | None:
    """What was said of a batch last, as far as its lines do not say it better: how many ended how was counted before
    its last lines were closed."""
    sentence = str(row.get("said") or "")
    if not over(row):
        return sentence or None
    return None if row["state"] == "ended" else _TALLY.sub("", sentence) or None


def differing(row: BatchRow, jobs: Sequence[JobRow], counts: Mapping[str, int]) -> str | None:
    """What is to be thought of a service that counts other answers than there are here; None where both say the same,
    where it counts none, and before the end."""
    succeeded = [n for job in jobs if (n := (job["counts"] or {}).get("succeeded")) is not None]
    n_here = counts.get("succeeded", 0)
    if not over(row) or len(succeeded) < len(jobs) or not succeeded or sum(succeeded) == n_here:
        return None
    n = sum(succeeded)
    has = "has" if n_here == 1 else "have"
    beginning = (
        f"The service counts {n:,} {'answer' if n == 1 else 'answers'}, and {n_here:,} of the lines here {has} one"
    )
    if n < n_here:
        return f"{beginning}: some were answered after it had counted."
    return f"{beginning}: what it sent for the others belongs to no line, came twice, or is no answer that can be read."


def _unanswered(counts: Mapping[str, int], total: int) -> str:
    """ "3 of 200 failed", "3 failed and 2 missing of 200"."""
    unanswered = [(counts[state], LINES[state]) for state in UNANSWERED if counts.get(state)]
    if len(unanswered) == 1:
        return f"{unanswered[0][0]:,} of {total:,} {unanswered[0][1]}"
    parts = [f"{n:,} {noun}" for n, noun in unanswered]
    return f"{', '.join(parts[:-1])} and {parts[-1]} of {total:,}"


def costs_nothing(row: BatchRow) -> bool:
    """Whether its deployment is free: one of ours, or with a price of nothing an hour."""
    price = (row.get("deployment") or {}).get("price") or {}
    return (row.get("estimate") or {}).get("cost_high") == 0 or str(price.get("per_hour")) == "0"
