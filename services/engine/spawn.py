"""Start an engine process, or find the one that already works on a data directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services import paths
from services.client import EngineClient, EngineDown, EngineError


def popen(data: Path, file: Path, *, embedded: bool = True) -> subprocess.Popen[bytes]:
    """An engine as a child process that stops when we are gone. Its first line of output says how it went.

    With LAB_EMBEDDED=0 in the environment no local model is started, whatever ``embedded`` says.
    """
    command = [
        sys.executable, "-m", "services.engine", "--data", str(data), "--deployments", str(file),
        "--parent-pid", str(os.getpid()),
    ]  # fmt: skip
    if not embedded or os.environ.get("LAB_EMBEDDED") == "0":
        command.append("--no-embedded")
    return subprocess.Popen(  # noqa: S603 - our own interpreter and modules
        command, cwd=paths.ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    )


def first_words(process: subprocess.Popen[bytes]) -> Path:
    """Wait until a started engine listens; returns its socket. Raises `EngineError` with what it said instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        said = json.loads(line)
    except json.JSONDecodeError as error:
        raise EngineError(
            f"The engine did not start (exit code {process.wait()}); its log is in the data directory under logs."
        ) from error
    if "error" in said:
        raise EngineError(str(said["error"]))
    return Path(said["socket"])


@contextmanager
def engine_for(data: Path, file: Path, *, person: str, role: str, embedded: bool = True) -> Iterator[EngineClient]:
    """A client of the engine that runs on ``data``, or of one started for the time of this block.

    Raises `EngineError` in words when none can be had, or when the running one was started with another
    deployments file.
    """
    client = EngineClient(paths.socket_path(data), person=person, role=role)
    try:
        running = client.health()
    except EngineDown:
        running = None
    if running is not None:
        if running.get("deployments_file") not in (None, str(file)):
            raise EngineError(
                f"An engine already works on {data} with {running['deployments_file']}: give another --data, or "
                "stop it."
            )
        yield client
        return
    process = popen(data, file, embedded=embedded)
    try:
        first_words(process)
        yield client
    finally:
        client.close()
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
