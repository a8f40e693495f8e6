"""The notice at the end of a batch: one sentence to each address that was asked for, with the library of the alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services import alert_sending
from services.batch.types import BatchState
from services.formatting import printable
from services.pricing.cost import money

WORDS: Mapping[BatchState, str] = {
    "ended": "has ended", "cancelled": "was cancelled", "expired": "has expired", "failed": "failed",
    "paused": "is paused",
}  # fmt: skip
STATES = (
    ("succeeded", "answered"), ("failed", "failed"), ("cancelled", "cancelled"), ("expired", "expired"),
    ("missing", "missing"), ("waiting", "waiting"), ("running", "under way"),
)  # fmt: skip
OPEN = ("waiting", "running")


def tally(counts: Mapping[str, int]) -> str:
    """The lines in words: "1,990 answered, 10 failed of 2,000 lines"."""
    told = [f"{counts[state]:,} {word}" for state, word in STATES if counts.get(state)]
    total = sum(counts.values())
    return f"{', '.join(told) or 'nothing'} of {total:,} {'line' if total == 1 else 'lines'}"


def closed(counts: Mapping[str, int], left: str) -> dict[str, int]:
    """How many lines are in each state once those that are not over have become ``left``."""
    found = {state: n for state, n in counts.items() if state not in OPEN}
    still = sum(counts.get(state, 0) for state in OPEN)
    return found | ({left: found.get(left, 0) + still} if still else {})


def sentence(batch: Mapping[str, Any], counts: Mapping[str, int], spent: int | None) -> str:
    """What is sent: which batch, how it ended, the lines and the money, and what was said last."""
    name = printable(batch["name"] or batch["file_name"])[:100]
    cost = f"; {money(spent)}" if spent else ""
    said = f" {batch['said']}" if batch["state"] in ("failed", "paused") and batch["said"] else ""
    return f"Batch “{name}” {WORDS.get(batch['state'], batch['state'])}: {tally(counts)}{cost}.{said}"


def send(targets: Sequence[str], body: str) -> str:
    """Send it to each target, and say what became of that. Blocks for up to a minute each: call it in a thread."""
    done = [alert_sending.send(target, body).words for target in dict.fromkeys(targets)]
    told = "; ".join(done)
    return f"{told[:1].upper()}{told[1:]}." if told else ""
