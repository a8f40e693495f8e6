"""Ways to use the AWS emulator in a test: in a thread of its own, or in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

from tests.aws.account import Account
from tests.aws.server import AwsCore
from tests.aws.sigv4 import BEARER, VALID, Key, Verdict
from tests.fake.fixture import ROOT
from tests.fake.loop import run
from tests.fake.record import Record

# Variables of AWS that would lead a client past the emulator or to credentials of the machine.
CLEARED = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_CA_BUNDLE",
)


def environ(key: Key = VALID, *, region: str = "us-east-1", bearer: str | None = None) -> dict[str, str]:
    """The variables under which any AWS SDK finds just these credentials and nothing of the machine's own."""
    said = {
        "AWS_ACCESS_KEY_ID": key.access,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent/config",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
        "AWS_MAX_ATTEMPTS": "1",
    }
    if key.token:
        said["AWS_SESSION_TOKEN"] = key.token
    return said | ({"AWS_BEARER_TOKEN_BEDROCK": bearer} if bearer else {})


class AwsEmulator:
    """``with AwsEmulator() as aws:`` or ``async with``; or `start` and `stop`. Its loop runs in a thread of its own."""

    def __init__(self, *, port: int = 0, default: Any = None, region: str = "us-east-1") -> None:
        self.core = AwsCore(port=port, default=default, region=region)
        self.url = self.core.url
        self.region = region
        self.enqueue, self.serve, self.reset = self.core.enqueue, self.core.serve, self.core.reset
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: run(self._serve()), name="aws-emulator", daemon=True)

    @property
    def requests(self) -> list[Record]:
        """Every request, in order, with the stamp of every write of its reply."""
        return self.core.requests

    @property
    def verdicts(self) -> list[Verdict]:
        """What the check of each request's signature found."""
        return self.core.verdicts

    @property
    def account(self) -> Account:
        """Models, provisioned throughput, denied models, the account's clock."""
        return self.core.account

    @property
    def environ(self) -> dict[str, str]:
        """The variables that make any AWS SDK use the emulator's valid credentials; see also `environ` and `apply`."""
        return environ(region=self.region)

    def apply(self, monkeypatch: pytest.MonkeyPatch, key: Key = VALID, *, bearer: bool = False) -> None:
        """Set this process's environment to those credentials, and to nothing else of AWS."""
        for name in CLEARED:
            monkeypatch.delenv(name, raising=False)
        for name, value in environ(key, region=self.region, bearer=BEARER if bearer else None).items():
            monkeypatch.setenv(name, value)

    def start(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the AWS emulator's thread did not start")
        return self

    def stop(self) -> None:
        """Close every connection and stop."""
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    def until(self, true: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait until ``true()``. Raises TimeoutError."""
        end = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > end:
                raise TimeoutError("the AWS emulator did not get there in time")
            time.sleep(0.002)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.core.open()
        self._ready.set()
        await self._stop.wait()
        self.core.shut()


@contextlib.contextmanager
def emulator_process(*arguments: str) -> Iterator[dict[str, Any]]:
    """``python -m tests.aws`` in a process of its own; gives what it printed: ``url``, ``pid``, ``environ``."""
    command = [sys.executable, "-m", "tests.aws", *(arguments or ("--port", "0"))]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=dict(os.environ))
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the AWS emulator did not start")
        yield json.loads(line)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def aws() -> Iterator[AwsEmulator]:
    """An emulator (import this name into the test file or a conftest)."""
    with AwsEmulator() as emulator:
        yield emulator
