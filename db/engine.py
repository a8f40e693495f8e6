"""Connections to SQLite and PostgreSQL, one for the writer and others for readers, and what their errors mean."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import quote

import orjson
import psycopg
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from db.types import json_text

# Result codes of SQLite (https://sqlite.org/rescode.html), the low byte of the extended code.
BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB = 5, 6, 7, 8, 10, 11, 13, 14, 26


_SQLITE_ALL = frozenset({BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB})


# Classes of PostgreSQL (its manual, appendix A): connection, rollback, resources, operator, system.
_POSTGRES_ALL = ("08", "40", "53", "57", "58", "25006")


_POSTGRES_AGAIN = frozenset({"40001", "40P01", "55P03"})

RESTORE = "put the last file of the folder backups in its place, or give another data directory"

_WORDS = {
    FULL: ("the disk is full", "make room on it"),
    READONLY: ("the database may only be read", "make its file and its directory writable"),
    IOERR: ("the disk does not answer", "look at the disk"),
    CORRUPT: (
        "its file is damaged",
        RESTORE,
    ),
    NOTADB: (
        "its file is not a database",
        RESTORE,
    ),
    CANTOPEN: ("its file cannot be opened", "see that the data directory is there and writable"),
    BUSY: ("another program holds it locked", "end that program"),
    LOCKED: ("another program holds it locked", "end that program"),
}


def _sqlite_code(error: DBAPIError) -> int | None:
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def why_not(error: sqlite3.Error) -> tuple[str, str]:
    """What an error of SQLite's driver means, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", None)
    usual = (str(error).rstrip("."), "see that it is there and can be read and written")
    return _WORDS.get(code & 0xFF, usual) if isinstance(code, int) else usual


def _postgres_code(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or "")


def ends_transaction(error: BaseException) -> DBAPIError | None:
    """The error, or the one behind it, that ended the whole transaction and not only the unit that met it.

    On a full disk SQLite undoes the transaction by itself; then going back to the unit's savepoint fails as well, and
    that second error hides the first.
    """
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, DBAPIError) and _concerns_all(behind):
            return behind
        behind = behind.__context__
    return None


def _concerns_all(error: DBAPIError) -> bool:
    return (
        error.connection_invalidated
        or _sqlite_code(error) in _SQLITE_ALL
        or _postgres_code(error).startswith(_POSTGRES_ALL)
    )


def worth_a_retry(error: DBAPIError, *, committing: bool) -> bool:
    """Whether the same transaction may succeed if it is sent again.

    A connection that breaks during COMMIT leaves open whether it took place: that one is never sent again.
    """
    if error.connection_invalidated:
        return not committing
    return _sqlite_code(error) in (BUSY, LOCKED) or _postgres_code(error) in _POSTGRES_AGAIN


def sentence(error: Exception) -> str:
    """What failed, what is kept and what to do, for the person who runs this; holds no text of a record."""
    why, remedy = "", "see that it is there and can be written"
    if isinstance(error, DBAPIError):
        code = _sqlite_code(error)
        if code in _WORDS:
            why, remedy = _WORDS[code]
        elif error.orig is not None:
            why = (str(error.orig).splitlines() or [""])[0].rstrip(".")
    why = why or str(error) or type(error).__name__
    return (
        f"The database could not be written ({why}): what was recorded before is kept, this was not recorded; {remedy}."
    )


def sentence_of(error: BaseException) -> str:
    """What stood in the way, for the person who runs this, whatever kind of error it is; `sentence` is for writes."""
    if isinstance(error, sqlite3.Error):
        return "The database could not be read ({}): {}.".format(*why_not(error))
    if isinstance(error, DBAPIError):
        code = _sqlite_code(error)
        why, remedy = _WORDS.get(code if code is not None else -1, ("", "see that it is there and can be read"))
        if not why and error.orig is not None:
            why = (str(error.orig).splitlines() or [""])[0].rstrip(".")
        return f"The database could not be read ({why or type(error).__name__}): {remedy}."
    if isinstance(error, ArgumentError):
        return "DATABASE_URL is no address of a database: give postgresql://host/name or sqlite:///file."
    if isinstance(error, OSError) and error.errno is not None:
        name = error.filename or "A file"
        return f"{name} cannot be used ({error.strerror or type(error).__name__}): see that it is there and yours."
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__


DATABASE_FILE = "lab.sqlite3"

BUSY_MS = 5000

WAL_KEPT_BYTES = 64 * 2**20

CONNECT_S = 10

NETWORK_DISKS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse", "ncpfs", "davfs"}
)


# File systems that are mounted through FUSE but lie on this machine: a rootless container's own disk, an NTFS disk.
LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuseblk"})


class Options(TypedDict):
    """What every engine is made with."""

    json_serializer: Callable[[Any], str]
    json_deserializer: Callable[[str], Any]
    hide_parameters: bool


# `hide_parameters`: prompts and answers must not stand in an error's text, and so in no log.
_COMMON: Options = {
    "json_serializer": json_text,
    "json_deserializer": orjson.loads,
    "hide_parameters": True,
}


class Refused(ValueError):
    """This database is not worked on; the text is a sentence for the person."""


def database_url(data_dir: Path) -> str:
    """DATABASE_URL if it is set (PostgreSQL through psycopg 3), else the SQLite file in ``data_dir``.

    Raises `Refused` for a DATABASE_URL that names another kind of database, or is no address at all.
    """
    configured = os.environ.get("DATABASE_URL", "").strip()
    if not configured:
        return URL.create("sqlite", database=str(data_dir / DATABASE_FILE)).render_as_string()
    url = configured
    for prefix in ("postgres://", "postgresql://"):
        if configured.startswith(prefix):
            url = "postgresql+psycopg://" + configured.removeprefix(prefix)
    if url.startswith(("postgresql+psycopg://", "sqlite:///")) and _readable(url):
        return url
    raise Refused(
        "DATABASE_URL is no address of a database that can be used here: give one like postgresql://host/name or "
        "sqlite:////folder/file.sqlite3, with special characters of a password percent-encoded."
    )


def _readable(url: str) -> bool:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return False
    return parsed.get_backend_name() != "sqlite" or parsed.database not in (None, "", ":memory:")


def sqlite_file(url: str) -> Path | None:
    """The file behind a SQLite URL; None for another database."""
    parsed = make_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def make_engine(url: str) -> Engine:
    """The writer's engine: WAL, synchronous=FULL, foreign keys, and every transaction an immediate one.

    A deferred BEGIN is what makes "database is locked" out of two writers; see the SQLite documentation on
    transactions. Raises ValueError in words for a file on a network disk.
    """
    file = sqlite_file(url)
    if file is None:
        return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": CONNECT_S}, **_COMMON)
    refuse_network_disk(file)
    engine = create_engine(url, connect_args={"timeout": BUSY_MS / 1000, "isolation_level": None}, **_COMMON)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        for pragma in (
            f"busy_timeout={BUSY_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",
            f"journal_size_limit={WAL_KEPT_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


class _Binary(psycopg.Cursor[Any]):
    """Takes what it reads as bytes and not as text: a history's sketches and moments arrive a tenth sooner."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.format = psycopg.pq.Format.BINARY


@lru_cache(maxsize=8)
def reader(url: str) -> Engine:
    """An engine that can only read: what pages use. SQLite connections live for one query and never cross threads."""
    file = sqlite_file(url)
    if file is None:
        return create_engine(
            url,
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_S, "cursor_factory": _Binary},
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
            **_COMMON,
        )
    target = f"file:{quote(str(file))}?mode=ro"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(target, uri=True, timeout=BUSY_MS / 1000, isolation_level=None)
        connection.execute("PRAGMA query_only=ON")
        # SQLite's own lower() knows ASCII only, PostgreSQL's knows every letter.
        connection.create_function("lower", 1, _lower, deterministic=True)
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, **_COMMON)

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")  # several queries of one page see one state of the database

    return engine


def _lower(value: str | bytes | int | float | None) -> str | bytes | int | float | None:
    return value.lower() if isinstance(value, str) else value


def refuse_network_disk(file: Path, mounts: Path = Path("/proc/mounts")) -> None:
    """Raise `Refused` when ``file`` would lie on a network disk, where SQLite's WAL loses data.

    ``mounts`` is a mount table as Linux writes it; where there is none, nothing is refused.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    folder, best, kind = file.resolve(), 0, ""
    for line in lines:
        parts = line.split()
        if len(parts) < 3:
            continue
        point = Path(_unescaped(parts[1]))
        if folder.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), parts[2]
    if kind in NETWORK_DISKS or (kind.startswith("fuse.") and kind not in LOCAL_FUSE):
        raise Refused(
            f"The data directory lies on a network disk ({kind}), where SQLite loses data: choose a local directory "
            "with --data, or use PostgreSQL with DATABASE_URL."
        )


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), point)
