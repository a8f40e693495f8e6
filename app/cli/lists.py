"""`lab runs` and `lab deployments`: what is recorded, and what can be called."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.table import Table

from app.cli.database import existing_database
from app.cli.terminal import console
from db import run_queries
from db.engine import reader
from db.run_rows import CallRow, ListedRun
from services import formatting, paths
from services.call_record import from_row
from services.client import EngineError
from services.engine_process.spawn import engine_for
from services.runs import record
from services.types import JsonMapping


def list_runs(data: Path, *, limit: int, search: str | None, run_id: str | None, as_json: bool) -> int:
    """Print the newest runs, or the calls of one. Returns 1 when the run is not there, 2 without records."""
    url = existing_database(data)
    if url is None:
        return 2
    read = reader(url)
    if run_id is not None:
        any_run = False
        for row in run_queries.each_call(read, run_id):
            any_run = True
            print(
                json.dumps(record.of_call(from_row(row)), default=str)
                if as_json
                else formatting.printable(_call_line(row))
            )
        if not any_run:
            print(f"There is no run “{formatting.printable(run_id)}” in {data}.", file=sys.stderr)
            return 1
        return 0
    page = run_queries.search_runs(read, run_queries.RunFilter(text=search), limit=limit, offset=0)
    if as_json:
        for run in page.rows:
            print(json.dumps(run, default=str))
        return 0
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("when (UTC)", "run", "person", "source", "calls", "states", "prompt"):
        table.add_column(title, overflow="ellipsis", no_wrap=True)
    for run in page.rows:
        table.add_row(
            run["created_at"].strftime("%Y-%m-%d %H:%M"),
            run["id"],
            run["person"],
            run["source"],
            str(run["n_calls"]),
            _states(run),
            formatting.printable((run["prompt"] or "(text not kept)")[:80]),
        )
    out = console()
    out.print(table)
    out.print(f"{len(page.rows)} of {page.total} runs in {data}")
    return 0


def _states(run: ListedRun) -> str:
    return ", ".join(f"{n} {state}" for state, n in run["states"].items())


def _call_line(row: CallRow) -> str:
    words = record.in_words(from_row(row))
    return (
        f"{row['deployment']['name']}  {words['state']}  first {words['ttft']}  last {words['ttlt']}  "
        f"{words['decode']}  in {words['in']}  out {words['out']}  {words['cost']}"
    )


def list_deployments(data: Path, file: Path, *, test: bool, as_json: bool, person: str) -> int:
    """Print every deployment and its state; with ``test`` call each ready one. Returns 1 when a test failed."""
    paths.make_data(data)
    failed = False
    with engine_for(data, file, person=person, role="admin", embedded=test) as engine:
        if trouble := engine.health().get("file_trouble"):
            print(trouble, file=sys.stderr)
            failed = True
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("id", "name", "kind", "model", "state"):
            table.add_column(title)
        for status in engine.deployments():
            result: JsonMapping | None = status.test
            if test and status.ready:
                try:
                    result = engine.test_deployment(status.deployment.id)
                except EngineError as error:
                    result = {"ok": False, "sentence": str(error)}
                failed = failed or not result["ok"]
            state = "ready" if status.ready else str(status.needs)
            if as_json:
                print(
                    json.dumps(
                        {
                            "deployment": status.deployment.to_json(),
                            "ready": status.ready,
                            "needs": status.needs,
                            "test": result,
                        },
                        default=str,
                    ),
                    flush=True,
                )
            else:
                d = status.deployment
                state_text = f"{state}; {result['sentence']}" if test and result and status.ready else state
                table.add_row(*map(formatting.printable, (d.id, d.name, d.kind, d.model, state_text)))
        if not as_json:
            console().print(table)
    return 1 if failed else 0
