"""The worker: a process of its own that sends batches. ``python -m services.batch.worker --data DIR``.

It keeps its place in DBOS, watches what people want of their batches, and does what the workflows of `workflows` ask
for. Any number of them may work on one PostgreSQL database; on SQLite any number on one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from sqlmodel import Session

from db import batch_workers, batches
from db.engine import database_url, reader
from db.failures import sentence_of
from db.migrate import DatabaseTooNew, upgrade
from db.permissions import private_files
from db.writer import Writer
from services import paths
from services.batch import lease, providers
from services.batch.durable import Durable
from services.batch.jobs import Jobs
from services.batch.line_calls import EnginePool, LineCalls, written
from services.batch.providers.base import Get
from services.batch.runner import Around
from services.batch.worker_registry import WorkerRegistry
from services.batch.works import Works
from services.calls.clock import Ticker
from services.calls.heartbeat import Heartbeat
from services.calls.stream import opened_session
from services.engine.engine import FAR_KEEPALIVE_S, NEAR_KEEPALIVE_S
from services.processes import logs
from services.processes.output import write_whole
from services.processes.parent import when_gone
from services.security import keys
from services.security.network import GuardedResolver

log = logging.getLogger(__name__)
Row = dict[str, Any]
WATCH_S = 0.5
DEPLOYMENTS_S = 5.0
GRACE_S = 4.0  # for calls under way when the worker is stopped


class Worker:
    """One worker. Made and used on one event loop; ``get`` finds a batch service by its name."""

    def __init__(self, data: Path, file: Path, url: str, get: Get = providers.get) -> None:
        self.data = data
        self._url = url
        self.me = lease.settle(data / "batches")
        self.writer = Writer(url)
        self.writer.start()
        self.reader = reader(url)
        self.registry = WorkerRegistry(self.writer, self.reader, file)
        pool = EnginePool(data)
        self.registry.local_lacks = pool.lacks
        self._heartbeat = Heartbeat(asyncio.get_running_loop())
        self.calls = LineCalls(
            engine_id=self.me.id, writer=self.writer, registry=self.registry, pool=pool, heartbeat=self._heartbeat
        )
        self.calls.follow()
        self._ticker = Ticker(lambda: (), lambda: self.calls.live)
        self.calls.began = self._ticker.wake
        self._workers: Counter[str] = Counter(alive=1)
        self._around = Around(self.me.id, self.writer, self.reader, self.registry, self.calls, self._workers)
        self._rows: dict[str, Row] = {}
        self.works = Works(self._around)
        self.works.jobs = Jobs(
            writer=self.writer, reader=self.reader, data=data, get=get, wanted=self.wanted,
            deployment_of=self.works.deployment_of,
        )  # fmt: skip
        self.durable = Durable(self.works, data, url, self.me.place)
        providers.configure(lambda: self.registry.config)

    async def run(self, stopping: asyncio.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Work until ``stopping`` is set; then let go of everything. ``ready`` is called when the work begins."""
        await self._adopt()
        await self.registry.refresh()
        resolver = GuardedResolver(self.registry.private_hosts)
        self.calls.use_sessions(
            near=opened_session(None, NEAR_KEEPALIVE_S), far=opened_session(resolver, FAR_KEEPALIVE_S)
        )
        self._ticker.start()
        await self._watch_once()
        await self.durable.launch()
        ready()
        loops = [
            asyncio.create_task(_every(WATCH_S, self._watch_once)),
            asyncio.create_task(_every(lease.BEAT_S, self._beat)),
            asyncio.create_task(_every(DEPLOYMENTS_S, self.registry.refresh)),
        ]
        try:
            await stopping.wait()
        finally:
            await self._close(loops)

    async def _adopt(self) -> None:
        """Take the place over from whoever held it: it is dead, because the place is free."""
        open_ids = [row["id"] for row in await asyncio.to_thread(batches.unfinished, self.reader)]

        def write(session: Session) -> None:
            for before in batch_workers.not_stopped(session=session):
                if lease.place_of(before) == self.me.place:
                    batches.release(session=session, worker=before, batch_ids=open_ids)
                    batch_workers.leave(session=session, worker=before)
            batch_workers.adopt_worker(session=session, worker=self.me.id, host=socket.gethostname(), pid=os.getpid())

        await written(self.writer, write)

    async def _close(self, loops: list[asyncio.Task[None]]) -> None:
        self.works.closing = True
        for sender in self.works.senders.values():
            sender.turns.close()
        await self._under_way(GRACE_S)
        for sender in self.works.senders.values():
            sender.abort(lab_stopped=True)
        await self._under_way(1.0)
        for task in loops:
            task.cancel()
        await self._ticker.close()
        await self.calls.close()
        open_ids = list(self._rows)
        self.writer.submit(partial(_leave, self.me.id, open_ids))
        await asyncio.to_thread(self.writer.close)

    async def _under_way(self, seconds: float) -> None:
        """Wait for the lines under way, but not longer."""
        waiting = [asyncio.create_task(sender.turns.all_free()) for sender in self.works.senders.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)

    # --- watching --------------------------------------------------------------------------------------------------

    async def _watch_once(self) -> None:
        rows = {row["id"]: row for row in await asyncio.to_thread(batches.unfinished, self.reader)}
        self._rows = rows
        for batch_id, sender in list(self.works.senders.items()):
            sender.look(rows.get(batch_id))
            if batch_id not in rows and not sender.busy:
                del self.works.senders[batch_id]
            elif batch_id in rows and (news := sender.news()):
                self.writer.submit(partial(_news, batch_id, news))
        if self.durable.launched:
            await self.durable.start_missing(list(rows.values()))

    async def _beat(self) -> None:
        alive = await self.writer.write(partial(_beat, self.me.id, [*self.works.senders]))
        self._workers["alive"] = max(1, len(alive))
        if self.durable.launched:
            await self.durable.take_over({lease.place_of(worker) for worker in alive})

    def wanted(self, batch_id: str) -> str:
        """What is wanted of a batch, as of the last half second."""
        row = self._rows.get(batch_id)
        return "run" if row is None else str(row["wanted"])


async def _every(seconds: float, work: Callable[[], Awaitable[Any]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            log.exception("the worker's upkeep failed")
        await asyncio.sleep(seconds)


# --- units of the writer ---------------------------------------------------------------------------------------------


def _beat(worker: str, batch_ids: list[str], session: Session) -> list[str]:
    batch_workers.beat(session=session, worker=worker)
    if batch_ids:
        batches.renew(session=session, worker=worker, batch_ids=batch_ids, lease_s=lease.LEASE_S)
    return batch_workers.alive(session=session, stale_after_s=lease.STALE_S)


def _leave(worker: str, batch_ids: list[str], session: Session) -> None:
    batches.release(session=session, worker=worker, batch_ids=batch_ids)
    batch_workers.leave(session=session, worker=worker)


def _news(batch_id: str, news: Row, session: Session) -> None:
    if "lanes" in news:
        batches.set_batch(session=session, batch_id=batch_id, lanes=news["lanes"])
    if "said" in news:  # a batch that is being paused says why
        batches.move(session=session, batch_id=batch_id, states=["running"], said=keys.scrub(news["said"]))


# --- the process -----------------------------------------------------------------------------------------------------


def main() -> None:
    """Run one worker until it is told to stop. Its first line of output says how it went."""
    parser = argparse.ArgumentParser(prog="services.batch.worker")
    parser.add_argument("--data", required=True)
    parser.add_argument("--deployments")
    parser.add_argument("--parent-pid", type=int, help="stop when this process is gone")
    given = parser.parse_args()
    write_whole()
    data = paths.data_dir(given.data)
    work(data, paths.deployments_file(given.deployments), parent=given.parent_pid, say=_say)


def work(
    data: Path,
    file: Path,
    *,
    parent: int | None = None,
    say: Callable[[dict[str, Any]], None],
    get: Get = providers.get,
) -> None:
    """Work on a data directory until a signal or the end of ``parent``; ends the process.

    ``say`` is told ``{"worker": id, "pid": …}`` when the work begins, or ``{"error": sentence}`` (exit code 4).
    """
    private_files()
    try:
        paths.make_data(data)
        (data / "logs").mkdir(exist_ok=True)
        logs.log_to(data / "logs" / "worker.log")
    except OSError as error:
        at = data / "logs" / "worker.log"
        unwritable = f"The log {at} cannot be written ({error.strerror}): mend that, or give another --data."
        say({"error": str(error) if isinstance(error, paths.Unusable) else unwritable})
        sys.exit(4)
    for chatty in ("aiohttp", "httpx", "httpx2", "httpcore", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        url = database_url(data)
        upgrade(url, data)
    except (DatabaseTooNew, ValueError, OSError) as error:
        say({"error": keys.scrub(sentence_of(error))})
        sys.exit(4)
    try:
        uvloop.run(_serve(data, file, url, parent, say, get))
    except OSError as error:
        say({"error": keys.scrub(str(error))})
        sys.exit(4)
    # Threads of DBOS still look after their queues, and nothing that they do is needed any more.
    logging.shutdown()
    os._exit(0)


async def _serve(
    data: Path, file: Path, url: str, parent: int | None, say: Callable[[dict[str, Any]], None], get: Get
) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    worker = Worker(data, file, url, get)
    if parent:
        when_gone(parent, lambda: _wake(loop, stopping))
    await worker.run(stopping, lambda: say({"worker": worker.me.id, "pid": os.getpid()}))


def _wake(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    loop.call_soon_threadsafe(stopping.set)


def _say(words: dict[str, Any]) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main()
