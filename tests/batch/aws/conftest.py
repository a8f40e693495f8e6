"""One emulated account for each test, and deployments that point at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from services.aws import control
from services.batch.providers import aws, bedrock
from tests.aws.fixture import CLEARED, environ
from tests.batch.aws.cloud import Cloud
from tests.batch.aws.house import Desk


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """moto's server, for S3, STS and IAM."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def cloud(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The account, found by every SDK of this process."""
    import httpx

    for name in CLEARED:
        monkeypatch.delenv(name, raising=False)
    with Cloud(moto) as made:
        for name, value in (environ() | made.environ).items():
            monkeypatch.setenv(name, value)
        for forget in (control.forget, bedrock.forget, aws.forget):
            forget()
        made.furnish()
        yield made
        for forget in (control.forget, bedrock.forget, aws.forget):
            forget()
    httpx.post(f"{moto}/moto-api/reset", timeout=10)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """What the worker lends a route."""
    return Desk(tmp_path / "batch")
