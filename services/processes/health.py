"""Whether the engine and the pages of this machine answer: asked over sockets of our own, never through a proxy.

``python -m services.processes.health`` asks the lab of the data directory, as a container's health check does: exit
code 0 when its pages answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from services import paths

A_LITTLE_S = 0.01


@dataclass(frozen=True, slots=True)
class Vitals:
    """A moment of a process: its processor time in seconds, and its state as psutil names it."""

    cpu_s: float = 0.0
    state: str = ""

    @property
    def stopped(self) -> bool:
        """Whether a signal stopped it. One that a debugger holds is not meant."""
        return bool(self.state == psutil.STATUS_STOPPED)

    def works_since(self, earlier: Vitals) -> bool:
        """Whether it did something since, or would if the machine let it: it waits for a processor or for a disk."""
        waits = self.state in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP, psutil.STATUS_TRACING_STOP)
        return waits or self.cpu_s - earlier.cpu_s >= A_LITTLE_S


def vitals(pid: int) -> Vitals:
    """How a process is now; nothing is known of one that is gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Vitals(float(times.user + times.system), str(process.status()))
    except psutil.Error:
        return Vitals()


NOTE = "run.lock"  # held by `lab run` for as long as it lives

WITHIN_S = 5.0

REQUEST = "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Lab:
    """A `lab run` that is at work: its process, and where its pages are."""

    pid: int
    host: str
    port: int
    url: str

    def to_json(self) -> str:
        """As it is noted in the data directory."""
        return json.dumps(asdict(self)) + "\n"


def noted_lab(data: Path) -> Lab | None:
    """What the `lab run` of a data directory noted about itself; None where there is none."""
    try:
        return Lab(**json.loads((data / NOTE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


async def engine_answers(socket: Path, within_s: float) -> bool:
    """Whether the engine's loop answers on its socket."""
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            return (await _answer(reader, writer, "/health", "engine")).startswith(b"HTTP/")
    except (OSError, TimeoutError):
        return False


async def pages_answer(host: str, port: int, within_s: float, *, ready: bool = False) -> bool:
    """Whether the pages' loop answers at all; with ``ready`` also whether it would take a browser."""
    name = f"[::1]:{port}" if host == "::1" else f"localhost:{port}"
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(host, port)
            line = await _answer(reader, writer, "/_stcore/health", name)
    except (OSError, TimeoutError):
        return False
    # A server with a certificate closes the connection, which a loop that stands still does not do.
    return not (ready and line[9:12].startswith(b"5"))


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, host: str) -> bytes:
    try:
        writer.write(REQUEST.format(path=path, host=host).encode())
        return await reader.readline()
    finally:
        writer.close()


def main() -> int:
    """The exit code of a container's health check."""
    with contextlib.suppress(ValueError, paths.Unusable):
        lab = noted_lab(paths.data_dir())
        port = lab.port if lab else int(os.environ.get("LAB_PORT") or 8501)
        if asyncio.run(pages_answer(lab.host if lab else "127.0.0.1", port, WITHIN_S, ready=True)):
            return 0
    print("The pages do not answer.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
