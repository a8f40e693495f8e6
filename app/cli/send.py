"""`lab send`: one prompt, several deployments, streamed to the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.table import Table
from rich.text import Text

from app.cli.options import name_value_pairs
from app.cli.terminal import console
from db import run_queries
from db.engine import database_url, reader
from db.run_rows import CallRow
from services import formatting, params, paths
from services.call_record import from_row
from services.client import EngineClient, EngineError
from services.engine_process.spawn import engine_for
from services.providers.base import DROPPED, LABEL
from services.runs import record
from services.runs.spec import SUGGESTED, ColumnSpec, RunSpec
from services.types import CacheMode

USUAL_TOKENS = SUGGESTED.max_tokens  # what the Playground begins with


def send_prompt(
    prompt: str,
    names: list[str],
    *,
    system: str | None,
    pairs: list[str],
    repetitions: int,
    as_json: bool,
    data: Path,
    file: Path,
    person: str,
    cache: CacheMode | None = None,
) -> int:
    """Send, stream, and print the figures. Returns 0 when every call succeeded, 1 when one did not, 2 on bad input."""
    try:
        typed = name_value_pairs(pairs)
        spec = RunSpec(
            prompt=prompt,
            columns=tuple(ColumnSpec(name, cache=cache) for name in names),
            system=system,
            params=params.clean({"max_tokens": USUAL_TOKENS} | typed),
            repetitions=repetitions,
            source="cli",
        ).checked()
    except ValueError as error:
        print(str(error), file=sys.stderr)
        return 2
    paths.make_data(data)
    with engine_for(data, file, person=person, role="admin") as engine:
        try:
            run_id = engine.start_run(spec)
        except EngineError as error:
            print(str(error), file=sys.stderr)
            return 2
        try:
            _follow(engine, run_id, quiet=as_json, alone=len(names) == 1)
        except KeyboardInterrupt:
            engine.stop(run_id)
            _follow(engine, run_id, quiet=True, alone=False)
        rows = run_queries.calls_of_run(reader(database_url(data)), run_id)
        if any(row["state"] == "running" for row in rows):
            trouble = engine.health().get("db_trouble") or "The records cannot be written just now."
            print(f"{trouble} How these calls ended is not in the records yet.", file=sys.stderr)
    if as_json:
        for row in rows:
            print(json.dumps(record.of_call(from_row(row)), default=str), flush=True)
    else:
        _print_figures(rows, alone=len(names) == 1, bounded="max_tokens" not in typed)
    return 0 if rows and all(row["state"] == "succeeded" for row in rows) else 1


def _follow(engine: EngineClient, run_id: str, *, quiet: bool, alone: bool) -> None:
    """Stay until the run ends; a single column's text is printed as it comes, several report their states."""
    names: dict[int, str] = {}
    states: dict[int, str] = {}
    with engine.stream(run_id) as frames:
        for frame in frames:
            for column in frame.get("columns") or frame.get("cols") or ():
                index = column["i"]
                names.setdefault(index, column.get("name", ""))
                if quiet:
                    continue
                text = column.get("a") or (column.get("answer") if "columns" in frame else None)
                if alone and text:
                    sys.stdout.write(formatting.printable(text))
                    sys.stdout.flush()
                state = column.get("words")
                if not alone and state and state != states.get(index):
                    states[index] = state
                    print(formatting.printable(f"{names[index]}: {state}"), file=sys.stderr, flush=True)
    if alone and not quiet:
        print()


def _print_figures(rows: list[CallRow], *, alone: bool, bounded: bool) -> None:
    out = console(stderr=alone)
    if not alone:
        for row in rows:
            name = row["deployment"]["name"]
            out.rule(Text(formatting.printable(name)), align="left", style="dim")
            out.print(formatting.printable(row.get("answer") or ""), markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("deployment", "state", "TTFT", "TTLT", "tok/s", "in", "cached", "cache", "out", "cost"):
        table.add_column(title, justify="left" if title in ("deployment", "state", "cache") else "right")
    for row in rows:
        words = record.in_words(from_row(row))
        table.add_row(
            formatting.printable(row["deployment"]["name"]),
            words["state"],
            words["ttft"],
            words["ttlt"],
            words["decode"],
            words["in"],
            words["cached"],
            words["cache"],
            words["out"],
            words["cost"],
        )
    out.print(table)
    for row in rows:
        if why := (row.get("dropped_params") or {}).get(DROPPED):
            out.print(formatting.printable(f"{row['deployment']['name']}: {LABEL} was not sent: {why}."), markup=False)
        if bounded and row.get("outcome") == "max_tokens":
            limit = f"stopped at {USUAL_TOKENS} tokens, the usual limit; --param max_tokens=… allows more"
            out.print(formatting.printable(f"{row['deployment']['name']}: {limit}."), markup=False)
        if row.get("message"):
            out.print(formatting.printable(f"{row['deployment']['name']}: {row['message']}"), markup=False)
