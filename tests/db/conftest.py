"""A fresh, migrated database for each test: on SQLite always, on PostgreSQL where its binaries are."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from db.engine import database_url, reader
from db.migrate import upgrade
from db.writer import Writer

_numbers = itertools.count()


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return found[-1].parent if found else None


class Server:
    """A PostgreSQL of our own on a Unix socket. It refuses to run as root, so root runs it as ``postgres``."""

    def __init__(self, binaries: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="labpg", dir="/tmp"))  # a socket's path must be short
        self.as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.as_user:
            shutil.chown(self.folder, "postgres")
        self.binaries = binaries
        self._run(
            "initdb", "-D", f"{self.folder}/data", "-U", "lab", "--auth=trust", "-N", "--locale=C.UTF-8", "-E", "UTF8"
        )
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=60"
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-o", options, "-w", "start")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self.as_user, str(self.binaries / program), *arguments],
            check=True, cwd="/", stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://lab@/{name}?host={self.folder}"

    def create(self, name: str, template: str = "template0") -> str:
        with psycopg.connect(f"postgresql://lab@/postgres?host={self.folder}", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def stop(self) -> None:
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: there is no /usr/lib/postgresql/*/bin/initdb")
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root and there is no runuser to start it as another user")
    made = Server(binaries)
    yield made
    made.stop()


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
