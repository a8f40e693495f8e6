"""Ways to use the fake server in a test: in the test's own loop, in a thread, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.fake.loop import run
from tests.fake.server import Core

ROOT = Path(__file__).parents[2]


class FakeServer(Core):
    """``async with FakeServer() as server:`` — runs in the loop of the test."""

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.shut()

    async def until(self, true: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait until ``true()``. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not true():
                await asyncio.sleep(0.002)


class FakeServerThread:
    """``with FakeServerThread() as server:`` — for synchronous tests; the loop runs in a thread of its own.

    ``core`` is the server (its log may be read from any thread); the usual names are here too.
    """

    def __init__(self, **options: Any) -> None:
        self.core = Core(**options)
        self.url = self.core.url
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-server", daemon=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the fake server's thread did not start")
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def until(self, true: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait until ``true()``. Raises TimeoutError."""
        end = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > end:
                raise TimeoutError("the fake server did not get there in time")
            time.sleep(0.002)

    def _run(self) -> None:
        run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.core.open()
        self._ready.set()
        await self._stop.wait()
        self.core.shut()


class FakeServerProcess:
    """``with FakeServerProcess() as server:`` — ``python -m tests.fake`` with its control endpoints, for benchmarks."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.fake", *(arguments or ("--port", "0"))]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the fake server did not start")
        self.url: str = json.loads(line)["url"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def control(self, name: str, body: dict[str, Any] | None = None) -> Any:
        """GET (or POST, with a body) ``/_control/NAME``; returns the JSON."""
        url = f"{self.url}/_control/{name}"
        response = httpx.get(url, timeout=30) if body is None else httpx.post(url, json=body, timeout=30)
        return response.json()


@contextlib.contextmanager
def hanging_address() -> Iterator[str]:
    """A base URL to which connecting never succeeds and never fails: a full backlog that nobody accepts from."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers: list[socket.socket] = []
    try:
        for _ in range(16):
            filler = socket.socket()
            filler.setblocking(False)
            fillers.append(filler)
            filler.connect_ex(listener.getsockname())
            if not select.select([], [filler], [], 0.05)[1]:
                break
        else:
            raise RuntimeError("this kernel never lets a backlog fill up")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for sock in (*fillers, listener):
            sock.close()


@contextlib.contextmanager
def closed_address() -> Iterator[str]:
    """A base URL at which nothing listens: the port is bound, so nobody else can take it, and never listened on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
async def fake_server() -> AsyncIterator[FakeServer]:
    """A fake server in the test's own loop (import this name into the test file or a conftest)."""
    async with FakeServer() as server:
        yield server


@pytest.fixture
def fake_server_thread() -> Iterator[FakeServerThread]:
    """A fake server for a synchronous test."""
    with FakeServerThread() as server:
        yield server
