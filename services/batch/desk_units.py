"""The rows that a submit makes, and what people want of their batches as units of the writer."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlmodel import Session

from db import batch_once, batches
from services.batch.submit import BatchSpec
from services.batch.types import SOURCE, options_to_json
from services.deployments import config
from services.runs.spec import new_id
from services.types import Deployment

Row = dict[str, Any]
RESENT = ("failed", "cancelled", "expired", "missing")


def batch_row(spec: BatchSpec, deployment: Deployment, person: str, size: int, estimate: Row | None) -> Row:
    """A batch as it is recorded before its lines are."""
    return {
        "id": new_id(), "created_at": datetime.now(UTC), "person": person, "name": spec.name or spec.file_name,
        "deployment_id": deployment.id, "deployment": config.to_json(deployment), "route": spec.route,
        "state": "queued", "said": "The lines are being recorded.", "wanted": "run", "file_name": spec.file_name,
        "file_sha256": spec.sha256, "file_bytes": size, "options": options_to_json(spec.options),
        "params": dict(spec.options.params), "run_id": new_id(), "parent_id": spec.parent_id, "n_lines": 0,
        "n_left_out": 0, "estimate": estimate, "budget_nanousd": spec.budget_nanousd,
        "objective_ms": spec.objective_ms, "max_lanes": spec.max_lanes, "per_minute": spec.per_minute,
        "notify": list(spec.notify),
    }  # fmt: skip


def run_row(row: Row, *, store: bool) -> Row:
    """The run that the calls of a batch belong to; its texts only where they may be kept (``store``)."""
    options = row["options"] or {}
    prompt, system = options.get("prompt") or "", options.get("system")
    return {
        "id": row["run_id"], "created_at": row["created_at"], "person": row["person"], "source": SOURCE,
        "prompt": prompt if store else None, "system": system if store else None,
        "prompt_sha256": hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest(),
        "template": prompt if store else None, "variables": {}, "params": row["params"] or {},
        "columns": [
            {"deployment_id": row["deployment_id"], "use_shared_params": True, "params": {}, "cache": None}
        ],
        "attachments": [], "repetitions": 1, "blind": False, "starred": False, "tags": [], "text_stored": store,
        "n_calls": row["n_lines"],
    }  # fmt: skip


# --- units of the writer ---------------------------------------------------------------------------------------------


def insert(run: Row, row: Row, again: bool, session: Session) -> Row | None:
    """A batch of a file; the batch that was made of the same bytes before in its place, unless ``again``."""
    return batch_once.insert_once(session=session, run=run, values=row, again=again)


def pause(batch_id: str, session: Session) -> bool:
    waiting = partial(batches.move, session=session, batch_id=batch_id)
    said = "Paused by hand."
    return waiting(states=["queued"], wanted="pause", state="paused", said=said) or waiting(
        states=["running"], wanted="pause", state="pausing", said=said
    )


def resume(batch_id: str, budget: int | None, session: Session) -> bool:
    again = partial(batches.move, session=session, batch_id=batch_id, while_wanted="pause")
    values: Row = {"wanted": "run", "said": None} | ({} if budget is None else {"budget_nanousd": budget})
    return again(states=["paused"], state="queued", **values) or again(states=["pausing"], state="running", **values)


def cancel(batch_id: str, session: Session) -> None:
    """At once where no worker has begun; else the worker is told."""
    for wanted in ("run", "pause"):
        idle = batches.move(
            session=session, batch_id=batch_id, states=["queued", "paused"], while_wanted=wanted, wanted="cancel",
            state="cancelling", said=None,
        )  # fmt: skip
        if idle and not batches.has_jobs(session=session, batch_id=batch_id):
            said = "Cancelled by hand."
            batches.end_batch(session=session, batch_id=batch_id, state="cancelled", said=said, left="cancelled")
            return
    batches.set_batch(session=session, batch_id=batch_id, wanted="cancel", state="cancelling", said=None)


def insert_copy(run: Row, row: Row, source: str, session: Session) -> Row | None:
    """A batch of the lines of ``source`` that were not answered, whole from its first moment; the batch that they went
    into before in its place."""
    return batch_once.resend_once(session=session, run=run, values=row, source=source, states=RESENT)


def delete(batch_id: str, session: Session) -> bool:
    return batches.delete_batch(session=session, batch_id=batch_id)
