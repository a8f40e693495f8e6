"""What tests of several folders share."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import Server, binaries_here

# A run in a shell's background inherits "ignore" for Ctrl-C, and with it every program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# How long an example takes says how busy the machine is, and nothing of what is tried.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


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


# Begun last they would keep one worker busy while the other has nothing left: files are handed out in this order.
LONGEST = (
    "tests/batch/runner",
    "tests/e2e",
    "tests/rights/test_private.py",
    "tests/signin",
    "tests/start",
    "tests/engine/test_caching_real.py",
    "tests/network",
    "tests/web",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
