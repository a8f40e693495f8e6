"""The data directory, and every file in it, is for its owner alone, whatever the umask was when it was written.

Prompts, answers and figures lie there. A process that writes there calls `private_files` first; `private_directory`
makes the directory and mends what earlier versions, or a copy from elsewhere, left open to others.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

OTHERS = 0o077
FOREIGN = "it belongs to somebody else, so it was left alone"
# What is ours in a data directory: somebody may have named one that holds other things too, such as their home.
FOLDERS = frozenset({"logs", "backups", "uploads", "batches", "demo.making"})
ENDINGS = (".sqlite3", ".sqlite3-wal", ".sqlite3-shm", ".sqlite3-journal", ".lock")
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def private_files() -> None:
    """From now on this process, and those that it starts, make files that only their owner may read."""
    os.umask(OTHERS)


def private_directory(path: Path, *, everything: bool = False) -> Path:
    """Make ``path`` if it is not there and close it to others, with the databases and locks that lie in it.

    ``everything``: logs, backups, uploads and batches too, which is also done where the directory stood open. Links
    are not followed. Raises OSError where that cannot be done, and for a directory that belongs to somebody else.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if status.st_uid != os.geteuid():
            if os.geteuid() == 0:  # a volume of another user's that a container's root was given: it stays theirs
                return path
            raise PermissionError(errno.EPERM, FOREIGN, str(path))
        stood_open = bool(status.st_mode & OTHERS)
        _close(handle, status.st_mode)
        for entry in _entries(handle):
            if entry.is_dir(follow_symlinks=False):
                if (everything or stood_open) and entry.name in FOLDERS:
                    _close_below(handle, entry.name)
            elif entry.name.endswith(ENDINGS):
                _close_file(handle, entry)
    finally:
        os.close(handle)
    return path


def private_file(path: Path) -> None:
    """Close one file of ours, and what SQLite keeps beside it, to others. Links are not followed."""
    for name in (path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal"))):
        try:
            handle = os.open(name, _OPEN)
        except OSError:
            continue
        try:
            _close(handle, os.fstat(handle).st_mode)
        finally:
            os.close(handle)


def _close_below(folder: int, name: str) -> None:
    try:
        handle = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=folder)
    except OSError:  # it became a link, or its owner may not read it
        return
    try:
        _close(handle, os.fstat(handle).st_mode)
        for entry in _entries(handle):
            if entry.is_dir(follow_symlinks=False):
                _close_below(handle, entry.name)
            else:
                _close_file(handle, entry)
    finally:
        os.close(handle)


def _entries(folder: int) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _close_file(folder: int, entry: os.DirEntry[str]) -> None:
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode) or not mode & OTHERS:
            return
        handle = os.open(entry.name, _OPEN, dir_fd=folder)
    except OSError:  # it is gone, or became a link
        return
    try:
        _close(handle, os.fstat(handle).st_mode)
    finally:
        os.close(handle)


def _close(handle: int, mode: int) -> None:
    """Take from a file that is ours what others may do with it."""
    private_mode = stat.S_IMODE(mode) & ~OTHERS
    status = os.fstat(handle)
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != private_mode:
        os.fchmod(handle, private_mode)
