"""The database that a command reads."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sqlalchemy import Engine

from db.engine import database_url, reader, sqlite_file
from db.migrate import upgrade
from services import paths


def existing_database(data: Path) -> str | None:
    """The address of a data directory's database, brought up to date; None, and a sentence, where there is none: a
    command that only reads never makes one."""
    url = database_url(data)
    if data.exists() and not (data.is_dir() and os.access(data, os.R_OK | os.W_OK | os.X_OK)):
        paths.make_data(data)  # says what is wrong with it
    file = sqlite_file(url)
    if file is not None and not file.is_file():
        print(
            f"There is no database in {file.parent}: give the directory of the records with --data, or start with "
            "`lab run`, which makes one.",
            file=sys.stderr,
        )
        return None
    upgrade(url, data)
    return url


def open_database(data: Path) -> Engine:
    """The database of a data directory for reading, made or brought up to date first."""
    paths.make_data(data)
    url = database_url(data)
    upgrade(url, data)
    return reader(url)
