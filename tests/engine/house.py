"""A whole engine in the loop of a test: real rows, real sockets, a fake server at the other end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from db import run_queries
from db.engine import reader
from db.migrate import upgrade
from db.writer import Writer
from services.calls.live import LiveRun
from services.deployments.registry import Registry
from services.embedded import EmbeddedPool
from services.engine.engine import Engine
from services.engine_process.batches import batch_service, make_app
from services.runs.spec import ColumnSpec, RunSpec
from tests.fake.fixture import FakeServer

KEY_NAME = "FAKE_KEY"  # set by conftest
KEY = "key-of-the-engine-tests"
KINDS = {"messages": "anthropic", "responses": "openai", "chat": "openai-compatible"}


def table(name: str, model: str, url: str, wire: str = "chat", *, key_env: str | None = None, **limits: float) -> str:
    """One [[deployment]] of a file. ``url`` is the server's address without the wire's path."""
    base = url if wire == "messages" else f"{url}/v1"
    key_env = key_env or (None if wire == "chat" else KEY_NAME)
    lines = [
        "[[deployment]]",
        f'name = "{name}"',
        f'id = "{name}"',
        f'kind = "{KINDS[wire]}"',
        f'wire = "{wire}"',
        f"model = {json.dumps(model)}",
        f'base_url = "{base}"',
        "price = { input = 1.0, output = 2.0 }",
        *([f'key_env = "{key_env}"'] if key_env else []),
    ]
    if limits:
        lines.append("limits = { " + ", ".join(f"{name} = {value}" for name, value in limits.items()) + " }")
    return "\n".join(lines) + "\n\n"


class House:
    """Engine, records and fake server of one test. ``async with House(folder) as house: …``."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.url = url or f"sqlite:///{folder / 'lab.sqlite3'}"
        self.file = folder / "deployments.toml"
        self.fake = FakeServer()

    async def __aenter__(self) -> House:
        await self.fake.__aenter__()
        await asyncio.to_thread(upgrade, self.url, self.folder)
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        await self.fake.__aexit__()

    async def open(self) -> None:
        """Start an engine on the records, as a new process would."""
        if not self.file.exists():
            self.file.write_text("")
        self.writer = Writer(self.url)
        self.writer.start()
        self.reader = reader(self.url)
        self.engine = Engine(
            writer=self.writer,
            reader=self.reader,
            registry=Registry(self.writer, self.reader, self.file),
            pool=EmbeddedPool((), log_dir=self.folder),
            single_owner=self.url.startswith("sqlite"),
        )
        self.batches = batch_service(self.engine, None)
        await self.engine.start()

    def app(self) -> web.Application:
        """What the engine's process serves."""
        return make_app(self.engine, self.batches)

    async def close(self) -> None:
        """End it in good order."""
        await self.engine.close()
        self.writer.close()
        self.reader.dispose()

    async def declare(self, *tables: str) -> None:
        """Write the deployments file anew and have it read."""
        self.file.write_text("".join(tables))
        self.engine.registry._stamp = -1.0  # two writes within one tick of the file system's clock look the same
        await self.engine.registry.refresh()
        assert self.engine.registry.trouble is None, self.engine.registry.trouble

    async def start(self, names: Sequence[str], prompt: str = "Hello", **values: Any) -> LiveRun:
        """Start a run with those deployments as columns."""
        spec = RunSpec(prompt, tuple(ColumnSpec(name) for name in names), **values)
        return self.engine.runs[await self.engine.start_run(spec, "ada")]

    async def over(self, run: LiveRun) -> list[dict[str, Any]]:
        """Wait for a run's end; its rows."""
        async with asyncio.timeout(60):
            await run.ended.wait()
        return self.calls(run.id)

    async def ask(self, names: Sequence[str], prompt: str = "Hello", **values: Any) -> list[dict[str, Any]]:
        """Start a run and wait for its end; its rows."""
        return await self.over(await self.start(names, prompt, **values))

    def calls(self, run_id: str) -> list[dict[str, Any]]:
        """The rows of a run's calls, as they are in the database."""
        return [dict(row) for row in run_queries.calls_of_run(self.reader, run_id)]


async def frames_of(run: LiveRun) -> list[dict[str, Any]]:
    """Every frame that a watcher of the run gets, from now to its end."""
    queue = run.watch()
    frames = []
    async with asyncio.timeout(60):
        while (line := await queue.get()) is not None:
            frames.append(orjson.loads(line))
            if frames[-1]["type"] == "end":
                break
    return frames


def told(frames: Sequence[dict[str, Any]], column: int = 0) -> str:
    """The answer of a column as the frames have told it."""
    text = ""
    for frame in frames:
        for shown in frame.get("columns", ()):
            if shown["i"] == column:
                text = shown["answer"]
        for change in frame.get("cols", ()):
            if change["i"] == column:
                text = ("" if change.get("reset") else text) + change.get("a", "")
    return text
