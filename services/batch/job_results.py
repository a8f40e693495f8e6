"""What a service answered, recorded: each line once, and what belongs to no line counted and said."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

from sqlmodel import Session

from db import batches
from db.writer import Writer
from services.batch.job_rows import call_row, line_row, on_instances
from services.batch.providers.base import RouteTrouble
from services.batch.types import LineResult, no_of
from services.types import Deployment

Row = dict[str, Any]
AT_ONCE = 200  # results in one transaction
STRANGE = "answers with ids that belong to no line, which were left aside"
TWICE = "further answers to lines that were answered already; the first was kept"
UNREADABLE = "results that could not be read"
_ONE = {
    STRANGE: "answer with an id that belongs to no line, which was left aside",
    TWICE: "further answer to a line that was answered already; the first was kept",
    UNREADABLE: "result that could not be read",
}


def record(
    writer: Writer, batch: Row, job: Row, deployment: Deployment, results: Callable[[], Iterable[LineResult]]
) -> Counter[str]:  # fmt: skip
    """Record every result; returns what belongs to no line (words → n). Blocks: call it in a thread.

    Results that come again because a reading before this one was broken off change nothing, and are not counted.
    What ``results`` raises (`RouteTrouble`) is raised again once all that came before it is recorded. ``results`` gives
    the same ones whenever it is called: those of a job on instances are read twice, because what the instances cost is
    shared by the lines that came back, and how many those are is known only at the end.
    """
    among = _coming_back(results(), job) if on_instances(job) else ()
    coming = iter(results())
    strays: Counter[str] = Counter()
    seen: set[int] = set()
    trouble: RouteTrouble | None = None
    more = True
    while more:
        n, rows = 0, []
        try:
            for result in islice(coming, AT_ONCE):
                n += 1
                no = _line_of(result, job, seen, strays)
                if no is not None:
                    rows.append((no, call_row(batch, job, deployment, no, result, among), line_row(result)))
        except RouteTrouble as error:
            trouble = error
        if rows:
            writer.submit(partial(_keep, batch["id"], job["no"], rows)).result()
        more = n == AT_ONCE and trouble is None
    if trouble is not None:
        raise trouble
    return strays


def _coming_back(results: Iterable[LineResult], job: Row) -> Sequence[int]:
    """The numbers of the lines that something comes back for, in order; where not all of it can be read now, of all
    lines, so that their shares are never more than the whole."""
    seen: set[int] = set()
    strays: Counter[str] = Counter()
    try:
        for result in results:
            _line_of(result, job, seen, strays)
    except RouteTrouble:
        return range(job["first_no"], job["last_no"] + 1)
    return array("q", sorted(seen))


def _line_of(result: LineResult, job: Row, seen: set[int], strays: Counter[str]) -> int | None:
    """The line that a result is for, when it is the first for a line of this job."""
    no = no_of(result.wire_id)
    if not result.wire_id:
        strays[UNREADABLE] += 1
    elif no is None or not job["first_no"] <= no <= job["last_no"]:
        strays[STRANGE] += 1
    elif no in seen:
        strays[TWICE] += 1
    else:
        seen.add(no)
        return no
    return None


def _keep(batch_id: str, job_no: int, rows: list[tuple[int, Row, Row]], session: Session) -> None:
    for no, call, line in rows:
        batches.keep_result(session=session, batch_id=batch_id, job_no=job_no, no=no, call=call, line=line)


def nothing_came(said: str | None) -> str:
    """Why a line has no answer that its job, which is over, did not tell of. ``said``: how the job ended."""
    return f"{said or 'The service has ended the job.'} Nothing came back for this line: send it again."


def counted(what: str, n: int) -> str:
    """What belongs to no line, with its number: "1 result that could not be read"."""
    return f"{n:,} {_ONE.get(what, what) if n == 1 else what}"
