"""Whether what the calls of a batch have cost is all that they have cost."""

from __future__ import annotations

from sqlalchemy import Engine, exists, or_, select

from db.batch_queries import BATCH, CALL


def bounded(engine: Engine, batch_id: str) -> bool:
    """Whether `db.batches.spent` is a lower bound: of a call that is over, a try whose answer was lost among them, the
    cost is not known, or only what it is at least."""
    some = (
        select(CALL.c.id)
        .join(BATCH, BATCH.c.run_id == CALL.c.run_id)
        .where(BATCH.c.id == batch_id, CALL.c.state != "running")
        .where(or_(CALL.c.cost_nanousd.is_(None), CALL.c.cost_state == "lower_bound"))
    )
    with engine.connect() as connection:
        return bool(connection.execute(select(exists(some))).scalar_one())
