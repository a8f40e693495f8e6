"""The calls that stand behind a mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import Engine

from db import history
from db.behind import Behind, calls_behind
from db.history import Wanted
from db.retention import calls_kept_since
from services.dashboard.data import NOBODY, Data
from services.dashboard.keys import teams_of
from services.dashboard.window import HOUR


def behind(
    data: Data, *, deployment_id: str | None = None, bucket: datetime | None = None, day: datetime | None = None,
    model: str | None = None, kind: str | None = None, person: str | None = None, team: str | None = None,
    tag: str | None = None, states: Sequence[str] = (), limit: int = 50, offset: int = 0,
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """The calls of a mark, newest first, and how many there are: those of the filter, narrowed by what the mark says.

    ``bucket`` and ``day`` are the labels that the panels give. Calls that were forgotten are only in the rollups.
    """
    wanted = wanted_behind(
        data, deployment_id=deployment_id, bucket=bucket, day=day, model=model, kind=kind, person=person, team=team,
        tag=tag,
    )  # fmt: skip
    return calls_behind(data.engine, wanted, Behind(states), limit=limit, offset=offset)


def wanted_behind(
    data: Data, *, deployment_id: str | None = None, bucket: datetime | None = None, day: datetime | None = None,
    model: str | None = None, kind: str | None = None, person: str | None = None, team: str | None = None,
    tag: str | None = None,
) -> Wanted:  # fmt: skip
    """The filter of ``data``, narrowed by what a mark says (`behind`)."""
    wanted = data.wanted
    for moment, places in ((bucket, data.buckets), (day, data.days)):
        if moment is None:
            continue
        at = np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")
        number = int(places.number(np.array([at]))[0])
        start, end = (_aware(edge) for edge in places.edges[number : number + 2])
        wanted = replace(wanted, start=max(wanted.start, start), end=min(wanted.end, end))
    for name, value in (
        ("deployments", deployment_id), ("models", model), ("kinds", kind), ("persons", person), ("tags", tag),
    ):  # fmt: skip
        wanted = _narrowed(wanted, name, value)
    if team is not None:
        known = np.array(wanted.persons or history.values_of(data.engine, "person")["person"], dtype=object)
        members = known[teams_of(data, known) == team]
        wanted = replace(wanted, persons=tuple(members) or (NOBODY,))
    return wanted


def forgotten(engine: Engine, wanted: Wanted) -> datetime | None:
    """The day (UTC) before which calls of this stretch were forgotten; None where all that were made are kept.

    Of whom a forgotten call was and how it was tagged is not known any more, so both are left aside here.
    """
    with engine.connect() as connection:
        kept = calls_kept_since(session=connection)
    if kept is None or wanted.start >= kept:
        return None
    # Whole hours, as nothing finer is left there.
    start = wanted.start.replace(minute=0, second=0, microsecond=0)
    end = min(wanted.end.replace(minute=0, second=0, microsecond=0) + HOUR, kept)
    return kept if history.count(engine, replace(wanted, start=start, end=end, persons=(), tags=())) else None


def _narrowed(wanted: Wanted, name: str, value: str | None) -> Wanted:
    if value is None:
        return wanted
    known = getattr(wanted, name)
    narrowed: dict[str, Any] = {name: (value,) if not known or value in known else (NOBODY,)}
    return replace(wanted, **narrowed)


def _aware(edge: np.datetime64) -> datetime:
    found: datetime = edge.astype("datetime64[us]").item()
    return found.replace(tzinfo=UTC)
