"""The worker: a process of its own that sends batches. ``python -m services.batch.worker --data DIR``.

It keeps its place in DBOS, watches what people want of their batches, and does the steps of the workflows
(`workflows`). Any number of workers may work on one PostgreSQL database; on SQLite any number on one machine.

Every step may be repeated after a crash, by the same worker or another; it then changes nothing that is done already.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import logging
import os
import re
import secrets
import signal
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, TypedDict

import uvloop
from sqlmodel import Session

from db import batches as batches_module
from db.batch_rows import BatchChange, BatchRow, BatchState, LineState
from db.engine import database_url, reader, sentence_of
from db.migrate import DatabaseTooNew, upgrade
from db.permissions import private_files
from db.writer import Writer
from services import paths
from services.batch import providers, reconcile
from services.batch.jobs import Jobs
from services.batch.runner import Around, EnginePool, LineCalls, Sender, written
from services.batch.types import BEAT_S, LEASE_S, STALE_S, Get
from services.batch.workflows import Beginning, Durable
from services.calls.calls import Calls
from services.calls.clock import Heartbeat, Ticker
from services.calls.stream import FAR_KEEPALIVE_S, NEAR_KEEPALIVE_S, opened_session
from services.deployments import config
from services.deployments.registry import Registry
from services.deployments.toml_table import changed_at
from services.processes import logs
from services.processes.lifetime import when_gone
from services.processes.output import write_whole
from services.runs.spec import new_id
from services.security import keys
from services.security.keys import scrub
from services.security.network import GuardedResolver
from services.types import Deployment

log = logging.getLogger(__name__)

WATCH_S = 0.5

DEPLOYMENTS_S = 5.0

GRACE_S = 4.0  # for calls under way when the worker is stopped


class Worker:
    """One worker. Made and used on one event loop; ``get`` finds a batch service by its name."""

    def __init__(self, data: Path, file: Path, url: str, get: Get = providers.get) -> None:
        self.data = data
        self._url = url
        self.me = take_place(data / "batches")
        self.writer = Writer(url)
        self.writer.start()
        self.reader = reader(url)
        self.registry = WorkerRegistry(self.writer, self.reader, file)
        pool = EnginePool(data)
        self.registry.local_lacks = pool.lacks
        self._heartbeat = Heartbeat(asyncio.get_running_loop())
        self.calls = Calls(
            engine_id=self.me.id, writer=self.writer, registry=self.registry, pool=pool, heartbeat=self._heartbeat
        )
        self._ticker = Ticker(lambda: (), lambda: self.calls.live)
        self.calls.on_begin = self._ticker.wake
        self._workers: Counter[str] = Counter(alive=1)
        lines = LineCalls(self.calls, self.writer, pool)
        self._around = Around(self.me.id, self.writer, self.reader, self.registry, lines, self._workers)
        self._rows: dict[str, BatchRow] = {}
        self.steps = WorkflowSteps(self._around)
        self.steps.jobs = Jobs(
            writer=self.writer,
            reader=self.reader,
            data=data,
            get=get,
            wanted_of=self.wanted,
            deployment_of=self.steps.deployment_of,
        )
        self.durable = Durable(self.steps, data, url, self.me.place)
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
            asyncio.create_task(_every(BEAT_S, self._beat)),
            asyncio.create_task(_every(DEPLOYMENTS_S, self.registry.refresh)),
        ]
        try:
            await stopping.wait()
        finally:
            await self._close(loops)

    async def _adopt(self) -> None:
        """Take the place over from whoever held it: it is dead, because the place is free."""
        open_ids = [row["id"] for row in await asyncio.to_thread(batches_module.unfinished, self.reader)]

        def write(session: Session) -> None:
            for earlier in batches_module.not_stopped(session=session):
                if place_of(earlier) == self.me.place:
                    batches_module.release(session=session, worker=earlier, batch_ids=open_ids)
                    batches_module.leave(session=session, worker=earlier)
            batches_module.adopt_worker(session=session, worker=self.me.id, host=socket.gethostname(), pid=os.getpid())

        await written(self.writer, write)

    async def _close(self, loops: list[asyncio.Task[None]]) -> None:
        self.steps.closing = True
        for sender in self.steps.senders.values():
            sender.turns.close()
        await self._under_way(GRACE_S)
        for sender in self.steps.senders.values():
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
        waiting = [asyncio.create_task(sender.turns.all_free()) for sender in self.steps.senders.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)

    # --- watching --------------------------------------------------------------------------------------------------

    async def _watch_once(self) -> None:
        rows = {row["id"]: row for row in await asyncio.to_thread(batches_module.unfinished, self.reader)}
        self._rows = rows
        for batch_id, sender in list(self.steps.senders.items()):
            sender.look(rows.get(batch_id))
            if batch_id not in rows and not sender.busy:
                del self.steps.senders[batch_id]
            elif batch_id in rows and (news := sender.news()):
                self.writer.submit(partial(_news, batch_id, news))
        if self.durable.launched:
            await self.durable.start_missing(list(rows.values()))

    async def _beat(self) -> None:
        alive = await self.writer.write(partial(_beat, self.me.id, [*self.steps.senders]))
        self._workers["alive"] = max(1, len(alive))
        if self.durable.launched:
            await self.durable.take_over({place_of(worker) for worker in alive})

    def wanted(self, batch_id: str) -> str:
        """What is wanted of a batch, as of the last half second."""
        row = self._rows.get(batch_id)
        return "run" if row is None else str(row["wanted"])


async def _every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            log.exception("the worker's upkeep failed")
        await asyncio.sleep(seconds)


# --- units of the writer ---------------------------------------------------------------------------------------------
def _beat(worker: str, batch_ids: list[str], session: Session) -> list[str]:
    batches_module.beat(session=session, worker=worker)
    if batch_ids:
        batches_module.renew(session=session, worker=worker, batch_ids=batch_ids, lease_s=LEASE_S)
    return batches_module.alive(session=session, stale_after_s=STALE_S)


def _leave(worker: str, batch_ids: list[str], session: Session) -> None:
    batches_module.release(session=session, worker=worker, batch_ids=batch_ids)
    batches_module.leave(session=session, worker=worker)


def _news(batch_id: str, news: BatchChange, session: Session) -> None:
    if "lanes" in news:
        batches_module.set_batch(session=session, batch_id=batch_id, lanes=news["lanes"])
    if "said" in news:  # a batch that is being paused says why
        said = news["said"]
        batches_module.move(session=session, batch_id=batch_id, states=["running"], said=said and keys.scrub(said))


# --- the process -----------------------------------------------------------------------------------------------------
def main() -> None:
    """Run one worker until it is told to stop. Its first line of output says how it went."""
    parser = argparse.ArgumentParser(prog="services.batch.worker")
    parser.add_argument("--data", required=True)
    parser.add_argument("--deployments")
    parser.add_argument("--parent-pid", type=int, help="stop when this process is gone")
    arguments = parser.parse_args()
    write_whole()
    data = paths.data_dir(arguments.data)
    work(data, paths.deployments_file(arguments.deployments), parent=arguments.parent_pid, say=_say)


class WorkerNotice(TypedDict, total=False):
    """What a worker says first, as a line of JSON: who it is, or why it could not begin."""

    worker: str
    pid: int
    error: str


def work(
    data: Path,
    file: Path,
    *,
    parent: int | None = None,
    say: Callable[[WorkerNotice], None],
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
        log_file = data / "logs" / "worker.log"
        unwritable = f"The log {log_file} cannot be written ({error.strerror}): mend that, or give another --data."
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
    data: Path, file: Path, url: str, parent: int | None, say: Callable[[WorkerNotice], None], get: Get
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


def _say(notice: WorkerNotice) -> None:
    print(json.dumps(notice), flush=True)


SMALLEST_CHUNK, LARGEST_CHUNK, CHUNKS_WANTED = 20, 128, 40  # lines, lines, chunks of a batch


class WorkflowSteps:
    """The work of one worker. ``senders``: of the batches that it sends through our own runner."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self._writer, self._reader = around.writer, around.reader
        self.senders: dict[str, Sender] = {}
        self.jobs: Jobs  # set by the worker, which knows the services
        self.closing = False

    def deployment_of(self, batch: BatchRow) -> Deployment:
        """The deployment of a batch as it is called now; as it was at the submit where it is not known any more."""
        try:
            return self._around.registry.calling(batch["deployment_id"])
        except ValueError:
            return Deployment.from_json(batch["deployment"])

    async def begin(self, batch_id: str) -> Beginning:
        """Take a batch up."""
        batch = await self._batch(batch_id)
        if batch is None or batch["state"] in batches_module.OVER:
            return {"go": "leave", "size": 0}
        size = max(SMALLEST_CHUNK, min(LARGEST_CHUNK, -(-batch["n_lines"] // CHUNKS_WANTED)))
        runner = batch["route"] == "runner"
        values: BatchChange = {"state": "running", "said": None} if runner else {"state": batch["state"]}
        if batch["started_at"] is None:
            values["started_at"] = datetime.now(UTC)
        states: list[BatchState] = ["queued", "running"] if runner else [batch["state"]]
        moving = partial(_move, batch_id, states, "run" if runner else batch["wanted"], values)
        if not await written(self._writer, moving):
            return {"go": "settle", "size": size}
        return {"go": "chunks" if runner else "jobs", "size": size}

    async def groups(self, batch_id: str, size: int) -> list[int]:
        """The chunks that have lines which are not over."""
        await self._go_on()
        return await asyncio.to_thread(batches_module.open_groups, self._reader, batch_id, size)

    async def chunk(self, batch_id: str, group: int, size: int) -> bool:
        """Send the lines of a chunk; False when sending was stopped."""
        await self._go_on()
        sender = await self._sender(batch_id)
        if sender is None:
            return False
        await sender.send(group * size + 1, (group + 1) * size)
        await self._go_on()
        return not sender.turns.closed

    async def _sender(self, batch_id: str) -> Sender | None:
        """The sender of a batch; None when nothing is to be sent of it."""
        sender = self.senders.get(batch_id)
        if sender is not None and not sender.turns.closed:
            return sender
        if sender is not None:
            await sender.settled()
        await self._around.registry.refresh()
        batch = await self._batch(batch_id)
        if batch is None or batch["state"] in batches_module.OVER or batch["wanted"] != "run":
            return None
        sender = self.senders.get(batch_id)  # another chunk may have been quicker
        if sender is None or sender.turns.closed:
            sender = self.senders[batch_id] = Sender(self._around, batch, self.deployment_of(batch))
        return sender

    async def settle(self, batch_id: str) -> str:
        """What comes next for a batch: "again", "over" or "leave"."""
        await self._go_on()
        if (sender := self.senders.get(batch_id)) is not None:
            await sender.settled()
        batch = await self._batch(batch_id)
        if batch is None or batch["state"] in batches_module.OVER:
            return "leave"
        if batch["wanted"] == "cancel":
            ended = await self._end(batch, "cancelled", "cancelled")
            return "over" if ended else "leave"
        if batch["wanted"] == "pause":
            states: list[BatchState] = ["queued", "running", "pausing", "paused"]
            pausing = partial(_move, batch_id, states, "pause", {"state": "paused"})
            return "leave" if await written(self._writer, pausing) else "again"
        counted = await asyncio.to_thread(batches_module.counts, self._reader, batch_id)
        if any(counted.get(state) for state in batches_module.OPEN):
            return "again"
        state, n_left = await self._how(batch)
        return "over" if await self._end(batch, state, n_left) else "leave"

    async def _how(self, batch: BatchRow) -> tuple[BatchState, LineState]:
        """How a batch whose lines are all over has ended, from its jobs."""
        states = {job["state"] for job in await asyncio.to_thread(batches_module.jobs, self._reader, batch["id"])}
        if "expired" in states:
            return "expired", "expired"
        if states and states <= {"failed"}:
            return "failed", "failed"
        if states and states <= {"cancelled"}:
            return "cancelled", "cancelled"
        return "ended", "missing"

    async def _end(self, batch: BatchRow, state: BatchState, left_state: LineState) -> bool:
        counted = await asyncio.to_thread(batches_module.counts, self._reader, batch["id"])
        jobs = await asyncio.to_thread(batches_module.jobs, self._reader, batch["id"])
        job_sentences = [job["said"] for job in jobs if job["said"]]
        tally = reconcile.tally(reconcile.closed(counted, left_state))
        sentence = " ".join([f"{tally[:1].upper()}{tally[1:]}.", *dict.fromkeys(job_sentences[:3])])
        return await written(self._writer, partial(_end, batch["id"], state, sentence, left_state))

    async def plan_jobs(self, batch_id: str) -> list[int]:
        """Cut a batch into jobs."""
        batch = await self._batch(batch_id)
        if batch is None:
            return []
        try:
            return await self.jobs.plan(batch)
        except ValueError as error:  # no job can be made of it: the batch ends, and says why
            await written(self._writer, partial(_refused, batch, scrub(str(error))))
            return []

    async def submit_job(self, batch_id: str, no: int) -> float | None:
        """Submit a job, or say in how many seconds that is tried again."""
        return await self._job(self.jobs.submit, batch_id, no)

    async def poll_job(self, batch_id: str, no: int) -> float | None:
        """Ask how a job stands, or say in how many seconds it is asked again."""
        return await self._job(self.jobs.poll, batch_id, no)

    async def collect_job(self, batch_id: str, no: int) -> float | None:
        """Read what came back, or say in how many seconds that is tried again."""
        return await self._job(self.jobs.collect, batch_id, no)

    async def _job(
        self, do: Callable[[BatchRow, int], Awaitable[float | None]], batch_id: str, no: int
    ) -> float | None:
        await self._go_on()
        batch = await self._batch(batch_id)
        return None if batch is None else await do(batch, no)

    async def notify(self, batch_id: str) -> None:
        """Send the notice of a batch that is over."""
        batch = await self._batch(batch_id)
        if batch is None or not batch["notify"] or batch["notified"]:
            return
        counted = await asyncio.to_thread(batches_module.counts, self._reader, batch_id)
        spent = await asyncio.to_thread(batches_module.spent, self._reader, batch_id)
        trouble = await asyncio.to_thread(reconcile.send, batch["notify"], reconcile.sentence(batch, counted, spent))
        await written(self._writer, partial(_notified, batch_id, trouble))

    async def _batch(self, batch_id: str) -> BatchRow | None:
        return await asyncio.to_thread(batches_module.batch, self._reader, batch_id)

    async def _go_on(self) -> None:
        """A worker that is being stopped begins nothing: the step is done by whoever comes next."""
        if self.closing:
            await asyncio.Event().wait()


def _move(
    batch_id: str, states: Sequence[BatchState], while_wanted: str, values: BatchChange, session: Session
) -> bool:
    return batches_module.move(session=session, batch_id=batch_id, states=states, while_wanted=while_wanted, **values)


def _end(batch_id: str, state: BatchState, sentence: str, left_state: LineState, session: Session) -> bool:
    return batches_module.end_batch(session=session, batch_id=batch_id, state=state, said=sentence, left=left_state)


def _notified(batch_id: str, trouble: str, session: Session) -> None:
    batches_module.set_batch(session=session, batch_id=batch_id, unless_over=False, notified=trouble)


def _refused(batch: BatchRow, sentence: str, session: Session) -> None:
    batches_module.insert_jobs(
        session=session,
        rows=[
            {
                "batch_id": batch["id"],
                "no": 1,
                "token": f"lab-{new_id()}",
                "first_no": 1,
                "last_no": batch["n_lines"],
                "n_lines": batch["n_lines"],
                "state": "failed",
                "said": sentence,
                "ended_at": datetime.now(UTC),
            }
        ],
    )
    batches_module.close_lines(session=session, batch_id=batch["id"], state="failed", message=sentence)


class WorkerRegistry(Registry):
    """What the database lists, with the rules (keys, hosts, privacy) of the worker's own deployments file."""

    async def refresh(self) -> None:
        """Read the rules again if the file changed, and the deployments in any case. Writes nothing."""
        stamp = changed_at(self.file) if self.file else None
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self.config = config.load(self.file) if self.file and stamp is not None else config.Config()
                self.trouble = None
            except config.ConfigError as error:
                self.trouble = str(error)
        await asyncio.to_thread(self._load)


# --- the identity of a worker -----------------------------------------------------------------------------------------
# A worker has a *place*: the host, the data directory's own mark and the first number that no other worker there holds
# (a file lock, which the system takes away from the dead). DBOS knows a worker by its place, so one that is started
# again continues with what its predecessor left. Lines and calls know it by its *id*, which differs for every process,
# so that the lines of a dead worker are told apart from those of its successor.
PREFIX = "worker-"
MOST_PLACES = 64


@dataclass(slots=True)
class Identity:
    """``place`` and ``id`` of this process; ``lock`` keeps the place for as long as the process lives."""

    place: str
    id: str
    lock: IO[str]


def take_place(folder: Path) -> Identity:
    """Take a place in a data directory's ``batches`` folder. Raises OSError in words when all are taken."""
    folder.mkdir(parents=True, exist_ok=True)
    host = re.sub(r"[^A-Za-z0-9.]", "-", socket.gethostname())[:40] or "host"
    mark = _mark(folder / "place")
    for number in range(MOST_PLACES):
        file = (folder / f"worker-{number}.lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        place = f"{PREFIX}{host}-{mark}-{number}"
        return Identity(place, f"{place}-{os.getpid()}-{secrets.token_hex(3)}", file)
    raise OSError(f"{MOST_PLACES} workers are at work on {folder} already; that is the most there can be.")


def place_of(worker: str) -> str:
    """The place of the worker with this id."""
    return worker.rsplit("-", 2)[0]


def _mark(file: Path) -> str:
    """Six letters that tell this folder from one of the same name on another disk."""
    try:
        with file.open("x", encoding="ascii") as stream:
            stream.write(secrets.token_hex(3))
    except FileExistsError:
        pass
    letters = re.sub(r"[^a-z0-9]", "", file.read_text(encoding="ascii"))[:12]
    return letters or "000000"


if __name__ == "__main__":
    main()
