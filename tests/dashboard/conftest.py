"""Databases as in tests/db, and one of them filled."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from db.engine import reader
from db.migrate import upgrade
from db.writer import Writer
from tests.dashboard.calls import fill, fold_all
from tests.db.conftest import BOTH, _no_database_url, migrated_file, open_writer, sqlite_copy, sqlite_url
from tests.postgres import Server

__all__ = ["_no_database_url", "migrated_file", "open_writer", "sqlite_url"]

_numbers = itertools.count()


@pytest.fixture(scope="session")
def dashboard_server(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    upgrade(server.create("dashboard"), tmp_path_factory.mktemp("dashboard"))
    return server


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database with this code's tables and nothing in them."""
    if request.param == "sqlite":
        return sqlite_copy(request.getfixturevalue("migrated_file"), tmp_path)
    return request.getfixturevalue("dashboard_server").create(f"dashboard{next(_numbers)}", "dashboard")


@pytest.fixture
def filled(url: str, open_writer: Any) -> tuple[Engine, Writer]:
    """Two weeks of calls on either database, most of them rolled up."""
    opened = open_writer(url)
    fill(opened)
    fold_all(opened, most=700)
    return reader(url), opened


@pytest.fixture
def quick(sqlite_url: str, open_writer: Any) -> tuple[Engine, Writer]:
    """The same on SQLite alone, all rolled up."""
    opened = open_writer(sqlite_url)
    fill(opened)
    fold_all(opened)
    return reader(sqlite_url), opened
