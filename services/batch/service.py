"""The batch service: what people do with batches (submit, pause, resume, cancel, send again, delete)."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, TypedDict, TypeVar, get_args

from sqlalchemy import Engine
from sqlmodel import Session

from db import batches
from db.batch_rows import BatchChange, BatchRow, EarlierBatch, EstimateJson, NewBatch, OptionsJson
from db.run_rows import NewRun
from db.writer import WriteFailed, Writer
from services import params as parameters
from services.alerts import TARGET_PREFIX
from services.batch import files, providers, server_files
from services.batch.estimate import estimates
from services.batch.ingest import (
    CHANGED,
    Dropped,
    Recording,
    above_budget,
    budget_confirmed,
    estimate_to_store,
    refusal,
    store_file,
    stored_file,
)
from services.batch.server_files import Allowed
from services.batch.types import (
    MOST_LANES,
    MOST_NANOUSD,
    MOST_PER_MINUTE,
    OVER,
    RESENT,
    SOURCE,
    Checked,
    Format,
    Options,
    RouteName,
    options_to_json,
)
from services.deployments.registry import Registry
from services.formatting import printable
from services.request_fields import Refused, RequestFields
from services.runs.spec import new_id
from services.security import access
from services.security.access import folded
from services.types import Deployment, Json, JsonMapping

log = logging.getLogger(__name__)

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


class BatchService:
    """``data``: the data directory; None where there is none, and then no batch is taken. ``wake``: there is work."""

    def __init__(
        self, writer: Writer, reader: Engine, registry: Registry, *, data: Path | None, wake: Callable[[], None]
    ) -> None:
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
        if spec.parent_id is not None and await self._row(spec.parent_id) is None:
            raise ValueError(NO_PARENT)
        rule = server_files.allowed(
            person=person,
            role=role,
            folders=self._registry.config.batch_folders,
            address=server_files.pages_address(),
            data=data,
            file=self._registry.file,
        )
        source = await asyncio.to_thread(source_of, data, spec, rule)
        size = await asyncio.to_thread(size_of, source, spec.sha256)
        if not spec.again:
            await self._not_twice(spec)
        checked: Checked | None = None
        estimate: EstimateJson | None = None
        if size <= CHECKED_AT_ONCE:
            checked = await asyncio.to_thread(self._checked, source, spec)
            estimate = await asyncio.to_thread(
                estimate_of, self._reader, checked, deployment, spec.route, spec.max_lanes, spec.per_minute
            )
        dear = above_budget(estimate, spec.budget_nanousd)
        if dear is not None and not spec.over_budget:
            raise ValueError(f"{dear}: raise the budget, send fewer lines, or confirm.")
        row = batch_row(spec, deployment, person, size, estimate_to_store(estimate, confirmed=spec.over_budget))
        run = run_row(row, store=self._registry.config.store_text)
        earlier = await self._insert(data / "batches" / row["id"], source, partial(insert, run, row, spec.again))
        if earlier is not None:
            raise ValueError(submitted_before(earlier["name"], earlier["created_at"]))
        self._spawn(row, checked)
        return row["id"]

    async def _can_be_sent(self, deployment: Deployment, spec: BatchSpec) -> None:
        needs = self._registry.status(deployment).needs
        if needs is not None:
            raise ValueError(
                f"{deployment.name} is switched off on the Deployments page."
                if needs == "disabled"
                else f"{deployment.name} {needs}."
            )
        if spec.route != "runner":
            why = await asyncio.to_thread(lambda: providers.get(spec.route).why_not(deployment))
            if why is not None:
                raise ValueError(why)

    async def _not_twice(self, spec: BatchSpec) -> None:
        """So that nobody waits for a check in vain; what decides is the transaction (`insert`)."""
        earlier = await asyncio.to_thread(batches.same_file, self._reader, spec.sha256)
        if earlier:
            raise ValueError(submitted_before(earlier[0]["name"], earlier[0]["created_at"]))

    def _checked(self, source: Path, spec: BatchSpec) -> Checked:
        checked = files.check(source, spec.options, file_name=spec.file_name)
        if checked.sha256 and checked.sha256 != spec.sha256:
            raise ValueError(CHANGED)
        if (why := refusal(checked)) is not None:
            raise ValueError(why)
        return checked

    async def _insert(
        self, folder: Path, file: Path | None, unit: Callable[[Session], EarlierBatch | None]
    ) -> EarlierBatch | None:
        """Keep the file of a new batch in its folder and record it. The batch that stands in its way, instead; then, as
        after any error, nothing is left in the folder."""
        recorded = False
        try:
            if file is not None:
                await asyncio.to_thread(partial(store_file, file, folder, linked=True))
            earlier = await self._writer.write(unit)
            recorded = earlier is None
        except asyncio.CancelledError:
            recorded = True  # the write goes on without us
            raise
        finally:
            if not recorded:
                await asyncio.to_thread(shutil.rmtree, folder, True)
        return earlier

    # --- recording -------------------------------------------------------------------------------------------------

    def _spawn(self, row: NewBatch, checked: Checked | None) -> None:
        task = asyncio.get_running_loop().create_task(self._record(row, checked), name=f"batch {row['id']}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record(self, row: NewBatch, checked: Checked | None) -> None:
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
            sentence = "The lines could not be recorded; the engine's log says more. Submit the file again."
            await asyncio.to_thread(self._recording.fail, row["id"], sentence)
        self._wake()

    def _record_in_thread(self, row: NewBatch, checked: Checked | None) -> None:
        folder = self._folder() / "batches" / row["id"]
        path = stored_file(folder)
        if path is None:
            shutil.rmtree(folder, ignore_errors=True)  # half a copy
            raise ValueError("The program was stopped before the file was copied: submit it again.")
        self._recording.record(row, path, checked=checked)

    def _late_estimate(self, row: NewBatch, checked: Checked) -> EstimateJson | None:
        """The estimate of a batch whose file was checked after it was submitted."""
        deployment = Deployment.from_json(row["deployment"])
        estimate = estimate_of(self._reader, checked, deployment, row["route"], row["max_lanes"], row["per_minute"])
        return estimate_to_store(estimate, confirmed=budget_confirmed(row["estimate"]))

    # --- afterwards ------------------------------------------------------------------------------------------------

    async def pause(self, batch_id: str) -> None:
        """Begin no line any more. Raises ValueError in words for what cannot be paused."""
        row = await self._required(batch_id)
        if row["route"] != "runner":
            raise ValueError("A batch service cannot be paused: cancel the batch, or let it end.")
        if not await self._writer.write(partial(pause, batch_id)):
            raise ValueError("This batch cannot be paused as it stands.")

    async def resume(self, batch_id: str, budget_nanousd: int | None) -> None:
        """Go on with a batch that is paused, perhaps with another budget."""
        await self._required(batch_id)
        if not await self._writer.write(partial(resume, batch_id, budget_nanousd)):
            raise ValueError("This batch is not paused.")
        self._wake()

    async def cancel(self, batch_id: str) -> None:
        """Stop a batch; what was answered is kept."""
        await self._required(batch_id)
        await self._writer.write(partial(cancel, batch_id))
        self._wake()

    async def resend(self, batch_id: str, person: str) -> str:
        """The lines that were not answered as a new batch, linked to this one; its id. Once: what fails again belongs
        to the new batch, and is sent again from there."""
        async with self._room(person):
            return await self._resend(batch_id, person)

    async def _resend(self, batch_id: str, person: str) -> str:
        data, row = self._folder(), await self._required(batch_id, over=None)
        if row["state"] not in batches.OVER:
            raise ValueError("This batch is not over yet; what fails can be sent again when it is.")
        again = partial(batches.lines, self._reader, batch_id, states=RESENT, limit=1)
        first, n = await asyncio.to_thread(again)
        if n == 0:
            raise ValueError("Every line of this batch was answered, so there is nothing to send again.")
        if first[0]["request"] is None:
            raise ValueError("The texts of this batch were forgotten in time, so nothing of it can be sent again.")
        new: NewBatch = {
            "id": new_id(),
            "created_at": datetime.now(UTC),
            "person": person,
            "name": f"{row['name'][:180]} (again)",
            "deployment_id": row["deployment_id"],
            "deployment": row["deployment"],
            "route": row["route"],
            "state": "queued",
            "said": None,
            "wanted": "run",
            "file_name": row["file_name"],
            "file_sha256": row["file_sha256"],
            "file_bytes": row["file_bytes"],
            "options": row["options"],
            "params": row["params"],
            "columns": row["columns"],
            "run_id": new_id(),
            "parent_id": batch_id,
            "n_lines": n,
            "n_left_out": 0,
            "estimate": None,
            "budget_nanousd": row["budget_nanousd"],
            "objective_ms": row["objective_ms"],
            "max_lanes": row["max_lanes"],
            "per_minute": row["per_minute"],
            "notify": row["notify"],
        }
        run = run_row(new, store=self._registry.config.store_text)
        unit = partial(insert_copy, run, new, batch_id)
        folder = data / "batches"
        earlier = await self._insert(folder / new["id"], stored_file(folder / batch_id), unit)
        if earlier is not None:
            raise ValueError(sent_again_before(earlier))
        self._wake()
        return new["id"]

    async def delete(self, batch_id: str) -> bool:
        """Delete a batch that is over with everything that belongs to it; whether there was one."""
        row = await self._row(batch_id)
        if row is None:
            return False
        if row["state"] not in batches.OVER:
            raise ValueError("This batch is not over: cancel it first, then delete it.")
        await self._writer.write(partial(delete, batch_id))
        if self._data is not None:
            await asyncio.to_thread(shutil.rmtree, self._data / "batches" / batch_id, True)
        return True

    async def _required(self, batch_id: str, over: bool | None = False) -> BatchRow:
        row = await self._row(batch_id)
        if row is None:
            raise ValueError(NO_SUCH)
        if over is False and row["state"] in batches.OVER:
            raise ValueError("This batch is over already.")
        return row

    async def _row(self, batch_id: str) -> BatchRow | None:
        return await asyncio.to_thread(batches.batch, self._reader, batch_id)

    def _folder(self) -> Path:
        if self._data is None:
            raise ValueError("This engine has no data directory, so it takes no batches.")
        return self._data


def batch_row(
    spec: BatchSpec, deployment: Deployment, person: str, size: int, estimate: EstimateJson | None
) -> NewBatch:
    """A batch as it is recorded before its lines are."""
    return {
        "id": new_id(),
        "created_at": datetime.now(UTC),
        "person": person,
        "name": spec.name or spec.file_name,
        "deployment_id": deployment.id,
        "deployment": deployment.to_json(),
        "route": spec.route,
        "state": "queued",
        "said": "The lines are being recorded.",
        "wanted": "run",
        "file_name": spec.file_name,
        "file_sha256": spec.sha256,
        "file_bytes": size,
        "options": options_to_json(spec.options),
        "params": dict(spec.options.params),
        "columns": None,
        "run_id": new_id(),
        "parent_id": spec.parent_id,
        "n_lines": 0,
        "n_left_out": 0,
        "estimate": estimate,
        "budget_nanousd": spec.budget_nanousd,
        "objective_ms": spec.objective_ms,
        "max_lanes": spec.max_lanes,
        "per_minute": spec.per_minute,
        "notify": list(spec.notify),
    }


def run_row(row: NewBatch, *, store: bool) -> NewRun:
    """The run that the calls of a batch belong to; its texts only where they may be kept (``store``)."""
    options: OptionsJson = row["options"] or {}
    prompt, system = options.get("prompt") or "", options.get("system")
    return {
        "id": row["run_id"],
        "created_at": row["created_at"],
        "person": row["person"],
        "source": SOURCE,
        "prompt": prompt if store else None,
        "system": system if store else None,
        "prompt_sha256": hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest(),
        "template": prompt if store else None,
        "variables": {},
        "params": row["params"] or {},
        "columns": [{"deployment_id": row["deployment_id"], "use_shared_params": True, "params": {}, "cache": None}],
        "attachments": [],
        "start_mode": "together",
        "stagger_s": 0.0,
        "repetitions": 1,
        "blind": False,
        "parent_run_id": None,
        "starred": False,
        "tags": [],
        "text_stored": store,
        "n_calls": row["n_lines"],
    }


# --- units of the writer ---------------------------------------------------------------------------------------------
def insert(run: NewRun, row: NewBatch, again: bool, session: Session) -> EarlierBatch | None:
    """A batch of a file; the batch that was made of the same bytes before in its place, unless ``again``."""
    return batches.insert_once(session=session, run=run, values=row, again=again)


def pause(batch_id: str, session: Session) -> bool:
    waiting = partial(batches.move, session=session, batch_id=batch_id)
    sentence = "Paused by hand."
    return waiting(states=["queued"], wanted="pause", state="paused", said=sentence) or waiting(
        states=["running"], wanted="pause", state="pausing", said=sentence
    )


def resume(batch_id: str, budget: int | None, session: Session) -> bool:
    again = partial(batches.move, session=session, batch_id=batch_id, while_wanted="pause")
    values: BatchChange = {"wanted": "run", "said": None}
    if budget is not None:
        values["budget_nanousd"] = budget
    paused: BatchChange = {**values, "state": "queued"}
    pausing: BatchChange = {**values, "state": "running"}
    return again(states=["paused"], **paused) or again(states=["pausing"], **pausing)


def cancel(batch_id: str, session: Session) -> None:
    """At once where no worker has begun; else the worker is told."""
    for wanted_now in ("run", "pause"):
        idle = batches.move(
            session=session,
            batch_id=batch_id,
            states=["queued", "paused"],
            while_wanted=wanted_now,
            wanted="cancel",
            state="cancelling",
            said=None,
        )
        if idle and not batches.has_jobs(session=session, batch_id=batch_id):
            sentence = "Cancelled by hand."
            batches.end_batch(session=session, batch_id=batch_id, state="cancelled", said=sentence, left="cancelled")
            return
    batches.set_batch(session=session, batch_id=batch_id, wanted="cancel", state="cancelling", said=None)


def insert_copy(run: NewRun, row: NewBatch, source: str, session: Session) -> EarlierBatch | None:
    """A batch of the lines of ``source`` that were not answered, whole from its first moment; the batch that they went
    into before in its place."""
    return batches.resend_once(session=session, run=run, values=row, source=source, states=RESENT)


def delete(batch_id: str, session: Session) -> bool:
    return batches.delete_batch(session=session, batch_id=batch_id)


SHOWN = 60


def source_of(data: Path, spec: BatchSpec, rule: Allowed | None) -> Path:
    """Where the file of a spec lies among the uploads; one that is named by a path is copied there first, if ``rule``
    allows it. Raises ValueError in words, `access.Denied` for the path of one who may not name any."""
    if spec.path is None:
        folder = data / "uploads" / spec.sha256
        uploads = sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))
        if not uploads:
            raise ValueError("The upload is not on this server any more: upload the file again.")
        return next((path for path in uploads if path.name == spec.file_name), uploads[0])
    if rule is None:
        raise access.Denied(server_files.NOT_YOURS)
    if "://" in spec.path:
        raise ValueError("An address cannot be read here: check it on the page first, which fetches the file.")
    copy = server_files.copied(spec.path, rule, data / "uploads")
    if copy.parent.name != spec.sha256:
        raise ValueError(CHANGED)
    return copy


def size_of(source: Path, sha256: str) -> int:
    """The bytes of a file that still has this hash. Raises ValueError in words for another, or for none."""
    try:
        if files.sha256_of(source) != sha256:
            raise ValueError(CHANGED)
        return source.stat().st_size
    except OSError:
        raise ValueError(CHANGED) from None


def estimate_of(
    reader: Engine,
    checked: Checked,
    deployment: Deployment,
    route: RouteName,
    lanes: int | None,
    per_minute: int | None,
) -> EstimateJson | None:
    """What a checked file can cost and take this way, by our own reckoning; None where nothing is known of it."""
    services = [] if route == "runner" else [providers.get(route)]
    by_route = estimates(reader, checked, [deployment], datetime.now(UTC), services, lanes=lanes, per_minute=per_minute)
    chosen = next((estimate for estimate in by_route if estimate.route == route), None)
    return chosen.to_json() if chosen is not None else None


def submitted_before(name: str, created_at: datetime) -> str:
    """The sentence for a file that was submitted before."""
    return f"This file was submitted {ago(created_at)} as “{name[:SHOWN]}”: confirm to send it again."


def sent_again_before(batch: EarlierBatch) -> str:
    """The sentence for lines that were sent again before (`db.batches.resend_once`)."""
    named, n_unanswered = str(batch["name"])[:SHOWN], batch["left"]
    beginning = f"The lines without an answer were sent again {ago(batch['created_at'])} as “{named}”"
    if batch["state"] not in OVER:
        return f"{beginning}, which is not over yet: wait for its end, or cancel it and send its lines again."
    if not n_unanswered:
        return f"{beginning}, which answered all of them: there is nothing to send again."
    has = "1 line has" if n_unanswered == 1 else f"{n_unanswered:,} lines have"
    return f"{beginning}, where {has} no answer yet: send those of that batch again."


def ago(moment: datetime) -> str:
    """How long ago something was: "5 minutes ago"."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            n = int(seconds // size)
            return f"{n:,} {word}{'s' if n > 1 else ''} ago"
    return "just now"


MAX_TEMPLATE = 1_000_000  # characters

MAX_NAME = 200

ROUTES: tuple[RouteName, ...] = get_args(RouteName)

FORMATS: tuple[Format, ...] = get_args(Format)

ENCODINGS: tuple[Literal["utf-8", "cp1252"], ...] = ("utf-8", "cp1252")

C = TypeVar("C", bound=str)
D = TypeVar("D")


class BatchSpecJson(TypedDict):
    """A `BatchSpec` on its way to the engine."""

    deployment_id: str
    sha256: str
    file_name: str
    route: RouteName
    path: str | None
    options: OptionsJson
    name: str
    budget_nanousd: int | None
    objective_ms: float | None
    max_lanes: int | None
    per_minute: int | None
    notify: list[str]
    parent_id: str | None
    estimate: Json | None
    again: bool
    over_budget: bool


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """A file and what is to be done with it.

    ``path``: a file on the server's own disk (only a role that may "deploy" may name one); None: the upload that lies
    in ``DATA/uploads/<sha256>/``. ``sha256``: of the bytes that were checked. ``budget_nanousd``, ``objective_ms``,
    ``max_lanes``, ``per_minute``: as `db.models.Batch`. ``notify``: names of ALERT_* variables. ``estimate``: as
    it was shown (`estimate.Estimate.to_json`); the engine makes its own and believes no other. ``again``: although the
    same file was sent before. ``over_budget``: although the high end of the engine's estimate is above the budget.
    """

    deployment_id: str
    sha256: str
    file_name: str
    route: RouteName = "runner"
    path: str | None = None
    options: Options = field(default_factory=Options)
    name: str = ""
    budget_nanousd: int | None = None
    objective_ms: float | None = None
    max_lanes: int | None = None
    per_minute: int | None = None
    notify: tuple[str, ...] = ()
    parent_id: str | None = None
    estimate: JsonMapping | None = None
    again: bool = False
    over_budget: bool = False

    def to_json(self) -> BatchSpecJson:
        """A JSON object that `spec_of` reads back to an equal spec."""
        return {
            "deployment_id": self.deployment_id,
            "sha256": self.sha256,
            "file_name": self.file_name,
            "route": self.route,
            "path": self.path,
            "options": options_to_json(self.options),
            "name": self.name,
            "budget_nanousd": self.budget_nanousd,
            "objective_ms": self.objective_ms,
            "max_lanes": self.max_lanes,
            "per_minute": self.per_minute,
            "notify": list(self.notify),
            "parent_id": self.parent_id,
            "estimate": None if self.estimate is None else dict(self.estimate),
            "again": self.again,
            "over_budget": self.over_budget,
        }


def spec_of(body: RequestFields) -> BatchSpec:
    """The spec that a request holds. Raises `Refused`, or ValueError in words for a value that cannot be."""
    sha256 = body.text("sha256", longest=64).lower()
    if len(sha256) != 64 or any(letter not in "0123456789abcdef" for letter in sha256):
        raise Refused("“sha256” has to be the 64 hexadecimal digits of the file that was checked.")
    objective = body.number("objective_ms") if body.has("objective_ms") else None
    if objective is not None and not 1 <= objective <= 3_600_000:
        raise Refused("“objective_ms” has to be from 1 to 3,600,000 milliseconds.")
    notify = body.texts("notify", longest=MAX_NAME)
    if any(not target.startswith(TARGET_PREFIX) for target in notify):
        raise Refused(f"“notify” has to hold names of variables that begin with {TARGET_PREFIX}.")
    estimate = body.table("estimate").values if body.has("estimate") else None
    return BatchSpec(
        deployment_id=body.text("deployment_id"),
        sha256=sha256,
        file_name=_file_name(body),
        route=_choice_of(body, "route", ROUTES, "runner"),
        path=body.words("path", longest=4096) or None,
        options=options_of(body.table("options")),
        name=_name(body),
        budget_nanousd=_whole_number(body, "budget_nanousd", MOST_NANOUSD),
        objective_ms=objective,
        max_lanes=_whole_number(body, "max_lanes", MOST_LANES),
        per_minute=_whole_number(body, "per_minute", MOST_PER_MINUTE),
        notify=tuple(dict.fromkeys(notify)),
        parent_id=body.words("parent_id"),
        estimate=estimate,
        again=body.flag("again", False),
        over_budget=body.flag("over_budget", False),
    )


def _name(body: RequestFields) -> str:
    """What a batch is called, on one line and without control characters; empty where nothing is left of it."""
    return " ".join(printable(body.words("name") or "").split())[:MAX_NAME]


def _file_name(body: RequestFields) -> str:
    name = body.text("file_name")
    if not name.strip(" .") or any(letter in "/\\" or ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise Refused("“file_name” has to be the name of a file, without a folder and without control characters.")
    return name[:MAX_NAME]


def options_of(fields: RequestFields) -> Options:
    """The options that a request holds. Raises as `spec_of`."""
    params = fields.table("params").values
    return Options(
        format=_choice_of(fields, "format", FORMATS, None),
        encoding=_choice_of(fields, "encoding", ENCODINGS, ENCODINGS[0]),
        delimiter=fields.words("delimiter", longest=1) or None,
        id_column=fields.words("id_column"),
        prompt=fields.words("prompt", longest=MAX_TEMPLATE),
        system=fields.words("system", longest=MAX_TEMPLATE),
        params=parameters.clean(params),
        suffix_ids=fields.flag("suffix_ids", False),
        sheet=fields.words("sheet"),
        leave_out=fields.flag("leave_out", False),
        only_model=fields.words("only_model"),
    )


def _choice_of(fields: RequestFields, name: str, choices: tuple[C, ...], default: D) -> C | D:
    value = fields.words(name)
    if value is None:
        return default
    for choice in choices:
        if choice == value:
            return choice
    raise Refused(f"“{name}” has to be one of {', '.join(choices)}.")


def _whole_number(body: RequestFields, name: str, maximum: int) -> int | None:
    return body.whole(name, 1, maximum) if body.has(name) else None
