"""The identity of a worker, and how others learn that it is gone.

A worker has a *place*: the host, the data directory's own mark and the first number that no other worker there holds
(a file lock, which the system takes away from the dead). DBOS knows a worker by its place, so one that is started again
continues with what its predecessor left. Lines and calls know it by its *id*, which differs for every process, so that
the lines of a dead worker are told apart from those of its successor.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PREFIX = "worker-"
LEASE_S = max(1.0, float(os.environ.get("LAB_WORKER_LEASE", "60")))  # the same for all workers and the engine
BEAT_S = LEASE_S / 12
STALE_S = LEASE_S / 2  # a worker whose heart has not beaten for so long is dead
MOST_PLACES = 64


@dataclass(slots=True)
class Identity:
    """``place`` and ``id`` of this process; ``lock`` keeps the place for as long as the process lives."""

    place: str
    id: str
    lock: IO[str]


def settle(folder: Path) -> Identity:
    """Take a place in a data directory's ``batches`` folder. Raises OSError in words when all are taken."""
    folder.mkdir(parents=True, exist_ok=True)
    host = re.sub(r"[^A-Za-z0-9.]", "-", socket.gethostname())[:40] or "host"
    mark = _mark(folder / "place")
    for number in range(MOST_PLACES):
        file = (folder / f"worker-{number}.lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        place = f"{PREFIX}{host}-{mark}-{number}"
        return Identity(place, f"{place}-{os.getpid()}-{secrets.token_hex(3)}", file)
    raise OSError(f"{MOST_PLACES} workers are at work on {folder} already; that is the most there can be.")


def place_of(worker: str) -> str:
    """The place of the worker with this id."""
    return worker.rsplit("-", 2)[0]


def _mark(file: Path) -> str:
    """Six letters that tell this folder from one of the same name on another disk."""
    try:
        with file.open("x", encoding="ascii") as stream:
            stream.write(secrets.token_hex(3))
    except FileExistsError:
        pass
    letters = re.sub(r"[^a-z0-9]", "", file.read_text(encoding="ascii"))[:12]
    return letters or "000000"
