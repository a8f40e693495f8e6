"""The engine: starts runs, keeps them alive whoever looks, stops and retries single columns."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import time
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine as SqlEngine

from db import run_queries, runs
from db.run_rows import CallRow, NewRun
from db.writer import Writer
from services.call_record import from_row
from services.calls.calls import Calls, CallSpec, beginning
from services.calls.clock import Heartbeat, Ticker
from services.calls.live import LiveCall, LiveColumn, LiveRun
from services.calls.stream import FAR_KEEPALIVE_S, NEAR_KEEPALIVE_S, Progress, opened_session
from services.deployments.registry import Registry
from services.embedded import EmbeddedPool
from services.engine.alert_loop import Alerting
from services.engine.background import Rolling, Upkeep
from services.engine.batch_worker import BatchWorker
from services.engine.call_limits import Allowance, Hold
from services.engine.server_metrics import Gauges
from services.outcomes import LAB_STOPPED
from services.runs import record as run_record
from services.runs import view
from services.runs.spec import ColumnSpec, RunSpec, new_id
from services.security.network import GuardedResolver
from services.types import Ask, Deployment, Limits, Message

log = logging.getLogger(__name__)

REMEMBERED_RUNS = 100


class Companion(Protocol):
    """What starts and ends with the engine without belonging to it: the batch service."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class Engine:
    """Everything that the engine process holds. Made and used on one event loop."""

    def __init__(
        self,
        *,
        writer: Writer,
        reader: SqlEngine,
        registry: Registry,
        pool: EmbeddedPool,
        single_owner: bool,
        data: Path | None = None,
    ) -> None:
        self.id = new_id()
        self.started = time.time()
        self.writer = writer
        self.reader = reader
        self.registry = registry
        self.pool = pool
        registry.local_lacks = pool.lacks
        self.heartbeat = Heartbeat(asyncio.get_running_loop())
        self.calls = Calls(engine_id=self.id, writer=writer, registry=registry, pool=pool, heartbeat=self.heartbeat)
        self.allowance = Allowance(lambda: registry.config.calls_per_person)
        self.gauges = Gauges(registry, pool)
        self.runs: dict[str, LiveRun] = {}
        self.recent: OrderedDict[str, LiveRun] = OrderedDict()
        self.ticker = Ticker(self.runs.values, lambda: self.calls.live)
        self.upkeep = Upkeep(writer, registry, self.calls, owner_id=self.id, single_owner=single_owner)
        self.alerting = Alerting(writer, reader, busy=self._busy, rolled=lambda: self.rolling.added)
        self.batch_worker = BatchWorker(reader, other_engines=not single_owner)
        # Calls of workers and of other engines end without our knowing.
        self.rolling = Rolling(
            writer, self._busy, lambda: not single_owner or self.batch_worker.needed, self.alerting.stir
        )
        self.upkeep.log_folder = data / "logs" if data is not None else None
        self.upkeep.batching = lambda: self.batch_worker.needed
        self.calls.on_begin, self.calls.on_end = self.ticker.wake, self.rolling.wake
        self.calls.on_unwritten, self.batch_worker.on_change = self.upkeep.wake, self._batches_turned
        self.companions: list[Companion] = []
        self._retrying: set[tuple[str, int]] = set()  # run and column: two requests at once are one retry
        self._tasks: set[asyncio.Task[Any]] = set()
        self.lost_at_start: list[str] = []

    async def start(self) -> None:
        """Adopt the database, mark what a dead engine left behind as lost, and begin."""
        await self.writer.write(
            lambda session: runs.adopt_owner(
                session=session, owner_id=self.id, pid=os.getpid(), host=socket.gethostname()
            )
        )
        self.lost_at_start = await self.upkeep.mark_lost()
        await asyncio.to_thread(run_queries.typical_ttft, self.reader, "")  # the first query of a process imports much
        await self.registry.refresh()
        resolver = GuardedResolver(self.registry.private_hosts)
        self.calls.use_sessions(
            near=opened_session(None, NEAR_KEEPALIVE_S), far=opened_session(resolver, FAR_KEEPALIVE_S)
        )
        self.ticker.start()
        self.gauges.open(self.registry.private_hosts)
        self._spawn(self.upkeep.run(), "owner")
        self._spawn(self.upkeep.keep_forgetting(), "forgetting")
        self._spawn(self.rolling.run(), "rolling")
        self._spawn(self.alerting.run(), "alerting")
        self._spawn(self.gauges.follow(lambda: self.runs.values()), "gauges")
        for companion in self.companions:
            await companion.start()

    def keep_worker(self, data: Path, file: Path) -> None:
        """From now on a worker is started when there is a batch to send."""
        self.keep(self.batch_worker.keep(data, file), "batch worker")

    def keep(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do ``work`` beside the calls until the engine ends."""
        self._spawn(work, name)

    async def close(self) -> None:
        """Stop every call, finish its row, and let go."""
        for run in list(self.runs.values()):
            self.stop_columns(run, None, lab_stopped=True)
        tasks = [c.task for run in self.runs.values() for c in run.columns if c.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        await self.ticker.close()
        for companion in self.companions:
            await companion.close()
        for task in self._tasks:
            task.cancel()
        await self.batch_worker.close()
        await self.alerting.close()
        await self.calls.close()
        await self.gauges.close()
        await self.writer.write(lambda session: runs.release_owner(session=session, owner_id=self.id))

    # --- runs ------------------------------------------------------------------------------------------------------

    async def start_run(self, spec: RunSpec, person: str, instead: Mapping[str, Deployment] | None = None) -> str:
        """Commit a run and its first calls, then send them. Raises ValueError in words; returns the run's id.

        ``instead``: deployments by id that are called as they are given here (the connection test's).
        """
        text = spec.checked().render()
        hold = self.allowance.take(person, len(spec.columns) * spec.repetitions)
        try:
            return await self._begin(spec, text, person, instead or {}, hold)
        except BaseException:
            hold.close()
            raise

    async def _begin(self, spec: RunSpec, text: str, person: str, instead: Mapping[str, Deployment], hold: Hold) -> str:
        await self.registry.refresh()
        names = [c.deployment_id for c in spec.columns]
        deployments = [instead.get(name) or self.registry.calling(name) for name in names]
        columns = [LiveColumn(index, deployment) for index, deployment in enumerate(deployments)]
        past = await self._past(spec, columns)
        run = LiveRun(new_id(), spec, person, columns)
        rows = []
        for column, column_spec in zip(columns, spec.columns, strict=True):
            ask = Ask(
                (*past[column.index], Message("user", text)),
                spec.system,
                spec.column_params(column_spec),
                column_spec.cache,
            )
            column.call = self._prepare(run, column, ask, repetition=1)
            rows.append(beginning(column.call))
        store = self.registry.config.store_text
        first = run_row(run, text, store=store)

        def write(session: Any) -> None:
            runs.insert_run(session=session, values=first)
            runs.insert_calls(session=session, rows=rows)

        await self.writer.write(write)
        self._make_live(run)
        self._launch(run, hold)
        self._spawn(self._learn_typical(run), "typical")
        return run.id

    def stop_columns(self, run: LiveRun, column: int | None, *, lab_stopped: bool = False) -> None:
        """End one column's call, or all of them; what has come so far is kept and costed.

        ``lab_stopped``: not because a person wants it, but because the engine ends.
        """
        for live in run.columns:
            if column is not None and live.index != column:
                continue
            call = live.call
            if call is not None and not live.stopped:
                call.lab_stopped = lab_stopped
            live.stopped = True
            if call is not None:
                call.abort("cancelled")

    def find(self, run_id: str) -> LiveRun | None:
        """A run that is live now."""
        return self.runs.get(run_id)

    def live_or_unwritten(self, run_id: str) -> LiveRun | None:
        """A run that only we can tell about: it is live, or how it ended could not be written yet."""
        if run_id in self.runs:
            return self.runs[run_id]
        run = self.recent.get(run_id)
        ended = [column.call.id for column in run.columns if column.call] if run else []
        return run if self.calls.unwritten(ended) else None

    async def retry(self, run_id: str, column: int, person: str | None = None) -> None:
        """Send one column's last call again, as a further attempt. Raises ValueError in words.

        ``person``: whose calls it counts among; None: those of whoever started the run.
        """
        run = self.runs.get(run_id) or self.recent.get(run_id) or await revived(self.reader, run_id)
        if run is None:
            raise ValueError("This run is not in the records, so it cannot be retried.")
        if not 0 <= column < len(run.columns):
            raise ValueError("This run has no such column.")
        live = run.columns[column]
        if live.busy:
            raise ValueError(f"{live.deployment.name} is still at work; stop it first.")
        last_call = live.call
        if last_call is None or not last_call.ask.messages:
            raise ValueError("The text of this call was not kept, so it cannot be sent again.")
        place = (run.id, column)
        if place in self._retrying:
            raise ValueError(f"{live.deployment.name} is being sent again already.")
        hold = self.allowance.take(run.person if person is None else person, 1)
        self._retrying.add(place)
        try:
            await self._send_again(run, live, last_call, hold)
        except BaseException:
            hold.close()
            raise
        finally:
            self._retrying.discard(place)

    async def _send_again(self, run: LiveRun, live: LiveColumn, last_call: LiveCall, hold: Hold) -> None:
        if self.registry.find(live.deployment.id) is not None:
            live.deployment = self.registry.calling(live.deployment.id)
        live.stopped = False
        waited = last_call.waited_ms + (time.perf_counter_ns() - last_call.progress.accepted) / 1e6
        call = self._prepare(
            run,
            live,
            last_call.ask,
            repetition=last_call.record.repetition,
            attempt=last_call.record.attempt + 1,
            waited_ms=waited,
            retry_of=last_call.id,
        )
        row = beginning(call)
        await self.writer.write(lambda session: runs.insert_calls(session=session, rows=[row]))
        live.call = call
        run.ended.clear()
        self._make_live(run)
        live.task = self._spawn(self._run_call(run, live), f"retry {run.id}")
        live.task.add_done_callback(lambda _: hold.close())
        self._spawn(self._close_when_done(run), "closer")

    # --- inside ----------------------------------------------------------------------------------------------------

    def _prepare(
        self,
        run: LiveRun,
        column: LiveColumn,
        ask: Ask,
        *,
        repetition: int,
        attempt: int = 1,
        waited_ms: float = 0.0,
        retry_of: str | None = None,
    ) -> LiveCall:
        spec = CallSpec(
            run_id=run.id,
            column=column.index,
            deployment=column.deployment,
            ask=ask,
            repetition=repetition,
            attempt=attempt,
            waited_ms=waited_ms,
            person=run.person,
            source=run.spec.source,
            retry_of=retry_of,
        )
        return self.calls.prepare(spec)

    def _launch(self, run: LiveRun, hold: Hold) -> None:
        if run.spec.start == "sequential":
            conductor = self._spawn(self._run_in_turn(run, hold), f"run {run.id}")
            for column in run.columns:
                column.task = conductor
        else:
            gap = run.spec.stagger_s if run.spec.start == "staggered" else 0.0
            for column in run.columns:
                column.task = self._spawn(self._column(run, column, gap * column.index, hold), f"run {run.id}")
        self._spawn(self._close_when_done(run), "closer")

    async def _column(self, run: LiveRun, column: LiveColumn, delay: float, hold: Hold) -> None:
        waiting = run.spec.repetitions
        try:
            if delay:
                await asyncio.sleep(delay)
            for repetition in range(1, run.spec.repetitions + 1):
                await self._repetition(run, column, repetition)
                hold.release()
                waiting -= 1
        finally:
            hold.release(waiting)

    async def _run_in_turn(self, run: LiveRun, hold: Hold) -> None:
        try:
            for repetition in range(1, run.spec.repetitions + 1):
                if repetition > 1:
                    await pause(run)
                for column in run.columns:
                    await self._repetition(run, column, repetition)
                    hold.release()
        finally:
            hold.close()

    async def _repetition(self, run: LiveRun, column: LiveColumn, repetition: int) -> None:
        call = column.call
        assert call is not None
        if repetition > 1:
            if column.stopped:
                return
            call = self._prepare(run, column, call.ask, repetition=repetition)
            row = beginning(call)
            await self.writer.write(lambda session: runs.insert_calls(session=session, rows=[row]))
            column.call = call
        elif column.stopped:
            await self.calls.refuse(
                call, "cancelled", LAB_STOPPED if call.lab_stopped else "stopped before it was sent"
            )
            return
        await self._run_call(run, column)

    async def _run_call(self, run: LiveRun, column: LiveColumn) -> None:
        call = column.call
        assert call is not None
        call.task = asyncio.get_running_loop().create_task(self.calls.execute(call))
        try:
            await call.task
        except Exception:
            log.exception("a call could not be finished")
            call.note = "The record of this call could not be written; see the engine's log."

    async def _close_when_done(self, run: LiveRun) -> None:
        while busy := [c.task for c in run.columns if c.task is not None and not c.task.done()]:
            await asyncio.wait(busy)
        if self.runs.get(run.id) is run:
            del self.runs[run.id]
            self.recent[run.id] = run
            while len(self.recent) > REMEMBERED_RUNS:
                self.recent.popitem(last=False)
            run.end()

    async def _past(self, spec: RunSpec, columns: list[LiveColumn]) -> list[tuple[Message, ...]]:
        """Each column's own conversation so far; a column whose deployment was not in the parent begins anew."""
        if spec.parent_run_id is None:
            return [() for _ in columns]
        parent_id = spec.parent_run_id
        calls = await asyncio.to_thread(run_queries.calls_of_run, self.reader, parent_id)
        return [run_record.conversation(calls, column.index, column.deployment.id) for column in columns]

    async def _learn_typical(self, run: LiveRun) -> None:
        names = {column.deployment.id for column in run.columns}
        typical = await asyncio.to_thread(lambda: {name: run_queries.typical_ttft(self.reader, name) for name in names})
        for column in run.columns:
            column.typical = typical[column.deployment.id]

    def _make_live(self, run: LiveRun) -> None:
        self.runs[run.id] = run
        self.ticker.wake()
        self.gauges.wake()

    def batch_taken(self) -> None:
        """A batch has been submitted or goes on: the worker is needed."""
        self.batch_worker.needed = True
        self.batch_worker.wake()
        self._batches_turned()

    def _batches_turned(self) -> None:
        """A batch has begun or ended: its calls are those of another process, whose heart is to be looked at."""
        self.rolling.wake()
        self.upkeep.wake()

    def _busy(self) -> bool:
        return bool(self.calls.live)

    def _spawn(self, work: Any, name: str) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def run_row(run: LiveRun, text: str, *, store: bool) -> NewRun:
    """Everything about a run but its calls; the texts only where they may be kept (``store``)."""
    spec = run.spec
    return {
        "id": run.id,
        "created_at": datetime.now(UTC),
        "person": run.person,
        "source": spec.source,
        "prompt": text if store else None,
        "prompt_sha256": hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(),
        "system": spec.system if store else None,
        "template": spec.prompt if store else None,
        "variables": dict(spec.variables) if store else {},
        "params": dict(spec.params),
        "columns": spec.to_json()["columns"],
        "attachments": [
            {"name": a.name, "chars": len(a.text), "text": a.text} if store else {"name": a.name, "chars": len(a.text)}
            for a in spec.attachments
        ],
        # The pause of the run, whichever kind its start mode has: between columns, or between repetitions.
        "start_mode": spec.start,
        "stagger_s": spec.pause_s if spec.start == "sequential" else spec.stagger_s,
        "repetitions": spec.repetitions,
        "blind": spec.blind,
        "parent_run_id": spec.parent_run_id,
        "starred": False,
        "tags": list(spec.tags),
        "text_stored": store,
        "n_calls": len(spec.columns) * spec.repetitions,
    }


async def revived(reader: SqlEngine, run_id: str) -> LiveRun | None:
    """The run as it stands in the records, with nothing under way; None when there is no such run."""
    row = await asyncio.to_thread(run_queries.run_by_id, reader, run_id)
    if row is None:
        return None
    calls = await asyncio.to_thread(run_queries.calls_of_run, reader, run_id)
    columns = [_column(call) for call in view.shown_calls(calls)]
    spec = RunSpec(
        prompt=row["prompt"] or "",
        columns=tuple(ColumnSpec(column.deployment.id) for column in columns),
        system=row["system"],
        params=row["params"] or {},
        repetitions=row["repetitions"],
        blind=row["blind"],
        source=row["source"],
    )
    run = LiveRun(run_id, spec, row["person"], columns)
    run.ended.set()
    return run


def _column(row: CallRow) -> LiveColumn:
    record = from_row(row)
    deployment = Deployment.from_json(record.deployment.declared)
    progress = Progress(None, Limits())
    progress.phase = "done"
    progress.answer = [record.answer.text] if record.answer.text else []
    progress.reasoning = [record.answer.reasoning] if record.answer.reasoning else []
    call = LiveCall(
        record=record,
        deployment=deployment,
        ask=run_record.ask_of(record.request) or Ask(()),
        progress=progress,
        waited_ms=record.waited_ms or 0.0,
        final=record,
        sent_answer=len(progress.answer),
        sent_reasoning=len(progress.reasoning),
        announced=True,
    )
    return LiveColumn(record.column, deployment, call)


STEP_S = 0.1


async def pause(run: LiveRun) -> None:
    """Wait as long as the run wants between two repetitions, to a tenth of a second; stopping every column ends it."""
    for _ in range(round(run.spec.pause_s / STEP_S)):
        if all(column.stopped for column in run.columns):
            return
        await asyncio.sleep(STEP_S)
