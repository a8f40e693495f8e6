"""What is written about the jobs of a batch, as units of the writer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session

from db import batches
from services.batch.types import Polled
from services.runs.spec import new_id
from services.security.keys import scrub

Row = dict[str, Any]


def given_back(polled: Polled) -> bool:
    """Whether the service gave a job back that has to be sent anew, as another one."""
    return polled.over and bool(polled.facts.get("resubmit"))


def keep_plan(batch_id: str, jobs: list[Row], refused: list[tuple[int, str]], session: Session) -> None:
    for no, said in refused:
        batches.refuse_line(session=session, batch_id=batch_id, no=no, message=said)
    if jobs:
        batches.insert_jobs(session=session, rows=jobs)


def submitted(batch_id: str, no: int, vendor_id: str | None, facts: Row, session: Session) -> None:
    batches.set_job(
        session=session, batch_id=batch_id, no=no, vendor_id=vendor_id, facts=facts, state="checking", said=None,
        submitted_at=datetime.now(UTC),
    )  # fmt: skip
    batches.sent(session=session, batch_id=batch_id, job_no=no)


def polled(batch_id: str, row: Row, told: Polled, again_at: float, session: Session) -> None:
    """What a service said of a job; one that it gave back is submitted anew at ``again_at`` (Unix seconds)."""
    facts = (row["facts"] or {}) | dict(told.facts)
    if given_back(told):
        batches.set_job(
            session=session, batch_id=batch_id, no=row["no"], token=f"lab-{new_id()}", vendor_id=None,
            facts={"again_at": again_at},
            state="waiting_for_quota", vendor_state=told.vendor_state, polled_at=datetime.now(UTC),
            said=scrub(told.said),
        )  # fmt: skip
        return
    if told.over:
        # Its last word is kept apart from what is said while the results are read.
        facts |= {"end": told.state, "collectable": told.collectable, "word": scrub(told.said) if told.said else None}
    expires = datetime.fromtimestamp(told.expires_at, UTC) if told.expires_at else row["expires_at"]
    batches.set_job(
        session=session, batch_id=batch_id, no=row["no"], facts=facts, vendor_state=told.vendor_state,
        state="collecting" if told.over else told.state, said=scrub(told.said) if told.said else None,
        counts=dict(told.counts) if told.counts else row["counts"], polled_at=datetime.now(UTC),
        expires_at=expires,
    )  # fmt: skip


def tell(batch_id: str, no: int, text: str, session: Session) -> None:
    """A word of a route's on its job: of the job, so that what is said of the batch can be made of it again."""
    batches.set_job(session=session, batch_id=batch_id, no=no, said=text)
    batches.set_batch(session=session, batch_id=batch_id, said=text)


def close(batch_id: str, job_no: int, state: str, message: str | None, session: Session) -> None:
    batches.close_lines(session=session, batch_id=batch_id, state=state, job_no=job_no, message=message)


def set_job(batch_id: str, no: int, values: Row, session: Session) -> None:
    batches.set_job(session=session, batch_id=batch_id, no=no, **values)


def set_batch(batch_id: str, values: Row, session: Session) -> None:
    batches.set_batch(session=session, batch_id=batch_id, **values)
