"""Long output arrives whole, or the program fails: however it is buffered and whatever takes it."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SIZE = 700_000
# A signal in the middle of a long write ends it early too, as a window that changes its size does.
PROGRAM = f"""
import signal, sys
from services.processes.output import write_whole
signal.signal(signal.SIGUSR1, lambda *_: None)
write_whole()
print("x" * {SIZE}, "ä", "end")
print("y" * {SIZE}, file=sys.stderr)
"""


def lengths(*, unbuffered: bool, blocking: bool) -> tuple[int | None, int, int]:
    """Exit code and how many bytes of each stream arrived, read slowly through pipes."""
    arrived: dict[str, int] = {}
    pipes = {name: os.pipe() for name in ("out", "err")}
    for _, into in pipes.values():
        flags = fcntl.fcntl(into, fcntl.F_GETFL)
        fcntl.fcntl(into, fcntl.F_SETFL, flags if blocking else flags | os.O_NONBLOCK)
    process = subprocess.Popen(
        [sys.executable, *(["-u"] if unbuffered else []), "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        stdout=pipes["out"][1],
        stderr=pipes["err"][1],
    )

    def drain(name: str) -> None:
        data = b""
        while block := os.read(pipes[name][0], 8192):
            data += block
            if len(data) < 200_000 and len(data) % 5 == 0:
                process.send_signal(signal.SIGUSR1)
        arrived[name] = len(data)

    for _, into in pipes.values():
        os.close(into)
    threads = [threading.Thread(target=drain, args=(name,)) for name in pipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    code = process.wait(60)
    for out, _ in pipes.values():
        os.close(out)
    return code, arrived["out"], arrived["err"]


def test_long_output_is_written_whole_however_it_is_buffered_and_whatever_takes_it() -> None:
    whole = (0, SIZE + len(" ä end\n".encode()), SIZE + 1)
    ways = [(unbuffered, blocking) for unbuffered in (True, False) for blocking in (True, False)]
    cut = {way: lengths(unbuffered=way[0], blocking=way[1]) for way in ways}
    assert {way: seen for way, seen in cut.items() if seen != whole} == {}


def test_output_that_nothing_takes_is_an_error_and_never_a_success() -> None:
    for unbuffered in (True, False):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, *(["-u"] if unbuffered else []), "-m", "app.cli", "calculate", "--example"],
                cwd=ROOT,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 2, done
        assert "The output cannot be written" in done.stderr and "Traceback" not in done.stderr


def test_a_closed_standard_output_is_said_and_what_writes_nothing_there_works(tmp_path: Path) -> None:
    lab = f"{shlex.quote(sys.executable)} -m app.cli"
    wrong = {}
    for command, code, words in (
        (f"{lab} calculate --example >&-", 2, "Standard output is closed"),
        (f"{lab} calculate - <&- >&- 2>&-", 2, ""),
        (f"{lab} runs --data {tmp_path / 'none'} >&-", 2, "There is no database"),
    ):
        done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != code or words not in done.stderr or "could not be done" in done.stderr:
            wrong[command] = done.returncode, done.stderr
    assert not wrong, wrong
