"""`lab batch list`, `show`, `results` and what is asked of a batch: read from the database, changed by the engine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from rich.table import Table
from sqlalchemy import Engine

from app import batch_words
from app.terminal import console
from db import batches as store
from db.engine import database_url, reader
from db.migrate import upgrade
from services import words
from services.batch import reconcile, stats
from services.batch.export import ENDINGS, Kind, write
from services.client import EngineError
from services.engine.spawn import engine_for
from services.pricing import money
from services.record import usd

Row = Mapping[str, Any]


def database(data: Path) -> Engine:
    """The database of a data directory, as this version needs it, for reading."""
    data.mkdir(parents=True, exist_ok=True)
    url = database_url(data)
    upgrade(url, data)
    return reader(url)


def no_batch(batch_id: str, data: Path) -> int:
    """Say that there is no such batch."""
    print(f"There is no batch “{words.printable(batch_id)}” in {data}; `lab batch list` lists them.", file=sys.stderr)
    return 2


def of_batch(read: Engine, row: Row) -> dict[str, Any]:
    """A batch as one JSON object: its row, its lines by state, and what it has cost in dollars."""
    counts, spent = store.counts(read, row["id"]), store.spent(read, row["id"])
    left_out = ("deployment", "budget_nanousd")
    kept = {name: value for name, value in row.items() if name not in left_out}
    return kept | {
        "name_of_deployment": (row.get("deployment") or {}).get("name"), "budget_usd": usd(row.get("budget_nanousd")),
        "counts": counts, "done": batch_words.done(counts), "spent_usd": usd(spent), "over": batch_words.over(row),
        "seconds": stats.duration(row), "jobs": store.jobs(read, row["id"]),
    }  # fmt: skip


def list_batches(data: Path, *, limit: int, as_json: bool) -> int:
    """Print the newest batches."""
    read = database(data)
    rows = store.batches(read, limit)
    if as_json:
        for row in rows:
            print(json.dumps(of_batch(read, row), default=str))
        return 0
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("when (UTC)", "id", "name", "deployment", "by", "lines", "state", "person"):
        table.add_column(title, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*map(words.printable, (
            row["created_at"].strftime("%Y-%m-%d %H:%M"), row["id"], str(row["name"]),
            str((row.get("deployment") or {}).get("name") or row["deployment_id"]), batch_words.route(row["route"]),
            f"{row['n_lines']:,}", batch_words.state(row["state"]), row["person"],
        )))  # fmt: skip
    out = console()
    out.print(table)
    out.print(f"{len(rows)} {'batch' if len(rows) == 1 else 'batches'} in {data}")
    return 0


def show_batch(data: Path, batch_id: str, *, as_json: bool) -> int:
    """Print how a batch stands; the exit code is 2 when there is none."""
    read = database(data)
    row = store.batch(read, batch_id)
    if row is None:
        return no_batch(batch_id, data)
    if as_json:
        print(json.dumps(of_batch(read, row), default=str))
        return 0
    for line in in_words(read, row):
        print(words.printable(line))
    return 0


def in_words(read: Engine, row: Row) -> Iterator[str]:
    """How a batch stands, in lines."""
    name = (row.get("deployment") or {}).get("name") or row["deployment_id"]
    yield f"{row['name']} · {row['file_name']} · {name} by {batch_words.route(row['route'])} · {row['person']}"
    said = f" · {row['said']}" if row.get("said") else ""
    yield f"{batch_words.state(row['state'])}{said}"
    counts, spent = store.counts(read, row["id"]), store.spent(read, row["id"])
    yield f"{batch_words.done(counts):,} of {row['n_lines']:,} lines · {batch_words.by_state(counts) or 'none yet'}"
    budget = row.get("budget_nanousd")
    yield f"spent {money(spent) if spent is not None else 'not known'}{f' of {money(budget)}' if budget else ''}"
    for job in store.jobs(read, row["id"]):
        state, at = job.get("vendor_state") or job["state"], job["vendor_id"] or "–"
        yield f"job {job['no']}: {job['n_lines']:,} lines · {state} · {at}"
    if batch_words.over(row):
        account = reconcile.account(store.each_line(read, row["id"]), name=str(name), n_recorded=row["n_lines"],
                                    n_left_out=row.get("n_left_out") or 0)  # fmt: skip
        yield account.sentence
        for group in account.groups:
            yield f"  {group.n:,} {group.state}: {group.text} ({reconcile.first_lines(group)})"


def write_results(
    data: Path, batch_id: str, to: Path | None, kind: Kind | None, *, escape: bool, as_json: bool
) -> int:  # fmt: skip
    """Write or print the results; the exit code is 0 when every line succeeded, 1 when one did not, 2 for none."""
    read = database(data)
    row = store.batch(read, batch_id)
    if row is None:
        return no_batch(batch_id, data)
    kind = kind or by_ending(to) or ("jsonl" if as_json else "csv")
    if to is None and kind in ("parquet", "excel"):
        print(f"{kind.capitalize()} is not printed: name a file with --to.", file=sys.stderr)
        return 2
    lines, columns = store.each_line(read, batch_id), row.get("columns") or ()
    try:
        if to is None:
            written = write(lines, columns, kind, sys.stdout.buffer, escape=escape, n=row["n_lines"])
            sys.stdout.buffer.flush()
        else:
            with to.open("wb") as target:
                written = write(lines, columns, kind, target, escape=escape, n=row["n_lines"])
    except ValueError as error:
        print(str(error), file=sys.stderr)
        return 2
    for note in written.notes:
        print(words.printable(note), file=sys.stderr)
    counts = store.counts(read, batch_id)
    if to is not None:
        print(f"{written.n:,} lines are in {to} ({batch_words.by_state(counts)}).", file=sys.stderr)
    if not batch_words.over(row):
        print("The batch is not over: lines without an answer are in it too.", file=sys.stderr)
    return 0 if counts.get("succeeded", 0) == row["n_lines"] else 1


def by_ending(to: Path | None) -> Kind | None:
    """The kind that a file's ending asks for."""
    ending = to.suffix.lstrip(".").lower() if to is not None else ""
    return next((kind for kind in get_args(Kind) if ending == ENDINGS[kind]), None)


def act(action: str, batch_id: str, *, as_json: bool, data: Path, file: Path, person: str) -> int:
    """Pause, resume, cancel or send again what has no answer; 2 with the engine's sentence when it refuses."""
    read = database(data)
    if store.batch(read, batch_id) is None:
        return no_batch(batch_id, data)
    with engine_for(data, file, person=person, role="admin") as engine:
        try:
            made = getattr(engine.batches, action)(batch_id)
        except EngineError as error:
            print(str(error), file=sys.stderr)
            return 2
    row = store.batch(read, str(made or batch_id))
    if row is None:
        return no_batch(batch_id, data)
    if as_json:
        print(json.dumps(of_batch(read, row), default=str))
    elif made:
        print(f"Its lines without an answer are batch {made}.")
    else:
        print(f"{row['name']}: {batch_words.state(row['state'])}")
    return 0
