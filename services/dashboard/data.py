"""One reading of the database for all panels of a filter, what was paid by the hour, and how the figures were
computed."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Engine

from db import history, run_queries
from db.history import EXACT_UP_TO, Pieces, Wanted
from db.rollups import DIMENSIONS, INPUT, SKETCHES, SUMS
from db.sketch import RELATIVE_ERROR
from services.dashboard import window
from services.dashboard.filters import Filter
from services.dashboard.quantiles import Measured, measured
from services.dashboard.window import DAY, HOUR, MINUTE, WEEK, Buckets, Window
from services.pricing import hourly as pricing_hourly
from services.pricing.overview import together
from services.types import Deployment

if TYPE_CHECKING:
    pass


METRICS = tuple(SKETCHES)  # ttft, ttfat, ttlt, tpot in ms; decode, e2e in tokens per second

LATENCIES = METRICS[:4]

LEAN = ("n", "cost_nanousd", "busy_ms")


# No panel shows the counts of input, so their columns are not read of thousands of cells.
DRAWN = tuple(name for name in SUMS if name not in (*INPUT, "n_estimated"))


IN_KPIS = ("ttft", "ttlt", "decode")

NOBODY = "\N{EM DASH} nobody"  # matches no one: an empty team must not show everybody


# A person's calls are read one by one where hours are asked for; above so many their days are read.
ONE_BY_ONE = 50_000


Teams = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Period:
    """Every ended call of a stretch once. ``rows``: rollup cells, then single calls, with ``at`` (UTC, no zone), the
    dimensions and the sums (`DRAWN`) of `db.rollups`. ``hours``: what was paid by the hour (`hours.hours_of`).
    ``quantiles``: those of all rows that were asked for, by figure and share: how many values, and which."""

    rows: pd.DataFrame
    blobs: Mapping[str, Sequence[bytes | None]]
    values: Mapping[str, NDArray[np.float64]]
    hours: pd.DataFrame
    exact: bool
    _kept: dict[str, Measured] = field(default_factory=dict, repr=False)
    quantiles: dict[tuple[str, float], tuple[int, float]] = field(default_factory=dict, repr=False)

    def measured(self, metric: str) -> Measured:
        """The values of one of `METRICS`. Raises KeyError for one that was not asked for."""
        if metric not in self._kept:
            self._kept[metric] = measured(self.blobs[metric], self.values[metric])
        return self._kept[metric]

    @cached_property
    def totals(self) -> dict[str, int]:
        """The sums over all rows."""
        return {name: int(self.rows[name].sum()) for name in SUMS if name in self.rows}

    @property
    def n_cells(self) -> int:
        """How many of the rows are cells."""
        return len(next(iter(self.blobs.values()))) if self.blobs else 0


@dataclass(frozen=True)
class Data:
    """All that the panels of one filter are made from. ``before``: the period before, None where there is none.

    ``provenance`` is how the figures were computed, ``notes`` are sentences on what is not in them. ``deployments``
    holds every one ever declared that is in the history or in the filter, by id. ``wanted`` is the filter for
    `db.history`.
    """

    engine: Engine
    filter: Filter
    window: Window
    now: datetime
    wanted: Wanted
    period: Period
    before: Period | None
    buckets: Buckets
    days: Buckets
    deployments: Mapping[str, Deployment]
    teams: Teams
    metrics: tuple[str, ...]
    said: str
    notes: tuple[str, ...]
    _kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def n(self) -> int:
        """How many calls there are."""
        return self.period.totals["n"]

    @cached_property
    def ids(self) -> list[str]:
        """The deployments that were called in the period or paid by the hour, by colour slot."""
        ids = {*self.period.rows["deployment_id"].unique(), *self.period.hours["deployment_id"].unique()}
        return sorted(ids, key=lambda deployment_id: (self.slot(deployment_id), deployment_id))

    def having(self, metric: str) -> Data:
        """The same with a figure of `METRICS`: read once more where it was not read yet."""
        if metric in self.metrics:
            return self
        if metric not in METRICS:
            raise ValueError(f"{metric!r} is no figure; it can be {', '.join(METRICS)}")
        if f"having {metric}" not in self._kept:
            again = load(self.engine, self.filter, self.now, teams=self.teams, metrics=(metric,))
            self._kept[f"having {metric}"] = again
        data: Data = self._kept[f"having {metric}"]
        return data

    def slot(self, deployment_id: str) -> int:
        """The colour slot of a deployment; a large number for one that is declared nowhere."""
        deployment = self.deployments.get(deployment_id)
        return deployment.color_slot if deployment is not None else 10**6

    def name(self, deployment_id: str) -> str:
        """A deployment's name; its id where it is declared nowhere."""
        deployment = self.deployments.get(deployment_id)
        return deployment.name if deployment is not None else deployment_id

    @cached_property
    def deployment_codes(self) -> NDArray[np.int64]:
        """For each row the place of its deployment in `ids`."""
        codes = pd.Index(self.ids).get_indexer(self.period.rows["deployment_id"])
        return np.asarray(codes, dtype=np.int64)

    @cached_property
    def bucket_codes(self) -> NDArray[np.int64]:
        """For each row the number of its bucket."""
        return self.buckets.number(self.period.rows["at"].to_numpy())


def load(
    engine: Engine,
    chosen: Filter,
    now: datetime,
    *,
    teams: Teams | None = None,
    metrics: Sequence[str] = IN_KPIS,
    lean: bool = False,
) -> Data:
    """Read what the panels of a filter need, as of ``now`` (aware). ``metrics``: those that a panel will ask for; the
    KPIs' are read anyway, others when they are asked for (`Data.having`). ``teams``: of `deployments.Config`.

    ``lean``: only what `cost.pace` is made from (`LEAN`), in a fifth of the time; no figure, no period before.
    """
    metrics_read = () if lean else tuple(name for name in METRICS if name in metrics or name in IN_KPIS)
    sums, dimensions = (LEAN, ("deployment_id",)) if lean else (DRAWN, DIMENSIONS)
    span = history.span_of_calls(engine) if chosen.range == "all" else None
    deployments = {deployment.id: deployment for deployment in together(None, run_queries.deployment_rows(engine))}
    view = window.resolve(chosen, now, span[0] if span else None)
    selection = wanted_of(engine, chosen, view, teams or {})
    long = selection.persons and view.grain == "h" and view.end - view.start >= 2 * DAY
    if long and history.count(engine, selection) > ONE_BY_ONE:
        view = replace(view, grain="d", step=max(view.step, DAY))
    pieces = history.pieces(
        engine, selection, grain=view.grain, sketches=metrics_read, sums=sums, dimensions=dimensions
    )
    by_cells = len(pieces.cells) > 0
    drawn = replace(view, step=max(view.step, HOUR)) if by_cells else view
    days = window.buckets(drawn, step=DAY, whole_hours=by_cells)
    period = _period(engine, chosen, deployments, pieces, metrics_read, days)
    previous = None
    if view.previous is not None and not lean:
        earlier = replace(view, start=view.previous[0], end=view.previous[1], running=False)
        past = replace(selection, start=earlier.start, end=earlier.end)
        read = history.pieces(engine, past, grain="d", sketches=IN_KPIS, sums=sums, dimensions=dimensions)
        previous = _period(engine, chosen, deployments, read, IN_KPIS, window.buckets(earlier, step=DAY))
    buckets = window.buckets(drawn, whole_hours=by_cells)
    how = "" if lean else how_computed(pieces, period.totals, view, drawn, buckets)
    notes = () if lean else notes_on(period, deployments)
    return Data(
        engine,
        chosen,
        drawn,
        now,
        selection,
        period,
        previous,
        buckets,
        days,
        deployments,
        teams or {},
        metrics_read,
        how,
        notes,
    )


def wanted_of(engine: Engine, chosen: Filter, view: Window, teams: Teams) -> Wanted:
    """A filter in the terms of `db.history`. Persons and teams both narrow: who is in both lists is looked for."""
    persons = chosen.persons
    if chosen.teams:
        members = {person.casefold() for name in chosen.teams for person in teams.get(name, ())}
        names = {*history.values_of(engine, "person")["person"], *members}
        inside = sorted(
            person for person in names if person.casefold() in members and (not persons or person in persons)
        )
        persons = tuple(inside) or (NOBODY,)
    return Wanted(
        view.start,
        view.end,
        deployments=chosen.deployments,
        kinds=chosen.kinds,
        models=chosen.models,
        persons=persons,
        sources=chosen.sources,
        tags=chosen.tags,
        caches=tuple("" if cache == "unknown" else cache for cache in chosen.caches),
    )


def _period(
    engine: Engine,
    chosen: Filter,
    deployments: Mapping[str, Deployment],
    pieces: Pieces,
    metrics: Sequence[str],
    days: Buckets,
) -> Period:
    rows = rows_of(pieces)
    blobs = {name: pieces.cells[name].tolist() for name in metrics}
    values = {name: pieces.calls[name].to_numpy(dtype=float) for name in metrics}
    return Period(rows, blobs, values, hours_of(engine, chosen, deployments, rows, days), pieces.exact)


def rows_of(pieces: Pieces) -> pd.DataFrame:
    """Cells and calls below each other, with ``at``: a cell's bucket, a call's moment."""
    columns: dict[str, Any] = {"at": moments_of(pieces)}
    for name in (name for name in DIMENSIONS if name in pieces.cells):
        values = np.concatenate([pieces.cells[name].to_numpy(object), pieces.calls[name].to_numpy(object)])
        columns[name] = pd.Series(values, dtype=object)
    for name in (name for name in SUMS if name in pieces.cells):
        parts = [pieces.cells[name].to_numpy(np.int64), pieces.calls[name].to_numpy(np.int64)]
        columns[name] = np.concatenate(parts)
    return pd.DataFrame(columns)


def moments_of(pieces: Pieces) -> NDArray[np.datetime64]:
    """When each cell begins and each call was made: UTC without a zone."""
    return np.concatenate([_naive(pieces.cells["bucket"]), _naive(pieces.calls["created_at"])])


def _naive(moments: pd.Series) -> NDArray[np.datetime64]:
    if len(moments) and isinstance(moments.iloc[0], str):  # as SQLite keeps them, in UTC
        return np.asarray(moments.to_numpy(object), dtype="datetime64[us]")
    if moments.dtype == np.int64:  # as PostgreSQL is asked for them: seconds since 1970
        return np.asarray(moments.to_numpy(), dtype="datetime64[s]").astype("datetime64[us]")
    aware = pd.DatetimeIndex(pd.to_datetime(moments, utc=True))
    return np.asarray(aware.tz_localize(None).to_numpy().astype("datetime64[us]"))


def how_computed(pieces: Pieces, totals: Mapping[str, int], window: Window, drawn: Window, buckets: Buckets) -> str:
    """Where the figures come from, how exact percentiles are, whose days are meant, and how wide a bucket is."""
    n = totals["n"]
    if len(pieces.cells) == 0:
        parts = [f"{n:,} {calls(n)}, each one read"]
        if not pieces.exact:
            parts.append("some calls of this range were forgotten and only the rollups know them")
    else:
        kind = "daily" if pieces.grain == "d" else "hourly"
        parts = [f"{n:,} {calls(n)} from {kind} rollups; percentiles within {RELATIVE_ERROR * 100:g} %"]
        if drawn.step > window.step:
            parts.append(f"more than {EXACT_UP_TO:,} calls, so a bucket is at least {width(drawn)} wide")
    parts.append(f"buckets of {width(drawn)}")
    if drawn.grain == "d":
        parts.append("days are UTC days, as above 31 days hours are not kept apart")
    elif len(pieces.cells) and _off_the_hour(drawn, buckets):
        parts.append("buckets begin on whole hours of UTC")
    return " · ".join(parts)


def stretch(view: Window) -> str:
    """The time that is shown, to the minute: "Tue 17 Nov 12:00 to now (Tue 24 Nov 16:10) · 7 d 4 h · Europe/Berlin"."""
    zone = ZoneInfo(view.zone)
    first, last = view.start.astimezone(zone), view.end.astimezone(zone)
    years = first.year != last.year
    end = f"now ({_moment(last, year=years)})" if view.running else _moment(last, year=years or not view.running)
    begin = _moment(first, year=years or not view.running)
    return f"{begin} to {end} · {_length(view.end - view.start)} · {view.zone}"


def _moment(local: datetime, *, year: bool) -> str:
    return f"{local:%a} {local.day} {local:%b}{f' {local.year}' if year else ''} {local:%H:%M}"


def _length(span: timedelta) -> str:
    """The two largest units: "7 d 4 h", "24 h", "1 h 20 min"."""
    minutes = round(span / MINUTE)
    days, hours, minutes_left = minutes // 1440, minutes % 1440 // 60, minutes % 60
    if days < 2:
        days, hours = 0, minutes // 60
    parts = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes_left, "min")) if n]
    return " ".join(parts[:2]) or "under 1 min"


def _off_the_hour(drawn: Window, buckets: Buckets) -> bool:
    """Whether the zone is off by part of an hour, so that the edges were moved."""
    return any(moment.minute for moment in buckets.labels[1:2].tolist()) and drawn.step >= HOUR


def notes_on(period: Period, deployments: Mapping[str, Deployment]) -> tuple[str, ...]:
    """One sentence for each kind of call that some figure leaves out or knows only partly."""
    del deployments
    totals = period.totals
    hourly = np.isin(period.rows["deployment_id"], period.hours["deployment_id"].unique())
    unpriced = totals["n"] - totals["n_priced"]
    by_the_hour = int((period.rows["n"] - period.rows["n_priced"])[hourly].sum())
    unpriced -= by_the_hour
    notes = []
    if n := totals["n_late"]:
        notes.append(f"{n:,} {calls(n)} left out of the times, because our own stamps were late.")
    if unpriced:
        notes.append(f"{unpriced:,} {calls(unpriced)} without a known price or count: in no sum of money.")
    if n := totals["n_bounded"]:
        notes.append(f"{n:,} {calls(n)} stopped or cut: what they cost is a lower bound (≥).")
    return tuple(notes)


def calls(n: int) -> str:
    """ "call" or "calls"."""
    return "call" if n == 1 else "calls"


def width(view: Window) -> str:
    """The width of a bucket: "15 min", "6 h", "a day"."""
    step = view.step
    if step >= WEEK:
        return "a week" if step == WEEK else f"{step // WEEK} weeks"
    if step >= DAY:
        return "a day"
    return f"{step // HOUR} h" if step >= HOUR else f"{step // MINUTE} min"


COLUMNS = ("deployment_id", "day", "on_s", "busy_s", "used_nanousd", "idle_nanousd")


# A filter by one of these leaves out some of a deployment's calls, and with them its idle time.
NARROWERS = ("persons", "teams", "tags", "sources", "caches")


def hours_of(
    engine: Engine, chosen: Filter, deployments: Mapping[str, Deployment], rows: pd.DataFrame, days: Buckets
) -> pd.DataFrame:
    """deployment_id, day (number of the bucket in ``days``), on_s, busy_s, used_nanousd, idle_nanousd.

    Used is the share of the time of being on in which calls were under way, as the sum of their times but at most all
    of it: calls at once count once as soon as they fill the day, and below that as if they had followed each other.
    Used and idle add up to what the time of being on cost. A filter that leaves out some of a deployment's calls (by
    person, tag, source …) leaves idle time out as well: it is nobody's.
    """
    start, end = (edge.astype("datetime64[us]").item().replace(tzinfo=UTC) for edge in days.edges[[0, -1]])
    on = pricing_hourly.accrued(engine, start, end)
    on = on[[_matches(chosen, deployments.get(deployment_id), deployment_id) for deployment_id in on["deployment_id"]]]
    if on.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    edges = [edge.replace(tzinfo=UTC) for edge in days.edges.astype("datetime64[us]").tolist()]
    paid = pd.DataFrame(
        [piece for line in on.itertuples() for piece in _by_day(line, days, edges)],
        columns=["deployment_id", "day", "on_s", "nanousd"],
    )
    paid = paid.groupby(["deployment_id", "day"], as_index=False, sort=True).sum()
    rows = rows[rows["deployment_id"].isin(paid["deployment_id"].unique())]
    busy = rows["busy_ms"].groupby([rows["deployment_id"], days.number(rows["at"].to_numpy())]).sum()
    keys = list(zip(paid["deployment_id"], paid["day"], strict=True))
    paid["busy_s"] = np.minimum(np.array([busy.get(key, 0) for key in keys]) / 1000, paid["on_s"])
    share = paid["busy_s"] / paid["on_s"].where(paid["on_s"] > 0, 1)
    paid["used_nanousd"] = np.minimum((share * paid["nanousd"]).round().astype("int64"), paid["nanousd"])
    paid["idle_nanousd"] = paid["nanousd"] - paid["used_nanousd"]
    if is_narrow(chosen):
        paid["idle_nanousd"] = 0
    return paid[list(COLUMNS)]


def is_narrow(chosen: Filter) -> bool:
    """Whether a filter leaves out some of a deployment's calls, so that idle time is nobody's."""
    return any(getattr(chosen, name) for name in NARROWERS)


def rate_now(engine: Engine, chosen: Filter, deployments: Mapping[str, Deployment], moment: datetime) -> int | None:
    """Nano-dollars an hour of the hour-priced deployments of a filter that are on at a moment; None where the filter
    leaves idle time out (`is_narrow`)."""
    if is_narrow(chosen):
        return None
    on = pricing_hourly.rates(engine, moment)
    return sum(
        rate for deployment_id, rate in on.items() if _matches(chosen, deployments.get(deployment_id), deployment_id)
    )


def _matches(chosen: Filter, deployment: Deployment | None, deployment_id: str) -> bool:
    kind, model = (deployment.kind, deployment.model) if deployment is not None else ("", "")
    return all(
        not chosen_values or value in chosen_values
        for chosen_values, value in ((chosen.deployments, deployment_id), (chosen.kinds, kind), (chosen.models, model))
    )


def _by_day(line: Any, days: Buckets, edges: list[datetime]) -> list[tuple[str, int, float, int]]:
    """A stretch of being on, cut at the days' ``edges``; the parts cost together exactly what it costs."""
    begin, end = line.on_at.to_pydatetime(), line.off_at.to_pydatetime()
    cuts: list[datetime] = [begin, *edges[bisect_right(edges, begin) : bisect_left(edges, end)], end]
    first = np.array([cut.replace(tzinfo=None) for cut in cuts[:-1]], dtype="datetime64[us]")
    so_far = [pricing_hourly.nanousd(line.usd_per_hour, begin, cut) for cut in cuts]
    return [
        (line.deployment_id, int(day), (b - a).total_seconds(), upto - used_before)
        for day, a, b, used_before, upto in zip(
            days.number(first), cuts[:-1], cuts[1:], so_far[:-1], so_far[1:], strict=True
        )
    ]
