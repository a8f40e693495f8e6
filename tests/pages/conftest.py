"""One lab for each test; the pages read from it instead of from the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app import auth
from tests.pages.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    before = auth.sources
    made = Lab(tmp_path)
    auth.sources = made
    yield made
    auth.sources = before
