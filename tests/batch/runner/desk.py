"""A data directory with batches in it, and workers as the processes that they are in production."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text

from db import batches
from db.engine import reader
from db.migrate import upgrade
from db.writer import Writer
from services import paths
from services.batch.types import ask_to_json
from services.deployments.registry import Registry
from services.runs.spec import new_id
from services.types import Ask, Message
from tests.engine.house import table
from tests.fake.fixture import FakeServerThread

FAST = "fake?tokens=2&ttft=4&itl=0.5"


class Desk:
    """``with Desk(folder) as desk``: a migrated database, a fake server, and batches for it."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.url = url or f"sqlite:///{folder / 'lab.sqlite3'}"
        self.file = folder / "deployments.toml"
        self.fake = FakeServerThread()
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Desk:
        self.fake.__enter__()
        upgrade(self.url, self.folder)
        self.writer = Writer(self.url)
        self.writer.start()
        self.reader = reader(self.url)
        self.deploy(FAST)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            self.kill(process)
        self.writer.close()
        self.reader.dispose()
        self.fake.__exit__()

    def afresh(self) -> None:
        """The fake server as it was at first, and nothing of what it was asked before."""
        self.until(lambda: not self.fake.live)
        self.fake.core.reset()
        self.deploy(FAST)

    def deploy(self, model: str, url: str | None = None, price: str | None = None) -> None:
        """What the deployment “fake” does from now on, and what it costs."""
        written = table("fake", model, url or self.fake.url)
        self.file.write_text(written.replace("{ input = 1.0, output = 2.0 }", price) if price else written)
        asyncio.run(Registry(self.writer, self.reader, self.file).refresh())

    def do(self, unit: Callable[..., Any], **values: Any) -> Any:
        """One write."""
        return self.writer.submit(lambda session: unit(session=session, **values)).result(30)

    def batch(self, n: int, *, params: dict[str, Any] | None = None, **values: Any) -> str:
        """A batch of ``n`` lines, whose prompts are “line 1 of <id>” and so on."""
        batch_id, now = new_id(), datetime.now(UTC)
        spec = asyncio.run(self._spec())
        run = {
            "id": f"run-{batch_id}",
            "created_at": now,
            "person": "ada",
            "source": "batch",
            "prompt": "{{x}}",
            "columns": [{"deployment_id": "fake"}],
            "n_calls": n,
            "text_stored": True,
        }
        row = {
            "id": batch_id,
            "created_at": now,
            "person": "ada",
            "name": "test",
            "deployment_id": "fake",
            "deployment": spec,
            "route": "runner",
            "state": "queued",
            "file_name": "test.csv",
            "wanted": "run",
            "file_sha256": "0" * 64,
            "run_id": run["id"],
            "n_lines": n,
            "n_left_out": 0,
        } | values
        self.do(batches.insert_batch, run=run, values=row)
        for start in range(1, n + 1, 1000):
            rows = [
                {
                    "batch_id": batch_id,
                    "no": no,
                    "line": no + 1,
                    "record_id": str(no),
                    "state": "waiting",
                    "attempts": 0,
                    "original": {"x": no},
                    "request": ask_to_json(Ask((Message("user", f"line {no} of {batch_id}"),), None, params or {})),
                }
                for no in range(start, min(n, start + 999) + 1)
            ]
            self.do(batches.insert_lines, rows=rows)
        return batch_id

    async def _spec(self) -> dict[str, Any]:
        registry = Registry(self.writer, self.reader, self.file)
        await registry.refresh()
        return registry.calling("fake").to_json()

    def worker(self, folder: Path | None = None) -> subprocess.Popen[bytes]:
        """A worker process that has begun; ``folder``: another data directory, as on another machine."""
        process = self.start(folder)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line and "worker" in json.loads(line), line
        return process

    def start(self, folder: Path | None = None) -> subprocess.Popen[bytes]:
        """A worker process that may still be loading."""
        data = folder or self.folder
        data.mkdir(exist_ok=True)
        environment = {**os.environ, "LAB_BATCH_POLL": "0.005", "LAB_WORKER_POLL": "0.05"}
        if not self.url.startswith("sqlite"):
            environment["DATABASE_URL"] = self.url
        process = subprocess.Popen(
            [sys.executable, "-m", "services.batch.worker", "--data", str(data), "--deployments", str(self.file)],
            cwd=paths.ROOT,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.processes.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
        """kill −9, or another signal."""
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
            process.wait(30)
        if process.stdout is not None:
            process.stdout.close()

    def row(self, batch_id: str) -> dict[str, Any]:
        """The batch as it is now."""
        found = batches.batch(self.reader, batch_id)
        assert found is not None
        return found

    def done(self, batch_id: str) -> int:
        """How many lines have been answered."""
        return batches.counts(self.reader, batch_id).get("succeeded", 0)

    def until(self, true: Callable[[], Any], timeout_s: float = 60.0, every_s: float = 0.05) -> None:
        """Wait until ``true()``."""
        end = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > end:
                raise TimeoutError("it did not come to that")
            time.sleep(every_s)

    def until_over(self, batch_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until a batch is over; its row."""
        try:
            self.until(lambda: self.row(batch_id)["state"] in batches.OVER, timeout_s)
        except TimeoutError:
            raise TimeoutError(f"{self.row(batch_id)} {batches.counts(self.reader, batch_id)}") from None
        return self.row(batch_id)

    def asked(self, batch_id: str) -> Counter[str]:
        """How often the server was sent each prompt of a batch."""
        ending = f" of {batch_id}"
        sent = (str(one.json["messages"][-1]["content"]) for one in list(self.fake.requests) if one.wire)
        return Counter(prompt for prompt in sent if prompt.endswith(ending))

    def ledger(self, batch_id: str) -> dict[str, Any]:
        """What the calls of a batch tell, to be held against its lines."""
        query = text(
            "SELECT count(*) AS calls, count(DISTINCT repetition) AS lines, "
            "sum(CASE WHEN state = 'succeeded' THEN 1 ELSE 0 END) AS succeeded, "
            "count(DISTINCT CASE WHEN state = 'succeeded' THEN repetition END) AS lines_answered, "
            "sum(CASE WHEN state = 'running' THEN 1 ELSE 0 END) AS running, "
            "sum(CASE WHEN state = 'lost' THEN 1 ELSE 0 END) AS lost, sum(cost_nanousd) AS cost FROM call "
            "WHERE run_id = :run"
        )
        with self.reader.connect() as connection:
            return dict(connection.execute(query, {"run": f"run-{batch_id}"}).mappings().one())

    def line_costs(self, batch_id: str) -> int:
        """The sum of the costs that the lines show."""
        return sum(row["cost_nanousd"] or 0 for row in batches.each_line(self.reader, batch_id))


@contextlib.contextmanager
def desk_at(folder: Path, url: str | None = None) -> Iterator[Desk]:
    """A desk, cleared away afterwards."""
    with Desk(folder, url) as desk:
        yield desk
