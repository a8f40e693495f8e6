"""Reconciliation of a batch's lines, the notice at its end, and retention."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

from sqlmodel import Session

from db import batches
from db.batch_rows import BatchRow, CalledLine
from db.writer import Writer
from services import alerts, outcomes
from services.batch import text as words
from services.batch.types import LINES_OVER, RESENT, BatchState, LineState
from services.deployments.registry import Registry
from services.formatting import printable
from services.pricing.cost import money
from services.security.keys import scrub
from services.types import Outcome

OUTCOMES = frozenset(get_args(Outcome))

ORDER: tuple[LineState, ...] = (*LINES_OVER, "running", "waiting")

WORDS: Mapping[LineState, str] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
    "missing": "missing",
    "running": "under way",
    "waiting": "waiting",
}

MEANING: Mapping[LineState, str] = {
    "succeeded": "answered, also where the answer stopped at its token limit",
    "failed": "sent and answered with an error, or not answered at all",
    "cancelled": "not answered because the batch was cancelled",
    "expired": "not answered within the time that the service gives a batch",
    "missing": "the service ended the job and said nothing of the line",
    "running": "being answered now",
    "waiting": "not sent yet",
}


# Sent again without a change these will most likely end the same way.
SAME_AGAIN: frozenset[str] = frozenset(
    {
        "refused",
        "filtered",
        "guardrail",
        "http_error",
        "unauthorised",
        "not_found",
        "config_error",
        "quota_exhausted",
        "protocol_error",
    }
)


EXAMPLES = 5

MESSAGES = 50  # different messages that are counted apart, of each outcome

LONGEST = 300


@dataclass(frozen=True, slots=True)
class Group:
    """Lines that did not succeed for the same reason. ``lines``: the first few, as lines of the file.

    ``text``: what happened and what to do. ``message``: what was said of most of them. ``same_again``: unchanged they
    would most likely fail again.
    """

    state: LineState
    outcome: str | None
    n: int
    text: str
    message: str | None = None
    n_message: int = 0
    lines: tuple[int, ...] = ()
    same_again: bool = False


class StateCount(NamedTuple):
    """How many lines ended in one state, in words, and what that means."""

    state: str
    lines: int
    meaning: str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The reconciliation of a batch. ``counts`` sum to ``n``; ``even`` says that this is also what was recorded as
    sent. ``strays``: what a service sent back that belongs to no line (word → n). ``n_again``: lines that were sent
    more than once; their attempts before the last one cost ``earlier_nanousd``, which is in every sum. ``resent``: the
    lines without an answer went into another batch already."""

    n: int
    counts: Mapping[LineState, int]
    groups: tuple[Group, ...] = ()
    n_recorded: int | None = None
    n_left_out: int = 0
    at_limit: int = 0
    strays: Mapping[str, int] = field(default_factory=dict)
    n_again: int = 0
    earlier_nanousd: int = 0
    resent: bool = False

    @property
    def over(self) -> bool:
        """Whether no line is waiting or under way."""
        return not self.counts["waiting"] and not self.counts["running"]

    @property
    def even(self) -> bool:
        """Whether as many lines are accounted for as were recorded when the batch was submitted."""
        return self.n_recorded is None or self.n_recorded == self.n

    @property
    def to_resend(self) -> int:
        """Lines that may be sent again as a linked batch: all that ended without an answer."""
        return sum(self.counts[state] for state in LINES_OVER if state in RESENT)

    @property
    def same_again(self) -> int:
        """Those of them that would most likely end the same way, unless something is changed."""
        return sum(group.n for group in self.groups if group.same_again)

    @property
    def table(self) -> list[StateCount]:
        """What the page shows: one row for each state there can be, and the sum."""
        states = [state for state in ORDER if self.counts[state] or state in ("succeeded", "failed", "missing")]
        rows = [StateCount(WORDS[state], self.counts[state], MEANING[state]) for state in states]
        return [*rows, StateCount("sent", self.n, "the sum of the above")]

    @property
    def sentence(self) -> str:
        """The equation in words, and what does not fit into it."""
        named = [f"{self.counts[state]:,} {WORDS[state]}" for state in ORDER if self.counts[state]]
        parts = [f"{self.n:,} sent = {' + '.join(named) or '0'}."]
        if self.at_limit:
            parts.append(f"{self.at_limit:,} of the answers stopped at their token limit.")
        if self.n_again:
            parts.append(self._again)
        if not self.even:
            parts.append(f"{self.n_recorded:,} lines were recorded at the submit: the figures do not agree.")
        if self.n_left_out:
            parts.append(
                f"{self.n_left_out:,} {'line' if self.n_left_out == 1 else 'lines'} of the file "
                f"{'was' if self.n_left_out == 1 else 'were'} not valid and left out before."
            )
        parts += [f"The service also sent {n:,} {noun}." for noun, n in self.strays.items() if n]
        if self.to_resend and self.over and not self.resent:
            again = f", {self.same_again:,} of them likely in vain unless something is changed" * bool(self.same_again)
            parts.append(f"{self.to_resend:,} can be sent again{again}.")
        return " ".join(parts)

    @property
    def _again(self) -> str:
        lines = "1 line was" if self.n_again == 1 else f"{self.n_again:,} lines were"
        cost = f": that cost {money(self.earlier_nanousd)}, which is in what the batch cost" * bool(
            self.earlier_nanousd
        )
        return f"{lines} sent more than once{cost}."


def by_counts(counts: Mapping[str, int], *, n_recorded: int | None = None, n_left_out: int = 0) -> Reconciliation:
    """The account from counts alone (`db.batches.counts`): cheap enough to be asked for while a batch runs."""
    by_state: dict[LineState, int] = {state: int(counts.get(state, 0)) for state in ORDER}
    return Reconciliation(sum(by_state.values()), by_state, n_recorded=n_recorded, n_left_out=n_left_out)


@dataclass(slots=True)
class _Counting:
    n: int = 0
    lines: list[int] = field(default_factory=list)
    messages: dict[str, int] = field(default_factory=dict)


def account(
    rows: Iterable[CalledLine],
    *,
    name: str,
    n_recorded: int | None = None,
    n_left_out: int = 0,
    strays: Mapping[str, int] | None = None,
) -> Reconciliation:
    """The account from the lines themselves, with the reasons. ``name``: of the deployment, for the sentences."""
    counts: dict[LineState, int] = dict.fromkeys(ORDER, 0)
    counts_by_reason: dict[tuple[LineState, str | None], _Counting] = {}
    at_limit = n = again = earlier = 0
    for row in rows:
        state: LineState = row["state"]
        counts[state] += 1
        n += 1
        outcome = row.get("outcome")
        at_limit += state == "succeeded" and outcome == "max_tokens"
        again += (row.get("attempts") or 0) > 1
        earlier += row.get("earlier_nanousd") or 0
        if state not in RESENT:
            continue
        group = counts_by_reason.setdefault((state, outcome), _Counting())
        group.n += 1
        if len(group.lines) < EXAMPLES:
            group.lines.append(int(row.get("line") or row["no"]))
        message = str(row.get("message") or "")[: 2 * LONGEST]
        if message and (message in group.messages or len(group.messages) < MESSAGES):
            group.messages[message] = group.messages.get(message, 0) + 1
    groups = sorted(
        (_group(reason, group, name) for reason, group in counts_by_reason.items()), key=lambda group: -group.n
    )
    stray_counts = dict(strays or {})
    return Reconciliation(n, counts, tuple(groups), n_recorded, n_left_out, at_limit, stray_counts, again, earlier)


def _group(reason: tuple[LineState, str | None], counted: _Counting, name: str) -> Group:
    state, outcome = reason
    raw, n_message = max(counted.messages.items(), key=lambda pair: pair[1], default=("", 0))
    message = printable(scrub(" ".join(raw.split())))[:LONGEST] or None
    same = state == "failed" and outcome in SAME_AGAIN
    text = _text(state, outcome, name, message)
    return Group(state, outcome, counted.n, text, message, n_message, tuple(counted.lines), same)


def _text(state: LineState, outcome: str | None, name: str, message: str | None) -> str:
    who = printable(name)
    if state == "cancelled":
        return "These lines were not answered because the batch was cancelled: send them again when you like."
    if state == "expired":
        return f"{who} did not come to these lines in the time that it gives a batch: send them again."
    if state == "missing":
        return (
            f"{who} ended the job without a word on these lines, so nothing is known of them: send them again; "
            "they may have been billed."
        )
    if outcome not in OUTCOMES or outcome in ("ok", "max_tokens"):
        return f"{who} did not answer these lines, and gave no reason: send them again."
    known_outcome: Outcome = outcome  # type: ignore[assignment]  # just looked up
    # A runner's message is such a sentence already, with what was kept of each line: it would be told twice.
    detail = None if message and message.startswith(name) else message
    return outcomes.sentence(known_outcome, name=name, detail=detail).replace(
        "there was no text to keep", "nothing was kept"
    )


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


def first_lines(group: Group) -> str:
    """ "lines 3, 17, 20, 31, 44 and 12 more" of the file."""
    listed: Sequence[str] = [f"{line:,}" for line in group.lines]
    n_more = group.n - len(listed)
    word = "line" if group.n == 1 else "lines"
    return f"{word} {', '.join(listed)}" + (f" and {n_more:,} more" if n_more else "")


NOTICE_WORDS: Mapping[BatchState, str] = {
    "ended": "has ended",
    "cancelled": "was cancelled",
    "expired": "has expired",
    "failed": "failed",
    "paused": "is paused",
}

TALLIED: tuple[LineState, ...] = (*LINES_OVER, "waiting", "running")


def tally(counts: Mapping[str, int]) -> str:
    """The lines in words: "1,990 answered, 10 failed of 2,000 lines"."""
    clauses = [f"{counts[state]:,} {words.LINES[state]}" for state in TALLIED if counts.get(state)]
    total = sum(counts.values())
    return f"{', '.join(clauses) or 'nothing'} of {total:,} {'line' if total == 1 else 'lines'}"


def closed(counts: Mapping[str, int], left_state: str) -> dict[str, int]:
    """How many lines are in each state once those that are not over have become ``left_state``."""
    over = {state: n for state, n in counts.items() if state not in batches.OPEN}
    still = sum(counts.get(state, 0) for state in batches.OPEN)
    return over | ({left_state: over.get(left_state, 0) + still} if still else {})


def sentence(batch: BatchRow, counts: Mapping[str, int], spent: int | None) -> str:
    """What is sent: which batch, how it ended, the lines and the money, and what was said last."""
    name = printable(batch["name"] or batch["file_name"])[:100]
    cost = f"; {money(spent)}" if spent else ""
    why = f" {batch['said']}" if batch["state"] in ("failed", "paused") and batch["said"] else ""
    return f"Batch “{name}” {NOTICE_WORDS.get(batch['state'], batch['state'])}: {tally(counts)}{cost}.{why}"


def send(targets: Sequence[str], body: str) -> str:
    """Send it to each target, and say what became of that. Blocks for up to a minute each: call it in a thread."""
    done = [alerts.send(target, body).words for target in dict.fromkeys(targets)]
    clauses_text = "; ".join(done)
    return f"{clauses_text[:1].upper()}{clauses_text[1:]}." if clauses_text else ""


log = logging.getLogger(__name__)

EVERY_S = 3600.0

UPLOADS_S = 2 * 86_400.0


async def keep_forgetting(writer: Writer, registry: Registry, data: Path) -> None:
    """Never returns."""
    while True:
        try:
            await asyncio.to_thread(_old_uploads, data / "uploads", time.time() - UPLOADS_S)
            await forget_texts(writer, registry.config.text_days, data)
        except Exception:
            log.exception("what is older than the privacy settings allow could not be forgotten of batches")
        await asyncio.sleep(EVERY_S)


async def forget_texts(writer: Writer, days: int | None, data: Path) -> list[str]:
    """Forget the texts of batches that are over and older than ``days``, and their files; which those were."""
    if days is None:
        return []
    oldest = datetime.now(UTC) - timedelta(days=days)
    forgotten = await writer.write(partial(_forget, oldest))
    for batch_id in forgotten:
        await asyncio.to_thread(shutil.rmtree, data / "batches" / batch_id, True)
    return forgotten


def _forget(oldest: datetime, session: Session) -> list[str]:
    return batches.forget_texts(session=session, older_than=oldest)


def _old_uploads(folder: Path, oldest: float) -> None:
    """Files that were checked and never submitted."""
    for entry in folder.glob("*"):
        try:
            if entry.stat().st_mtime > oldest or any(inner.stat().st_mtime > oldest for inner in entry.glob("*")):
                continue
        except OSError:
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
