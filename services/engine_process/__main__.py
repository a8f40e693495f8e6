"""The engine process: ``python -m services.engine_process --data DIR [--deployments FILE] [--parent-pid N]``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import fcntl
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import uvloop
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from db.engine import database_url, reader, sentence_of
from db.migrate import DatabaseTooNew, upgrade
from db.permissions import private_files
from db.writer import Writer
from services import paths
from services.batch.reconcile import keep_forgetting
from services.calls.clock import settle
from services.deployments.registry import Registry
from services.embedded import DEFAULT_SPECS, EmbeddedPool
from services.engine.engine import Engine
from services.engine_process.batches import batch_service, make_app
from services.processes import lifetime, logs
from services.processes.lifetime import raise_file_limit
from services.processes.output import write_whole
from services.security import keys

log = logging.getLogger("engine")


def main() -> None:
    """Run one engine until it is told to stop. Exit code 3: another engine holds this data directory."""
    parser = argparse.ArgumentParser(prog="services.engine_process")
    parser.add_argument("--data", required=True)
    parser.add_argument("--deployments")
    parser.add_argument("--parent-pid", type=int, help="stop when this process is gone")
    parser.add_argument("--no-embedded", action="store_true", help="do not start the embedded model servers")
    arguments = parser.parse_args()
    write_whole()
    # `lab run` asks with it where each thread stands before it ends an engine that hangs.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    data = paths.data_dir(arguments.data)
    private_files()
    if trouble := paths.data_trouble(data, everything=True):
        _fail(trouble, 4)
    try:
        (data / "logs").mkdir(exist_ok=True)
        logs.log_to(data / "logs" / "engine.log")
    except OSError as error:
        _fail(f"The log {data / 'logs' / 'engine.log'} cannot be written ({error.strerror}): mend that.", 4)
    lock = _lock(data)
    with lock:
        try:
            socket = paths.new_socket_path(data)
            url = database_url(data)
            _say({"doing": f"opening the database and bringing it up to date ({_kind(url)})", "long": True})
            upgrade(url, data)
        except (DatabaseTooNew, ValueError, OSError, SQLAlchemyError) as error:
            log.exception("the engine cannot start")
            _fail(sentence_of(error), 4)
        _say({"doing": "reading the records and the deployments file"})
        raise_file_limit()
        try:
            uvloop.run(_serve(data, url, paths.deployments_file(arguments.deployments), socket, arguments))
        except Exception as error:
            log.exception("the engine failed")
            _fail(f"The engine cannot work: {sentence_of(error)}", 1)


def _wake(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    loop.call_soon_threadsafe(stopping.set)


def _take(socket: Path) -> None:
    """What a dead engine left there is removed; we hold the data directory."""
    socket.unlink(missing_ok=True)


def _announce(data: Path, socket: Path) -> None:
    socket.chmod(0o600)
    paths.note_socket(data, socket)


def _say(words: dict[str, object]) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(words), flush=True)


def _fail(sentence: str, code: int, **details: object) -> NoReturn:
    _say({"error": keys.scrub(sentence), **details})
    sys.exit(code)


def _kind(url: str) -> str:
    return "PostgreSQL" if url.startswith("postgresql") else "SQLite"


async def _serve(data: Path, url: str, file: Path, socket: Path, arguments: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    if arguments.parent_pid:
        # An engine whose starter was killed must not stay behind and hold the data directory.
        lifetime.when_gone(arguments.parent_pid, lambda: _wake(loop, stopping))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    writer = Writer(url)
    writer.start()
    read = reader(url)
    pool = EmbeddedPool(() if arguments.no_embedded else DEFAULT_SPECS, log_dir=data / "logs")
    await pool.start()
    engine = Engine(
        writer=writer,
        reader=read,
        registry=Registry(writer, read, file),
        pool=pool,
        single_owner=url.startswith("sqlite"),
        data=data,
    )
    batches = batch_service(engine, data)
    await engine.start()
    runner = web.AppRunner(make_app(engine, batches), access_log=None, shutdown_timeout=1)
    await runner.setup()
    _take(socket)
    await web.UnixSite(runner, str(socket)).start()
    _announce(data, socket)
    settle()
    _say({"socket": str(socket), "pid": os.getpid()})
    engine.keep_worker(data, file)
    engine.keep(keep_forgetting(writer, engine.registry, data), "batches forgetting")
    await stopping.wait()
    log.info("stopping")
    await engine.close()
    await pool.close()
    await runner.cleanup()
    writer.close()
    _take(socket)


def _lock(data: Path) -> contextlib.ExitStack:
    """Hold the data directory. Ends the process when another engine does."""
    stack = contextlib.ExitStack()
    path = data / "engine.lock"
    try:
        file = stack.enter_context(path.open("a+"))
    except OSError as error:
        _fail(f"{path} cannot be opened ({error.strerror}): mend that, or give another directory with --data.", 4)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read(20).strip()
        whose = f" (process {holder})" if holder.isdigit() else ""
        _fail(f"Another engine already works on {data}{whose}: stop that one, or give another --data.", 3, held=True)
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return stack


if __name__ == "__main__":
    main()
