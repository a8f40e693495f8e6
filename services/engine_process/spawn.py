"""Start an engine process, or find the one that works on a data directory."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from services import paths
from services.engine_connection import EngineDown, EngineError
from services.processes.health import Vitals, vitals
from services.security import keys

if TYPE_CHECKING:
    from services.client import EngineClient

LINE_CHARS = 300

LOOK_S = 1.0

NAMED_AFTER_S = 8.0  # a start that stands still is named after so long

ASLEEP_S = 30.0  # and given up after so long without any work of its process; a database may take 10 s to refuse

AT_WORK_S = 180.0  # or after so long although it works, the machine may be slow

HELD_S = 15.0  # `lab run` needs so long at most to end an engine that hangs and to start another

MIGRATING_S = 1800.0  # a database server migrates without any work of our process

ENGINE_LOG = "its log is engine.log in the data directory under logs"


class EngineHeld(EngineError):
    """Another engine works on the data directory."""


def popen(data: Path, file: Path, *, embedded: bool = True) -> subprocess.Popen[bytes]:
    """An engine as a child process that stops when we are gone. Its lines of output say what it does and how it went.

    With LAB_EMBEDDED=0 in the environment no local model is started, whatever ``embedded`` says.
    """
    command = [
        sys.executable,
        "-m",
        "services.engine_process",
        "--data",
        str(data),
        "--deployments",
        str(file),
        "--parent-pid",
        str(os.getpid()),
    ]
    if not embedded or os.environ.get("LAB_EMBEDDED") == "0":
        command.append("--no-embedded")
    with _log(data) as errors:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and modules
            command,
            cwd=paths.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )


@contextmanager
def _log(data: Path) -> Iterator[BinaryIO | int]:
    """Where an engine's last cries go: into its log and not onto the terminal of whoever started it."""
    try:
        (data / "logs").mkdir(parents=True, exist_ok=True)
        file = (data / "logs" / "engine.log").open("ab")
    except OSError:
        yield subprocess.DEVNULL
        return
    with file:
        yield file


@dataclass(slots=True)
class _Start:
    """How far a starting engine is, as its own lines tell."""

    process: subprocess.Popen[bytes]
    tell: Callable[[str], None]
    doing: str = "loading its modules"
    long: bool = False
    since: float = field(default_factory=time.monotonic)
    named: bool = False
    last: Vitals = field(default_factory=Vitals)
    worked: float = field(default_factory=time.monotonic)

    def step(self, doing: str, *, long: bool) -> None:
        self.doing, self.long = doing, long
        self.since = self.worked = time.monotonic()
        self.named = False

    def look(self) -> None:
        """Raises `EngineError`, with the process ended, once it stands still for too long."""
        last_vitals, self.last = self.last, vitals(self.process.pid)
        now = time.monotonic()
        if self.last.works_since(last_vitals):
            self.worked = now
        lasts = now - self.since
        if lasts < NAMED_AFTER_S:
            return
        if self.last.stopped and last_vitals.stopped:
            self._give_up("its process was stopped from outside (SIGSTOP)")
        if lasts > MIGRATING_S if self.long else lasts > AT_WORK_S or now - self.worked > ASLEEP_S:
            self._give_up(f"nothing has happened for {lasts:.0f} s")
        if not self.named:
            self.named = True
            if self.long:
                self.tell(f"The engine is {self.doing}; with many records this takes minutes. Leave it at work.")
            else:
                self.tell(f"The engine has been {self.doing} for {lasts:.0f} s; still waiting.")

    def _give_up(self, why: str) -> None:
        self.process.kill()
        raise EngineError(f"The engine got stuck {self.doing} ({why}) and was ended; {ENGINE_LOG}.")


def first_words(
    process: subprocess.Popen[bytes], tell: Callable[[str], None] | None = None, data: Path | None = None
) -> Path:
    """Wait until a started engine listens; returns its socket. Raises `EngineError` with what it said instead.

    ``tell`` is given a sentence when the start takes long; with ``data`` the end of the log there is told too.
    One that hangs is ended, and the error says in what.
    """
    assert process.stdout is not None
    start = _Start(process, tell or _nobody)
    out = process.stdout.fileno()
    poll = select.poll()
    poll.register(out, select.POLLIN)
    incomplete = b""
    while True:
        if not poll.poll(LOOK_S * 1000):
            start.look()
            continue
        chunk = os.read(out, 65_536)
        *lines, incomplete = (incomplete + chunk).split(b"\n")
        for line in lines:
            words = _words(line)
            if "error" in words:
                raise (EngineHeld if "held" in words else EngineError)(str(words["error"]))
            if "socket" in words:
                return Path(str(words["socket"]))
            if "doing" in words:
                start.step(str(words["doing"]), long=bool(words.get("long")))
        if not chunk:
            code = process.wait()
            last = last_line(data / "logs" / "engine.log") if data else ""
            ending = f"; the last line of its log: {last}" if last else "."
            raise EngineError(f"The engine ended while it was {start.doing} (exit code {code}); {ENGINE_LOG}{ending}")


def _nobody(_sentence: str) -> None:
    pass


def _words(line: bytes) -> dict[str, object]:
    try:
        words = json.loads(line)
    except ValueError:
        return {}
    return words if isinstance(words, dict) else {}


@contextmanager
def engine_for(data: Path, file: Path, *, person: str, role: str, embedded: bool = True) -> Iterator[EngineClient]:
    """A client of the engine that runs on ``data``, or of one started for the time of this block.

    Raises `EngineError` in words when none can be had, or when the running one was started with another
    deployments file.
    """
    if trouble := paths.data_trouble(data):
        raise EngineError(trouble)
    from services.client import EngineClient  # it brings the database's library, which `lab run` itself does not need

    client = EngineClient(paths.socket_path(data), person=person, role=role)
    try:
        running = client.health()
    except EngineDown:
        client.close()
    else:
        _same_file(running, data, file)
        yield client
        return
    process = popen(data, file, embedded=embedded)
    try:
        try:
            client = EngineClient(first_words(process, _to_terminal, data), person=person, role=role)
        except EngineHeld as held:
            # Somebody was a moment faster, or `lab run` is starting its engine again.
            client = EngineClient(paths.socket_path(data), person=person, role=role)
            try:
                _same_file(client.wait_until_up(HELD_S), data, file)
            except EngineDown:
                raise held from None
        yield client
    finally:
        client.close()
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def _same_file(running: Mapping[str, object], data: Path, file: Path) -> None:
    if running.get("deployments_file") not in (None, str(file)):
        raise EngineError(
            f"An engine already works on {data} with {running['deployments_file']}: give another --data, or stop it."
        )


def _to_terminal(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def last_line(log: Path) -> str:
    """The last that a log holds, without keys and short enough for a terminal; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    text = "".join(c if c.isprintable() else " " for c in keys.scrub(last))
    return text if len(text) <= LINE_CHARS else f"{text[:LINE_CHARS]}…"
