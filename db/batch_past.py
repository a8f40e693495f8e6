"""What the recorded calls and the finished batches of deployments say, read in one go for an estimate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Select, and_, case, func, select, union_all
from sqlmodel import col

from db.batch_tables import Batch
from db.rollups import CALL, INPUT
from db.types import storable

Row = dict[str, Any]
# Of each deployment: so many of its latest calls are looked at, and so many of those that fit are taken.
LOOKED_AT = 500
TAKEN = 200
FINISHED = 300
SOURCES = ("playground", "batch")
_FIGURES = (
    "deployment_id", "source", "outcome", "usage_source", "lag_marked", "reasoning_output", "answer_output", "ttft_ms",
    "ttlt_ms", "tpot_ms", *INPUT,
)  # fmt: skip


def recent_calls(
    engine: Engine, deployments: Sequence[str], *, sources: Sequence[str] = SOURCES, limit: int = TAKEN
) -> list[Row]:
    """The latest succeeded calls of each deployment, newest first: counts, times, and ``chars``.

    ``chars``: characters of the prompt and the system prompt; None where the text was not kept, and for a conversation
    of several turns. One statement, bounded per deployment however long its history is.
    """
    if not deployments:
        return []
    parts = [_of_one(one, sources, limit) for one in dict.fromkeys(deployments)]
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(union_all(*parts)).mappings()]


def _of_one(deployment: str, sources: Sequence[str], limit: int) -> Select[Any]:
    # In two steps: the texts of a call are only touched for those that are taken.
    latest = (
        select(CALL.c.id, CALL.c.state, CALL.c.source, CALL.c.created_at)
        .where(CALL.c.deployment_id == storable(deployment))
        .order_by(CALL.c.created_at.desc())
        .limit(LOOKED_AT)
        .subquery()
    )
    picked = (
        select(latest.c.id, latest.c.created_at)
        .where(latest.c.state == "succeeded", latest.c.source.in_(list(sources)))
        .order_by(latest.c.created_at.desc())
        .limit(limit)
        .subquery()
    )
    ask = CALL.c.request
    prompt, second = (ask[("ask", "messages", at, "text")].as_string() for at in (0, 1))
    system = func.coalesce(ask[("ask", "system")].as_string(), "")
    one_turn = and_(prompt.is_not(None), second.is_(None))
    chars = case((one_turn, func.length(prompt) + func.length(system)), else_=None).label("chars")
    figures = (
        select(*(CALL.c[name] for name in _FIGURES), chars, picked.c.created_at)
        .join(picked, picked.c.id == CALL.c.id)
        .order_by(picked.c.created_at.desc())
        .subquery()
    )
    return select(figures)


def finished_batches(engine: Engine, limit: int = FINISHED) -> list[Row]:
    """The latest batches that came to their end, newest first: ``deployment_id``, ``route``, ``n_lines``, ``run_id``,
    ``per_minute``, when they ``began`` and ``ended_at``, and the ``seconds`` between, pauses included."""
    statement = (
        select(
            col(Batch.deployment_id), col(Batch.route), col(Batch.n_lines), col(Batch.created_at), col(Batch.run_id),
            col(Batch.started_at), col(Batch.ended_at), col(Batch.per_minute),
        )
        .where(col(Batch.state) == "ended", col(Batch.ended_at).is_not(None), col(Batch.n_lines) > 0)
        .order_by(col(Batch.created_at).desc())
        .limit(limit)
    )  # fmt: skip
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(statement).mappings()]
    for row in rows:
        row["began"] = row.pop("started_at") or row["created_at"]
        row["seconds"] = (row["ended_at"] - row["began"]).total_seconds()
    return [row for row in rows if row["seconds"] > 0]


def stretches(engine: Engine, run_ids: Sequence[str]) -> list[tuple[str, datetime, datetime | None]]:
    """(run, from when, to when) of every call of some runs, every attempt, in the order in which they began."""
    asked = (
        select(CALL.c.run_id, CALL.c.created_at, CALL.c.ended_at)
        .where(CALL.c.run_id.in_(list(run_ids)))
        .order_by(CALL.c.created_at)
    )
    with engine.connect() as connection:
        return [(run_id, began, ended) for run_id, began, ended in connection.execute(asked)]
