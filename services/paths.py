"""Where things are on this machine: the data directory, the engine's socket, the deployments file; and opening what
is a regular file, and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from db.permissions import private_directory

ROOT = Path(__file__).resolve().parent.parent
LONGEST_SOCKET = 103  # bytes; macOS has room for 104 with the final zero, Linux for 108
POINTER = "engine.socket"
NO_PLACE = (
    "There is no private directory for the engine's socket: each that was tried has too long a path (over "
    f"{LONGEST_SOCKET} bytes), belongs to somebody else or cannot be written to. Set TMPDIR to a short path of yours."
)


class Unusable(OSError):
    """A place on this machine cannot be used; the text is a sentence for the person."""


class NoPlace(Unusable):
    """The engine's socket can be nowhere."""


def data_dir(folder: str | Path | None = None) -> Path:
    """The directory of database, logs and backups: the argument, else LAB_DATA, else ``data`` beside the product.

    Raises `Unusable` for a path that leads nowhere.
    """
    return _settled("data directory", folder or os.environ.get("LAB_DATA") or ROOT / "data", "--data")


def _settled(subject: str, written: str | Path, option: str) -> Path:
    """A path as it is from any folder, without links. Raises `Unusable` where it cannot be followed."""
    try:
        path = Path(written).expanduser()
    except RuntimeError:
        user = Path(written).parts[0]
        whose = f"{user} is no user's home on this machine" if len(user) > 1 else "nobody knows where ~ is"
        raise Unusable(
            f"The {subject} {written} cannot be found ({whose}): give the whole path with {option}."
        ) from None
    try:
        settled = path.resolve()
        settled.is_dir()
    except RuntimeError:
        why = "the path leads in a circle of links"
    except ValueError:
        why = "a path holds no zero bytes"
    except OSError as error:
        gone = not path.is_absolute() and isinstance(error, FileNotFoundError)
        why = "the folder that this was started in is gone" if gone else error.strerror or type(error).__name__
    else:
        return settled
    printable = str(written).replace("\0", "\\0")
    raise Unusable(f"The {subject} {printable} cannot be found ({why}): give another with {option}.")


def settle_socket() -> None:
    """Make LAB_SOCKET mean, for every process started from here on, what it means in the folder we were started in."""
    if socket := os.environ.get("LAB_SOCKET"):
        with contextlib.suppress(OSError):  # the folder is gone
            os.environ["LAB_SOCKET"] = os.path.abspath(Path(os.path.expanduser(socket)))  # noqa: PTH100, PTH111


def make_data(data: Path) -> None:
    """See that a data directory can be worked on, and make it where there is none. Raises `Unusable`."""
    if trouble := data_trouble(data):
        raise Unusable(trouble)


def data_trouble(data: Path, *, everything: bool = False) -> str | None:
    """Why a data directory cannot be worked on, as a sentence; None when it can.

    It is made where there is none, and closed to others; with ``everything`` what lies in it too.
    """
    why = f"The data directory {data}"
    try:
        private_directory(data, everything=everything)
        next(iter(os.scandir(data)), None)
        with tempfile.TemporaryFile(dir=data) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except FileExistsError:
        return f"{why} is a file: give a directory with --data."
    except OSError as error:
        if not data.is_dir():
            return f"{why} cannot be made ({error.strerror}): give another with --data."
        whose = " and belongs to another user" if data.stat().st_uid != os.getuid() else ""
        return f"{why} cannot be written to ({error.strerror}){whose}: mend that, or give another with --data."
    return None


def socket_path(data: Path) -> Path:
    """The engine's Unix socket for a data directory: where its engine put it, else where the next one would.

    Every process has to name the same one, whatever its own TMPDIR is: so the engine notes it in the data directory.
    Raises `NoPlace` when it can be nowhere.
    """
    if socket := os.environ.get("LAB_SOCKET"):
        return Path(socket)
    with contextlib.suppress(OSError, ValueError):
        noted = (data / POINTER).read_text(encoding="utf-8").strip()
        if noted and Path(noted).is_socket():
            return Path(noted)
    return new_socket_path(data)


def new_socket_path(data: Path) -> Path:
    """Where the next engine of a data directory can put its socket: LAB_SOCKET, or a free path in a private directory.

    Raises `NoPlace` when there is none.
    """
    if socket := os.environ.get("LAB_SOCKET"):
        if len(os.fsencode(socket)) > LONGEST_SOCKET:
            raise NoPlace(f"LAB_SOCKET is longer than {LONGEST_SOCKET} bytes, which no socket may be: shorten it.")
        if not Path(socket).parent.is_dir():
            raise NoPlace(f"LAB_SOCKET lies in a directory that is not there: {Path(socket).parent}.")
        if _taken(Path(socket)):
            raise NoPlace(f"At LAB_SOCKET ({socket}) there is something else than a socket: name another path.")
        return Path(socket)
    name = hashlib.sha256(str(data).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    for private in _private_directories(data):
        for path in (private / f"{name}.sock", private / f"{name}-2.sock"):
            if len(os.fsencode(path)) <= LONGEST_SOCKET and not _taken(path) and _is_ours(private, data):
                return path
    raise NoPlace(NO_PLACE)


def note_socket(data: Path, socket: Path) -> None:
    """Tell every other process where the engine of this data directory listens."""
    half = data / f"{POINTER}.{os.getpid()}"
    half.write_text(f"{socket}\n", encoding="utf-8")
    half.replace(data / POINTER)


def _private_directories(data: Path) -> Iterator[Path]:
    name = f"inference-lab-{os.getuid()}"
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir()).resolve() / name
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        yield Path(runtime) / "inference-lab"
    for common in ("/tmp", "/var/tmp"):  # noqa: S108 - only a directory of our own in it, which `_is_ours` checks
        yield Path(common) / name
    yield data


def _is_ours(folder: Path, data: Path) -> bool:
    """Whether a directory is there, or could be made, in which only we can put things (and look, but for ``data``)."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
    except OSError:
        return False
    closed_to = 0o022 if folder == data else 0o077
    ours = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & closed_to
    return ours and os.access(folder, os.W_OK | os.X_OK)


def _taken(path: Path) -> bool:
    """Whether something else than a socket is there."""
    try:
        return not stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


def deployments_file(file: str | Path | None = None) -> Path:
    """The deployments file: the argument, else LAB_DEPLOYMENTS, else ``config.toml`` beside the product.

    Raises `Unusable` for a path that leads nowhere.
    """
    path = file or os.environ.get("LAB_DEPLOYMENTS") or ROOT / "deployments.toml"
    return _settled("deployments file", path, "--deployments")


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
