"""The status of a batch in words, with an icon and a colour, as its lines support it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from services.batch import text as words
from services.batch.reconcile import Group
from services.batch.types import ReadRow as Row

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


def recording(row: Row) -> bool:
    """Whether its lines are still being recorded, so that how many there are is not known yet."""
    return not row["n_lines"] and not words.over(row)


def stand(row: Row, counts: Mapping[str, int], *, short: bool = False) -> Status:
    """How it stands. ``counts``: its lines by state. ``short``: without what stands behind a colon."""
    name = str(row["state"])
    if name == "queued" and recording(row):
        return Status("its lines are being recorded", "hourglass_empty")
    if not words.over(row):
        return Status(words.state(name, short=short), words.ICONS.get(name, "info"))
    if name == "failed":
        # A batch whose file could not be recorded never came to a service.
        return Status(words.state(name) if counts else "not sent", "error", "red")
    total, answered = sum(counts.values()), counts.get("succeeded", 0)
    label, _, why = words.state(name).partition(":")
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


def last_sentence(row: Row) -> str | None:
    """What was said of a batch last, as far as its lines do not say it better: how many ended how was counted before
    its last lines were closed."""
    sentence = str(row.get("said") or "")
    if not words.over(row):
        return sentence or None
    return None if row["state"] == "ended" else _TALLY.sub("", sentence) or None


def differing(row: Row, jobs: Sequence[Row], counts: Mapping[str, int]) -> str | None:
    """What is to be thought of a service that counts other answers than there are here; None where both say the same,
    where it counts none, and before the end."""
    succeeded = [job["counts"]["succeeded"] for job in jobs if (job.get("counts") or {}).get("succeeded") is not None]
    n_here = counts.get("succeeded", 0)
    if not words.over(row) or len(succeeded) < len(jobs) or not succeeded or sum(succeeded) == n_here:
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
    unanswered = [(counts[state], words.LINES[state]) for state in UNANSWERED if counts.get(state)]
    if len(unanswered) == 1:
        return f"{unanswered[0][0]:,} of {total:,} {unanswered[0][1]}"
    parts = [f"{n:,} {noun}" for n, noun in unanswered]
    return f"{', '.join(parts[:-1])} and {parts[-1]} of {total:,}"


def costs_nothing(row: Row) -> bool:
    """Whether its deployment is free: one of ours, or with a price of nothing an hour."""
    price = (row.get("deployment") or {}).get("price") or {}
    return (row.get("estimate") or {}).get("cost_high") == 0 or str(price.get("per_hour")) == "0"


def together(groups: Sequence[Group]) -> list[Group]:
    """Reasons that read alike as one, the commonest first: a person is told nothing by the same words twice."""
    merged: dict[tuple[str, str], Group] = {}
    for group in groups:
        key = (group.state, group.text)
        if (earlier := merged.get(key)) is not None:
            lines = tuple(sorted((*earlier.lines, *group.lines))[: max(len(earlier.lines), len(group.lines))])
            group = replace(earlier, n=earlier.n + group.n, lines=lines)
        merged[key] = group
    return sorted(merged.values(), key=lambda group: -group.n)
