"""`lab history`, `lab rollup` and `lab demo`: every figure of the History page, and the data behind it made anew."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
from rich.table import Table
from sqlalchemy import Engine

from app.cli.database import recorded
from app.cli.terminal import console
from db import run_queries
from db.engine import reader
from db.retention import days_kept
from db.writer import Writer
from services import formatting
from services.client import EngineClient, EngineDown
from services.dashboard import data as dashboard_data
from services.dashboard import demo, figures
from services.dashboard.figures import Data, Filter
from services.dashboard.rebuild import OwnRollups, Rollups, rebuild
from services.deployments import config
from services.deployments.toml_table import changed_at
from services.paths import socket_path
from services.pricing import budget
from services.pricing.cost import money

NANO = 1_000_000_000


def show_history(data: Path, file: Path, params: Mapping[str, str], *, as_json: bool) -> int:
    """Print every figure of a view. Returns 2 without records, or for a filter that means nothing."""
    url = recorded(data)
    if url is None:
        return 2
    engine = reader(url)
    chosen = _with_ids(engine, Filter.from_params(params, script=True))
    if chosen.ignored:
        print("\n".join(chosen.ignored), file=sys.stderr)
        return 2
    try:
        teams = config.load(file).teams if changed_at(file) is not None else {}
    except config.ConfigError as error:
        print(str(error), file=sys.stderr)
        return 2
    if missing := [name for name in chosen.teams if name not in teams]:
        print(f"There is no team “{formatting.printable(missing[0])}” under [teams] in {file.name}.", file=sys.stderr)
        return 2
    now = datetime.now(UTC)
    found = figures.load(engine, chosen, now, teams=teams, metrics=figures.METRICS if as_json else figures.IN_KPIS)
    if as_json:
        print(orjson.dumps(every_figure(found), default=_plain, option=orjson.OPT_SERIALIZE_NUMPY).decode())
    else:
        _print(found)
    return 0


def _with_ids(engine: Engine, chosen: Filter) -> Filter:
    """Deployments may be given by name. One that is neither a name nor an id is said."""
    if not chosen.deployments:
        return chosen
    ids, names = set(), {}
    for row in run_queries.deployment_rows(engine):
        ids.add(row["id"])
        names[(row["spec"] or {}).get("name")] = row["id"]
    unknown = [one for one in chosen.deployments if one not in ids and one not in names]
    if unknown:
        sentence = f"There is no deployment “{formatting.printable(unknown[0])}”; `lab deployments` lists them."
        return chosen.but(ignored=(*chosen.ignored, sentence))
    return chosen.but(deployments=tuple(one if one in ids else names[one] for one in chosen.deployments))


def every_figure(data: Data) -> dict[str, Any]:
    """The figures of every panel: latencies in ms, speeds in tok/s, money in nano-dollars unless a name says usd."""
    view, spent = data.window, figures.spend(data)
    monthly = budget.monthly(data.engine)
    chosen = data.filter.but(range="mtd", start=None, end=None)
    month = (
        data if data.filter.range == "mtd" else figures.load(data.engine, chosen, data.now, teams=data.teams, lean=True)
    )
    pace = figures.pace(month, None if monthly is None else int(monthly * NANO))
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
        "deployments": {one: data.name(one) for one in data.ids},
        "kpis": figures.kpis(data),
        "spend": {"total": spent.total, "per_1000": spent.per_1000, "mark": spent.mark, **_fields(spent)},
        **{
            name: {metric: _lines(function(data, metric)) for metric in figures.METRICS}
            for name, function in (
                ("latency", figures.latency),
                ("distribution", figures.distribution),
                ("medians", figures.medians),
                ("heatmap", figures.heatmap),
            )
        },
        "throughput": _lines(figures.throughput(data)),
        "states": _lines(figures.states(data)),
        "cost": {by: _lines(figures.cost(data, by)) for by in figures.BYS},
        "savings": figures.savings(data),
        "pace": {
            "text": pace.text,
            "spent": pace.spent,
            "expected": pace.expected,
            "budget": pace.budget,
            "days": _lines(pace.days),
        },
        "scatter": _lines(figures.scatter(data)),
        "ranking": _lines(figures.ranking(data)),
        "repriced": {"was": today.was, "today": today.today, "words": today.words, "lines": _lines(today.table)},
    }


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _lines(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One object for each line; a figure that is not shown is null."""
    plain = table.astype(object).where(table.notna(), None)
    lines: list[dict[str, Any]] = plain.to_dict("records")
    return lines


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return str(value)


def _print(data: Data) -> None:
    out = console()
    for line in figures.kpis(data):
        rest = [line.change_text and f"{line.change_text} to the time before", line.detail, line.why_missing or ""]
        out.print(f"{line.title:<22} {line.text:>12}  {' · '.join(part for part in rest if part)}")
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
    for row in _lines(figures.ranking(data)):
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
            formatting.DASH if per_1000 is None else money(round(per_1000 * NANO)),
        )
    out.print()
    out.print(table)
    out.print("\n".join(["", dashboard_data.stretch(data.window), data.said, *data.notes]))


# --- rollups ---------------------------------------------------------------------------------------------------------
def roll_up(data: Path, *, anew: bool, person: str) -> int:
    """Add what is not rolled up yet; with ``anew`` make the rollups of every day whose calls are kept again.

    It can be stopped at any moment: nothing is lost or counted twice, and the rest is added when the engine runs.
    """
    url = recorded(data)
    if url is None:
        return 2
    with reader(url).connect() as connection:
        days = days_kept(connection) if anew else []
    client = EngineClient(socket_path(data), person=person, role="admin")
    try:
        client.health()
        return _roll(client.history, days)
    except EngineDown:
        pass
    finally:
        client.close()
    writer = Writer(url)
    writer.start()
    try:
        return _roll(OwnRollups(writer), days)
    finally:
        writer.close()


def _roll(made: Rollups, days: list[datetime]) -> int:
    live = sys.stderr.isatty()

    def tell(done: int, added: int) -> None:
        if live:
            sys.stderr.write(f"\r\x1b[K{_progress(done, len(days), added)}")
            sys.stderr.flush()

    try:
        added = rebuild(made, days, tell)
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
        made = _made(demo.file(data), calls, days, seed, quiet=as_json or not sys.stderr.isatty())
    except (demo.DemoTrouble, ValueError) as error:
        print(str(error), file=sys.stderr)
        return 1
    if as_json:
        row = {
            "file": str(demo.file(data)),
            "calls": made.calls,
            "start": made.start.isoformat(),
            "end": made.end.isoformat(),
            "seed": made.seed,
            "simulated": True,
        }
        print(json.dumps(row))
    else:
        span = f"{made.start:%-d %b %Y} to {made.end:%-d %b %Y}"
        print(f"{made.calls:,} simulated calls from {span} are in {demo.file(data)}.")
        print("Switch on “Demo data” on the History page, or open it with ?demo=1.")
    return 0


def _made(target: Path, calls: int, days: int, seed: int, *, quiet: bool) -> demo.About:
    if quiet:
        return demo.make(target, calls, days=days, seed=seed)
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("Simulating calls", total=calls)
        return demo.make(
            target, calls, days=days, seed=seed, progress=lambda done, _all: shown.update(task, completed=done)
        )
