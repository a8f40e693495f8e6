"""Saved scenarios: kept by the engine, one for each name, for everybody who may look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from db import small_tables
from db.engine import reader
from services.calculator import address, presets
from services.calculator.address import State
from services.client import EngineClient, EngineError
from services.paths import socket_path
from tests.engine.process import EngineProcess, engine_process

WORDS = address.write(State(presets.BY_ID["rag"].workload, presets.BY_ID["rag"].objectives, preset="rag"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    data = tmp_path_factory.mktemp("data")
    (data / "deployments.toml").write_text("")
    with engine_process(data, data / "deployments.toml", {}) as made:
        made.start().close()
        yield made


def _client(engine: EngineProcess, role: str = "member") -> EngineClient:
    return EngineClient(socket_path(engine.data), person="ada@example.org", role=role)


@pytest.mark.slow
def test_a_scenario_is_kept_replaced_by_its_name_and_taken_away(engine: EngineProcess) -> None:
    client, url = _client(engine), reader(f"sqlite:///{engine.data / 'lab.sqlite3'}")
    first = client.history.save_scenario("  Support\nbot ", WORDS)
    assert client.history.save_scenario("Support bot", {**WORDS, "rpm": "99"}) == first
    [row] = small_tables.scenarios(url)
    assert (row.name, row.person, (row.state or {})["rpm"]) == ("Support bot", "ada@example.org", "99")
    assert address.read(row.state or {})[1] == []
    client.history.delete_scenario(first)
    assert small_tables.scenarios(url) == []


@pytest.mark.parametrize(
    ("name", "state", "word"),
    [
        (" ", WORDS, "name"),
        ("x", {}, "address"),
        ("x", {str(no): "1" for no in range(61)}, "address"),
        ("x", {"rpm": "9" * 20_001}, "address"),
        ("x", {"rpm": 5}, "address"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_words(
    engine: EngineProcess, name: str, state: dict[str, str], word: str
) -> None:
    with pytest.raises(EngineError, match=word):
        _client(engine).history.save_scenario(name, state)


def test_who_may_only_look_keeps_nothing(engine: EngineProcess) -> None:
    with pytest.raises(EngineError, match="You can look"):
        _client(engine, "viewer").history.save_scenario("x", WORDS)


def test_a_scenario_of_another_name_is_another(tmp_path: Path, engine: EngineProcess) -> None:
    client = _client(engine)
    ids = {client.history.save_scenario(name, WORDS) for name in ("one", "two")}
    assert len(ids) == 2
    for one in ids:
        client.history.delete_scenario(one)
