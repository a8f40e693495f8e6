"""`lab batch list`, `show`, `results` and what is asked of a batch: read from the database, changed by the engine."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, get_args

from rich.table import Table
from sqlalchemy import Engine

from app.cli import batch_text, terminal
from app.cli.terminal import console
from db import batch_called, batch_spent
from db import batches as store
from db.engine import database_url, reader
from db.migrate import upgrade
from services import formatting, paths
from services.batch import reconcile, stats, text, working_time
from services.batch import status as batch_status
from services.batch.export import ENDINGS, Kind, write
from services.client import EngineError
from services.engine.spawn import engine_for
from services.pricing.cost import money
from services.runs.record import usd

Row = Mapping[str, Any]
NANO = 1_000_000_000
MONEY = ("cost_", "plain_")  # what the names of nano-dollars in an estimate begin with


def database(data: Path) -> Engine:
    """The database of a data directory, as this version needs it, for reading."""
    paths.make_data(data)
    url = database_url(data)
    upgrade(url, data)
    return reader(url)


def meant(read: Engine, given: str, data: Path) -> dict[str, Any]:
    """The batch that is meant by an id, by its beginning or by a name. Raises ValueError in words for none and for
    several."""
    rows = batch_called.called(read, given)
    if not rows:
        raise ValueError(f"There is no batch “{formatting.printable(given)}” in {data}; `lab batch list` lists them.")
    if len(rows) > 1:
        ids = ", ".join(f"{row['id']} of {row['created_at']:%Y-%m-%d %H:%M} UTC" for row in rows)
        raise ValueError(f"“{formatting.printable(given)}” may be each of these batches, so give its id: {ids}.")
    return rows[0]


def of_batch(read: Engine, row: Row, *, whole: bool = True) -> dict[str, Any]:
    """A batch as one JSON object: its row, its lines by state, and its money in dollars. ``n_lines`` is null while its
    lines are being recorded. ``whole``: also how long it stood still, for which its calls are read."""
    counts, spent = store.counts(read, row["id"]), store.spent(read, row["id"])
    left_out, recording = ("deployment", "budget_nanousd"), batch_status.recording(row)
    kept = {name: value for name, value in row.items() if name not in left_out}
    return kept | {
        "name_of_deployment": (row.get("deployment") or {}).get("name"), "budget_usd": usd(row.get("budget_nanousd")),
        "estimate": in_dollars(row.get("estimate")), "recording": recording,
        "n_lines": None if recording else row["n_lines"], "counts": counts, "done": text.done(counts),
        "spent_usd": usd(spent), "spent_is_lower_bound": spent is not None and batch_spent.bounded(read, row["id"]),
        "over": text.over(row), "stands": batch_status.stand(row, counts).words,
        "seconds": stats.duration(dict(row)),
        **({"paused_or_waiting_seconds": working_time.worked(read, row).still} if whole else {}),
        "jobs": store.jobs(read, row["id"]),
    }  # fmt: skip


def in_dollars(estimate: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """An estimate whose money is US dollars as decimal strings, as everywhere in what a script reads (`record.usd`)."""
    if estimate is None:
        return None
    return {
        **{name: value for name, value in estimate.items() if not name.startswith(MONEY)},
        **{f"{name}_usd": usd(value) for name, value in estimate.items() if name.startswith(MONEY)},
    }


def list_batches(data: Path, *, limit: int, as_json: bool) -> int:
    """Print the newest batches."""
    read = database(data)
    rows = store.batches(read, limit)
    if as_json:
        for row in rows:
            print(json.dumps(of_batch(read, row, whole=False), default=str))
        return 0
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("when (UTC)", "id", "name", "deployment", "by", "lines", "state", "person"):
        table.add_column(title, overflow="ellipsis", no_wrap=True)
    for row in rows:
        counts = store.counts(read, row["id"]) if text.over(row) else {}
        table.add_row(*map(formatting.printable, (
            row["created_at"].strftime("%Y-%m-%d %H:%M"), row["id"], str(row["name"]),
            str((row.get("deployment") or {}).get("name") or row["deployment_id"]), text.route(row["route"]),
            "–" if batch_status.recording(row) else f"{row['n_lines']:,}", batch_status.stand(row, counts).words,
            row["person"],
        )))  # fmt: skip
    out = console()
    out.print(table)
    out.print(f"{len(rows)} {'batch' if len(rows) == 1 else 'batches'} in {data}")
    return 0


def show_batch(data: Path, given: str, *, as_json: bool) -> int:
    """Print how a batch stands; the exit code is 2 when there is none."""
    read = database(data)
    try:
        row = meant(read, given, data)
    except ValueError as error:
        print(str(error), file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(of_batch(read, row), default=str))
        return 0
    for line in in_words(read, row):
        print(batch_text.shown(line))
    return 0


def in_words(read: Engine, row: Row) -> Iterator[str]:
    """How a batch stands, in lines."""
    name = (row.get("deployment") or {}).get("name") or row["deployment_id"]
    yield f"{row['name']} · {row['file_name']} · {name} by {text.route(row['route'])} · {row['person']}"
    counts, spent = store.counts(read, row["id"]), store.spent(read, row["id"])
    told = batch_status.said(row)
    yield f"{batch_status.stand(row, counts).words}{f' · {told}' if told else ''}"
    if row["n_lines"]:
        many = f"{row['n_lines']:,} {'line' if row['n_lines'] == 1 else 'lines'}"
        yield f"{text.done(counts):,} of {many} · {text.by_state(counts) or 'none yet'}"
    budget = row.get("budget_nanousd")
    free = not spent and batch_status.costs_nothing(row)
    mark = "≥" if spent is not None and batch_spent.bounded(read, row["id"]) else ""
    cost = money(spent, mark) if spent is not None else "not known"
    yield "free" if free else f"spent {cost}{f' of {money(budget)}' if budget else ''}"
    jobs = store.jobs(read, row["id"])
    for job in jobs:
        state, at = job.get("vendor_state") or job["state"], job["vendor_id"] or "–"
        yield f"job {job['no']}: {job['n_lines']:,} {'line' if job['n_lines'] == 1 else 'lines'} · {state} · {at}"
    if text.over(row) and row["n_lines"]:
        yield from _at_the_end(read, row, str(name))
        if differing := batch_status.differing(row, jobs, counts):
            yield differing
    if step := batch_text.next_step(row, counts):
        yield step


def _at_the_end(read: Engine, row: Row, name: str) -> Iterator[str]:
    took = working_time.worked(read, row)
    if took.working is not None:
        still = f", and {text.span(took.still)} paused or waiting" if took.still else ""
        yield f"took {text.span(took.working)}{still}"
    account = reconcile.account(store.each_line(read, row["id"]), name=name, n_recorded=row["n_lines"],
                                n_left_out=row.get("n_left_out") or 0)  # fmt: skip
    yield account.sentence
    for group in batch_status.together(account.groups):
        yield f"  {group.n:,} {group.state}: {group.text} ({reconcile.first_lines(group)})"


def write_results(
    data: Path, given: str, to: Path | None, kind: Kind | None, *, escape: bool, as_json: bool
) -> int:  # fmt: skip
    """Write or print the results; the exit code is 0 when every line succeeded, 1 when one did not, 2 for none."""
    read = database(data)
    kind = kind or by_ending(to) or ("jsonl" if as_json else "csv")
    try:
        row = meant(read, given, data)
        if to is None and kind in ("parquet", "excel"):
            raise ValueError(f"{kind.capitalize()} is not printed: name a file with --to.")
        lines, columns = store.each_line(read, row["id"]), row.get("columns") or ()
        with _opened(to) as target:
            written = write(lines, columns, kind, target, escape=escape, n=row["n_lines"])
    except ValueError as error:
        print(str(error), file=sys.stderr)
        return 2
    for note in written.notes:
        print(formatting.printable(note), file=sys.stderr)
    counts = store.counts(read, row["id"])
    if to is not None:
        many = f"{written.n:,} {'line is' if written.n == 1 else 'lines are'}"
        print(f"{many} in {to} ({text.by_state(counts)}).", file=sys.stderr)
    if not text.over(row):
        print("The batch is not over: lines without an answer are in it too.", file=sys.stderr)
    return 0 if counts.get("succeeded", 0) == row["n_lines"] else 1


@contextmanager
def _opened(to: Path | None) -> Iterator[BinaryIO]:
    """The file, or standard output. Raises ValueError in words where it takes nothing (any more)."""
    try:
        if to is None:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        else:
            with to.open("wb") as target:
                status = os.fstat(target.fileno())
                if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                    os.fchmod(target.fileno(), 0o600)  # a file that was there may have been open to others
                yield target
    except BrokenPipeError:
        raise  # nobody reads any more, which is no trouble
    except OSError as error:
        if to is None:
            terminal.unheard(error)
        what = f"{to} cannot be written" if to else "The results cannot be printed"
        raise ValueError(f"{what} ({error.strerror}): they are kept here, name another file with --to.") from None


def by_ending(to: Path | None) -> Kind | None:
    """The kind that a file's ending asks for."""
    ending = to.suffix.lstrip(".").lower() if to is not None else ""
    return next((kind for kind in get_args(Kind) if ending == ENDINGS[kind]), None)


def act(
    action: str, given: str, *, as_json: bool, data: Path, file: Path, person: str, budget: float | None = None
) -> int:  # fmt: skip
    """Pause, resume, cancel or send again what has no answer; 2 with the engine's sentence when it refuses."""
    read = database(data)
    try:
        batch_id = str(meant(read, given, data)["id"])
        with engine_for(data, file, person=person, role="admin") as engine:
            more = {"budget_nanousd": round(budget * NANO)} if budget else {}
            made = getattr(engine.batches, action)(batch_id, **more)
        row = meant(read, str(made or batch_id), data)
    except (ValueError, EngineError) as error:
        print(str(error), file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(of_batch(read, row), default=str))
    elif made:
        print(f"Its lines without an answer are batch {made}.")
    else:
        print(formatting.printable(f"{row['name']}: {batch_status.stand(row, store.counts(read, row['id'])).words}"))
    return 0
