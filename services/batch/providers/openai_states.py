"""What the eight states of an OpenAI batch mean here, each in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.batch.providers.common import clean
from services.batch.types import BatchState, Job, Polled

if TYPE_CHECKING:
    from openai.types import Batch

KEPT_S = 30 * 24 * 3600.0
QUOTA_WAIT_S = 900.0
# Codes and words of a job that failed because the account has too many tokens waiting.
_QUOTA = ("token_limit_exceeded", "enqueued token", "token_limit", "queue_limit")

_WORDS: dict[str, tuple[BatchState, str, bool]] = {
    "validating": ("checking", "OpenAI is checking the file.", False),
    "failed": ("failed", "OpenAI refused the file.", True),
    "in_progress": ("running", "OpenAI is working on it.", False),
    "finalizing": ("running", "OpenAI has worked on all of it and is putting the results together.", False),
    "completed": ("ended", "OpenAI has finished.", True),
    "expired": ("expired", "OpenAI did not finish within 24 hours; what it finished is delivered and charged.", True),
    "cancelling": ("cancelling", "OpenAI is stopping it, which can take up to ten minutes.", False),
    "cancelled": ("cancelled", "It was stopped; what OpenAI had finished by then is delivered and charged.", True),
}


def polled(batch: Batch) -> Polled:
    """What a retrieved batch says."""
    word = str(batch.status)
    strange = f"OpenAI calls its state “{clean(word, 40)}”, which is not known here; it is watched on."
    state, said, over = _WORDS.get(word, ("running", strange, False))
    facts: dict[str, Any] = {"input_file_id": batch.input_file_id, "results_until": batch.created_at + KEPT_S}
    for name in ("output_file_id", "error_file_id"):
        if getattr(batch, name):
            facts[name] = getattr(batch, name)
    if state == "failed":
        if _over_quota(batch):
            facts |= {"resubmit": True, "resubmit_after_s": QUOTA_WAIT_S}
            state = "waiting_for_quota"
            said = (
                "OpenAI has too many tokens of this account waiting already, so that it did not take the file; it is "
                f"submitted again in {QUOTA_WAIT_S / 60:.0f} minutes."
            )
        else:
            said = _refusal(batch)
    collectable = over and bool(batch.output_file_id or batch.error_file_id)
    if word == "completed":
        said = _finished(batch)
    return Polled(state, word, said, over, collectable, _counts(batch), batch.expires_at, facts)


def unknown(job: Job) -> Polled:
    """A job that the service does not know any more."""
    said = f"OpenAI knows no job {clean(job.vendor_id, 80)} (any more): its results are lost; send its lines again."
    return Polled("failed", "not found", said, over=True, collectable=False)


def _counts(batch: Batch) -> dict[str, int] | None:
    counts = batch.request_counts
    # While the file is checked all of them are 0, which is no count of anything.
    if counts is None or not counts.total:
        return None
    return {"total": counts.total, "succeeded": counts.completed, "failed": counts.failed}


def _finished(batch: Batch) -> str:
    counts = batch.request_counts
    if counts is None or not counts.failed:
        return "OpenAI has finished."
    if not counts.completed:
        return f"OpenAI has finished, but answered none of the {counts.total:,} lines; each one's reason is told."
    return f"OpenAI has finished: {counts.completed:,} lines answered, {counts.failed:,} not, each with its reason."


def _errors(batch: Batch) -> list[Any]:
    return list(batch.errors.data or []) if batch.errors is not None else []


def _over_quota(batch: Batch) -> bool:
    said = [f"{one.code or ''} {one.message or ''}".lower() for one in _errors(batch)]
    return bool(said) and all(any(mark in one for mark in _QUOTA) for one in said)


def _refusal(batch: Batch) -> str:
    errors = _errors(batch)
    if not errors:
        return "OpenAI refused the file without saying why; nothing was answered or charged."
    told = [_one(error) for error in errors[:3]]
    more = f" (and {len(errors) - 3:,} more)" if len(errors) > 3 else ""
    return f"OpenAI refused the file, nothing was answered or charged: {'; '.join(told)}{more}."


def _one(error: Any) -> str:
    place = f"line {error.line}: " if error.line is not None else ""
    return place + clean(error.message or error.code or "no reason").rstrip(".")
