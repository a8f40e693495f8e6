"""Files of the server that a visitor names for a batch: which ones are allowed, and how they are copied.

What lies at a path can be swapped for a link at any time. So the file is opened first, and whether it may
be read is decided by where the open file really lies. It is copied to the uploads from that very handle; everything
later reads the copy.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from services import paths
from services.batch.files import Cancelled, spool
from services.batch.types import Progress
from services.deployments.configured_hosts import ConfiguredHosts
from services.formatting import printable
from services.paths import regular
from services.security.access import may

LOCAL = "local"  # the person where nobody signs in
ENDINGS = frozenset({"csv", "tsv", "tab", "txt", "jsonl", "ndjson", "json", "parquet", "pq", "xlsx", "xlsm", "gz"})
LONGEST = 4096  # bytes of a path
BLOCK = 1 << 20
ROOM_LEFT = 256 << 20  # bytes that a copy leaves on the disk: the records need room too
# Never, whoever asks and whatever folder is configured: what the system and its programs keep to themselves.
SYSTEM = tuple(Path(name) for name in ("/proc", "/sys", "/dev", "/run", "/etc", "/boot", "/private/etc"))
SECRET_FOLDERS = frozenset(
    {
        ".streamlit",
        ".aws",
        ".ssh",
        ".config",
        ".gnupg",
        ".kube",
        ".docker",
        ".azure",
        ".gcloud",
        ".git",
        ".password-store",
        "keychains",
    }
)
SECRET_NAMES = re.compile(
    r"secret|credential|passw(or)?d|passphrase|(api|access|private|root|client)[-_ ]?keys?\b|service[-_ ]?account"
    r"|tokens?\.|(^|[-_. ])keys?\.|id_(rsa|dsa|ecdsa|ed25519)|known_hosts|\.env(\.|$)",
    re.IGNORECASE,
)
# In a configured folder a table called "password resets.csv" is somebody's prompts; keys come as these.
KEY_ENDINGS = frozenset({"json", "txt"})
NOT_YOURS = "Only whoever runs this server may name a file on it: upload the file instead."
NOT_HERE = (
    "Files on the server can be named only in the folders that deployments.toml lists under [batch] folders: upload "
    "the file, or have its folder added there."
)
NOTHING = "There is no file {} that may be read here; check the path, or upload the file."


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which files somebody may name: those in ``folders``; with ``anywhere`` all but the private ones. ``never``:
    folders and files that are private besides those of the system."""

    folders: tuple[Path, ...]
    anywhere: bool
    never: tuple[Path, ...]


class NotAllowed(ValueError):
    """A file that may not be named here. The text is a sentence for the person, the same whether the file is there."""


def loopback(address: str | None) -> bool:
    """Whether pages that listen on ``address`` can be reached from this machine only. "" is every address."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address((address or "").strip("[]")).is_loopback
    except ValueError:
        return False


def allowed(
    *, person: str, role: str, folders: tuple[str, ...], address: str | None, data: Path, file: Path | None
) -> Allowed | None:
    """What a person may name; None for one who may not name anything.

    ``address``: where the pages listen. ``folders``: as configured. ``file``: the deployments file.
    """
    if not may(role, "deploy"):
        return None
    # A name under which browsers may reach the pages means that others than this machine's own user do.
    alone = loopback(address) and not ConfiguredHosts(lambda: file or paths.deployments_file()).hosts()
    anywhere = role == "admin" and person == LOCAL and alone
    never = (data, paths.ROOT / "data", paths.ROOT / ".streamlit", *((file,) if file is not None else ()))
    return Allowed(tuple(Path(folder) for folder in folders), anywhere, never)


def pages_address() -> str:
    """Where the pages listen, as `lab run` says it; without that, only on this machine."""
    return os.environ.get("LAB_ADDRESS", "127.0.0.1")


@dataclass(frozen=True, slots=True)
class Named:
    """A file that was looked at: its whole path, its name, its size in bytes, and a key that changes with it."""

    path: str
    name: str
    n_bytes: int
    key: str


def named(path: str, rule: Allowed | None) -> Named:
    """The file that a path names. Raises ValueError in words when there is none that may be read."""
    with _opened(path, rule) as (handle, real):
        status = os.fstat(handle.fileno())
        key = f"{real} {status.st_dev} {status.st_ino} {status.st_mtime_ns} {status.st_size}"
        return Named(str(real), real.name, status.st_size, key)


def copied(
    path: str,
    rule: Allowed | None,
    uploads: Path,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Path:
    """A copy of the file in ``uploads``/<its SHA-256>/. Raises ValueError in words for a file that may not be read, one
    that grows, or a disk that does not take it; `Cancelled` once ``stopped`` is true."""
    with _opened(path, rule) as (handle, real):
        size = os.fstat(handle.fileno()).st_size
        uploads.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(uploads).free < size + ROOM_LEFT:
            raise ValueError(
                f"There is no room for a copy of {printable(real.name)}; nothing was kept. Make room first."
            )
        return spool(_blocks(handle, real, size, on_progress, stopped), uploads, real.name)


def _blocks(
    file: BinaryIO,
    real: Path,
    size: int,
    on_progress: Callable[[Progress], None] | None,
    stopped: Callable[[], bool] | None,
) -> Iterator[bytes]:
    done = 0
    while True:
        try:
            block = file.read(BLOCK)
        except OSError as error:
            raise ValueError(f"{printable(real.name)} cannot be read ({error.strerror}).") from None
        if not block:
            return
        done += len(block)
        if done > size:
            raise ValueError(f"{printable(real.name)} is still being written: wait until it is whole, then take it.")
        if stopped is not None and stopped():
            raise Cancelled("The copy was stopped; nothing was sent.")
        if on_progress is not None:
            on_progress(Progress(done, size, 0))
        yield block


@contextmanager
def _opened(path_text: str, rule: Allowed | None) -> Iterator[tuple[BinaryIO, Path]]:
    """The file, open, and where it really lies."""
    if rule is None:
        raise NotAllowed(NOT_YOURS)
    path = _absolute(path_text, rule)
    # Before it is opened, so that no answer tells what lies outside, and nothing is done to a device.
    try:
        _check(Path(os.path.realpath(path)), rule)
        file = regular(path)
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from None
    with file:
        try:
            real = _real_path(file)
            _check(real, rule)
        except (OSError, ValueError) as error:
            raise _refusal(path, error) from None
        if os.fstat(file.fileno()).st_nlink > 1:
            raise NotAllowed(
                f"{printable(path.name)} has a second name on the disk (a hard link), so where it lies cannot be told: "
                "copy it, and name the copy."
            )
        yield file, real


def _absolute(path: str, rule: Allowed) -> Path:
    if "\0" in path:
        raise ValueError("A path cannot hold a NUL character: take it out.")
    try:
        too_long = len(path.encode()) > LONGEST
    except UnicodeEncodeError:
        raise ValueError("The path holds characters that no file name has: write it again.") from None
    if too_long:
        raise ValueError("The path is longer than any file's can be; check it.")
    home = Path(path).expanduser() if rule.anywhere and path.startswith("~/") else Path(path)
    if not home.is_absolute():
        raise ValueError("Write the whole path of a file on the server, like /data/prompts.csv.")
    return home


def _refusal(path: Path, error: OSError | ValueError) -> ValueError:
    """The sentence for a file that cannot be read; what may be named is said before, so this tells no secret."""
    if isinstance(error, NotAllowed):
        return error
    name = printable(path.name)[:100] or "of that name"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, FileNotFoundError):
        return ValueError(f"{name} cannot be read ({error.strerror}); check the path.")
    return ValueError(NOTHING.format(name))


def _check(real: Path, rule: Allowed) -> None:
    """Raises `NotAllowed` unless a file that really lies at ``real`` may be read."""
    inside = _below(real, rule)
    if inside is None:
        raise NotAllowed(NOT_HERE)
    if _private(real, inside, rule):
        raise NotAllowed(
            "Settings, keys, hidden files and what this program keeps are never read as prompts: name another file."
        )
    if _ending(real) not in ENDINGS:
        raise NotAllowed(f"A file of prompts ends in one of {', '.join(sorted(ENDINGS))}: name such a file.")


def _below(real: Path, rule: Allowed) -> Path | None:
    """The part of a path that a visitor chose: below the configured folder that it lies in, or all of it."""
    for folder in rule.folders:
        root = Path(os.path.realpath(folder))
        if real.is_relative_to(root) and real != root:
            return real.relative_to(root)
    return real.relative_to("/") if rule.anywhere else None


def _private(real: Path, inside: Path, rule: Allowed) -> bool:
    if any(name.startswith(".") for name in inside.parts):
        return True
    chosen_freely = inside == real.relative_to("/")
    if SECRET_NAMES.search(real.name) and (chosen_freely or _ending(real) in KEY_ENDINGS):
        return True
    if any(name.casefold() in SECRET_FOLDERS for name in real.parts):
        return True
    if any(real.is_relative_to(place) for place in SYSTEM):
        return True
    # By what they are and not by what they are called: a disk may be mounted twice, or not tell Data from data.
    never = {_identity(Path(os.path.realpath(place))) for place in rule.never} - {None}
    return any(_identity(place) in never for place in (real, *real.parents))


def _ending(path: Path) -> str:
    return path.suffix.lstrip(".").lower()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _real_path(file: BinaryIO) -> Path:
    """Where an open file really lies. Raises OSError when that cannot be told."""
    if sys.platform == "darwin":
        raw = fcntl.fcntl(file.fileno(), fcntl.F_GETPATH, b"\0" * 1024)
        real = Path(os.fsdecode(raw.rstrip(b"\0")))
    else:
        real = Path(f"/proc/self/fd/{file.fileno()}").readlink()
    if not os.path.samestat(real.lstat(), os.fstat(file.fileno())):  # it was deleted, or moved just now
        raise FileNotFoundError(2, os.strerror(2), str(real))
    return real
