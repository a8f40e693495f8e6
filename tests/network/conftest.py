"""A company whose proxy and authority the environment names, and a house inside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.security import outbound
from tests.engine.house import KEY, KEY_NAME, House
from tests.network.company import VARIABLES, Company


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no certificates of this machine; ``for_libraries`` sets some, which are taken back."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what is set meanwhile is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv(KEY_NAME, KEY)
    monkeypatch.setattr(outbound, "_bundle", outbound._Bundle())
    outbound._names.clear()


@pytest.fixture
def company(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Company]:
    with Company(tmp_path_factory.mktemp("company")) as made:
        monkeypatch.setenv("HTTPS_PROXY", made.proxy)
        monkeypatch.setenv("HTTP_PROXY", made.proxy)
        monkeypatch.setenv("SSL_CERT_FILE", str(made.authority.file))
        yield made


@pytest_asyncio.fixture
async def house(company: Company, tmp_path: Path) -> AsyncIterator[House]:
    async with House(tmp_path) as made:
        yield made
