"""What a line has cost with all its attempts: a line's row has the figures of its last call, and money was spent on
those before it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, select

from db.batch_tables import Batch
from db.models import Call

Row = dict[str, Any]
BATCH: Table = Batch.__table__  # type: ignore[attr-defined]  # SQLModel adds __table__ at run time
CALL: Table = Call.__table__  # type: ignore[attr-defined]
MONEY = ("cost_nanousd", "cost_high_nanousd", "plain_nanousd")
_FIGURES = ("id", "repetition", "retry_of", "cost_state", *MONEY)
# The first of these that one of the attempts is in is what their sum is.
_STATES = ("lower_bound", "estimated", "by_the_hour", "exact", "free", "not_billed")


def with_attempts(connection: Connection, batch_id: str, rows: list[Row]) -> list[Row]:
    """The same lines (`db.batch_queries.lines`), where ``cost_nanousd``, its bounds, its state and the plain cost are
    of all attempts together, and ``earlier_nanousd`` is what those before the last one cost (None: nothing is known of
    it, or there were none). Their sum over a batch is that of its calls in the history."""
    again = {row["no"]: row for row in rows if (row["attempts"] or 0) > 1 and row["call_id"] is not None}
    before = _before(connection, batch_id, again) if again else {}
    for row in rows:
        row["earlier_nanousd"] = None
        if earlier := before.get(row["no"]):
            _add(row, earlier)
    return rows


def _before(connection: Connection, batch_id: str, lines: Mapping[int, Row]) -> dict[int, list[Row]]:
    """The calls of each line before its last one."""
    found: dict[int, list[Row]] = {no: [] for no in lines}
    # From call to call by their keys: a batch can have a million calls, and there is no index on the line in a run.
    at = {row["retry_of"]: no for no, row in lines.items() if row["retry_of"] is not None}
    seen: set[str] = {row["call_id"] for row in lines.values()}
    while at:
        asked = select(*(CALL.c[name] for name in _FIGURES)).where(CALL.c.id.in_(list(at)))
        following: dict[str, int] = {}
        for call in connection.execute(asked).mappings():
            no = at[call["id"]]
            found[no].append(dict(call))
            seen.add(call["id"])
            if call["retry_of"] is not None and call["retry_of"] not in seen:
                following[call["retry_of"]] = no
        at = following
    broken = [no for no, calls in found.items() if len(calls) + 1 != lines[no]["attempts"]]
    if broken:  # a worker did not know of an attempt that another one had made meanwhile
        found |= _by_run(connection, batch_id, broken, {row["call_id"] for row in lines.values()})
    return found


def _by_run(connection: Connection, batch_id: str, numbers: Sequence[int], last: set[str]) -> dict[int, list[Row]]:
    run = select(BATCH.c.run_id).where(BATCH.c.id == batch_id).scalar_subquery()
    asked = select(*(CALL.c[name] for name in _FIGURES)).where(
        CALL.c.run_id == run, CALL.c.repetition.in_(list(numbers))
    )
    found: dict[int, list[Row]] = {no: [] for no in numbers}
    for call in connection.execute(asked).mappings():
        if call["id"] not in last:
            found[call["repetition"]].append(dict(call))
    return found


def _add(row: Row, earlier: Sequence[Row]) -> None:
    every = [*earlier, {name: row[name] for name in ("cost_state", *MONEY)}]
    known = [one for one in every if one["cost_nanousd"] is not None]
    row["earlier_nanousd"] = _sum(earlier)
    total = _sum(every)
    if total is None or (row["cost_nanousd"] is None and not total):
        return  # nothing that anybody knows was spent: what is said of the last one holds
    states = {one["cost_state"] for one in known}
    whole = len(known) == len(every)
    row["cost_state"] = next((one for one in _STATES if one in states), row["cost_state"]) if whole else "lower_bound"
    row["cost_nanousd"] = total
    for name in ("cost_high_nanousd", "plain_nanousd"):
        values = [one[name] for one in known]
        row[name] = sum(values) if whole and None not in values else None


def _sum(calls: Sequence[Row]) -> int | None:
    known = [one["cost_nanousd"] for one in calls if one["cost_nanousd"] is not None]
    return sum(known) if known else None
