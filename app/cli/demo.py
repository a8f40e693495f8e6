"""`lab demo`: make the demo data of a data directory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from services.dashboard import demo


def make_demo(data: Path, *, calls: int, days: int, seed: int, as_json: bool) -> int:
    """Simulate calls into ``demo.sqlite3`` of the data directory, with progress on a terminal; the exit code."""
    try:
        made = _made(demo.file(data), calls, days, seed, quiet=as_json or not sys.stderr.isatty())
    except (demo.DemoTrouble, ValueError) as error:
        print(str(error), file=sys.stderr)
        return 1
    if as_json:
        row = {"file": str(demo.file(data)), "calls": made.calls, "start": made.start.isoformat(),
               "end": made.end.isoformat(), "seed": made.seed, "simulated": True}  # fmt: skip
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
        )  # fmt: skip
