"""The engine as the process it is in production, for tests that kill it or speak through its door."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from services import paths
from services.client import EngineClient
from services.engine_process import spawn


class EngineProcess:
    """One engine on a data directory. ``environment`` is added to ours for the time of its start."""

    def __init__(self, data: Path, file: Path, environment: dict[str, str] | None = None) -> None:
        self.data, self.file = data, file
        self.environment = environment or {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> EngineClient:
        """Start it; a client with every right."""
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ |= self.environment
        try:
            self.process = spawn.popen(self.data, self.file, embedded=False)
            spawn.first_words(self.process)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        return self.client("admin")

    def client(self, role: str) -> EngineClient:
        """Another client, in that role."""
        return EngineClient(paths.socket_path(self.data), person="ada", role=role)

    def kill(self) -> None:
        """kill −9."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> None:
        """End it in good order if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


@contextlib.contextmanager
def engine_process(data: Path, file: Path, environment: dict[str, str] | None = None) -> Iterator[EngineProcess]:
    """An engine that is not started yet, and certainly ended afterwards."""
    made = EngineProcess(data, file, environment)
    try:
        yield made
    finally:
        made.stop()
