"""What Anthropic says of a batch and of its lines, in our words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.batch.providers import common as providers_common
from services.batch.providers.common import clean
from services.batch.providers.whole_answers import answered, not_run, refused
from services.batch.types import BatchState, Job, LineResult, Polled, no_of
from services.providers.decoder import loads
from services.providers.usage import obj

if TYPE_CHECKING:
    from anthropic.types.messages import MessageBatch

KEPT_S = 29 * 24 * 3600.0
RESUBMIT_AFTER_S = 60.0
TAKEN = (
    "The answer to our submit was lost, and this job was found by its time and length: that it is ours is proved when "
    "it ends. Until then it is not stopped from here; stop it in Anthropic's console if you want that."
)
# The HTTP status that a live call would have had with an error of this type.
_STATUS = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500, "timeout_error": 504,
    "overloaded_error": 529,
}  # fmt: skip


def total(batch: MessageBatch) -> int:
    """All requests of a batch."""
    counts = batch.request_counts
    return counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired


def polled(batch: MessageBatch, now: datetime) -> Polled:
    """What a retrieved batch says. It counts nothing before its end; then it does."""
    created = batch.created_at.timestamp()
    facts: dict[str, Any] = {"results_until": created + KEPT_S}
    word, expires = str(batch.processing_status), batch.expires_at.timestamp()
    if word == "in_progress":
        said = f"Anthropic is working on {total(batch):,} lines; it counts none of them before all have ended."
        return Polled("running", word, said, False, False, None, expires, facts)
    if word == "canceling":
        said = "Anthropic is stopping it; what is under way there may still be answered."
        return Polled("cancelling", word, said, False, False, None, expires, facts)
    if word != "ended":
        said = f"Anthropic calls its state “{clean(word, 40)}”, which is not known here; it is watched on."
        return Polled("running", word, said, False, False, None, expires, facts)
    counts = batch.request_counts
    tally = {"total": total(batch), "succeeded": counts.succeeded, "failed": counts.errored,
             "cancelled": counts.canceled, "expired": counts.expired}  # fmt: skip
    collectable = batch.archived_at is None and bool(batch.results_url) and now.timestamp() < created + KEPT_S
    state, said = _end(batch)
    if not collectable:
        said = f"{said} {gone(batch)}"
    return Polled(state, word, said, True, collectable, tally, expires, facts)


def _end(batch: MessageBatch) -> tuple[BatchState, str]:
    counts = batch.request_counts
    parts = [f"{number:,} {word}" for number, word in (
        (counts.succeeded, "answered"), (counts.errored, "not answered for an error"),
        (counts.canceled, "not begun because it was stopped"), (counts.expired, "not reached within 24 hours"),
    ) if number]  # fmt: skip
    said = f"Anthropic has ended it: {', '.join(parts) or 'no lines'}."
    if counts.canceled:
        return "cancelled", said
    return ("expired", said) if counts.expired else ("ended", said)


def gone(batch: MessageBatch) -> str:
    """That the results cannot be had any more."""
    return (
        f"Its results cannot be had any more: Anthropic keeps them for 29 days after {batch.created_at:%d %B %Y}, when "
        "the job was made; send its lines again if they are still wanted."
    )


def unknown(job: Job) -> Polled:
    """A job that the service does not know (any more)."""
    said = f"Anthropic knows no job {clean(job.vendor_id, 80)} (any more): its results are lost; send its lines again."
    return Polled("failed", "not found", said, over=True, collectable=False)


def foreign(found: Polled, proof: bool | None) -> Polled:
    """A job that was taken for ours and is not (``proof`` False), or whose results cannot prove it."""
    if proof is None:
        said = (
            "The answer to our submit was lost, and the job that was found by its time and length has no results that "
            "could prove it ours; look at Anthropic's console before its lines are sent again."
        )
        return Polled("failed", found.vendor_state, said, True, False, None, found.expires_at, found.facts)
    said = (
        "The answer to our submit was lost, and the job that was found by its time and length proved to be somebody "
        "else's; ours was never made, and is submitted again."
    )
    facts = {**found.facts, "resubmit": True, "resubmit_after_s": RESUBMIT_AFTER_S}
    return Polled("waiting_for_quota", found.vendor_state, said, True, False, None, None, facts)


def carries(line: str, tag: str) -> bool | None:
    """Whether a line of results has the mark of our token in its custom_id; None when it cannot be read."""
    row = loads(line.encode())
    name = obj(row).get("custom_id")
    return name.endswith(f"-{tag}") and no_of(name[: -len(tag) - 1]) is not None if isinstance(name, str) else None


def read(path: Path, tag: str) -> Iterator[LineResult]:
    """Each line of the results. A file that ends in the middle is not kept, so that it is fetched anew next time."""
    whole = True
    for number, row, ended in providers_common.read_lines(path):
        if row is None:
            whole = whole and ended
            yield providers_common.broken_line(f"Line {number} of Anthropic's results", ended)
        else:
            yield _result(row, tag)
    if not whole:
        path.unlink(missing_ok=True)


def _result(row: Mapping[str, Any], tag: str) -> LineResult:
    name = row.get("custom_id")
    called = name.removesuffix(f"-{tag}") if isinstance(name, str) else ""
    result = obj(row.get("result"))
    kind = result.get("type")
    if kind == "succeeded":
        return answered(called, "messages", obj(result.get("message")), None)
    if kind == "errored":
        error = obj(result.get("error"))
        request_id = error.get("request_id")
        means = _STATUS.get(str(obj(error.get("error")).get("type")))
        asked = clean(request_id, 80) if isinstance(request_id, str) else None
        return refused(called, error, status=None, means=means, request_id=asked)
    if kind == "canceled":
        return not_run(called, "cancelled", "The batch was stopped before Anthropic began this line; it costs nothing.")
    if kind == "expired":
        return not_run(called, "expired", "Anthropic did not reach this line within 24 hours; it costs nothing.")
    words = f"Anthropic calls the result of this line “{clean(kind, 40)}”, which is not known here."
    return LineResult(called, "failed", "protocol_error", message=words)
