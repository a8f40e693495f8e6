"""A database with this code's tables, on SQLite always and on PostgreSQL where its binaries are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import SQLModel

from db.engine import make_engine

_numbers = itertools.count()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        made = make_engine(f"sqlite:///{tmp_path}/lab.sqlite3")
    else:
        made = make_engine(request.getfixturevalue("server").create(f"results{next(_numbers)}"))
    SQLModel.metadata.create_all(made)
    yield made
    made.dispose()
