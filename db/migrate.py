"""Bring a database up to this code's tables: one process at a time, after a backup, never backwards."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from db.engine import BUSY_MS, CONNECT_S, RESTORE, refuse_network_disk, sqlite_file, why_not
from db.permissions import private_directory, private_file

FOLDER = Path(__file__).parent / "migrations"
KEPT_BACKUPS = 5
ADVISORY_LOCK = 7_203_114_000  # any number that is ours; PostgreSQL's lock while migrating
NO_VERSION = "does not say which version it has (its table alembic_version is empty), so nothing was changed in it"
_NAME = re.compile(r"(\d{4})_\w+\.py$")


class DatabaseTooNew(Exception):
    """The database was written by a later version of this product; the text is a sentence for the person."""


def upgrade(url: str, data_dir: Path) -> None:
    """Create or migrate the database at ``url``. Quick when there is nothing to do.

    Raises `DatabaseTooNew` for a database of a later version, ValueError for a SQLite file on a network disk and
    OSError, in words, when the database or the data directory cannot be read or written.
    """
    private_directory(data_dir)
    file = sqlite_file(url)
    if file is not None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_network_disk(file)
        if file.parent != data_dir:
            private_file(file)
    chain = revisions()
    if _is_current(url, chain):
        return
    # Beside the file rather than in `data_dir`: two data directories may share one database.
    with _one_at_a_time((file.parent if file else data_dir) / "migrate.lock"):
        if _is_current(url, chain):
            return
        try:
            if file is not None and current_revision(url) is not None:
                backup(file, data_dir / "backups")
            _run_alembic(url)
        except (sqlite3.Error, SQLAlchemyError) as error:
            message = (str(getattr(error, "orig", None) or error).splitlines() or [""])[0]
            raise OSError(
                f"The database could not be brought up to date ({message}): it was left as it was; see that its disk "
                "has room and can be written, then start again."
            ) from error


def _is_current(url: str, chain: list[str]) -> bool:
    now = current_revision(url)
    if now is not None and now not in chain:
        raise DatabaseTooNew(
            f"The database was written by a later version of Inference Lab (its revision is {now}): update the "
            "product, or give another data directory."
        )
    return now == chain[-1]


def revisions() -> list[str]:
    """The revision ids of this code, oldest first, read from the file names (``0001_first.py`` → "0001")."""
    return sorted(match.group(1) for path in (FOLDER / "versions").glob("*.py") if (match := _NAME.match(path.name)))


def current_revision(url: str) -> str | None:
    """The revision that a database is at; None for one without tables. Raises OSError, in words, if it is unreadable.

    Asks the driver directly: this runs at every start, and neither Alembic nor an engine is needed to find out that
    there is nothing to do.
    """
    file = sqlite_file(url)
    return _revision_of_file(file) if file is not None else _revision_of_server(url)


def _revision_of_file(file: Path) -> str | None:
    if not file.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=BUSY_MS / 1000)) as connection:
            table = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
            if not connection.execute(table).fetchone()[0]:
                return None
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            ours = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'run'").fetchone()[0]
    except sqlite3.Error as error:
        why, remedy = why_not(error)
        raise OSError(f"The database {file} cannot be read ({why}): {remedy}.") from error
    if ours and not row:
        raise OSError(f"The database {file} {NO_VERSION}: {RESTORE}.")
    return str(row[0]) if row else None


def _revision_of_server(url: str) -> str | None:
    import psycopg

    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with psycopg.connect(address, connect_timeout=CONNECT_S) as connection:
            table = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
            if table is None or table[0] is None:
                return None
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            ours = connection.execute("SELECT to_regclass('run')").fetchone()
    except psycopg.Error as error:
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise OSError(f"The database does not answer ({message}): see that DATABASE_URL is right.") from error
    if ours and ours[0] is not None and not row:
        raise OSError(f"The database of DATABASE_URL {NO_VERSION}: put its last backup in its place, or give another.")
    return str(row[0]) if row else None


def backup(file: Path, folder: Path) -> Path:
    """Copy a live SQLite database, check the copy, and only then give it its name; keeps the last five.

    Returns the copy's path. Raises OSError when the copy is damaged and sqlite3.Error when it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for unfinished in folder.glob("*.half"):
        unfinished.unlink()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    target = folder / f"{file.stem}-{stamp}{file.suffix}"
    half = target.with_suffix(".half")
    with contextlib.closing(sqlite3.connect(file, timeout=30)) as connection:
        connection.execute("VACUUM INTO ?", (str(half),))
    with contextlib.closing(sqlite3.connect(half)) as copy:
        checked = copy.execute("PRAGMA integrity_check").fetchone()[0]
    if checked != "ok":
        raise OSError(f"The backup before the migration is damaged ({checked}); nothing was changed.")
    with half.open("rb") as written:
        os.fsync(written.fileno())
    half.rename(target)
    for old in sorted(folder.glob(f"{file.stem}-*{file.suffix}"))[:-KEPT_BACKUPS]:
        old.unlink()
    return target


def _run_alembic(url: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    # ConfigParser reads % as the start of an interpolation.
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["url"] = url
    command.upgrade(config, "head")


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with path.open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
