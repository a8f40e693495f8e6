"""A desk on SQLite for every test, and one on PostgreSQL where a test asks for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.batch.runner.desk import Desk, desk_at
from tests.postgres import Server

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("LAB_WORKER_LEASE", raising=False)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path) as made:
        yield made


@pytest.fixture
def server_url(server: Server) -> str:
    return server.create(f"batches{next(_numbers)}")


@pytest.fixture
def shared(tmp_path: Path, server_url: str) -> Iterator[Desk]:
    """On PostgreSQL, for several workers."""
    with desk_at(tmp_path, server_url) as made:
        yield made


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """On both databases, one after the other."""
    url = None if request.param == "sqlite" else request.getfixturevalue("server_url")
    with desk_at(tmp_path, url) as made:
        yield made
