"""Standard output and error that take all of what they are given, or raise.

Where Python runs unbuffered (``PYTHONUNBUFFERED``, ``-u``, as in most containers), ``print`` hands its text to one
write(2) and ignores how much of it was taken. A pipe that is full, is not blocking, or whose write a signal interrupts
takes a part: the rest was lost without a word, and JSON arrived cut with exit code 0.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TYPE_CHECKING, Any, TextIO

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
