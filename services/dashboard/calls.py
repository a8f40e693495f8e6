"""The calls that stand behind a mark, and by what costs are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Engine

from db import history
from db.history import COLUMNS, Behind, Wanted, calls_behind, sums_by_tags
from db.run_rows import ListedCall
from db.runs import calls_kept_since
from services.dashboard.data import NOBODY, Data, rows_of
from services.dashboard.window import HOUR


def behind(
    data: Data,
    *,
    deployment_id: str | None = None,
    bucket: datetime | None = None,
    day: datetime | None = None,
    model: str | None = None,
    kind: str | None = None,
    person: str | None = None,
    team: str | None = None,
    tag: str | None = None,
    states: Sequence[str] = (),
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[ListedCall], int]:
    """The calls of a mark, newest first, and how many there are: those of the filter, narrowed by what the mark says.

    ``bucket`` and ``day`` are the labels that the panels give. Calls that were forgotten are only in the rollups.
    """
    selection = wanted_behind(
        data,
        deployment_id=deployment_id,
        bucket=bucket,
        day=day,
        model=model,
        kind=kind,
        person=person,
        team=team,
        tag=tag,
    )
    return calls_behind(data.engine, selection, Behind(states), limit=limit, offset=offset)


def wanted_behind(
    data: Data,
    *,
    deployment_id: str | None = None,
    bucket: datetime | None = None,
    day: datetime | None = None,
    model: str | None = None,
    kind: str | None = None,
    person: str | None = None,
    team: str | None = None,
    tag: str | None = None,
) -> Wanted:
    """The filter of ``data``, narrowed by what a mark says (`behind`)."""
    selection = data.wanted
    for moment, places in ((bucket, data.buckets), (day, data.days)):
        if moment is None:
            continue
        moment_us = np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")
        number = int(places.number(np.array([moment_us]))[0])
        start, end = (_aware(edge) for edge in places.edges[number : number + 2])
        selection = replace(selection, start=max(selection.start, start), end=min(selection.end, end))
    for name, value in (
        ("deployments", deployment_id),
        ("models", model),
        ("kinds", kind),
        ("persons", person),
        ("tags", tag),
    ):
        selection = _narrowed(selection, name, value)
    if team is not None:
        people = np.array(selection.persons or history.values_of(data.engine, "person")["person"], dtype=object)
        members = people[teams_of(data, people) == team]
        selection = replace(selection, persons=tuple(members) or (NOBODY,))
    return selection


def forgotten(engine: Engine, selection: Wanted) -> datetime | None:
    """The day (UTC) before which calls of this stretch were forgotten; None where all that were made are kept.

    Of whom a forgotten call was and how it was tagged is not known any more, so both are left aside here.
    """
    with engine.connect() as connection:
        kept_since = calls_kept_since(session=connection)
    if kept_since is None or selection.start >= kept_since:
        return None
    # Whole hours, as nothing finer is left there.
    start = selection.start.replace(minute=0, second=0, microsecond=0)
    end = min(selection.end.replace(minute=0, second=0, microsecond=0) + HOUR, kept_since)
    return kept_since if history.count(engine, replace(selection, start=start, end=end, persons=(), tags=())) else None


def _narrowed(selection: Wanted, name: str, value: str | None) -> Wanted:
    if value is None:
        return selection
    values = getattr(selection, name)
    narrowed: dict[str, Any] = {name: (value,) if not values or value in values else (NOBODY,)}
    return replace(selection, **narrowed)


def _aware(edge: np.datetime64) -> datetime:
    moment: datetime = edge.astype("datetime64[us]").item()
    return moment.replace(tzinfo=UTC)


BYS = ("deployment", "model", "kind", "person", "team", "tag", "day")

NO_TAG, NO_TEAM, UNKNOWN = "no tag", "no team", "not known"

Keys = NDArray[Any]


def keyed(data: Data, by: str) -> tuple[pd.DataFrame, Keys, str]:
    """Rows, the key of each, and the key of what these rows leave out of the period ("" when they are all of it).

    A call with several tags has them all in one key ("a + b"), so that nothing is counted twice; a person in several
    teams counts in the first of the file.
    """
    rows = data.period.rows
    if by == "day":
        labels = np.array([label.date().isoformat() for label in data.days.labels], dtype=object)
        return rows, labels[data.days.number(rows["at"].to_numpy())], ""
    if by == "tag":
        rows, keys = _tagged(data)
        return rows, keys, NO_TAG
    if by in ("person", "team"):
        rows, idle = _by_person(data)
        persons = rows["person"].to_numpy(object)
        return rows, persons if by == "person" else teams_of(data, persons), idle
    values = rows["deployment_id" if by == "deployment" else by].to_numpy(object)
    return rows, np.where(values == "", UNKNOWN, values), ""


def _by_person(data: Data) -> tuple[pd.DataFrame, str]:
    """The same calls with their persons: as they are where they have them, else read by UTC days."""
    if data.period.n_cells == 0 or data.wanted.persons:
        return data.period.rows, ""
    if "persons" not in data._kept:
        everyone = tuple(history.values_of(data.engine, "person")["person"])
        selection = replace(data.wanted, persons=everyone)
        # Only what `cost` adds up: each further column costs time.
        read = history.pieces(data.engine, selection, grain="d", sums=COLUMNS, dimensions=("person",))
        data._kept["persons"] = rows_of(read)
    return data._kept["persons"], UNKNOWN


def teams_of(data: Data, persons: Keys) -> Keys:
    """The team of each person, the first of the file; `NO_TEAM` for the others."""
    team_of: dict[str, str] = {}
    for team, members in data.teams.items():
        for member in members:
            team_of.setdefault(member.casefold(), team)
    return np.array([team_of.get(person.casefold(), NO_TEAM) for person in persons], dtype=object)


def _tagged(data: Data) -> tuple[pd.DataFrame, Keys]:
    """What calls whose run has a tag cost: a line for each set of tags, with the sums of money and ``n`` alone."""
    if "tags" not in data._kept:
        tags, rows = sums_by_tags(data.engine, data.wanted)
        data._kept["tags"] = (rows, np.array([" + ".join(tag_set) or NO_TAG for tag_set in tags], dtype=object))
    return data._kept["tags"]  # type: ignore[no-any-return]  # what was put there a line above
