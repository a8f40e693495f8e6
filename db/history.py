"""Reading the history: every ended call of a stretch of time exactly once, as rollup cells or as itself.

A stretch is cut into whole UTC days, whole hours and the rest. Days and hours come from the rollups, the rest and what
is not rolled up yet from the calls, all within one snapshot of the database. Besides: the newest calls with what they
took, and what calls were priced with, added up by the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Literal

import numpy as np
import orjson
import pandas as pd
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    Integer,
    Select,
    String,
    Text,
    and_,
    case,
    cast,
    exists,
    extract,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    text,
    type_coerce,
)
from sqlmodel import col

from db import run_queries
from db.models import Call, Run
from db.rollups import (
    CALL,
    COUNTS,
    DIMENSIONS,
    DRIVERS,
    INPUT,
    ROLLUP,
    SKETCHES,
    SUMS,
    WAITING,
    day_of,
    measured,
)
from db.run_rows import HistoryCall, ListedCall, RecentCall
from db.runs import calls_kept_since
from db.types import UtcDateTime, rows_of, storable

COLUMNS = ("n", "cost_nanousd", *DRIVERS)


def sums_by_tags(engine: Engine, selection: Wanted) -> tuple[list[tuple[str, ...]], pd.DataFrame]:
    """The ended calls of runs that have tags: each set of tags that runs have (sorted), and for each a line of
    `COLUMNS` (as in `db.rollups.SUMS`). With ``selection.tags`` only of runs that have one of them."""
    tags = cast(col(Run.tags), Text)
    drivers = [
        func.coalesce(func.sum(cast(CALL.c.cost_drivers[name].as_string(), BigInteger)), 0).label(driver)
        for name, driver in zip(COUNTS, DRIVERS, strict=True)
    ]
    cost = func.coalesce(func.sum(CALL.c.cost_nanousd), 0).label("cost_nanousd")
    statement = (
        select(tags.label("tags"), func.count().label("n"), cost, *drivers)
        .join_from(CALL, Run, col(Run.id) == CALL.c.run_id)
        .where(CALL.c.created_at >= selection.start, CALL.c.created_at < selection.end, CALL.c.state != "running")
        .where(tags.not_in(["[]", "null"]), *conditions(CALL, selection))
        .group_by(tags)
    )
    if selection.tags:
        tag = run_queries.each_tag(engine.dialect.name)
        named_so = tag.c.value.in_([storable(name) for name in selection.tags])
        statement = statement.where(exists().select_from(tag).where(named_so))
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(statement).mappings()]
    named = [tuple(sorted(map(str, orjson.loads(row.pop("tags")) or ()))) for row in rows]
    # PostgreSQL adds big integers up to a Decimal.
    table = pd.DataFrame([{name: int(row[name]) for name in COLUMNS} for row in rows], columns=list(COLUMNS))
    return named, table.astype("int64")


@dataclass(frozen=True, slots=True)
class Behind:
    """Narrower than a `Wanted`. ``states``: ended so; ``spans``: made in one of these stretches; ``tags``: the run has
    exactly these tags (() for none at all), None for any. ``figure``: one of `SKETCHES`; calls that were measured in it
    are listed first."""

    states: Sequence[str] = ()
    spans: Sequence[tuple[datetime, datetime]] = ()
    tags: Sequence[str] | None = None
    figure: str = ""


ALL = Behind()


def calls_behind(
    engine: Engine, selection: Wanted, only: Behind = ALL, *, limit: int = 50, offset: int = 0
) -> tuple[list[ListedCall], int]:
    """The calls themselves, newest first, and how many there are."""
    clauses = _clauses(engine, selection, only)
    with engine.connect() as connection:
        total = int(connection.execute(select(func.count()).select_from(CALL).where(*clauses)).scalar_one())
        listed = select(*(CALL.c[name] for name in ListedCall.__annotations__)).where(*clauses)
        first = [case((_measured(only.figure), 0), else_=1)] if only.figure else []
        listed = listed.order_by(*first, CALL.c.created_at.desc(), CALL.c.id).limit(limit).offset(offset)
        return rows_of(ListedCall, connection.execute(listed)), total


def spent_behind(engine: Engine, selection: Wanted, only: Behind = ALL) -> tuple[int, int, int]:
    """(nano-dollars, calls whose cost is known, calls whose cost is a lower bound) of the calls of `calls_behind`."""
    sums = (
        func.coalesce(func.sum(CALL.c.cost_nanousd), 0),
        func.count(CALL.c.cost_nanousd),
        func.coalesce(func.sum(case((CALL.c.cost_state == "lower_bound", 1), else_=0)), 0),
    )
    with engine.connect() as connection:
        spent, n_known, bounded = connection.execute(select(*sums).where(*_clauses(engine, selection, only))).one()
    return int(spent), int(n_known), int(bounded)


def measured_behind(engine: Engine, selection: Wanted, only: Behind) -> tuple[int, int, int]:
    """Of the calls of `calls_behind`: how many were measured in ``only.figure``, how many were not as their stamps were
    late by our own fault, and how many of the rest are of batches."""
    taken, late = _measured(only.figure), _late()
    batch = and_(not_(taken), not_(late), CALL.c.source == "batch")
    sums = (
        func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
        for condition in (taken, and_(not_(taken), late), batch)
    )
    with engine.connect() as connection:
        measured, by_us, of_batches = connection.execute(select(*sums).where(*_clauses(engine, selection, only))).one()
    return int(measured), int(by_us), int(of_batches)


def _measured(figure: str) -> ColumnElement[bool]:
    """As `db.rollups.measured` has it."""
    return and_(CALL.c.state == "succeeded", not_(_late()), CALL.c[SKETCHES[figure]].is_not(None))


def _late() -> ColumnElement[bool]:
    return func.coalesce(CALL.c.lag_marked, false())


def _clauses(engine: Engine, selection: Wanted, only: Behind) -> list[ColumnElement[bool]]:
    dialect = engine.dialect.name
    clauses = [
        CALL.c.created_at >= selection.start,
        CALL.c.created_at < selection.end,
        CALL.c.state != "running",
        *conditions(CALL, selection),
    ]
    if only.spans:
        clauses.append(or_(*(and_(CALL.c.created_at >= a, CALL.c.created_at < b) for a, b in only.spans)))
    if only.states:
        clauses.append(CALL.c.state.in_(list(only.states)))
    if selection.tags:
        clauses.append(tagged(selection.tags, dialect))
    if only.tags is not None:
        clauses += [tagged([tag], dialect) for tag in only.tags]
        many = func.coalesce(func.json_array_length(col(Run.tags)), 0)
        clauses.append(exists().where(col(Run.id) == CALL.c.run_id, many == len(only.tags)))
    return clauses


# Names and states as Python strings: as Arrow's, pandas' default where Arrow is there, a redraw of the History page
# takes a quarter more of a processor (measured: 310 ms against 240).
pd.set_option("mode.string_storage", "python")


# Up to so many calls are read as themselves: every percentile is then exact.
EXACT_UP_TO = 2_500


FENCE = 10**9


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls: made from ``start`` to ``end`` (aware, exclusive); every other field that is set narrows them."""

    start: datetime
    end: datetime
    deployments: Sequence[str] = ()
    kinds: Sequence[str] = ()
    models: Sequence[str] = ()
    persons: Sequence[str] = ()
    sources: Sequence[str] = ()
    caches: Sequence[str] = ()
    tags: Sequence[str] = ()


Grain = Literal["h", "d"]


@dataclass(frozen=True, slots=True)
class Pieces:
    """The calls of a `Wanted`. ``cells``: rollup rows (``bucket`` as `db.history.bucket` reads it, dimensions,
    sums and the sketches asked for);
    ``calls``: measured calls (the same names, one line each, with ``created_at``). ``exact``: no cell was used.

    ``grain`` is the coarsest of the cells: a day's cell cannot be told apart by hours. Where calls were forgotten
    (`db.runs`) the ends of the stretch are whole hours, and a filter that needs the calls themselves finds none:
    then ``exact`` is false although no cell was used.
    """

    cells: pd.DataFrame
    calls: pd.DataFrame
    exact: bool
    grain: Grain | None


def pieces(
    engine: Engine,
    selection: Wanted,
    *,
    grain: Grain,
    sketches: Sequence[str] = (),
    sums: Sequence[str] = SUMS,
    dimensions: Sequence[str] = DIMENSIONS,
) -> Pieces:
    """Everything that is needed to draw a stretch of time. ``sums``, ``dimensions``: those that the cells are wanted
    with; each one costs time.

    ``grain`` "h" keeps hours apart, "d" lets whole UTC days be read as one. A filter by tag, or by person at "h", is
    answered from the calls themselves, whose number the caller has to keep in sight (`count`).
    """
    with engine.connect() as connection:
        kept_since = calls_kept_since(session=connection)
        by_call = bool(selection.tags) or (bool(selection.persons) and grain == "h")
        if by_call or (_all_kept(selection, kept_since) and _counted(connection, selection) <= EXACT_UP_TO):
            rows = _calls(connection, selection, [(selection.start, selection.end)], engine.dialect.name)
            return Pieces(_no_cells(sketches), measured_calls(rows), _all_kept(selection, kept_since), None)
        selection = _up_to_the_last(connection, _whole_hours(selection, kept_since), grain)
        cuts = cut(selection.start, selection.end, grain)
        if selection.persons:  # hours are not kept by person
            cuts = Cuts(cuts.days, [], [*cuts.loose, *cuts.hours])
        cells = _cells(connection, selection, cuts, (*dimensions, *sums, *sketches), sketches)
        rows = _calls(connection, selection, cuts.loose, engine.dialect.name)
        rows += _calls(connection, selection, covered(cuts), engine.dialect.name, only_waiting=True)
    return Pieces(cells, measured_calls(rows), False, grain)


def _all_kept(selection: Wanted, kept_since: datetime | None) -> bool:
    return kept_since is None or selection.start >= kept_since


def _whole_hours(selection: Wanted, kept_since: datetime | None) -> Wanted:
    """Where calls were forgotten nothing finer than an hour is left: ends that lie there are moved outward to one."""
    if kept_since is None:
        return selection
    start = down(selection.start, HOUR) if selection.start < kept_since else selection.start
    end = up(selection.end, HOUR) if selection.end < kept_since else selection.end
    return replace(selection, start=start, end=end)


def _up_to_the_last(connection: Connection, selection: Wanted, grain: Grain) -> Wanted:
    """Where no call was made after the end, the cell that the end lies in holds just the calls before it: to read it
    is to read the same calls, and not thousands of the last hour one by one."""
    end = up(selection.end, DAY if grain == "d" else HOUR)
    later = select(CALL.c.created_at).where(CALL.c.created_at >= selection.end).limit(1)
    if end == selection.end or connection.execute(later).first() is not None:
        return selection
    return replace(selection, end=end)


def count(engine: Engine, selection: Wanted) -> int:
    """How many calls ended in a stretch of time, filters by tag left aside."""
    with engine.connect() as connection:
        return _counted(connection, selection)


def _counted(connection: Connection, selection: Wanted) -> int:
    """The number of calls: from day cells where they cover the stretch, which is quick however many there are."""
    cuts = cut(selection.start, selection.end, "d")
    total = 0
    for grain, spans in (("d", [cuts.days] if cuts.days else []), ("h", cuts.hours)):
        for start, end in spans:
            clauses = [
                ROLLUP.c.grain == ("p" if selection.persons and grain == "d" else grain),
                *conditions(ROLLUP, selection),
            ]
            if selection.persons and grain == "h":
                continue
            clauses += [ROLLUP.c.bucket >= start, ROLLUP.c.bucket < end]
            total += int(
                connection.execute(select(func.coalesce(func.sum(ROLLUP.c.n), 0)).where(*clauses)).scalar_one()
            )
    return total


def _cells(
    connection: Connection, selection: Wanted, cuts: Cuts, names: Sequence[str], sketches: Sequence[str]
) -> pd.DataFrame:
    columns = [bucket(connection.dialect.name), *(ROLLUP.c[name] for name in names)]
    fine = "p" if selection.persons else "d"
    spans = [(fine, *cuts.days)] if cuts.days else []
    spans += [("h", *span) for span in cuts.hours] if not selection.persons else []
    stretches = [and_(ROLLUP.c.grain == grain, ROLLUP.c.bucket >= a, ROLLUP.c.bucket < b) for grain, a, b in spans]
    if not stretches:
        return _no_cells(sketches)
    result = connection.execute(select(*columns).where(or_(*stretches), *conditions(ROLLUP, selection)))
    # The driver's own rows, turned into columns: making objects of each row takes longer than reading them.
    by_column = list(zip(*result.cursor.fetchall(), strict=True))
    if not by_column:
        return _no_cells(sketches)
    return pd.DataFrame(
        {
            column.name: np.array(values, np.int64) if isinstance(column.type, BigInteger) else _objects(values)
            for column, values in zip(columns, by_column, strict=True)
        }
    )


def _objects(values: Sequence[object]) -> pd.Series:
    return pd.Series(list(values), dtype=object)


def _no_cells(sketches: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=["bucket", *DIMENSIONS, *SUMS, *sketches])


def _calls(
    connection: Connection,
    selection: Wanted,
    spans: Sequence[tuple[datetime, datetime]],
    dialect: str,
    *,
    only_waiting: bool = False,
) -> list[HistoryCall]:
    if not spans:
        return []
    within = or_(*(and_(CALL.c.created_at >= a, CALL.c.created_at < b) for a, b in spans))
    statement = select(*(CALL.c[name] for name in HistoryCall.__annotations__))
    if only_waiting:
        # First those that wait, behind a fence (LIMIT), then what is asked of them: for a filter by deployment SQLite
        # would otherwise take that index, which knows all of a deployment's calls, and not the few that wait.
        few = statement.where(within, WAITING).limit(FENCE).subquery()
        statement = select(*few.c).where(*conditions(few, selection))
    else:
        statement = statement.where(within, CALL.c.state != "running", *conditions(CALL, selection))
    if selection.tags:
        statement = statement.where(tagged(selection.tags, dialect))
    return rows_of(HistoryCall, connection.execute(statement))


def tagged(tags: Sequence[str], dialect: str) -> ColumnElement[bool]:
    """Calls whose run has one of these tags."""
    tag = run_queries.each_tag(dialect)
    named = tag.c.value.in_([storable(tag_name) for tag_name in tags])
    return exists().where(col(Run.id) == CALL.c.run_id, exists().select_from(tag).where(named))


def measured_calls(rows: Sequence[HistoryCall]) -> pd.DataFrame:
    """`db.rollups.measured` with each call's run and moment (UTC) kept."""
    frame = measured(rows) if rows else _no_calls().copy()
    frame["run_id"] = np.array([row["run_id"] for row in rows], dtype=object)
    frame["created_at"] = pd.to_datetime(frame["created_at"], utc=True)
    return frame


@cache
def _no_calls() -> pd.DataFrame:
    return measured([])


def conditions(table: FromClause, selection: Wanted) -> list[ColumnElement[bool]]:
    """What a `Wanted` asks of rows of the calls or of the rollups, time and tags left aside."""
    named = {
        "deployment_id": selection.deployments,
        "kind": selection.kinds,
        "model": selection.models,
        "source": selection.sources,
    }
    clauses: list[ColumnElement[bool]] = [table.c[name].in_(list(some)) for name, some in named.items() if some]
    if selection.persons:
        clauses.append(table.c.person.in_(list(selection.persons)))
    if selection.caches:
        clauses.append(_cache_state(table).in_(list(selection.caches)))
    return clauses


def _cache_state(table: FromClause) -> ColumnElement[str]:
    if table is ROLLUP:
        stored_state: ColumnElement[str] = ROLLUP.c.cache
        return stored_state
    total_input = sum((func.coalesce(table.c[name], 0) for name in INPUT), start=literal(0))
    warm = and_(table.c.cache_read > 0, table.c.cache_read * run_queries.WARM_SHARE >= total_input)
    state: ColumnElement[str] = case((warm, "warm"), (table.c.cache_read.is_not(None), "cold"), else_="")
    return state


def span_of_calls(engine: Engine) -> tuple[datetime, datetime] | None:
    """When the first and the last call were made that the rollups or the calls know of; None when there is none."""
    with engine.connect() as connection:
        # Two questions: together SQLite would read the whole index, alone each is its first or last entry.
        first = connection.execute(select(func.min(CALL.c.created_at))).scalar()
        last = connection.execute(select(func.max(CALL.c.created_at))).scalar()
        rolled = connection.execute(select(func.min(ROLLUP.c.bucket)).where(ROLLUP.c.grain == "d")).scalar()
    moments = [moment for moment in (first, rolled) if moment is not None]
    return (min(moments), last or max(moments)) if moments else None


_PEOPLE = text("""
    WITH RECURSIVE seen(person) AS (
        SELECT (SELECT min(person) FROM rollup WHERE grain = 'p')
        UNION ALL
        SELECT (SELECT min(person) FROM rollup WHERE grain = 'p' AND person > seen.person)
        FROM seen WHERE seen.person IS NOT NULL
    ) SELECT person FROM seen WHERE person IS NOT NULL
""")


def _known_to_days(names: Sequence[str]) -> Select[Any]:
    return select(*(ROLLUP.c[name] for name in names)).where(ROLLUP.c.grain == "d").distinct()


def values_of(engine: Engine, *dimensions: str) -> dict[str, list[str]]:
    """Every value of dimensions (`db.rollups.DIMENSIONS`) that any call has, for the filters."""
    if unknown := [name for name in dimensions if name not in DIMENSIONS]:
        raise ValueError(f"{unknown[0]!r} is no dimension")
    values: dict[str, set[str]] = {name: set() for name in dimensions}
    with engine.connect() as connection:
        # All that days know in one pass over them; persons have rows of their own, and an index to step through.
        for names, rolled in (
            ([name for name in dimensions if name != "person"], _known_to_days),
            (["person"] if "person" in dimensions else [], lambda _names: _PEOPLE),
        ):
            if not names:
                continue
            # Not DISTINCT: SQLite would walk an index over all calls for it instead of the few that wait.
            waiting = select(*(CALL.c[name] for name in names)).where(WAITING)
            for row in (*connection.execute(rolled(names)), *connection.execute(waiting)):
                for name, value in zip(names, row, strict=True):
                    values[name].add(str(value or ""))
    return {name: sorted(values - {""}) for name, values in values.items()}


def now() -> datetime:
    """This moment in UTC."""
    return datetime.now(UTC)


HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where the cells of a stretch lie: days from a to b, hours around them; the rest are calls."""

    days: tuple[datetime, datetime] | None
    hours: list[tuple[datetime, datetime]] = field(default_factory=list)
    loose: list[tuple[datetime, datetime]] = field(default_factory=list)


def cut(start: datetime, end: datetime, grain: Grain) -> Cuts:
    """Cut a stretch into whole UTC days ("d" only), whole hours, and what is left at its ends."""
    first, last = up(start, HOUR), down(end, HOUR)
    if first >= last:
        return Cuts(None, [], [(start, end)])
    loose = [(a, b) for a, b in ((start, first), (last, end)) if a < b]
    if grain == "d":
        day, end_of_days = up(first, DAY), down(last, DAY)
        if day < end_of_days:
            return Cuts((day, end_of_days), [(a, b) for a, b in ((first, day), (end_of_days, last)) if a < b], loose)
    return Cuts(None, [(first, last)], loose)


def down(moment: datetime, step: timedelta) -> datetime:
    """The last whole step of a UTC day that is not after a moment."""
    day = day_of(moment)
    return day + (moment - day) // step * step


def up(moment: datetime, step: timedelta) -> datetime:
    """The first whole step of a UTC day that is not before a moment."""
    floor = down(moment, step)
    return floor if floor == moment else floor + step


def covered(cuts: Cuts) -> list[tuple[datetime, datetime]]:
    """What the cells cover: one stretch without a gap, so that one look at the index finds what waits in it."""
    spans = [*([cuts.days] if cuts.days else []), *cuts.hours]
    return [(min(start for start, _ in spans), max(end for _, end in spans))] if spans else []


def bucket(dialect: str) -> ColumnElement[Any]:
    """When a rollup's cell begins, as it is quickest to read thousands of times: SQLite's own text (UTC), PostgreSQL's
    whole seconds since 1970. Reading them one by one as moments takes longer than the query."""
    if dialect == "sqlite":
        return type_coerce(ROLLUP.c.bucket, String).label("bucket")
    return cast(extract("epoch", ROLLUP.c.bucket), BigInteger).label("bucket")


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
