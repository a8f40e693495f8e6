"""What calls were priced with, added up by the database, and the newest calls with what they took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, Engine, Integer, Text, and_, case, cast, func, literal, select
from sqlmodel import col

from db.history import Wanted, conditions, tagged
from db.models import Call
from db.rollups import CALL, COUNTS, INPUT
from db.run_rows import RecentCall
from db.types import UtcDateTime, rows_of


def recent(engine: Engine, selection: Wanted, limit: int) -> list[RecentCall]:
    """Up to ``limit`` succeeded calls of a stretch, oldest first. Tags are not looked at."""
    statement = (
        select(*(CALL.c[name] for name in RecentCall.__annotations__))
        .where(CALL.c.created_at >= selection.start, CALL.c.created_at < selection.end, CALL.c.state == "succeeded")
        .where(*conditions(CALL, selection))
        .order_by(CALL.c.created_at.desc())
        .limit(limit)
    )
    with engine.connect() as connection:
        return rows_of(RecentCall, connection.execute(statement))[::-1]


def how_many(engine: Engine, selection: Wanted) -> int:
    """How many succeeded calls there are in the stretch."""
    statement = (
        select(func.count())
        .select_from(CALL)
        .where(CALL.c.created_at >= selection.start, CALL.c.created_at < selection.end, CALL.c.state == "succeeded")
        .where(*conditions(CALL, selection))
    )
    with engine.connect() as connection:
        return int(connection.execute(statement).scalar_one())


PRICED = ("exact", "lower_bound", "estimated")


# States of a call's cost in which its tokens were billed, priced or not.
BILLED = (*PRICED, "no_price")


@dataclass(frozen=True, slots=True)
class PriceUse:
    """The ended calls of one deployment that carry the same price row and fall into the same band of length.

    ``price`` is the stored row as JSON text, None for no price. ``band``: how many of the asked bounds the call's input
    tokens exceed. ``n`` counts all calls, ``n_billed`` those whose tokens were billed, ``n_inexact`` those of them
    whose cost is an estimate or a lower bound. ``nanousd`` is what they cost, ``counts`` the tokens of the billed ones.
    """

    deployment_id: str
    price: str | None
    band: int
    n: int
    n_billed: int
    n_inexact: int
    nanousd: int
    first: datetime
    last: datetime
    counts: dict[str, int]


def price_uses(engine: Engine, bounds: Sequence[int] = (), within: Wanted | None = None) -> list[PriceUse]:
    """Every price row in use with its calls, by deployment and first use. ``bounds``: input tokens, ascending.
    ``within``: only calls of that part of the history."""
    billed = col(Call.cost_state).in_(BILLED)
    price = cast(col(Call.price), Text)
    band = _band(bounds)
    sums = [func.sum(case((billed, getattr(Call, name)), else_=0)).label(name) for name in COUNTS]
    first = func.min(col(Call.created_at), type_=UtcDateTime()).label("first")
    statement = (
        select(
            col(Call.deployment_id),
            price.label("price"),
            band.label("band"),
            func.count().label("n"),
            func.sum(case((billed, 1), else_=0)).label("n_billed"),
            func.sum(case((col(Call.cost_state).in_(PRICED[1:]), 1), else_=0)).label("n_inexact"),
            func.sum(case((col(Call.cost_state).in_(PRICED), col(Call.cost_nanousd)), else_=0)).label("nanousd"),
            first,
            func.max(col(Call.created_at), type_=UtcDateTime()).label("last"),
            *sums,
        )
        .where(col(Call.state) != "running", *(_within(within, engine.dialect.name) if within else ()))
        .group_by(col(Call.deployment_id), price, band)
        .order_by(col(Call.deployment_id), first, band)
    )
    with engine.connect() as connection:
        return [_use(*row) for row in connection.execute(statement)]


def _within(selection: Wanted, dialect: str) -> list[ColumnElement[bool]]:
    time = [col(Call.created_at) >= selection.start, col(Call.created_at) < selection.end]
    return [*time, *conditions(CALL, selection), *([tagged(selection.tags, dialect)] if selection.tags else [])]


def _band(bounds: Sequence[int]) -> ColumnElement[int]:
    if not bounds:
        # As text: PostgreSQL takes a bound number in GROUP BY for the position of a column.
        return cast(literal("0"), Integer)
    tokens: ColumnElement[int] = literal(0)
    for name in INPUT:
        tokens = tokens + func.coalesce(getattr(Call, name), 0)
    whens = [(and_(tokens <= bound), number) for number, bound in enumerate(bounds)]
    return case(*whens, else_=len(bounds))


def _use(
    deployment_id: str,
    price: str | None,
    band: int,
    n: int,
    n_billed: int | Decimal | None,
    n_inexact: int | Decimal | None,
    nanousd: int | Decimal | None,
    first: datetime,
    last: datetime,
    *tokens: int | Decimal | None,
) -> PriceUse:
    # PostgreSQL adds big integers up to a Decimal.
    billed, inexact, cost = (int(total or 0) for total in (n_billed, n_inexact, nanousd))
    counts: dict[str, int] = {name: int(total or 0) for name, total in zip(COUNTS, tokens, strict=True)}
    return PriceUse(deployment_id, price, band, n, billed, inexact, cost, first, last, counts)
