"""The served UI process with the board's test page, a fake engine behind it and a real browser before it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from services.paths import ROOT
from tests.board_fakes import FakeEngine, FakeRun

CHROMIUM = Path(os.environ.get("LAB_CHROMIUM", "/usr/bin/chromium"))
ARGS = (
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Stage:
    """The served UI with the test page, a fake engine behind it, and a browser."""

    url: str
    engine: FakeEngine
    loop: asyncio.AbstractEventLoop
    browser: Browser
    log: Path

    def do(self, act: Callable[[], Any]) -> Any:
        """Run something on the engine's loop."""

        async def run() -> Any:
            return act()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def run(self, run_id: str, columns: list[dict[str, Any]]) -> FakeRun:
        return self.do(lambda: self.engine.run(run_id, columns))


@contextmanager
def set_stage(home: Path) -> Iterator[Stage]:
    """Start everything in an empty directory, and end it."""
    engine = FakeEngine(home / "e.sock")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", home / "log"
    env = {**os.environ, "LAB_SOCKET": str(engine.socket), "PYTHONPATH": str(ROOT)}
    with engine.in_thread() as loop, log.open("wb") as out:
        # Started from elsewhere, as an installed command would be: the settings must be found all the same.
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.board_server", str(port)], cwd=home, env=env, stdout=out, stderr=out
        )
        try:
            wait_for(lambda: answers(f"{url}/_stcore/health"))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGS))
                yield Stage(url, engine, loop, browser, log)
                browser.close()
        finally:
            server.terminate()
            server.wait(20)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
