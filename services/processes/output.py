"""Standard output and error that take all of what they are given, or raise.

Where Python runs unbuffered (``PYTHONUNBUFFERED``, ``-u``, as in most containers), ``print`` hands its text to one
write(2) and ignores how much of it was taken. A pipe that is full, is not blocking, or whose write a signal interrupts
takes a part: the rest was lost without a word, and JSON arrived cut with exit code 0.

What processes log goes there too, and no key with it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import logging.handlers
import os
import select
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from services.security import keys

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class WholeWriter(io.RawIOBase):
    """A descriptor, not closed with this object, whose `write` waits until everything is written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of ``data``; returns its number of bytes. Raises OSError when the descriptor takes no more."""
        remaining = memoryview(data).cast("B")
        size = len(remaining)
        while remaining:
            try:
                remaining = remaining[os.write(self._descriptor, remaining) :]
            except BlockingIOError:
                select.select((), (self._descriptor,), ())
        return size


class Closed(OSError):
    """Standard output was closed before the program began; the text is a sentence for the person."""


class _Nowhere(io.RawIOBase):
    """A closed standard output: whoever counts on it is told, and not only that there is no such object."""

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        raise Closed("Standard output is closed, so there is nowhere to write: send it to a file, or to /dev/null.")


def _open_closed() -> None:
    """Give the program the three streams that it counts on. A number left free would become the next file's, and what
    a child prints would end in that.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            empty = os.open(os.devnull, os.O_RDWR)
            if empty != number:
                os.dup2(empty, number)
                os.close(empty)
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - for the whole process
    if sys.stdout is None:
        nowhere: Any = _Nowhere()
        sys.stdout = io.TextIOWrapper(nowhere, encoding="utf-8", write_through=True)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def write_whole() -> None:
    """From now on ``sys.stdout`` and ``sys.stderr`` of this process write whole.

    Call it where a process begins. Whatever stands in their place (a test's capture) is left alone; one that was closed
    raises `Closed` when something is written.
    """
    _open_closed()
    out, err = sys.stdout, sys.stderr
    if isinstance(out, io.TextIOWrapper) and out is sys.__stdout__:
        sys.stdout = _whole(out)
    if isinstance(err, io.TextIOWrapper) and err is sys.__stderr__:
        sys.stderr = _whole(err)


def _whole(stream: io.TextIOWrapper[Any]) -> TextIO:
    stream.flush()
    writer: Any = WholeWriter(stream.fileno())
    # Without a buffer where there was none, as CPython's own unbuffered streams.
    return io.TextIOWrapper(
        writer if stream.write_through else io.BufferedWriter(writer),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


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
