"""The second start of `lab run`: to a page that answers, and to the first token of the embedded model; and what the
start of `lab` itself costs, beside an empty cyclopts application with as many commands."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cyclopts import App

from app.cli.main import app as lab
from services import paths
from services.client import EngineClient
from services.runs.spec import ColumnSpec, RunSpec
from tests.benchmarks.house import a_port, answers
from tests.benchmarks.report import aim, num, pct, table
from tests.fake.fixture import ROOT

AIM_S = 5.0
HELP_AIM = 2.0  # times the CPU of the empty application
HEADER = ("", "n", "median s", "aim", "worst s")
HELP_HEADER = ("", "n", "median CPU s", "of the empty one", "aim", "worst CPU s")
# Takes the names of its commands, "batch.check" for one of a group, and prints its help.
EMPTY = """
import sys
from cyclopts import App

def nothing(*, value: int = 0) -> int:
    "Do nothing."
    return value

app = App(name="empty", help="An application without a purpose.", version="1")
groups = {}
for word in sys.argv[1:]:
    group, _, name = word.rpartition(".")
    if group and group not in groups:
        groups[group] = App(name=group, help="A group.")
        app.command(groups[group])
    (groups[group] if group else app).command(nothing, name=name)
app(["--help"])
"""


def main(*, quick: bool = False) -> None:
    """The help's cost, then the second start of everything."""
    _help(3 if quick else 15)
    _second_start(1 if quick else 5)


def _help(rounds: int) -> None:
    programs = {
        "empty application": ["-c", EMPTY, *_command_names(lab)],
        "lab --help": ["-m", "app.cli", "--help"],
        "lab batch --help": ["-m", "app.cli", "batch", "--help"],
        "lab runs --help": ["-m", "app.cli", "runs", "--help"],
        "lab --version": ["-m", "app.cli", "--version"],
    }
    costs: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):  # in turns, so that a busy moment of the machine meets all of them
        for name, arguments in programs.items():
            costs[name].append(_child_cpu_s([sys.executable, "-P", *arguments]))
    empty = pct(costs["empty application"], 0.5)
    rows = [
        [
            name,
            str(len(seconds)),
            num(pct(seconds, 0.5)),
            num(times := pct(seconds, 0.5) / empty),
            aim(times, HELP_AIM),
            num(max(seconds)),
        ]
        for name, seconds in costs.items()
    ]
    table("the start of `lab`", HELP_HEADER, rows)


def _command_names(application: App, group: str = "") -> list[str]:
    names = []
    for name in application:
        if not name.startswith("-"):
            command = application[name]
            names += [f"{group}{name}"] if command.default_command else _command_names(command, f"{group}{name}.")
    return names


def _child_cpu_s(command: list[str]) -> float:
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime


def _second_start(rounds: int) -> None:
    pages: list[float] = []
    tokens: list[float] = []
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        _start(Path(folder))
        for _ in range(rounds):
            page, token = _start(Path(folder))
            pages.append(page)
            tokens.append(token)
    rows = [
        ["page answers", str(len(pages)), num(pct(pages, 0.5)), aim(pct(pages, 0.5), AIM_S), num(max(pages))],
        ["first token of the embedded model", str(len(tokens)), num(pct(tokens, 0.5)), "", num(max(tokens))],
    ]
    table("second start of `lab run`", HEADER, rows)


def _start(data: Path) -> tuple[float, float]:
    port = a_port()
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "run", "--port", str(port), "--data", str(data), "--no-browser"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    client = EngineClient(paths.socket_path(data), person="bench", role="admin")
    try:
        answers(f"http://127.0.0.1:{port}/", 60)
        page = time.monotonic() - begin
        client.wait_until_up()
        local = next(s.deployment.id for s in client.deployments() if s.deployment.base_url.startswith("embedded://"))
        run_id = client.start_run(RunSpec("Hi", (ColumnSpec(local),), params={"max_tokens": 4}))
        with client.stream(run_id) as frames:
            for frame in frames:
                columns = frame.get("cols", frame.get("columns", []))
                if any(column.get("a") or column.get("answer") for column in columns):
                    break
        return page, time.monotonic() - begin
    finally:
        client.close()
        process.send_signal(signal.SIGINT)
        process.wait(30)
