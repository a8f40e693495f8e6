"""Rows for tests, and short ways to write and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from db import runs
from db.engine import reader
from db.writer import Writer

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


def run_row(run_id: str, **values: Any) -> dict[str, Any]:
    return {
        "id": run_id,
        "created_at": START,
        "person": "ada@example.org",
        "source": "playground",
        "prompt": "Hello",
        "prompt_sha256": "0" * 64,
        "system": None,
        "template": None,
        "variables": {},
        "params": {},
        "columns": [],
        "attachments": [],
        "start_mode": "together",
        "stagger_s": 0.0,
        "repetitions": 1,
        "blind": False,
        "parent_run_id": None,
        "starred": False,
        "tags": [],
        "note": None,
        "text_stored": True,
        "n_calls": 1,
    } | values


def call_row(call_id: str, run_id: str, **values: Any) -> dict[str, Any]:
    return {
        "id": call_id,
        "run_id": run_id,
        "column_no": 0,
        "repetition": 1,
        "attempt_no": 1,
        "deployment_id": "one",
        "deployment": {"id": "one", "name": "One"},
        "kind": "openai",
        "model": "m",
        "wire": "chat",
        "source": "playground",
        "person": "ada@example.org",
        "owner": "engine",
        "state": "running",
        "created_at": START,
    } | values


def put(writer: Writer, run_id: str, *calls: dict[str, Any], **values: Any) -> None:
    """Commit a run with its calls; a call without an id of its own is named after the run."""
    rows = [call_row(f"{run_id}-{n}", run_id) | call for n, call in enumerate(calls)]
    writer.submit(lambda session: runs.insert_run(session=session, values=run_row(run_id, **values))).result(60)
    if rows:
        # One statement takes one set of columns; the rows of a test differ.
        for row in rows:
            writer.submit(lambda session, row=row: runs.insert_calls(session=session, rows=[row])).result(60)


def do(writer: Writer, function: Any, **values: Any) -> Any:
    """Run one function of `db.runs` through the writer and wait for its result."""
    return writer.submit(lambda session: function(session=session, **values)).result(60)


def ask(url: str, statement: str, **values: Any) -> list[Any]:
    """Rows of a statement on a reading connection."""
    with reader(url).connect() as connection:
        return list(connection.execute(text(statement), values))


def later(**delta: float) -> datetime:
    return START + timedelta(**delta)
