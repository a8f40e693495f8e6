"""The newest succeeded calls with what they took, for figures that need each call by itself."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, func, select

from db.history import Wanted, conditions
from db.rollups import CALL
from db.rows import dicts

COLUMNS = (
    "created_at", "deployment_id", "kind", "model", "source", "ttft_ms", "ttlt_ms", "decode_tps", "uncached_input",
    "cache_read", "cache_write_5m", "cache_write_1h", "reasoning_output", "answer_output", "lag_marked",
)  # fmt: skip


def recent(engine: Engine, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
    """Up to ``limit`` succeeded calls of a stretch, oldest first. Tags are not looked at."""
    asked = (
        select(*(CALL.c[name] for name in COLUMNS))
        .where(CALL.c.created_at >= wanted.start, CALL.c.created_at < wanted.end, CALL.c.state == "succeeded")
        .where(*conditions(CALL, wanted))
        .order_by(CALL.c.created_at.desc())
        .limit(limit)
    )
    with engine.connect() as connection:
        return dicts(connection.execute(asked))[::-1]


def how_many(engine: Engine, wanted: Wanted) -> int:
    """How many succeeded calls there are in the stretch."""
    asked = (
        select(func.count())
        .select_from(CALL)
        .where(CALL.c.created_at >= wanted.start, CALL.c.created_at < wanted.end, CALL.c.state == "succeeded")
        .where(*conditions(CALL, wanted))
    )
    with engine.connect() as connection:
        return int(connection.execute(asked).scalar_one())
