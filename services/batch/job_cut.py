"""A batch cut into jobs that its service takes: so many records, so many bytes of the file as it will be uploaded."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

from services.batch.providers.base import Route, RouteTrouble
from services.batch.split import split
from services.batch.types import Line, RouteLimits, ask_of_json
from services.runs.spec import new_id
from services.security.keys import scrub
from services.types import Deployment

Row = dict[str, Any]


def cut(
    batch_id: str, rows: Iterable[Row], route: Route, deployment: Deployment
) -> tuple[list[Row], list[tuple[int, str]]]:
    """The jobs as rows of their table, and the lines that the service cannot take, each with why.

    Raises ValueError in words where no division keeps to the limits (too few records, most often).
    """
    limits = _limits(route, deployment)
    numbers, sizes = array("q"), array("q")  # 16 bytes for each line
    refused: list[tuple[int, str]] = []
    for row in rows:
        try:
            n = len(route.body(deployment, Line(row["no"], ask_of_json(row["request"]))))
        except ValueError as error:
            refused.append((row["no"], scrub(str(error))))
            continue
        most = min((one for one in (limits.max_record_bytes, limits.max_bytes) if one is not None), default=n)
        if n > most:
            said = f"This line is {n:,} bytes long and {route.title} takes {most:,}: shorten it."
            refused.append((row["no"], said))
            continue
        numbers.append(row["no"])
        sizes.append(n)
    parts = split(len(sizes), sizes, limits)
    jobs = [
        {
            "batch_id": batch_id, "no": no, "token": f"lab-{new_id()}", "first_no": numbers[part.first_no - 1],
            "last_no": numbers[part.last_no - 1], "n_lines": part.n, "state": "waiting",
        }
        for no, part in enumerate(parts, 1)
    ]  # fmt: skip
    return jobs, refused


def _limits(route: Route, deployment: Deployment) -> RouteLimits:
    try:
        return route.limits(deployment, ask=True)
    except RouteTrouble:
        return route.limits(deployment)
