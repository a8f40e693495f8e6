"""The same generated history in PostgreSQL as in SQLite, row by row, so that the two are measured on one thing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg
from sqlalchemy import Boolean
from sqlmodel import SQLModel

from db.migrate import upgrade


def move(source: Path, url: str, folder: Path) -> None:
    """Copy every table of the SQLite file into a fresh PostgreSQL database of the same version."""
    upgrade(url, folder)
    read = sqlite3.connect(f"file:{source}?mode=ro", uri=True)
    address = url.replace("postgresql+psycopg", "postgresql")
    with read, psycopg.connect(address, options="-c timezone=UTC") as connection, connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")  # rows come table by table, before what they refer to
        for table in SQLModel.metadata.sorted_tables:
            names = ", ".join(f'"{column.name}"' for column in table.columns)
            yes_no = [at for at, column in enumerate(table.columns) if isinstance(column.type, Boolean)]
            with cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
                for row in read.execute(f'SELECT {names} FROM "{table.name}"'):
                    given = list(row)
                    for at in yes_no:
                        given[at] = None if given[at] is None else bool(given[at])
                    copy.write_row(given)
