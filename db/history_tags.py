"""What calls cost by the tags of their runs, added up by the database: tags are in no rollup, and reading hundreds of
thousands of calls one by one takes half a minute."""

from __future__ import annotations

import orjson
import pandas as pd
from sqlalchemy import BigInteger, Engine, Text, cast, exists, func, select
from sqlmodel import col

from db import run_queries
from db.history import Wanted, conditions
from db.models import Run
from db.rollups import CALL, COUNTS, DRIVERS
from db.types import storable

COLUMNS = ("n", "cost_nanousd", *DRIVERS)


def sums_by_tags(engine: Engine, wanted: Wanted) -> tuple[list[tuple[str, ...]], pd.DataFrame]:
    """The ended calls of runs that have tags: each set of tags that runs have (sorted), and for each a line of
    `COLUMNS` (as in `db.rollups.SUMS`). With ``wanted.tags`` only of runs that have one of them."""
    tags = cast(col(Run.tags), Text)
    drivers = [
        func.coalesce(func.sum(cast(CALL.c.cost_drivers[name].as_string(), BigInteger)), 0).label(driver)
        for name, driver in zip(COUNTS, DRIVERS, strict=True)
    ]
    cost = func.coalesce(func.sum(CALL.c.cost_nanousd), 0).label("cost_nanousd")
    asked = (
        select(tags.label("tags"), func.count().label("n"), cost, *drivers)
        .join_from(CALL, Run, col(Run.id) == CALL.c.run_id)
        .where(CALL.c.created_at >= wanted.start, CALL.c.created_at < wanted.end, CALL.c.state != "running")
        .where(tags.not_in(["[]", "null"]), *conditions(CALL, wanted))
        .group_by(tags)
    )
    if wanted.tags:
        tag = run_queries.each_tag(engine.dialect.name)
        named_so = tag.c.value.in_([storable(one) for one in wanted.tags])
        asked = asked.where(exists().select_from(tag).where(named_so))
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(asked).mappings()]
    named = [tuple(sorted(map(str, orjson.loads(row.pop("tags")) or ()))) for row in rows]
    # PostgreSQL adds big integers up to a Decimal.
    table = pd.DataFrame([{name: int(row[name]) for name in COLUMNS} for row in rows], columns=list(COLUMNS))
    return named, table.astype("int64")
