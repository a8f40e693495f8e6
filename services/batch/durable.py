"""DBOS in a worker: launched quietly, every batch that is not over with one live workflow, the dead ones taken over."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from db.engine import sqlite_file
from services.batch import workflows

log = logging.getLogger(__name__)
Row = dict[str, Any]
NAME = "inference-lab"
SCHEMA = "lab_batches"  # beside our own tables, in the same PostgreSQL database
FILE = "dbos.sqlite3"
LIVE = ("PENDING", "ENQUEUED", "DELAYED")
LOOK_EVERY_S = 5.0
LONGEST_WAIT_S = 60.0
CLEAR_EVERY_S, CLEARED_AT_ONCE = 5.0, 200


class Durable:
    """The durable side of one worker; ``place`` is its executor id."""

    def __init__(self, works: workflows.Works, data: Path, url: str, place: str) -> None:
        self._place = place
        self._url = system_database(data, url)
        self._looked: dict[str, float] = {}
        self._known: set[str] = set()
        self._over: set[str] = set()
        self._cleared = 0.0
        self.launched = False
        workflows.bind(works)

    async def launch(self) -> None:
        """Begin; from a coroutine, so that the workflows run on that loop. Takes over what this place left behind."""
        from dbos import DBOS, DBOSConfig

        config: DBOSConfig = {
            "name": NAME, "system_database_url": self._url, "dbos_system_schema": SCHEMA,
            "application_version": workflows.VERSION, "executor_id": self._place, "log_level": "WARNING",
            "enable_otlp": False, "use_listen_notify": False, "sys_db_pool_size": 10,
        }  # fmt: skip
        DBOS(config=config)
        quiet = logging.getLogger("dbos")
        quiet.handlers = []
        quiet.propagate = True
        DBOS.launch()
        await workflows.register()
        self.launched = True

    async def start_missing(self, rows: Sequence[Row]) -> None:
        """Give every batch that is to go on a workflow, unless it has one. Several workers may do this at once."""
        here = {row["id"] for row in rows}
        self._over |= self._known - here
        self._known = here
        self._looked = {batch_id: at for batch_id, at in self._looked.items() if batch_id in here}
        await self._clear_away()
        for row in rows:
            if not row["n_lines"] or (row["state"] == "paused" and row["wanted"] == "pause"):
                self._looked.pop(row["id"], None)
                continue
            if time.monotonic() - self._looked.get(row["id"], 0.0) < LOOK_EVERY_S and row["state"] != "queued":
                continue
            self._looked[row["id"]] = time.monotonic()
            try:
                await self._ensure(row["id"])
            except Exception:
                log.exception("batch %s could not be started", row["id"])

    async def _ensure(self, batch_id: str) -> None:
        from dbos import DBOS, SetWorkflowID

        known = await DBOS.list_workflows_async(
            workflow_id_prefix=f"{batch_id}.", name=workflows.BATCH, load_input=False, load_output=False
        )
        if any(one.status in LIVE for one in known):
            return
        broken = [one for one in known if one.status != "SUCCESS"]
        if broken:
            last = max(one.updated_at or 0 for one in broken) / 1000
            if time.time() - last < min(LONGEST_WAIT_S, 2.0 ** len(broken)):
                return
        with SetWorkflowID(f"{batch_id}.{len(known)}"):
            await DBOS.enqueue_workflow_async(workflows.BATCHES, workflows.run_batch, batch_id)

    async def _clear_away(self) -> None:
        """Forget the workflows of batches that are over: a large one has thousands, and all is in our own tables."""
        from dbos import DBOS

        if not self._over or time.monotonic() - self._cleared < CLEAR_EVERY_S:
            return
        self._cleared = time.monotonic()
        for batch_id in list(self._over):
            try:
                parts = await DBOS.list_workflows_async(
                    workflow_id_prefix=f"{batch_id}.", load_input=False, load_output=False
                )
                if any(one.status in LIVE for one in parts):
                    continue  # its notice is being sent
                ids = [one.workflow_id for one in parts]
                for start in range(0, len(ids), CLEARED_AT_ONCE):
                    await DBOS.delete_workflows_async(ids[start : start + CLEARED_AT_ONCE])
            except Exception:
                log.exception("the workflows of batch %s could not be cleared away", batch_id)
            self._over.discard(batch_id)

    async def take_over(self, alive: Collection[str]) -> int:
        """Have what dead workers were at done by whoever is free; ``alive`` are places. Returns how many workflows."""
        from dbos import DBOS

        pending = await DBOS.list_workflows_async(
            status="PENDING",
            name=[workflows.BATCH, workflows.CHUNK, workflows.JOB],
            load_input=False,
            load_output=False,
        )
        left = [one.workflow_id for one in pending if one.executor_id not in alive]
        if left:
            log.warning("%d parts of batches are taken over from workers that are gone", len(left))
            await DBOS.resume_workflows_async(left)
        return len(left)


def system_database(data: Path, url: str) -> str:
    """Where DBOS keeps its workflows: a file of its own, or a schema of its own in our PostgreSQL database."""
    if sqlite_file(url) is not None:
        return f"sqlite:///{data / 'batches' / FILE}"
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
