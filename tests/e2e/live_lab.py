"""`lab run` as a person starts it, on fake servers (or the real local model), and a browser before it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Response, sync_playwright

from app.launcher import free_port
from services import paths
from services.client import EngineClient
from services.paths import ROOT
from tests.e2e.board_stage import ARGS, CHROMIUM
from tests.fake.fixture import FakeServerThread

WAIT_MS = int(os.environ.get("LAB_TEST_WAIT_MS", "40000"))


@dataclass
class LiveLab:
    """A running lab: its address, its data, the fake server behind it and the browser before it."""

    url: str
    data: Path
    file: Path
    fake: FakeServerThread
    browser: Browser
    process: subprocess.Popen[bytes]
    flaws: list[str] = field(default_factory=list)

    def page(self, *, width: int = 1280, height: int = 1000, scheme: str = "light", query: str = "") -> Page:
        """A page in a context of its own, which notes every error and every request that leaves the lab."""
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            accept_downloads=True,  # type: ignore[arg-type]
        )
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.flaws.append(f"page error: {error}"))
        page.on("console", lambda m: self._said(m.type, m.text, m.location.get("url", "")))
        page.on("request", lambda r: self._watch(r.url))
        page.on("response", self._answered)
        page.goto(f"{self.url}/{query}")
        page.get_by_role("heading").first.wait_for()
        return page

    def _watch(self, url: str) -> None:
        if not url.startswith((self.url, self.url.replace("http", "ws"), "data:", "blob:", "about:")):
            self.flaws.append(f"a request left the lab: {url}")

    def _said(self, kind: str, text: str, where: str) -> None:
        if kind == "error" and "/_stcore/" not in where:
            self.flaws.append(f"console: {text}")

    def _answered(self, response: Response) -> None:
        # Opened at a page's own address, Streamlit's script first looks for its server below that address.
        if response.status >= 400 and response.url.startswith(self.url) and "/_stcore/" not in response.url:
            self.flaws.append(f"{response.status} for {response.url}")

    def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of the lab's own database, read as a person with sqlite3 would."""
        with contextlib.closing(sqlite3.connect(f"file:{self.data / 'lab.sqlite3'}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement, values)]

    def calls(self, run_id: str) -> list[dict[str, Any]]:
        """The calls of a run, by column and attempt."""
        return self.rows("SELECT * FROM call WHERE run_id = ? ORDER BY column_no, repetition, attempt_no", run_id)

    def engine_pid(self) -> int:
        """The engine's process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            if b"services.engine_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        raise LookupError("there is no engine")


def deployment(name: str, model: str, base_url: str, *, id_: str = "", more: str = "") -> str:
    """One [[deployment]] on the chat wire."""
    lines = [
        "[[deployment]]",
        f"name = {json.dumps(name)}",
        f'id = "{id_ or name}"',
        'kind = "openai-compatible"',
        f"model = {json.dumps(model)}",
        f'base_url = "{base_url}"',
        "price = { input = 1.0, output = 2.0 }",
        more,
    ]
    return "\n".join(lines) + "\n\n"


@contextlib.contextmanager
def live_lab(folder: Path, declare: Callable[[str], str], *, embedded: bool = False) -> Iterator[LiveLab]:
    """Start it in a folder; ``declare`` makes the deployments file from the fake server's address."""
    data, file = folder / "data", folder / "deployments.toml"
    data.mkdir()
    with FakeServerThread() as fake, contextlib.ExitStack() as stack:
        file.write_text(declare(fake.url))
        # Suites that run side by side look for a port at the same time, and the one that is free now is so for all.
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        port = free_port("127.0.0.1", 8700 + 100 * worker)
        command = [
            sys.executable,
            "-P",
            "-m",
            "app.cli",
            "run",
            "--no-browser",
            "--port",
            str(port),
            "--data",
            str(data),
            "--deployments",
            str(file),
            *([] if embedded else ["--no-embedded"]),
        ]
        log = stack.enter_context((folder / "lab.log").open("wb"))
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
        )
        try:
            url = f"http://localhost:{port}"
            until(lambda: answers(f"{url}/_stcore/health"))
            EngineClient(paths.socket_path(data)).wait_until_up(60)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*ARGS, "--no-first-run"])
                yield LiveLab(url, data, file, fake, browser, process)
                browser.close()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def quiet(page: Page) -> None:
    """Wait until nothing is being drawn: a click on what moves at that moment goes nowhere."""
    page.locator("[data-test-script-state=notRunning]").first.wait_for()


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def until(true: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
