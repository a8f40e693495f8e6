"""The engine's client: what cannot be sent is a sentence and nothing is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.client import EngineClient, EngineDown, EngineError


@pytest.mark.parametrize("value", [10**30, -(10**30), "a\udcff", {"deep": ["\ud800"]}, {"\udcff": 1}])
def test_a_value_that_json_cannot_hold_is_one_sentence(tmp_path: Path, value: Any) -> None:
    client = EngineClient(tmp_path / "nobody.sock")
    with pytest.raises(EngineError, match=r"^Nothing was sent: .*\.$") as refused:
        client.vote("run", {"choice": value})
    assert not isinstance(refused.value, EngineDown), "it never came to asking an engine"


def test_an_id_of_broken_bytes_is_asked_for_like_any_other(tmp_path: Path) -> None:
    with pytest.raises(EngineDown):
        EngineClient(tmp_path / "nobody.sock").batches.cancel("\udcff/../x")
