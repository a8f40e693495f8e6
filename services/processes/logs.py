"""Log files that stay small: our own rotate by themselves, and those that a program writes past us are cut back.

Every file of the folder ends in ``.log``; older parts in ``.log.1`` and so on. All are readable by their owner only.
"""

from __future__ import annotations

import contextlib
import io
import logging
import logging.handlers
import os
import shutil
from pathlib import Path

from services.security import keys

PART_BYTES, PARTS = 5_000_000, 3  # 20 MB for each of our processes
RAW_BYTES = 5_000_000  # 10 MB for whatever a program writes to its standard output and error
OURS = ("engine.log", "worker.log")
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class _Private(logging.handlers.RotatingFileHandler):
    """Rotates into files that nobody else can read."""

    def _open(self) -> io.TextIOWrapper:
        handle = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return io.TextIOWrapper(io.FileIO(handle, "ab"), encoding=self.encoding, write_through=True)


def log_to(path: Path) -> None:
    """From now on this process logs to ``path``, without keys, and at most `PARTS` older parts of it are kept."""
    logging.raiseExceptions = False  # a full disk must not print tracebacks where a command prints its answer
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _Private(path, maxBytes=PART_BYTES, backupCount=PARTS, encoding="utf-8")
    logging.basicConfig(level=logging.INFO, handlers=[handler], format=FORMAT)
    keys.install_log_filter()


def cut_back(folder: Path) -> list[str]:
    """Move what the logs of other programs (the pages' and the local model's output) have gathered into ``.log.1``.

    Such a program holds its file open for appending, so the file is copied and emptied in place; a line that is written
    just then can be lost. Returns the names of the files that were too large.
    """
    large = []
    for file in folder.glob("*.log"):
        with contextlib.suppress(OSError):
            if file.name in OURS or file.is_symlink() or file.stat().st_size <= RAW_BYTES:
                continue
            large.append(file.name)
            with contextlib.suppress(OSError):  # a full disk, and emptying it helps
                _copied(file, file.with_suffix(".log.1"))
            os.truncate(file, 0)
    return large


def _copied(file: Path, to: Path) -> None:
    to.unlink(missing_ok=True)
    with file.open("rb") as source, os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
        source.seek(-RAW_BYTES, os.SEEK_END)
        shutil.copyfileobj(source, target)
