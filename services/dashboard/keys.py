"""By what costs are told apart, and how the persons and tags of calls are had: rollups do not keep them by the hour."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from db import history
from db.history_tags import COLUMNS, sums_by_tags
from services.dashboard.data import Data, rows_of

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
        rows, rest = _by_person(data)
        persons = rows["person"].to_numpy(object)
        return rows, persons if by == "person" else teams_of(data, persons), rest
    values = rows["deployment_id" if by == "deployment" else by].to_numpy(object)
    return rows, np.where(values == "", UNKNOWN, values), ""


def _by_person(data: Data) -> tuple[pd.DataFrame, str]:
    """The same calls with their persons: as they are where they have them, else read by UTC days."""
    if data.period.n_cells == 0 or data.wanted.persons:
        return data.period.rows, ""
    if "persons" not in data._kept:
        everyone = tuple(history.values_of(data.engine, "person")["person"])
        wanted = replace(data.wanted, persons=everyone)
        # Only what `cost` adds up: each further column costs time.
        read = history.pieces(data.engine, wanted, grain="d", sums=COLUMNS, dimensions=("person",))
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
        data._kept["tags"] = (rows, np.array([" + ".join(one) or NO_TAG for one in tags], dtype=object))
    return data._kept["tags"]  # type: ignore[no-any-return]  # what was put there a line above
