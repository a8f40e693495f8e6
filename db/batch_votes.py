"""Votes on lines of two batches of the same file. They are kept in one order of the two, whichever is asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Table, delete, insert, select
from sqlmodel import Session

from db.batch_tables import BatchVote

VOTE: Table = BatchVote.__table__  # type: ignore[attr-defined]  # SQLModel adds __table__ at run time
CHOICES = ("a", "b", "tie")
_TURNED = {"a": "b", "b": "a", "tie": "tie"}


def vote(*, session: Session, batch_a: str, batch_b: str, no: int, person: str, choice: str | None) -> None:
    """Keep one person's choice for one line; None takes it back. A later choice replaces an earlier one.

    ``no``: the line's number in the batch whose id sorts first (`line_of`). ``choice``: "a", "b" or "tie", as
    ``batch_a`` and ``batch_b`` are given here. Raises ValueError in words for another choice, or for one batch twice.
    """
    if choice is not None and choice not in CHOICES:
        raise ValueError(f"A vote is for “a”, for “b” or for “tie”, not for {choice!r}.")
    if batch_a == batch_b:
        raise ValueError("A batch cannot be compared with itself.")
    first, second = sorted((batch_a, batch_b))
    mine = (VOTE.c.batch_a == first, VOTE.c.batch_b == second, VOTE.c.no == no, VOTE.c.person == person)
    session.execute(delete(VOTE).where(*mine))
    if choice is not None:
        kept = choice if first == batch_a else _TURNED[choice]
        session.execute(
            insert(VOTE).values(
                batch_a=first, batch_b=second, no=no, person=person, choice=kept, created_at=datetime.now(UTC)
            )
        )


def votes(engine: Engine, batch_a: str, batch_b: str, person: str | None = None) -> list[dict[str, Any]]:
    """The votes on two batches, by line: ``no`` (of the batch whose id sorts first), ``person`` and ``choice`` ("a" is
    for ``batch_a`` as it is given here)."""
    first, second = sorted((batch_a, batch_b))
    asked = (
        select(VOTE.c.no, VOTE.c.person, VOTE.c.choice)
        .where(VOTE.c.batch_a == first, VOTE.c.batch_b == second)
        .order_by(VOTE.c.no, VOTE.c.created_at)
    )
    if person is not None:
        asked = asked.where(VOTE.c.person == person)
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(asked).mappings()]
    if first != batch_a:
        for row in rows:
            row["choice"] = _TURNED[row["choice"]]
    return rows


def line_of(batch_a: str, batch_b: str, no_a: int, no_b: int) -> int:
    """The number that a vote on this pair of lines is kept under."""
    return no_a if batch_a < batch_b else no_b
