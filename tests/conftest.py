"""What tests of several folders share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.postgres import Server, binaries_here


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    binaries = binaries_here()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: there is no /usr/lib/postgresql/*/bin/initdb")
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root and there is no runuser to start it as another user")
    made = Server(binaries)
    yield made
    made.stop()
