"""One provider and one set of pages for the tests of a file: what they do is each test's own script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.signin.house import House, pages, port_for, secrets_toml
from tests.signin.oidc import Provider, Script


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider() as made:
        yield made


@pytest.fixture
def provider(running: Provider) -> Provider:
    """The provider, doing everything right."""
    running.script = Script()
    return running


@pytest.fixture(scope="module")
def house(running: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    port = port_for(0)
    with pages(tmp_path_factory.mktemp("house"), secrets_toml(running, port), port) as made:
        made.access("")
        yield made
