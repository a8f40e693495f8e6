"""What people do with batches, as the engine does it for them: submit, pause, resume, cancel, send again, delete."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from db import batches
from db.writer import WriteFailed, Writer
from services import access
from services.batch import desk_units, files, routes
from services.batch.model import Checked
from services.batch.recording import CHANGED, Dropped, Recording, keep_file, kept_file, refusal
from services.batch.submit import BatchSpec
from services.domain import Deployment
from services.engine.registry import Registry
from services.pricing import money
from services.runs import new_id

log = logging.getLogger(__name__)
Row = dict[str, Any]
CHECKED_AT_ONCE = 32 * 2**20  # bytes: a larger file is checked while its batch is there already
NO_SUCH = "This batch is not in the records; it may have been deleted."
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
        self._recording = Recording(writer, reader, lambda: self._closing)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Go on with recordings that an earlier engine did not end."""
        for row in await asyncio.to_thread(batches.unfinished, self._reader):
            if row["n_lines"] == 0 and self._data is not None:
                self._spawn(row, None, None)

    async def close(self) -> None:
        """Break recordings off; the next engine goes on with them."""
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    # --- submitting ------------------------------------------------------------------------------------------------

    async def submit(self, spec: BatchSpec, person: str, role: str) -> str:
        """Record a batch and begin to record its lines; its id. Raises ValueError in words, `access.Denied`."""
        data = self._folder()
        await self._registry.refresh()
        deployment = self._registry.calling(spec.deployment_id)
        await self._can_be_sent(deployment, spec)
        source = await asyncio.to_thread(self._source, data, spec, role)
        if await asyncio.to_thread(files.sha256_of, source) != spec.sha256:
            raise ValueError(CHANGED)
        if not spec.again:
            await self._not_twice(spec)
        size = source.stat().st_size
        checked = None
        if size <= CHECKED_AT_ONCE:
            checked = await asyncio.to_thread(files.check, source, spec.options, file_name=spec.file_name)
            if (why := refusal(checked)) is not None:
                raise ValueError(why)
        estimate = dict(spec.estimate) if spec.estimate is not None else await self._estimate(checked, deployment, spec)
        _within_budget(estimate, spec)
        row = desk_units.batch_row(spec, deployment, person, size, estimate)
        if spec.path is None:
            await asyncio.to_thread(partial(keep_file, source, data / "batches" / row["id"], linked=True))
        run = desk_units.run_row(row, store=self._registry.config.store_text)
        await self._writer.write(partial(desk_units.insert, run, row))
        self._spawn(row, source, checked)
        return str(row["id"])

    async def _can_be_sent(self, deployment: Deployment, spec: BatchSpec) -> None:
        needs = self._registry.status(deployment).needs
        if needs is not None:
            raise ValueError(
                f"{deployment.name} is switched off on the Deployments page." if needs == "disabled"
                else f"{deployment.name} {needs}."
            )  # fmt: skip
        if spec.route != "runner":
            why = await asyncio.to_thread(lambda: routes.get(spec.route).why_not(deployment))
            if why is not None:
                raise ValueError(why)

    def _source(self, data: Path, spec: BatchSpec, role: str) -> Path:
        if spec.path is None:
            folder = data / "uploads" / spec.sha256
            kept = sorted(one for one in folder.glob("*") if one.is_file() and not one.name.startswith("."))
            if not kept:
                raise ValueError("The upload is not on this server any more: upload the file again.")
            return next((one for one in kept if one.name == spec.file_name), kept[0])
        if not access.may(role, "deploy"):
            raise access.Denied("Only whoever runs this server may name a file on it: upload the file instead.")
        if "://" in spec.path:
            raise ValueError("An address cannot be read here: check it on the page first, which fetches the file.")
        path = Path(spec.path).expanduser()
        if not path.is_file():
            raise ValueError(f"There is no file {path.name} at this path on the server.")
        if not os.access(path, os.R_OK):
            raise ValueError(f"{path.name} may not be read by the user that the server runs as.")
        return path

    async def _not_twice(self, spec: BatchSpec) -> None:
        before = await asyncio.to_thread(batches.same_file, self._reader, spec.sha256)
        if before:
            ago = _ago(before[0]["created_at"])
            raise ValueError(f"This file was submitted {ago} as “{before[0]['name'][:60]}”: confirm to send it again.")

    async def _estimate(self, checked: Checked | None, deployment: Deployment, spec: BatchSpec) -> Row | None:
        if checked is None:
            return None
        from services.batch.estimate import estimates

        services = [] if spec.route == "runner" else [routes.get(spec.route)]
        found = await asyncio.to_thread(
            partial(
                estimates, self._reader, checked, [deployment], datetime.now(UTC), services, lanes=spec.max_lanes,
                per_minute=spec.per_minute,
            )
        )  # fmt: skip
        chosen = next((one for one in found if one.route == spec.route), None)
        return chosen.to_json() if chosen is not None else None

    # --- recording -------------------------------------------------------------------------------------------------

    def _spawn(self, row: Row, source: Path | None, checked: Checked | None) -> None:
        task = asyncio.get_running_loop().create_task(self._record(row, source, checked), name=f"batch {row['id']}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record(self, row: Row, source: Path | None, checked: Checked | None) -> None:
        try:
            await asyncio.to_thread(self._record_in_thread, row, source, checked)
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

    def _record_in_thread(self, row: Row, source: Path | None, checked: Checked | None) -> None:
        folder = self._folder() / "batches" / row["id"]
        path = kept_file(folder)
        if path is None and source is not None:
            path = keep_file(source, folder, linked=False)
            if files.sha256_of(path) != row["file_sha256"]:
                raise ValueError(CHANGED)
        if path is None:
            raise ValueError("The program was stopped before the file was copied: submit it again.")
        self._recording.record(row, path, checked=checked)

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
        """The lines that were not answered as a new batch, linked to this one; its id."""
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
        if (kept := kept_file(data / "batches" / batch_id)) is not None:
            await asyncio.to_thread(partial(keep_file, kept, data / "batches" / new["id"], linked=True))
        run = desk_units.run_row(new, store=self._registry.config.store_text)
        await self._writer.write(partial(desk_units.insert_copy, run, new, batch_id))
        self._wake()
        return str(new["id"])

    async def delete(self, batch_id: str) -> bool:
        """Delete a batch that is over with everything that belongs to it; whether there was one."""
        row = await asyncio.to_thread(batches.batch, self._reader, batch_id)
        if row is None:
            return False
        if row["state"] not in batches.OVER:
            raise ValueError("This batch is not over: cancel it first, then delete it.")
        await self._writer.write(partial(desk_units.delete, batch_id))
        if self._data is not None:
            await asyncio.to_thread(shutil.rmtree, self._data / "batches" / batch_id, True)
        return True

    async def _one(self, batch_id: str, over: bool | None = False) -> Row:
        row = await asyncio.to_thread(batches.batch, self._reader, batch_id)
        if row is None:
            raise ValueError(NO_SUCH)
        if over is False and row["state"] in batches.OVER:
            raise ValueError("This batch is over already.")
        return row

    def _folder(self) -> Path:
        if self._data is None:
            raise ValueError("This engine has no data directory, so it takes no batches.")
        return self._data


def _within_budget(estimate: Row | None, spec: BatchSpec) -> None:
    most = (estimate or {}).get("cost_high")
    if spec.budget_nanousd is None or spec.over_budget or not isinstance(most, int) or most <= spec.budget_nanousd:
        return
    raise ValueError(
        f"This can cost up to {money(most)}, which is above the budget of {money(spec.budget_nanousd)}: raise the "
        "budget, send fewer lines, or confirm."
    )


def _ago(moment: datetime) -> str:
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            n = int(seconds // size)
            return f"{n:,} {word}{'s' if n > 1 else ''} ago"
    return "just now"
