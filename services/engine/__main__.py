"""The engine process: ``python -m services.engine --data DIR [--deployments FILE] [--parent-pid N]``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from db.engine import database_url, reader
from db.migrate import DatabaseTooNew, upgrade
from db.private import private_directory, private_files
from db.writer import Writer
from services import keys, logs, paths
from services.embedded import DEFAULT_SPECS, EmbeddedPool
from services.engine.core import Engine
from services.engine.http import make_app
from services.engine.quiet import settle
from services.engine.registry import Registry
from services.output import write_whole
from services.process import raise_file_limit

log = logging.getLogger("engine")


def main() -> None:
    """Run one engine until it is told to stop. Exit code 3: another engine holds this data directory."""
    parser = argparse.ArgumentParser(prog="services.engine")
    parser.add_argument("--data", required=True)
    parser.add_argument("--deployments")
    parser.add_argument("--parent-pid", type=int, help="stop when this process is gone")
    parser.add_argument("--no-embedded", action="store_true", help="do not start the embedded model servers")
    given = parser.parse_args()
    write_whole()
    data = paths.data_dir(given.data)
    private_files()
    try:
        private_directory(data, everything=True)
        (data / "logs").mkdir(exist_ok=True)
    except OSError as error:
        why = f"The data directory {data} cannot be used ({error.strerror}); give another with --data."
        print(json.dumps({"error": why}), flush=True)
        sys.exit(4)
    logs.log_to(data / "logs" / "engine.log")
    lock = _lock(data)
    if lock is None:
        print(json.dumps({"error": f"Another engine already works on {data}."}), flush=True)
        sys.exit(3)
    try:
        url = database_url(data)
        upgrade(url, data)
    except (DatabaseTooNew, ValueError, OSError) as error:
        print(json.dumps({"error": keys.scrub(str(error))}), flush=True)
        sys.exit(4)
    raise_file_limit()
    with lock:
        uvloop.run(_serve(data, url, paths.deployments_file(given.deployments), given))


async def _serve(data: Path, url: str, file: Path, given: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    writer = Writer(url)
    writer.start()
    read = reader(url)
    pool = EmbeddedPool(() if given.no_embedded else DEFAULT_SPECS, log_dir=data / "logs")
    await pool.start()
    engine = Engine(
        writer=writer, reader=read, registry=Registry(writer, read, file), pool=pool,
        single_owner=url.startswith("sqlite"), data=data,
    )  # fmt: skip
    await engine.start()
    runner = web.AppRunner(make_app(engine), access_log=None, shutdown_timeout=1)
    await runner.setup()
    socket = paths.socket_path(data)
    with contextlib.suppress(FileNotFoundError):
        socket.unlink()
    await web.UnixSite(runner, str(socket)).start()
    socket.chmod(0o600)
    settle()
    print(json.dumps({"socket": str(socket), "pid": os.getpid()}), flush=True)
    engine.keep_worker(data, file)
    if given.parent_pid:
        loop.create_task(_leave_with(given.parent_pid, stopping))  # noqa: RUF006 - it lives as long as the loop
    await stopping.wait()
    log.info("stopping")
    await engine.close()
    await pool.close()
    await runner.cleanup()
    writer.close()
    with contextlib.suppress(FileNotFoundError):
        socket.unlink()


async def _leave_with(parent: int, stopping: asyncio.Event) -> None:
    """An engine whose starter was killed must not stay behind and hold the data directory."""
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells a process that its parent died
        await asyncio.sleep(0.5)
    stopping.set()


def _lock(data: Path) -> contextlib.ExitStack | None:
    """Hold the data directory; None when another engine does."""
    stack = contextlib.ExitStack()
    file = stack.enter_context((data / "engine.lock").open("a+"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stack.close()
        return None
    return stack


if __name__ == "__main__":
    main()
