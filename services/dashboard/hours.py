"""What was paid by the hour in a window, used or idle, by deployment and day."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from services.dashboard.filters import Filter
from services.dashboard.window import Buckets
from services.pricing import uptime
from services.types import Deployment

COLUMNS = ("deployment_id", "day", "on_s", "busy_s", "used_nanousd", "idle_nanousd")
# A filter by one of these leaves out some of a deployment's calls, and with them its idle time.
NARROWERS = ("persons", "teams", "tags", "sources", "caches")


def hours_of(
    engine: Engine, chosen: Filter, known: Mapping[str, Deployment], rows: pd.DataFrame, days: Buckets
) -> pd.DataFrame:
    """deployment_id, day (number of the bucket in ``days``), on_s, busy_s, used_nanousd, idle_nanousd.

    Used is the share of the time of being on in which calls were under way, as the sum of their times but at most all
    of it: calls at once count once as soon as they fill the day, and below that as if they had followed each other.
    Used and idle add up to what the time of being on cost. A filter that leaves out some of a deployment's calls (by
    person, tag, source …) leaves idle time out as well: it is nobody's.
    """
    start, end = (edge.astype("datetime64[us]").item().replace(tzinfo=UTC) for edge in days.edges[[0, -1]])
    on = uptime.accrued(engine, start, end)
    on = on[[_matches(chosen, known.get(one), one) for one in on["deployment_id"]]]
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


def rate_now(engine: Engine, chosen: Filter, known: Mapping[str, Deployment], at: datetime) -> int | None:
    """Nano-dollars an hour of the hour-priced deployments of a filter that are on at a moment; None where the filter
    leaves idle time out (`is_narrow`)."""
    if is_narrow(chosen):
        return None
    on = uptime.rates(engine, at)
    return sum(rate for one, rate in on.items() if _matches(chosen, known.get(one), one))


def _matches(chosen: Filter, known: Deployment | None, deployment_id: str) -> bool:
    kind, model = (known.kind, known.model) if known is not None else ("", "")
    return all(
        not wanted or value in wanted
        for wanted, value in ((chosen.deployments, deployment_id), (chosen.kinds, kind), (chosen.models, model))
    )


def _by_day(line: Any, days: Buckets, edges: list[datetime]) -> list[tuple[str, int, float, int]]:
    """A stretch of being on, cut at the days' ``edges``; the parts cost together exactly what it costs."""
    begin, end = line.on_at.to_pydatetime(), line.off_at.to_pydatetime()
    cuts: list[datetime] = [begin, *edges[bisect_right(edges, begin) : bisect_left(edges, end)], end]
    first = np.array([cut.replace(tzinfo=None) for cut in cuts[:-1]], dtype="datetime64[us]")
    so_far = [uptime.nanousd(line.usd_per_hour, begin, cut) for cut in cuts]
    return [
        (line.deployment_id, int(day), (b - a).total_seconds(), upto - before)
        for day, a, b, before, upto in zip(
            days.number(first), cuts[:-1], cuts[1:], so_far[:-1], so_far[1:], strict=True
        )
    ]
