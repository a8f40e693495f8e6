"""`lab run` as a process of its own, and what it says."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from services.paths import ROOT

WAIT_S = 60.0


def until(true: Callable[[], Any], seconds: float = WAIT_S) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def a_port(host: str = "127.0.0.1") -> int:
    """A port that was free a moment ago."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Running:
    """One `lab run`: its process, its lines as they come, and the two processes it started."""

    def __init__(
        self,
        folder: Path,
        *more: str,
        environment: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
        port: int = 0,
        embedded: bool = False,
    ) -> None:
        self.data = folder / "data"
        self.port = port or a_port()
        self.lines: list[str] = []
        model = "--embedded" if embedded else "--no-embedded"
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "app.cli",
                "run",
                "--no-browser",
                model,
                "--port",
                str(self.port),
                "--data",
                str(self.data),
                "--deployments",
                str(folder / "deployments.toml"),
                *more,
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            preexec_fn=before,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def text(self) -> str:
        """All that it said."""
        return "\n".join(self.lines)

    def says(self, words: str, *, after: int = 0, seconds: float = WAIT_S) -> str:
        """The first line from ``after`` on that holds these words, waited for."""
        end = time.monotonic() + seconds
        while True:
            over = self.process.poll() is not None
            if over:
                self._reader.join(5)
            for line in self.lines[after:]:
                if words in line:
                    return line
            assert not over and time.monotonic() < end, f"it never said “{words}”:\n{self.text}"
            time.sleep(0.05)

    def up(self) -> Running:
        """Wait until the pages are there."""
        self.says("Inference Lab is at")
        return self

    def child(self, name: str) -> int:
        """The pid of "services.engine_process" or "app.server"; 0 while there is none."""
        with contextlib.suppress(OSError):
            folder = Path(f"/proc/{self.process.pid}/task")
            for thread in folder.iterdir():
                for child in (thread / "children").read_text().split():
                    if name.encode() in Path(f"/proc/{child}/cmdline").read_bytes():
                        return int(child)
        return 0

    def end(self) -> int:
        """Stop it as Ctrl-C does; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(40)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)
        return code


@contextlib.contextmanager
def running(folder: Path, *more: str, **options: Any) -> Iterator[Running]:
    """`lab run` for the time of a block; it never prints a traceback."""
    lab = Running(folder, *more, **options)
    try:
        yield lab
    finally:
        lab.end()
    assert "Traceback" not in lab.text, lab.text


def gone(*pids: int) -> bool:
    """Whether these processes ended, or wait only to be reaped."""
    return all(_dead(pid) for pid in pids)


def _dead(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
