"""What a database error means: for one unit or for the whole transaction, worth another try or not, and in words."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import ArgumentError, DBAPIError

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
        what = error.filename or "A file"
        return f"{what} cannot be used ({error.strerror or type(error).__name__}): see that it is there and yours."
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__
