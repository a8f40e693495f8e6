"""A fresh, migrated database for each test: on SQLite always, on PostgreSQL where its binaries are."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from db.engine import database_url, reader
from db.migrate import upgrade
from db.writer import Writer
from tests.postgres import Server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    upgrade(f"sqlite:///{folder}/lab.sqlite3", folder)
    return folder / "lab.sqlite3"


@pytest.fixture(scope="session")
def migrated_server(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    upgrade(server.create("migrated"), tmp_path_factory.mktemp("server"))
    return server


BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database with this code's tables and nothing in them."""
    if request.param == "sqlite":
        return sqlite_copy(request.getfixturevalue("migrated_file"), tmp_path)
    return request.getfixturevalue("migrated_server").create(f"test{next(_numbers)}", "migrated")


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    return sqlite_copy(migrated_file, tmp_path)


def sqlite_copy(migrated: Path, folder: Path) -> str:
    shutil.copy(migrated, folder / "lab.sqlite3")
    return database_url(folder)


@pytest.fixture
def open_writer() -> Iterator[Callable[[str], Writer]]:
    """Opens writers and closes them, and every reader, when the test is over."""
    opened: list[Writer] = []
    urls: list[str] = []

    def start(url: str) -> Writer:
        writer = Writer(url)
        writer.start()
        opened.append(writer)
        urls.append(url)
        return writer

    yield start
    for writer in opened:
        writer.close()
    for url in urls:
        reader(url).dispose()


@pytest.fixture(autouse=True)
def _no_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture
def writer(url: str, open_writer: Callable[[str], Writer]) -> Writer:
    return open_writer(url)
