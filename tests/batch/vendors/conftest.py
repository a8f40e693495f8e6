"""The two services, each on a port of its own, with a key that only they are bound to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.batch import providers
from services.deployments.config import Config
from tests.batch.vendors.anthropic_api import AnthropicApi
from tests.batch.vendors.house import KEY, KEY_NAME, MODELS, Vendor, vendor
from tests.batch.vendors.openai_api import OpenAIApi
from tests.batch.vendors.server import Server


@pytest.fixture(autouse=True)
def bound(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(KEY_NAME, KEY)
    config = Config(key_hosts={KEY_NAME: ("127.0.0.1",)})
    providers.configure(lambda: config)
    yield
    providers.configure(None)


def _made(name: str, wire: str, folder: Path) -> Iterator[Vendor]:
    models = (MODELS[name],)
    api = OpenAIApi(key=KEY, models=models) if name == "openai" else AnthropicApi(key=KEY, models=models)
    with Server(api) as server:
        yield vendor(name, server.url, folder, api, wire)


@pytest.fixture
def openai(tmp_path: Path) -> Iterator[Vendor]:
    yield from _made("openai", "responses", tmp_path)


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Vendor]:
    yield from _made("openai", "chat", tmp_path)


@pytest.fixture
def anthropic(tmp_path: Path) -> Iterator[Vendor]:
    yield from _made("anthropic", "messages", tmp_path)


@pytest.fixture(params=["openai/responses", "openai/chat", "anthropic/messages"])
def any_vendor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vendor]:
    name, _, wire = request.param.partition("/")
    yield from _made(name, wire, tmp_path)
