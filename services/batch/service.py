"""What people do with batches, as the engine does it for them: submit, pause, resume, cancel, send again, delete."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from db import batches
from db.writer import WriteFailed, Writer
from services.batch import budget, desk_checks, desk_units, files, providers, server_files
from services.batch.ingest import CHANGED, Dropped, Recording, keep_file, kept_file, refusal
from services.batch.submit import BatchSpec
from services.batch.types import Checked
from services.deployments import config
from services.deployments.registry import Registry
from services.runs.spec import new_id
from services.security.access import folded
from services.types import Deployment

log = logging.getLogger(__name__)
Row = dict[str, Any]
EACH, TOGETHER = 50, 500  # batches under way of one person, and of everybody
CHECKS = 2  # files that are checked at once: each keeps one of the threads that the records are read in
CHECKED_AT_ONCE = 32 * 2**20  # bytes: a larger file is checked while its batch is there already
FULL = (
    f"Nothing was submitted: {EACH} of your batches are under way, which is as many as this server takes of a person. "
    "Wait until one has ended, or cancel one."
)
FULL_OF_EVERYBODY = (
    f"Nothing was submitted: {TOGETHER} batches of everybody are under way, which is as many as this server takes. "
    "Submit it again when some have ended."
)
NO_SUCH = "This batch is not in the records; it may have been deleted."
NO_PARENT = "The batch that this one is to follow is not in the records; it may have been deleted."
COPIED = (
    "person", "deployment_id", "deployment", "route", "file_name", "file_sha256", "file_bytes", "options", "params",
    "columns", "budget_nanousd", "objective_ms", "max_lanes", "per_minute", "notify",
)  # fmt: skip


class BatchDesk:
    """``data``: the data directory; None where there is none, and then no batch is taken. ``wake``: there is work."""

    def __init__(
        self, writer: Writer, reader: Engine, registry: Registry, *, data: Path | None, wake: Callable[[], None]
    ) -> None:  # fmt: skip
        self._writer = writer
        self._reader = reader
        self._registry = registry
        self._data = data
        self._wake = wake
        self._closing = False
        self._recording = Recording(writer, reader, lambda: self._closing, self._late_estimate)
        self._tasks: set[asyncio.Task[None]] = set()
        self._submitting: Counter[str] = Counter()
        self._turn = asyncio.Semaphore(CHECKS)

    async def start(self) -> None:
        """Go on with recordings that an earlier engine did not end."""
        for row in await asyncio.to_thread(batches.unfinished, self._reader):
            if row["n_lines"] == 0 and self._data is not None:
                self._spawn(row, None)

    async def close(self) -> None:
        """Break recordings off; the next engine goes on with them."""
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    # --- submitting ------------------------------------------------------------------------------------------------

    async def submit(self, spec: BatchSpec, person: str, role: str) -> str:
        """Record a batch and begin to record its lines; its id. Raises ValueError in words, `access.Denied`."""
        async with self._room(person), self._turn:
            return await self._submit(spec, person, role)

    @asynccontextmanager
    async def _room(self, person: str) -> AsyncIterator[None]:
        """Raises ValueError in words where a person, or everybody, has as many batches under way as are taken. Those
        that are being submitted count too, so that a hundred requests at once are not a hundred batches."""
        person = folded(person)  # one mailbox, however it is written
        if self._submitting[person] >= EACH:
            raise ValueError(FULL)
        self._submitting[person] += 1
        try:
            rows = await asyncio.to_thread(batches.unfinished, self._reader)
            if sum(folded(row["person"] or "") == person for row in rows) + self._submitting[person] > EACH:
                raise ValueError(FULL)
            if len(rows) + self._submitting.total() > TOGETHER:
                raise ValueError(FULL_OF_EVERYBODY)
            yield
        finally:
            self._submitting[person] -= 1
            if not self._submitting[person]:
                del self._submitting[person]

    async def _submit(self, spec: BatchSpec, person: str, role: str) -> str:
        data = self._folder()
        await self._registry.refresh()
        deployment = self._registry.calling(spec.deployment_id)
        await self._can_be_sent(deployment, spec)
        if spec.parent_id is not None and await self._found(spec.parent_id) is None:
            raise ValueError(NO_PARENT)
        rule = server_files.allowed(
            person=person,
            role=role,
            folders=self._registry.config.batch_folders,
            address=server_files.pages_address(),
            data=data,
            file=self._registry.file,
        )
        source = await asyncio.to_thread(desk_checks.source_of, data, spec, rule)
        size = await asyncio.to_thread(desk_checks.size_of, source, spec.sha256)
        if not spec.again:
            await self._not_twice(spec)
        checked: Checked | None = None
        estimate: Row | None = None
        if size <= CHECKED_AT_ONCE:
            checked = await asyncio.to_thread(self._checked, source, spec)
            estimate = await asyncio.to_thread(
                desk_checks.estimate_of, self._reader, checked, deployment, spec.route, spec.max_lanes, spec.per_minute
            )  # fmt: skip
        dear = budget.above(estimate, spec.budget_nanousd)
        if dear is not None and not spec.over_budget:
            raise ValueError(f"{dear}: raise the budget, send fewer lines, or confirm.")
        row = desk_units.batch_row(spec, deployment, person, size, budget.kept(estimate, confirmed=spec.over_budget))
        run = desk_units.run_row(row, store=self._registry.config.store_text)
        before = await self._insert(
            data / "batches" / row["id"], source, partial(desk_units.insert, run, row, spec.again)
        )
        if before is not None:
            raise ValueError(desk_checks.submitted_before(before))
        self._spawn(row, checked)
        return str(row["id"])

    async def _can_be_sent(self, deployment: Deployment, spec: BatchSpec) -> None:
        needs = self._registry.status(deployment).needs
        if needs is not None:
            raise ValueError(
                f"{deployment.name} is switched off on the Deployments page." if needs == "disabled"
                else f"{deployment.name} {needs}."
            )  # fmt: skip
        if spec.route != "runner":
            why = await asyncio.to_thread(lambda: providers.get(spec.route).why_not(deployment))
            if why is not None:
                raise ValueError(why)

    async def _not_twice(self, spec: BatchSpec) -> None:
        """So that nobody waits for a check in vain; what decides is the unit of the writer (`desk_units.insert`)."""
        before = await asyncio.to_thread(batches.same_file, self._reader, spec.sha256)
        if before:
            raise ValueError(desk_checks.submitted_before(before[0]))

    def _checked(self, source: Path, spec: BatchSpec) -> Checked:
        checked = files.check(source, spec.options, file_name=spec.file_name)
        if checked.sha256 and checked.sha256 != spec.sha256:
            raise ValueError(CHANGED)
        if (why := refusal(checked)) is not None:
            raise ValueError(why)
        return checked

    async def _insert(
        self, folder: Path, file: Path | None, unit: Callable[[Session], Row | None]
    ) -> Row | None:  # fmt: skip
        """Keep the file of a new batch in its folder and record it. The batch that stands in its way, instead; then, as
        after any error, nothing is left in the folder."""
        made = False
        try:
            if file is not None:
                await asyncio.to_thread(partial(keep_file, file, folder, linked=True))
            before = await self._writer.write(unit)
            made = before is None
        except asyncio.CancelledError:
            made = True  # the write goes on without us
            raise
        finally:
            if not made:
                await asyncio.to_thread(shutil.rmtree, folder, True)
        return before

    # --- recording -------------------------------------------------------------------------------------------------

    def _spawn(self, row: Row, checked: Checked | None) -> None:
        task = asyncio.get_running_loop().create_task(self._record(row, checked), name=f"batch {row['id']}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record(self, row: Row, checked: Checked | None) -> None:
        try:
            await asyncio.to_thread(self._record_in_thread, row, checked)
        except Dropped:
            return
        except files.Cancelled:
            return
        except ValueError as error:
            await asyncio.to_thread(self._recording.fail, row["id"], str(error))
        except WriteFailed as error:
            log.warning("batch %s waits to be recorded: %s", row["id"], error)
        except Exception:
            log.exception("a batch could not be recorded")
            said = "The lines could not be recorded; the engine's log says more. Submit the file again."
            await asyncio.to_thread(self._recording.fail, row["id"], said)
        self._wake()

    def _record_in_thread(self, row: Row, checked: Checked | None) -> None:
        folder = self._folder() / "batches" / row["id"]
        path = kept_file(folder)
        if path is None:
            shutil.rmtree(folder, ignore_errors=True)  # half a copy
            raise ValueError("The program was stopped before the file was copied: submit it again.")
        self._recording.record(row, path, checked=checked)

    def _late_estimate(self, row: Row, checked: Checked) -> Row | None:
        """The estimate of a batch whose file was checked after it was submitted."""
        deployment = config.from_json(row["deployment"])
        found = desk_checks.estimate_of(
            self._reader, checked, deployment, row["route"], row["max_lanes"], row["per_minute"]
        )  # fmt: skip
        return budget.kept(found, confirmed=budget.confirmed(row["estimate"]))

    # --- afterwards ------------------------------------------------------------------------------------------------

    async def pause(self, batch_id: str) -> None:
        """Begin no line any more. Raises ValueError in words for what cannot be paused."""
        row = await self._one(batch_id)
        if row["route"] != "runner":
            raise ValueError("A batch service cannot be paused: cancel the batch, or let it end.")
        if not await self._writer.write(partial(desk_units.pause, batch_id)):
            raise ValueError("This batch cannot be paused as it stands.")

    async def resume(self, batch_id: str, budget_nanousd: int | None) -> None:
        """Go on with a batch that is paused, perhaps with another budget."""
        await self._one(batch_id)
        if not await self._writer.write(partial(desk_units.resume, batch_id, budget_nanousd)):
            raise ValueError("This batch is not paused.")
        self._wake()

    async def cancel(self, batch_id: str) -> None:
        """Stop a batch; what was answered is kept."""
        await self._one(batch_id)
        await self._writer.write(partial(desk_units.cancel, batch_id))
        self._wake()

    async def resend(self, batch_id: str, person: str) -> str:
        """The lines that were not answered as a new batch, linked to this one; its id. Once: what fails again belongs
        to the new batch, and is sent again from there."""
        async with self._room(person):
            return await self._resend(batch_id, person)

    async def _resend(self, batch_id: str, person: str) -> str:
        data, row = self._folder(), await self._one(batch_id, over=None)
        if row["state"] not in batches.OVER:
            raise ValueError("This batch is not over yet; what fails can be sent again when it is.")
        again = partial(batches.lines, self._reader, batch_id, states=desk_units.RESENT, limit=1)
        first, n = await asyncio.to_thread(again)
        if n == 0:
            raise ValueError("Every line of this batch was answered, so there is nothing to send again.")
        if first[0]["request"] is None:
            raise ValueError("The texts of this batch were forgotten in time, so nothing of it can be sent again.")
        new = {name: row[name] for name in COPIED} | {
            "id": new_id(), "created_at": datetime.now(UTC), "person": person, "name": f"{row['name'][:180]} (again)",
            "state": "queued", "said": None, "wanted": "run", "run_id": new_id(), "parent_id": batch_id, "n_lines": n,
            "n_left_out": 0,
        }  # fmt: skip
        run = desk_units.run_row(new, store=self._registry.config.store_text)
        unit = partial(desk_units.insert_copy, run, new, batch_id)
        folder = data / "batches"
        before = await self._insert(folder / str(new["id"]), kept_file(folder / batch_id), unit)
        if before is not None:
            raise ValueError(desk_checks.sent_again_before(before))
        self._wake()
        return str(new["id"])

    async def delete(self, batch_id: str) -> bool:
        """Delete a batch that is over with everything that belongs to it; whether there was one."""
        row = await self._found(batch_id)
        if row is None:
            return False
        if row["state"] not in batches.OVER:
            raise ValueError("This batch is not over: cancel it first, then delete it.")
        await self._writer.write(partial(desk_units.delete, batch_id))
        if self._data is not None:
            await asyncio.to_thread(shutil.rmtree, self._data / "batches" / batch_id, True)
        return True

    async def _one(self, batch_id: str, over: bool | None = False) -> Row:
        row = await self._found(batch_id)
        if row is None:
            raise ValueError(NO_SUCH)
        if over is False and row["state"] in batches.OVER:
            raise ValueError("This batch is over already.")
        return row

    async def _found(self, batch_id: str) -> Row | None:
        return await asyncio.to_thread(batches.batch, self._reader, batch_id)

    def _folder(self) -> Path:
        if self._data is None:
            raise ValueError("This engine has no data directory, so it takes no batches.")
        return self._data
