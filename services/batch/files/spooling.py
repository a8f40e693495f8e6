"""Storing an upload: to disk as it comes, whole or not at all, under the hash of what it is."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path, PureWindowsPath

from services.regular_file import regular

_BLOCK = 1024 * 1024


def spool(chunks: Iterable[bytes], folder: Path, file_name: str) -> Path:
    """Write an upload to ``folder``/<its SHA-256>/<its name> and return that path. An upload that breaks off, by an
    error of ``chunks`` or of the disk, leaves nothing behind; the same file twice is stored once.

    Raises ValueError in words when the disk does not take it; errors of ``chunks`` pass through.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=".part-", dir=folder)  # readable by the owner only
    except OSError as error:
        raise _full(error, file_name) from None
    made = hashlib.sha256()
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                made.update(chunk)
                _write(file.write, chunk, file_name)
            _write(lambda _: file.flush(), b"", file_name)
        place = folder / made.hexdigest() / safe_name(file_name)
        try:
            place.parent.mkdir(exist_ok=True)
            Path(part).replace(place)
        except OSError as error:
            raise _full(error, file_name) from None
        return place
    finally:
        Path(part).unlink(missing_ok=True)


def sha256_of(path: Path, stopped: Callable[[], bool] | None = None) -> str:
    """The SHA-256 of a file, to see whether it has changed since it was checked. Raises ValueError in words."""
    made = hashlib.sha256()
    try:
        with regular(path) as file:
            while block := file.read(_BLOCK):
                made.update(block)
                if stopped is not None and stopped():
                    break
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read any more ({error.strerror}).") from None
    return made.hexdigest()


def safe_name(file_name: str) -> str:
    """A file's name without folders and without what a file system may not like; the end, which says the format, is
    kept."""
    name = re.sub(r"[^\w.()+ -]+", "_", PureWindowsPath(file_name).name).strip(" .")
    stem, dot, suffix = name.rpartition(".")
    name = f"{stem[:80]}{dot}{suffix[:16]}" if dot else name[:80]
    return name.encode("utf-8", "replace")[-200:].decode("utf-8", "ignore") or "upload"


def _write(write: Callable[[bytes], object], chunk: bytes, file_name: str) -> None:
    try:
        write(chunk)
    except OSError as error:
        raise _full(error, file_name) from None


def _full(error: OSError, file_name: str) -> ValueError:
    name = safe_name(file_name)
    return ValueError(f"{name} could not be stored ({error.strerror}); nothing was kept. Make room, then upload again.")
