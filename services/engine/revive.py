"""A finished run, brought back from the records so that one of its columns can be retried."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine as SqlEngine

from db import run_queries
from services.calls.live import LiveCall, LiveColumn, LiveRun
from services.calls.progress import Progress
from services.deployments import config
from services.runs import conversation, view
from services.runs.spec import ColumnSpec, RunSpec
from services.types import Ask, Limits


async def revived(reader: SqlEngine, run_id: str) -> LiveRun | None:
    """The run as it stands in the records, with nothing under way; None when there is no such run."""
    row = await asyncio.to_thread(run_queries.run_by_id, reader, run_id)
    if row is None:
        return None
    calls = await asyncio.to_thread(run_queries.calls_of_run, reader, run_id)
    columns = [_column(call) for call in view.shown_calls(calls)]
    spec = RunSpec(
        prompt=row["prompt"] or "",
        columns=tuple(ColumnSpec(column.deployment.id) for column in columns),
        system=row["system"],
        params=row["params"] or {},
        repetitions=row["repetitions"],
        blind=row["blind"],
        source=row["source"],
    )
    run = LiveRun(run_id, spec, row["person"], columns)
    run.ended.set()
    return run


def _column(row: Mapping[str, Any]) -> LiveColumn:
    deployment = config.from_json(row["deployment"])
    progress = Progress(None, Limits())
    progress.phase = "done"
    progress.answer = [row["answer"]] if row.get("answer") else []
    progress.reasoning = [row["reasoning"]] if row.get("reasoning") else []
    ask = conversation.ask_of(row) or Ask(())
    call = LiveCall(
        id=row["id"], column=row["column_no"], repetition=row["repetition"], attempt=row["attempt_no"],
        deployment=deployment, ask=ask, progress=progress, waited_ms=row.get("waited_ms") or 0.0, final=dict(row),
        sent_answer=len(progress.answer), sent_reasoning=len(progress.reasoning), announced=True,
    )  # fmt: skip
    return LiveColumn(row["column_no"], deployment, call)
