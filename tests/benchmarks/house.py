"""The engine and the pages on a fake server, as `lab run` starts them, for benchmarks that go through all of it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services import paths
from services.client import EngineClient
from services.engine_process import spawn
from tests.fake.fixture import ROOT, FakeServerProcess

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class House:
    """What a benchmark needs to know of it. ``ui_pid``: the process that draws."""

    url: str
    data: Path
    engine: EngineClient
    fake: FakeServerProcess
    ui_pid: int
    engine_pid: int


def deployment(name: str, model: str, url: str) -> str:
    """A table for deployments.toml."""
    return (
        f'[[deployment]]\nname = "{name}"\nid = "{name}"\nkind = "openai-compatible"\nmodel = "{model}"\n'
        f'base_url = "{url}/v1"\nprice = {{ input = 1.0, output = 2.0 }}\n\n'
    )


@contextlib.contextmanager
def house(models: dict[str, str], command: list[str] | None = None) -> Iterator[House]:
    """Start everything. ``models``: deployment name → model; ``command``: another UI than ours, given {port}."""
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder, FakeServerProcess() as fake:
        data = Path(folder)
        file = data / "deployments.toml"
        file.write_text("".join(deployment(name, model, fake.url) for name, model in models.items()))
        os.environ |= {
            "LAB_DATA": str(data),
            "LAB_DEPLOYMENTS": str(file),
            "LAB_SOCKET": str(paths.socket_path(data)),
            "LAB_BOARD_SECRET": "of the benchmark",
        }
        port = a_port()
        ours = [sys.executable, "-m", "app.server", "--port", str(port)]
        ui_command = [part.format(port=port) for part in command] if command else ours
        engine = spawn.popen(data, file, embedded=False)
        with (data / "pages.log").open("wb") as log:
            pages = subprocess.Popen(ui_command, cwd=ROOT, stdout=log, stderr=log)
        client = EngineClient(paths.socket_path(data), person="bench", role="admin")
        try:
            spawn.first_words(engine)
            url = f"http://127.0.0.1:{port}"
            answers(url + "/_stcore/health", 60)
            yield House(url, data, client, fake, pages.pid, engine.pid)
        finally:
            client.close()
            for process in (pages, engine):
                process.terminate()
                process.wait(20)


def a_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def answers(url: str, timeout_s: float) -> None:
    """Wait until a GET of ``url`` is answered with 200. Raises TimeoutError."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=2) as response:
            if response.status == 200:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nothing answered at {url}")


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, all threads, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
