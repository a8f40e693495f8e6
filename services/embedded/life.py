"""One life of an embedded server's process: its start, its first words, its health, and why it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import urlsplit

import orjson

from services.embedded.spec import KEY, ServerSpec
from services.processes.vitals import A_LITTLE_S, vitals

ROOT = Path(__file__).resolve().parents[2]
START_WITHIN_S = 90.0
PROBE_EVERY_S = 5.0
PROBE_STILL_S = 300.0  # a server that nobody has asked for: every probe wakes all of its threads
IN_USE_S = 660.0  # since it was asked for last; no call lives longer by default
PROBE_WITHIN_S = 10.0
PROBES_FAILED = 3
LOOK_EVERY_S = 1.0  # at the process, while a probe has no answer
STILL_LOOKS = 4  # in a row, without work and without a thread that wants to: it will never answer
STOPPED = "something outside had stopped its process (SIGSTOP)"
LOG_LIMIT = 1_000_000
# The model needs no key of anybody's, so it is not given the environment as it is.
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV")
PASSED_ON_PREFIXES = ("LC_", "PYTHON", "LD_", "DYLD_", "OMP_", "GOMP_", "GGML_")


class CannotRun(Exception):
    """The server said that it can never run here; the text is its sentence."""


class Ended(Exception):
    """The server did not come up, or is gone; the text says why, to be put in brackets."""


async def begin(spec: ServerSpec, log_dir: Path, key: str) -> Process:
    """Start the process, which then answers only to ``key``.

    If the caller is cancelled meanwhile, the process is ended and not left behind.
    """
    env = {k: v for k, v in os.environ.items() if k in PASSED_ON or k.startswith(PASSED_ON_PREFIXES)}
    env[KEY] = key
    command = [sys.executable, "-m", "services.embedded.server", f"--parent-pid={os.getpid()}"]
    command += [f"--{name}={value}" for name, value in asdict(spec).items()]
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    with _open_log(log_dir / f"embedded-{spec.name}.log") as out:  # kept small by `services.processes.logs`
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdin=nothing, stdout=pipe, stderr=out)
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await end(await starting)
            raise


def _open_log(file: Path) -> BinaryIO:
    """The log to append to; one that has grown becomes the old one, so that two at most are kept."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and file.stat().st_size > LOG_LIMIT:
        file.replace(file.with_suffix(".log.1"))
    return file.open("ab")


async def first_words(process: Process) -> str:
    """The address at which it answers. Raises `CannotRun`, or `Ended` when it did not come up."""
    assert process.stdout is not None
    said: dict[str, str] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_WITHIN_S):
            while "url" not in said and (line := await process.stdout.readline()):
                with contextlib.suppress(orjson.JSONDecodeError):
                    said = orjson.loads(line)
                if "error" in said:
                    await end(process)
                    raise CannotRun(said["error"])
    if "url" in said:
        return said["url"]
    ran_out = process.returncode is None and not process.stdout.at_eof()
    if ran_out:
        await end(process)
        raise Ended(f"it did not come up in {START_WITHIN_S:.0f} s")
    raise Ended(why(await process.wait()))


class Use:
    """When a server was asked for last."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._begun = asyncio.Event()
        self.stopped = False  # whoever asked last saw the process stopped

    def begin(self, *, stopped: bool = False) -> None:
        """Somebody asks for it now. ``stopped``: and saw that its process is, so that it is to be ended."""
        self.stopped = self.stopped or stopped
        self._last = time.monotonic()
        self._begun.set()

    @property
    def over(self) -> bool:
        """Whether nobody has asked for a long time."""
        return time.monotonic() - self._last > IN_USE_S

    async def rest(self, ending: asyncio.Future[Any], longest_s: float) -> None:
        """Wait for the next who asks, for the end of the process, or so many seconds."""
        begun: asyncio.Future[Any] = asyncio.ensure_future(self._begun.wait())
        try:
            await asyncio.wait({ending, begun}, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()
            self._begun.clear()


async def watch(process: Process, url: str, use: Use) -> str:
    """Wait until the process ends or no longer does anything; returns why, to be put in brackets.

    A server in ``use`` is looked at every few seconds, any other rarely and as soon as somebody asks for it.
    """
    ending = asyncio.ensure_future(_drain(process))
    failed, probed, worked = 0, float("-inf"), vitals(process.pid).cpu_s
    use.stopped = False
    try:
        while True:
            resting = use.over and not failed
            await use.rest(ending, PROBE_STILL_S if resting else PROBE_EVERY_S)
            if ending.done():
                break
            stopped = use.stopped or vitals(process.pid).stopped
            if not stopped and not resting and time.monotonic() - probed < PROBE_EVERY_S * 0.9:
                continue  # whoever asks has the process looked at, but many who ask do not make many probes
            probed = time.monotonic()
            health = "stopped" if stopped else await _probe(process.pid, url)
            if health == "answers":
                failed = 0
                continue
            # A server whose every thread is streaming cannot answer a probe, but it works; a dead one does not.
            before, worked = worked, vitals(process.pid).cpu_s
            failed = failed + 1 if worked - before < A_LITTLE_S else 0
            if ending.done():
                break
            if health != "silent" or failed >= PROBES_FAILED:
                await end(process)
                return STOPPED if health == "stopped" else "it no longer answered"
        return why(await process.wait())
    finally:
        ending.cancel()


async def _probe(pid: int, url: str) -> Literal["answers", "silent", "stopped", "still"]:
    """What became of one probe. That the process stands still is seen before the probe's time is over."""
    probe = asyncio.ensure_future(answers(url))
    still, before = 0, vitals(pid)
    try:
        while True:
            await asyncio.wait({probe}, timeout=LOOK_EVERY_S)
            if probe.done():
                return "answers" if probe.result() else "silent"
            now = vitals(pid)
            if now.stopped:
                return "stopped"
            still = still + 1 if not now.works_since(before) and _all_asleep(pid) else 0
            if still >= STILL_LOOKS:
                return "still"
            before = now
    finally:
        probe.cancel()


async def answers(url: str) -> bool:
    """Whether the server's ``/health`` says 200 within `PROBE_WITHIN_S`."""
    where = urlsplit(url)
    try:
        async with asyncio.timeout(PROBE_WITHIN_S):
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            try:
                writer.write(f"GET /health HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: close\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def end(process: Process) -> None:
    """Kill the process and wait for it; it holds nothing that a softer end would save."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()


def why(code: int) -> str:
    """The exit code of a server that ended, in words."""
    if code >= 0:
        return f"it stopped with exit code {code}"
    if -code == signal.SIGILL:
        return "this processor lacks an instruction that its build needs"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"


async def _drain(process: Process) -> None:
    # Read on, so that a chatty child can never fill its pipe and stand still.
    assert process.stdout is not None
    while await process.stdout.read(65536):
        pass


def _all_asleep(pid: int) -> bool:
    """Whether no thread waits for a processor or a disk. False where the system does not tell it of each thread."""
    try:
        states = [
            (task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()
        ]
    except (OSError, IndexError):
        return False
    return all(state == "S" for state in states)
