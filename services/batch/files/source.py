"""The bytes of a file as a stream, hashed and counted on the way, and uploads stored under their SHA-256.

Nothing here keeps more than a chunk and the line that is being put together.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from services.batch.files.errors import MAX_RECORD_BYTES, Cancelled, Refused
from services.batch.types import Progress
from services.paths import NotRegular, regular

_BLOCK = 1024 * 1024


def spool(chunks: Iterable[bytes], folder: Path, file_name: str) -> Path:
    """Write an upload to ``folder``/<its SHA-256>/<its name> and return that path. An upload that breaks off, by an
    error of ``chunks`` or of the disk, leaves nothing behind; the same file twice is stored once.

    Raises ValueError in words when the disk does not take it; errors of ``chunks`` pass through.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, partial_file = tempfile.mkstemp(prefix=".part-", dir=folder)  # readable by the owner only
    except OSError as error:
        raise _full(error, file_name) from None
    digest = hashlib.sha256()
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                _write(file.write, chunk, file_name)
            _write(lambda _: file.flush(), b"", file_name)
        place = folder / digest.hexdigest() / safe_name(file_name)
        try:
            place.parent.mkdir(exist_ok=True)
            Path(partial_file).replace(place)
        except OSError as error:
            raise _full(error, file_name) from None
        return place
    finally:
        Path(partial_file).unlink(missing_ok=True)


def sha256_of(path: Path, stopped: Callable[[], bool] | None = None) -> str:
    """The SHA-256 of a file, to see whether it has changed since it was checked. Raises ValueError in words."""
    digest = hashlib.sha256()
    try:
        with regular(path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                if stopped is not None and stopped():
                    break
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read any more ({error.strerror}).") from None
    return digest.hexdigest()


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


CHUNK = 64 * 1024  # a chunk of the shortest lines is worked on in about 0.1 s, which is how fine progress can be

MAX_UNPACKED = 5_000_000_000  # the largest batch job of any service here (Bedrock)

MAX_RATIO = 100

_RATIO_FROM = 8 * 1024 * 1024  # a short text can well be packed more tightly; it harms nobody

_TELL_EVERY_S = 0.2

HEAD = 256 * 1024

GZIP = b"\x1f\x8b"

_BOM = b"\xef\xbb\xbf"


class TooLong(bytes):
    """The beginning of a line that is longer than a record may be; the rest of it was passed over."""


class Source:
    """One file, read once from its beginning. ``n_records`` is kept up by whoever counts them, for the progress.

    Raises `Refused` in words when it cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        on_progress: Callable[[Progress], None] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> None:
        self.path = path
        self.n_records = 0
        self.done = 0
        self.n_bytes = 0
        self._on_progress, self._stopped = on_progress, stopped
        self._last = 0.0
        self._hash = hashlib.sha256()
        self._read = 0
        self._file = _opened(path)
        self.n_bytes = os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def finish(self) -> str:
        """Read what nobody wanted, for the hash; returns the SHA-256 of the whole file, and tells the end.

        Raises `Refused` where the rest cannot be read.
        """
        for _ in self.raw():
            pass
        self.tick(now=True)
        return self._hash.hexdigest()

    def digest_if_readable(self) -> str:
        """As `finish`, for a file that was refused already: "" where the rest of it cannot be read either."""
        try:
            return self.finish()
        except Refused:
            return ""

    def tick(self, *, now: bool = False) -> None:
        """Tell how far it is, at most every 0.2 s; raises `Cancelled` when the person stopped it."""
        moment = time.monotonic()
        if not now and moment - self._last < _TELL_EVERY_S:
            return
        self._last = moment
        if self._stopped is not None and self._stopped():
            raise Cancelled("The check was stopped; nothing was sent.")
        if self._on_progress is not None:
            self._on_progress(Progress(min(self.done, self.n_bytes), self.n_bytes, self.n_records))

    def raw(self) -> Iterator[bytes]:
        """The bytes as they lie on the disk, no more of them than there were when it was opened: a file of the system
        that says it has none can go on for ever. Raises `Refused` for more, and for what cannot be read."""
        while chunk := self._bytes(CHUNK):
            self._hash.update(chunk)
            self._read += len(chunk)
            self.done += len(chunk)
            if self._read > self.n_bytes:
                raise _grown(self.path, self.n_bytes)
            self.tick()
            yield chunk

    def text(self) -> Iterator[bytes]:
        """The bytes of the text in it: unpacked, without a UTF-8 byte order mark."""
        chunks = unpacked(self.raw()) if self._head(2) == GZIP else self.raw()
        start = b""
        for chunk in chunks:
            start += chunk
            if len(start) >= len(_BOM):
                break
        yield start.removeprefix(_BOM)
        yield from chunks

    def head(self) -> bytes:
        """The beginning of the text, at least one whole line of it where a line is no longer than a record may be."""
        chunks = self._again()
        if self._head(2) == GZIP:
            chunks = unpacked(chunks)
        head = b""
        for chunk in chunks:
            head += chunk
            ended = b"\n" in head or b"\r" in head
            if len(head) >= HEAD and (ended or len(head) > MAX_RECORD_BYTES):
                break
        return head

    def magic(self) -> bytes:
        """The first bytes as they lie on the disk."""
        return self._head(16)

    def _head(self, n: int) -> bytes:
        return self._bytes(n, 0)

    def _again(self) -> Iterator[bytes]:
        """The bytes from the beginning, without a step in what `raw` reads."""
        offset = 0
        while chunk := self._bytes(CHUNK, offset):
            offset += len(chunk)
            yield chunk

    def _bytes(self, n: int, offset: int | None = None) -> bytes:
        """The next bytes, or those from ``offset``. Raises `Refused` in words."""
        try:
            return self._file.read(n) if offset is None else os.pread(self._file.fileno(), n, offset)
        except OSError as error:
            raise _unreadable(self.path, error) from None


def _opened(path: Path) -> BinaryIO:
    """Raises `Refused` in words."""
    try:
        return regular(path)
    except FileNotFoundError:
        raise Refused("not_found", f"There is no file at {path}; check the path.") from None
    except IsADirectoryError:
        raise Refused("not_found", f"{path} is a folder; name one file in it.") from None
    except NotRegular as error:
        sentence = f"{path} is {error.what}, not a file: write what is to be sent into a file, and name that."
        raise Refused("not_file", sentence) from None
    except PermissionError as error:
        raise Refused("not_readable", f"{path} cannot be opened ({error.strerror}); check its rights.") from None
    except OSError as error:
        raise Refused("not_readable", f"{path} cannot be opened ({error.strerror}); check the path.") from None


def _unreadable(path: Path, error: OSError) -> Refused:
    sentence = (
        f"{path} cannot be read ({error.strerror}): copy what is to be sent into a file on a disk, and name that."
    )
    return Refused("not_readable", sentence)


def _grown(path: Path, size: int) -> Refused:
    if not size:
        sentence = (
            f"{path} says that it is empty and still gives something, as files of the system do: copy what is to be "
        )
        return Refused("not_file", f"{sentence}sent into a file on a disk, and name that.")
    return Refused("not_readable", f"{path} grew while it was read: wait until it is written, then check it again.")


def unpacked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The text in a gzip stream, in chunks of bounded size. Raises `Refused` for what is no such thing, or a bomb."""
    taken = n_unpacked = 0
    unpack = zlib.decompressobj(wbits=31)
    ended = False
    for chunk in chunks:
        taken += len(chunk)
        packed = chunk
        while packed:
            if ended:
                packed = packed.lstrip(b"\0")  # gzip allows padding behind the end
                if not packed:
                    break
                unpack, ended = zlib.decompressobj(wbits=31), False
            try:
                text = unpack.decompress(packed, CHUNK)
            except zlib.error:
                location = f"after {taken:,} bytes" if n_unpacked else "at its beginning"
                raise Refused("gzip", f"The gzip file is damaged {location}; pack it again.") from None
            n_unpacked += len(text)
            if n_unpacked > MAX_UNPACKED:
                raise Refused(
                    "too_large",
                    f"The gzip file unpacks to more than {MAX_UNPACKED // 10**9} GB, which no batch service takes; "
                    "split it.",
                )
            if n_unpacked > _RATIO_FROM and n_unpacked > MAX_RATIO * taken:
                raise Refused(
                    "bomb",
                    f"The gzip file unpacks to more than {MAX_RATIO} times its size, which no text of prompts does; "
                    "it was not read on. If it is right, unpack it and upload the text.",
                )
            if text:
                yield text
            ended = unpack.eof
            packed = unpack.unused_data if ended else unpack.unconsumed_tail
    if not ended and taken:
        raise Refused("gzip", "The gzip file ends in the middle. Upload it again, or pack it again.")


def lines(chunks: Iterable[bytes], limit: int = MAX_RECORD_BYTES) -> Iterator[bytes]:
    r"""Physical lines with their ends: \n, \r\n or \r, as an editor counts them, and nothing else (`str.splitlines`
    would cut at U+2028 too). A line of more than ``limit`` bytes comes as `TooLong`."""
    remainder = b""
    skipping = False
    for chunk in chunks:
        data = remainder + chunk if remainder else chunk
        pieces = data.splitlines(keepends=True)
        # A \r at the very end may be the first half of \r\n.
        remainder = b"" if data.endswith(b"\n") or not pieces else pieces.pop()
        if skipping and pieces:
            skipping = False
            del pieces[0]
        if skipping:
            remainder = b"\r" if remainder.endswith(b"\r") else b""
        elif len(remainder) > limit:
            pieces.append(TooLong(remainder[:400]))
            remainder, skipping = (b"\r" if remainder.endswith(b"\r") else b""), True
        yield from pieces
    if remainder and not skipping:
        yield remainder
