"""`lab run`: the engine and the pages as two processes of their own, started together and kept alive."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from services import paths
from services.client import EngineError
from services.engine import spawn

BACKOFF_S = (0.2, 0.5, 1, 2, 5)
STEADY_S = 30.0


class Stop(Exception):
    """Somebody asked us to end."""


def run(*, port: int, address: str, data: Path, file: Path, browser: bool, say: Callable[[str], None]) -> int:
    """Start everything, print where the pages are, and stay until told to stop. Returns the exit code."""
    data.mkdir(parents=True, exist_ok=True)
    chosen = free_port(address, port)
    if chosen != port:
        say(f"Port {port} is taken; using {chosen}.")
    os.environ |= {
        "LAB_DATA": str(data),
        "LAB_DEPLOYMENTS": str(file),
        "LAB_SOCKET": str(paths.socket_path(data)),
    }
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    engine = spawn.popen(data, file)
    pages = _pages(chosen, address)
    try:
        try:
            spawn.first_words(engine)
        except EngineError as error:
            say(str(error))
            return 1
        url = f"http://{_shown(address)}:{chosen}"
        if not _answers(url, pages):
            say("The pages did not start; their log is in the data directory under logs.")
            return 1
        say(f"Inference Lab is at {url}  (data in {data}; stop with Ctrl-C)")
        if browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        _keep(engine, pages, data, file, chosen, address, say)
    except (KeyboardInterrupt, Stop):
        say("Stopping.")
    finally:
        for process in (pages, engine, *_started_since):
            _end(process)
    return 0


_started_since: list[subprocess.Popen[bytes]] = []


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stop


def _pages(port: int, address: str) -> subprocess.Popen[bytes]:
    log = paths.data_dir() / "logs" / "pages.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and modules
            [sys.executable, "-m", "app.serve", "--port", str(port), "--address", address, "--parent-pid",
             str(os.getpid())],
            cwd=paths.ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip


def _keep(
    engine: subprocess.Popen[bytes], pages: subprocess.Popen[bytes], data: Path, file: Path, port: int, address: str,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Start again whichever process dies; wait longer each time that it dies young."""
    makers = {"engine": lambda: spawn.popen(data, file), "pages": lambda: _pages(port, address)}
    living = {"engine": engine, "pages": pages}
    deaths = dict.fromkeys(living, 0)
    born = dict.fromkeys(living, time.monotonic())
    while True:
        time.sleep(0.2)
        for name, process in living.items():
            if process.poll() is None:
                continue
            young = time.monotonic() - born[name] < STEADY_S
            deaths[name] = deaths[name] + 1 if young else 1
            pause = BACKOFF_S[min(deaths[name], len(BACKOFF_S)) - 1]
            say(f"The {name} process ended (exit code {process.returncode}); starting it again.")
            time.sleep(pause)
            living[name] = makers[name]()
            _started_since.append(living[name])
            born[name] = time.monotonic()
            if name == "engine":
                with contextlib.suppress(EngineError):
                    spawn.first_words(living[name])


def _answers(url: str, pages: subprocess.Popen[bytes], timeout_s: float = 60.0) -> bool:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end and pages.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as response:  # noqa: S310 - our own server
                if response.status == 200:
                    return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    return False


def _shown(address: str) -> str:
    return "localhost" if address in ("127.0.0.1", "0.0.0.0", "::") else address  # noqa: S104 - only compared


def free_port(address: str, wanted: int) -> int:
    """``wanted`` if nobody listens there, else the next free port above it (up to 50), else any free one."""
    for port in [*range(wanted, wanted + 50), 0]:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return wanted


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
