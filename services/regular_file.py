"""Opening what a person named as a file, and nothing else: a pipe would be waited for, a device never ends."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


class NotRegular(OSError):
    """What lies there is no file. ``what`` is what it is: "a pipe", "a device", "a socket"."""

    def __init__(self, kind: str) -> None:
        super().__init__(None, f"it is {kind}, not a file")
        self.strerror = f"it is {kind}, not a file"
        self.what = kind


def regular(path: Path) -> BinaryIO:
    """The file, opened to read. Raises OSError: `NotRegular` for a pipe, a device or a socket, IsADirectoryError.

    It is looked at before it is opened, because opening can already do something to a device; and again when it is
    open, because the path may lead elsewhere by then.
    """
    _look(path.stat().st_mode, path)
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _look(os.fstat(handle).st_mode, path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _look(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(None, "it is a folder", str(path))
    if not stat.S_ISREG(mode):
        raise NotRegular("a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device")
