"""Reading the history: every ended call of a stretch of time exactly once, as rollup cells or as itself.

A stretch is cut into whole UTC days, whole hours and the rest. Days and hours come from the rollups, the rest and what
is not rolled up yet from the calls, all within one snapshot of the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pandas as pd
from sqlalchemy import ColumnElement, Connection, Engine, and_, case, exists, false, func, literal, or_, select
from sqlmodel import col

from db import queries
from db.retention import calls_kept_since
from db.rollups import CALL, DIMENSIONS, INPUT, KEYS, NEEDED, ROLLUP, SUMS, day_of, measured
from db.tables import Run
from db.types import storable

# Up to so many calls are read as themselves: every percentile is then exact.
EXACT_UP_TO = 5_000
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
Grain = Literal["h", "d"]


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


@dataclass(frozen=True, slots=True)
class Pieces:
    """The calls of a `Wanted`. ``cells``: rollup rows (`db.rollups`: keys, sums, the sketches asked for);
    ``calls``: measured calls (the same names, one line each, with ``created_at``). ``exact``: no cell was used.

    ``grain`` is the coarsest of the cells: a day's cell cannot be told apart by hours. Where calls were forgotten
    (`db.retention`) the ends of the stretch are whole hours, and a filter that needs the calls themselves finds none:
    then ``exact`` is false although no cell was used.
    """

    cells: pd.DataFrame
    calls: pd.DataFrame
    exact: bool
    grain: Grain | None


@dataclass(frozen=True, slots=True)
class _Cuts:
    """Where the cells of a stretch lie: days from a to b, hours around them; the rest are calls."""

    days: tuple[datetime, datetime] | None
    hours: list[tuple[datetime, datetime]] = field(default_factory=list)
    loose: list[tuple[datetime, datetime]] = field(default_factory=list)


def pieces(engine: Engine, wanted: Wanted, *, grain: Grain, sketches: Sequence[str] = ()) -> Pieces:
    """Everything that is needed to draw a stretch of time.

    ``grain`` "h" keeps hours apart, "d" lets whole UTC days be read as one. A filter by tag, or by person at "h", is
    answered from the calls themselves, whose number the caller has to keep in sight (`count`).
    """
    with engine.connect() as connection:
        kept = calls_kept_since(session=connection)
        by_call = bool(wanted.tags) or (bool(wanted.persons) and grain == "h")
        if by_call or (_all_kept(wanted, kept) and _counted(connection, wanted) <= EXACT_UP_TO):
            calls = _calls(connection, wanted, [(wanted.start, wanted.end)], engine.dialect.name)
            return Pieces(_no_cells(sketches), calls, _all_kept(wanted, kept), None)
        wanted = _whole_hours(wanted, kept)
        cuts = cut(wanted.start, wanted.end, grain)
        if wanted.persons:  # hours are not kept by person
            cuts = _Cuts(cuts.days, [], [*cuts.loose, *cuts.hours])
        cells = _cells(connection, wanted, cuts, sketches)
        calls = _calls(connection, wanted, cuts.loose, engine.dialect.name)
        waiting = _calls(connection, wanted, _covered(cuts), engine.dialect.name, only_waiting=True)
    frames = [frame for frame in (calls, waiting) if len(frame)]
    return Pieces(cells, pd.concat(frames, ignore_index=True) if frames else calls, False, grain)


def _all_kept(wanted: Wanted, kept: datetime | None) -> bool:
    return kept is None or wanted.start >= kept


def _whole_hours(wanted: Wanted, kept: datetime | None) -> Wanted:
    """Where calls were forgotten nothing finer than an hour is left: ends that lie there are moved outward to one."""
    if kept is None:
        return wanted
    start = _down(wanted.start, HOUR) if wanted.start < kept else wanted.start
    end = _up(wanted.end, HOUR) if wanted.end < kept else wanted.end
    return replace(wanted, start=start, end=end)


def count(engine: Engine, wanted: Wanted) -> int:
    """How many calls ended in a stretch of time, filters by tag left aside."""
    with engine.connect() as connection:
        return _counted(connection, wanted)


def cut(start: datetime, end: datetime, grain: Grain) -> _Cuts:
    """Cut a stretch into whole UTC days ("d" only), whole hours, and what is left at its ends."""
    first, last = _up(start, HOUR), _down(end, HOUR)
    if first >= last:
        return _Cuts(None, [], [(start, end)])
    loose = [(a, b) for a, b in ((start, first), (last, end)) if a < b]
    if grain == "d":
        day, after = _up(first, DAY), _down(last, DAY)
        if day < after:
            return _Cuts((day, after), [(a, b) for a, b in ((first, day), (after, last)) if a < b], loose)
    return _Cuts(None, [(first, last)], loose)


def _down(moment: datetime, step: timedelta) -> datetime:
    day = day_of(moment)
    return day + (moment - day) // step * step


def _up(moment: datetime, step: timedelta) -> datetime:
    down = _down(moment, step)
    return down if down == moment else down + step


def _covered(cuts: _Cuts) -> list[tuple[datetime, datetime]]:
    return [*([cuts.days] if cuts.days else []), *cuts.hours]


def _counted(connection: Connection, wanted: Wanted) -> int:
    """The number of calls: from day cells where they cover the stretch, which is quick however many there are."""
    cuts = cut(wanted.start, wanted.end, "d")
    total = 0
    for grain, spans in (("d", [cuts.days] if cuts.days else []), ("h", cuts.hours)):
        for start, end in spans:
            where = [ROLLUP.c.grain == ("p" if wanted.persons and grain == "d" else grain), *_in(ROLLUP, wanted)]
            if wanted.persons and grain == "h":
                continue
            where += [ROLLUP.c.bucket >= start, ROLLUP.c.bucket < end]
            total += int(connection.execute(select(func.coalesce(func.sum(ROLLUP.c.n), 0)).where(*where)).scalar_one())
    return total


def _cells(connection: Connection, wanted: Wanted, cuts: _Cuts, sketches: Sequence[str]) -> pd.DataFrame:
    columns = [ROLLUP.c[name] for name in (*KEYS, *SUMS, *sketches)]
    fine = "p" if wanted.persons else "d"
    spans = [(fine, *cuts.days)] if cuts.days else []
    spans += [("h", *span) for span in cuts.hours] if not wanted.persons else []
    where = [and_(ROLLUP.c.grain == grain, ROLLUP.c.bucket >= a, ROLLUP.c.bucket < b) for grain, a, b in spans]
    if not where:
        return _no_cells(sketches)
    found = connection.execute(select(*columns).where(or_(*where), *_in(ROLLUP, wanted)))
    return pd.DataFrame(found.fetchall(), columns=[column.name for column in columns])


def _no_cells(sketches: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=[*KEYS, *SUMS, *sketches])


def _calls(
    connection: Connection,
    wanted: Wanted,
    spans: Sequence[tuple[datetime, datetime]],
    dialect: str,
    *,
    only_waiting: bool = False,
) -> pd.DataFrame:
    within = [and_(CALL.c.created_at >= a, CALL.c.created_at < b) for a, b in spans]
    where = [or_(*within) if within else false(), CALL.c.state != "running", *_in(CALL, wanted)]
    if only_waiting:
        where.append(CALL.c.rolled.is_(False))
    if wanted.tags:
        tag = queries.each_tag(dialect)
        named = tag.c.value.in_([storable(one) for one in wanted.tags])
        run = exists().where(col(Run.id) == CALL.c.run_id, exists().select_from(tag).where(named))
        where.append(run)
    rows = connection.execute(select(*(CALL.c[name] for name in (*NEEDED, "run_id"))).where(*where)).mappings()
    frame = pd.DataFrame([dict(row) for row in rows], columns=[*NEEDED, "run_id"])
    return measured_calls(frame)


def measured_calls(frame: pd.DataFrame) -> pd.DataFrame:
    """`db.rollups.measured` with each call's id, run and moment (UTC) kept."""
    made = measured(frame.to_dict("records"))
    made["run_id"] = frame["run_id"].to_numpy()
    made["created_at"] = pd.to_datetime(frame["created_at"], utc=True).to_numpy()
    return made


def _in(table: Any, wanted: Wanted) -> list[ColumnElement[bool]]:
    named = {
        "deployment_id": wanted.deployments, "kind": wanted.kinds, "model": wanted.models, "source": wanted.sources,
    }  # fmt: skip
    where: list[ColumnElement[bool]] = [table.c[name].in_(list(some)) for name, some in named.items() if some]
    if wanted.persons:
        where.append(table.c.person.in_(list(wanted.persons)))
    if wanted.caches:
        where.append(_cache_state(table).in_(list(wanted.caches)))
    return where


def _cache_state(table: Any) -> ColumnElement[Any]:
    if table is ROLLUP:
        kept: ColumnElement[Any] = ROLLUP.c.cache
        return kept
    given = sum((func.coalesce(CALL.c[name], 0) for name in INPUT), start=literal(0))
    warm = and_(CALL.c.cache_read > 0, CALL.c.cache_read * queries.WARM_SHARE >= given)
    state: ColumnElement[Any] = case((warm, "warm"), (CALL.c.cache_read.is_not(None), "cold"), else_="")
    return state


def calls_behind(
    engine: Engine, wanted: Wanted, *, states: Sequence[str] = (), limit: int = 50, offset: int = 0
) -> tuple[list[dict[str, Any]], int]:
    """The calls themselves, newest first, and how many there are: what stands behind a mark of a chart."""
    where = [
        CALL.c.created_at >= wanted.start, CALL.c.created_at < wanted.end, CALL.c.state != "running",
        *_in(CALL, wanted),
    ]  # fmt: skip
    if states:
        where.append(CALL.c.state.in_(list(states)))
    if wanted.tags:
        tag = queries.each_tag(engine.dialect.name)
        named = tag.c.value.in_([storable(one) for one in wanted.tags])
        where.append(exists().where(col(Run.id) == CALL.c.run_id, exists().select_from(tag).where(named)))
    columns = [CALL.c[name] for name in (*NEEDED, "run_id", "column_no", "repetition", "attempt_no", "message")]
    with engine.connect() as connection:
        total = int(connection.execute(select(func.count()).select_from(CALL).where(*where)).scalar_one())
        listed = select(*columns).where(*where).order_by(CALL.c.created_at.desc(), CALL.c.id).limit(limit)
        return [dict(row) for row in connection.execute(listed.offset(offset)).mappings()], total


def span_of_calls(engine: Engine) -> tuple[datetime, datetime] | None:
    """When the first and the last call were made that the rollups or the calls know of; None when there is none."""
    with engine.connect() as connection:
        first, last = connection.execute(select(func.min(CALL.c.created_at), func.max(CALL.c.created_at))).one()
        rolled = connection.execute(select(func.min(ROLLUP.c.bucket)).where(ROLLUP.c.grain == "d")).scalar()
    found = [moment for moment in (first, rolled) if moment is not None]
    return (min(found), last or max(found)) if found else None


def values_of(engine: Engine, dimension: str) -> list[str]:
    """Every value of a dimension (`db.rollups.DIMENSIONS`) that any call has, for the filters."""
    if dimension not in DIMENSIONS:
        raise ValueError(f"{dimension!r} is no dimension")
    grain = "p" if dimension == "person" else "d"
    column = ROLLUP.c[dimension]
    with engine.connect() as connection:
        rolled = connection.execute(select(column).where(ROLLUP.c.grain == grain).distinct()).scalars()
        waiting = connection.execute(
            select(CALL.c[dimension]).where(CALL.c.rolled.is_(False), CALL.c.state != "running").distinct()
        ).scalars()
        return sorted({str(value) for value in (*rolled, *waiting) if value})


def now() -> datetime:
    """This moment in UTC."""
    return datetime.now(UTC)
