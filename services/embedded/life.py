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
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import orjson
import psutil

from services.embedded.spec import KEY, ServerSpec

ROOT = Path(__file__).resolve().parents[2]
START_WITHIN_S = 90.0
PROBE_EVERY_S = 5.0
PROBE_STILL_S = 300.0  # a server that nobody has asked for: every probe wakes all of its threads
IN_USE_S = 660.0  # since it was asked for last; no call lives longer by default
PROBE_WITHIN_S = 10.0
PROBES_FAILED = 3
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
    command = [sys.executable, "-m", "services.embedded", f"--parent-pid={os.getpid()}"]
    command += [f"--{name}={value}" for name, value in asdict(spec).items()]
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    with _open_log(log_dir / f"embedded-{spec.name}.log") as out:  # kept small by `services.logs`
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

    def begin(self) -> None:
        """Somebody asks for it now."""
        self._last = time.monotonic()
        self._begun.set()

    @property
    def over(self) -> bool:
        """Whether nobody has asked for a long time."""
        return time.monotonic() - self._last > IN_USE_S

    async def rest(self, ending: asyncio.Future[Any]) -> None:
        """Wait for the next who asks, for the end of the process, or for a long time."""
        self._begun.clear()
        begun: asyncio.Future[Any] = asyncio.ensure_future(self._begun.wait())
        try:
            await asyncio.wait({ending, begun}, timeout=PROBE_STILL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()


async def watch(process: Process, url: str, use: Use) -> str:
    """Wait until the process ends or no longer does anything; returns why, to be put in brackets.

    A server in ``use`` is probed every few seconds, any other rarely and as soon as somebody asks for it.
    """
    ending = asyncio.ensure_future(_drain(process))
    failed, worked = 0, _cpu_s(process.pid)
    try:
        while True:
            if use.over and not failed:
                await use.rest(ending)
            else:
                await asyncio.wait({ending}, timeout=PROBE_EVERY_S)
            if ending.done():
                break
            if await answers(url):
                failed = 0
                continue
            # A server whose every thread is streaming cannot answer a probe, but it works; a dead one does not.
            before, worked = worked, _cpu_s(process.pid)
            failed = failed + 1 if worked - before < 0.01 else 0
            if failed >= PROBES_FAILED:
                await end(process)
                return "it no longer answered"
        return why(await process.wait())
    finally:
        ending.cancel()


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


def _cpu_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
