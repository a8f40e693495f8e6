"""`lab history`, `lab rollup` and `lab demo`: every figure of the History page, and the data behind it made anew."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
from rich.table import Table
from sqlalchemy import Engine

from app.cli.database import existing_database
from app.cli.options import PageOptions
from app.cli.terminal import console
from db import run_queries
from db.engine import reader
from db.runs import days_kept
from db.writer import Writer
from services import formatting
from services.client import EngineClient, EngineDown
from services.dashboard import data as dashboard_data
from services.dashboard import demo, figures
from services.dashboard.figures import Data, Filter
from services.dashboard.filters import joined, params_of, params_of_url
from services.dashboard.rebuild import OwnRollups, Rollups, rebuild
from services.deployments import config
from services.deployments.toml_table import changed_at
from services.formatting import NANODOLLARS
from services.paths import socket_path
from services.pricing import budget
from services.pricing.cost import money


def history_params(
    single: Mapping[str, str | None],
    lists: Mapping[str, Sequence[str] | None],
    page: PageOptions | None,
    file: Path | None,
    url: str | None,
) -> tuple[dict[str, str], Path | None]:
    """The parameters of `Filter.from_params` and the deployments file. Raises ValueError in words for a wrong ``url``
    and for two ranges.

    What is given beside an address goes before what the address says.
    """
    query: dict[str, list[str]] = {}
    for option in fields(page) if page is not None else ():
        value = getattr(page, option.name)
        if value is not None:
            query[option.name] = [value] if isinstance(value, str) else list(value)
    # Here --deployments is the file, as for every command; the page uses the word for a list of deployments.
    if file is not None and not _is_file(file):
        query["deployments"], file = [str(file)], None
    typed = params_of(query)
    typed |= {name: value for name, value in single.items() if value is not None}
    typed |= {name: joined(values) for name, values in lists.items() if values}
    dates = [name for name in ("from", "to") if name in typed]
    if dates and typed.get("range", "custom") != "custom":
        raise ValueError(
            f"--range {typed['range']} and --{dates[0]} are two ranges: give one of them (--from and --to go together)."
        )
    address = params_of_url(url) if url is not None else {}
    if {"from", "to"} & set(typed):
        address = {name: value for name, value in address.items() if name not in ("range", "from", "to")}
    elif "range" in typed:
        address = {name: value for name, value in address.items() if name not in ("from", "to")}
    return address | typed, file


def _is_file(file: Path) -> bool:
    return file.exists() or file.suffix == ".toml" or len(file.parts) > 1


def show_history(data: Path, file: Path, params: Mapping[str, str], *, as_json: bool) -> int:
    """Print every figure of a view. Returns 2 without records, or for a filter that means nothing."""
    url = existing_database(data)
    if url is None:
        return 2
    engine = reader(url)
    filters = _with_ids(engine, Filter.from_params(params, script=True))
    if filters.ignored:
        print("\n".join(filters.ignored), file=sys.stderr)
        return 2
    try:
        teams = config.load(file).teams if changed_at(file) is not None else {}
    except config.ConfigError as error:
        print(str(error), file=sys.stderr)
        return 2
    if missing := [name for name in filters.teams if name not in teams]:
        print(f"There is no team “{formatting.printable(missing[0])}” under [teams] in {file.name}.", file=sys.stderr)
        return 2
    now = datetime.now(UTC)
    view = figures.load(engine, filters, now, teams=teams, metrics=figures.METRICS if as_json else figures.IN_KPIS)
    if as_json:
        print(orjson.dumps(every_figure(view), default=_json_value, option=orjson.OPT_SERIALIZE_NUMPY).decode())
    else:
        _print_view(view)
    return 0


def _with_ids(engine: Engine, filters: Filter) -> Filter:
    """Deployments may be given by name. One that is neither a name nor an id is said."""
    if not filters.deployments:
        return filters
    ids, names = set(), {}
    for row in run_queries.deployment_rows(engine):
        ids.add(row.id)
        names[row.name] = row.id
    unknown = [name for name in filters.deployments if name not in ids and name not in names]
    if unknown:
        sentence = f"There is no deployment “{formatting.printable(unknown[0])}”; `lab deployments` lists them."
        return filters.but(ignored=(*filters.ignored, sentence))
    return filters.but(deployments=tuple(name if name in ids else names[name] for name in filters.deployments))


def every_figure(data: Data) -> dict[str, Any]:
    """The figures of every panel: latencies in ms, speeds in tok/s, money in nano-dollars unless a name says usd."""
    view, spent = data.window, figures.spend(data)
    monthly = budget.monthly(data.engine)
    month = data
    if data.filter.range != "mtd":
        this_month = data.filter.but(range="mtd", start=None, end=None)
        month = figures.load(data.engine, this_month, data.now, teams=data.teams, lean=True)
    pace = figures.pace(month, None if monthly is None else int(monthly * NANODOLLARS))
    today = figures.repriced(data)
    return {
        "filter": data.filter.to_params(),
        "window": {
            "start": view.start,
            "end": view.end,
            "zone": view.zone,
            "bucket_s": view.step.total_seconds(),
            "days_of": view.day_zone,
            "running": view.running,
        },
        "said": data.said,
        "notes": data.notes,
        "deployments": {deployment_id: data.name(deployment_id) for deployment_id in data.ids},
        "kpis": figures.kpis(data),
        "spend": {"total": spent.total, "per_1000": spent.per_1000, "mark": spent.mark, **_field_values(spent)},
        **{
            name: {metric: _rows_of(function(data, metric)) for metric in figures.METRICS}
            for name, function in (
                ("latency", figures.latency),
                ("distribution", figures.distribution),
                ("medians", figures.medians),
                ("heatmap", figures.heatmap),
            )
        },
        "throughput": _rows_of(figures.throughput(data)),
        "states": _rows_of(figures.states(data)),
        "cost": {by: _rows_of(figures.cost(data, by)) for by in figures.BYS},
        "savings": figures.savings(data),
        "pace": {
            "text": pace.text,
            "spent": pace.spent,
            "expected": pace.expected,
            "budget": pace.budget,
            "days": _rows_of(pace.days),
        },
        "scatter": _rows_of(figures.scatter(data)),
        "ranking": _rows_of(figures.ranking(data)),
        "repriced": {"was": today.was, "today": today.today, "words": today.words, "lines": _rows_of(today.table)},
    }


def _field_values(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One object for each line; a figure that is not shown is null."""
    plain = table.astype(object).where(table.notna(), None)
    lines: list[dict[str, Any]] = plain.to_dict("records")
    return lines


def _json_value(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return str(value)


def _print_view(data: Data) -> None:
    out = console()
    for line in figures.kpis(data):
        notes = [line.change_text and f"{line.change_text} to the time before", line.detail, line.why_missing or ""]
        out.print(f"{line.title:<22} {line.text:>12}  {' · '.join(note for note in notes if note)}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in (
        "deployment",
        "calls",
        "succeeded",
        "first p50",
        "first p95",
        "last p50",
        "decode",
        "spend",
        "per 1,000 calls",
    ):
        table.add_column(title)
    for row in _rows_of(figures.ranking(data)):
        per_1000 = row["usd_per_1000"]
        table.add_row(
            formatting.printable(data.name(row["deployment_id"])),
            formatting.count(row["n"]),
            formatting.DASH if row["success"] is None else f"{row['success'] * 100:.1f} %",
            formatting.seconds(row["ttft_p50"]),
            formatting.seconds(row["ttft_p95"]),
            formatting.seconds(row["ttlt_p50"]),
            formatting.rate(row["decode_p50"]),
            # As on the page: hours that were paid are known, whether there was a call in them or not.
            money(row["nanousd"]) if row["n_unpriced"] < row["n"] or row["nanousd"] > 0 else "no price",
            formatting.DASH if per_1000 is None else money(round(per_1000 * NANODOLLARS)),
        )
    out.print()
    out.print(table)
    out.print("\n".join(["", dashboard_data.stretch(data.window), data.said, *data.notes]))


# --- rollups ---------------------------------------------------------------------------------------------------------
def roll_up(data: Path, *, anew: bool, person: str) -> int:
    """Add what is not rolled up yet; with ``anew`` make the rollups of every day whose calls are kept again.

    It can be stopped at any moment: nothing is lost or counted twice, and the rest is added when the engine runs.
    """
    url = existing_database(data)
    if url is None:
        return 2
    with reader(url).connect() as connection:
        days = days_kept(connection) if anew else []
    client = EngineClient(socket_path(data), person=person, role="admin")
    try:
        client.health()
        return _add_calls(client.history, days)
    except EngineDown:
        pass
    finally:
        client.close()
    writer = Writer(url)
    writer.start()
    try:
        return _add_calls(OwnRollups(writer), days)
    finally:
        writer.close()


def _add_calls(target: Rollups, days: list[datetime]) -> int:
    live = sys.stderr.isatty()

    def tell(done: int, added: int) -> None:
        if live:
            sys.stderr.write(f"\r\x1b[K{_progress(done, len(days), added)}")
            sys.stderr.flush()

    try:
        added = rebuild(target, days, tell)
    except KeyboardInterrupt:
        print(
            "\nStopped. Nothing is lost: what is not in the rollups is read from the calls until it is added.",
            file=sys.stderr,
        )
        return 130
    if live:
        sys.stderr.write("\r\x1b[K")
    print(_progress(len(days), len(days), added) + ".")
    return 0


def _progress(done: int, days: int, added: int) -> str:
    of_days = f"{done:,} of {days:,} days · " if days else ""
    return f"{of_days}{added:,} {'call' if added == 1 else 'calls'} rolled up"


def make_demo(data: Path, *, calls: int, days: int, seed: int, as_json: bool) -> int:
    """Simulate calls into ``demo.sqlite3`` of the data directory, with progress on a terminal; the exit code."""
    try:
        simulated = _simulate(demo.file(data), calls, days, seed, quiet=as_json or not sys.stderr.isatty())
    except (demo.DemoTrouble, ValueError) as error:
        print(str(error), file=sys.stderr)
        return 1
    if as_json:
        row = {
            "file": str(demo.file(data)),
            "calls": simulated.calls,
            "start": simulated.start.isoformat(),
            "end": simulated.end.isoformat(),
            "seed": simulated.seed,
            "simulated": True,
        }
        print(json.dumps(row))
    else:
        span = f"{simulated.start:%-d %b %Y} to {simulated.end:%-d %b %Y}"
        print(f"{simulated.calls:,} simulated calls from {span} are in {demo.file(data)}.")
        print("Switch on “Demo data” on the History page, or open it with ?demo=1.")
    return 0


def _simulate(target: Path, calls: int, days: int, seed: int, *, quiet: bool) -> demo.About:
    if quiet:
        return demo.make(target, calls, days=days, seed=seed)
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Simulating calls", total=calls)
        return demo.make(
            target, calls, days=days, seed=seed, progress=lambda done, _all: bar.update(task, completed=done)
        )
