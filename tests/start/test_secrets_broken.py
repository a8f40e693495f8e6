"""A slip in secrets.toml hangs nothing: `lab run` comes up, answers and ends in good order."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import paths
from services.client import EngineClient
from tests.start.running import running


def test_a_slip_in_secrets_toml_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = paths.ROOT / ".streamlit" / "secrets.toml"
    if file.exists():
        pytest.skip("this checkout has secrets of its own, which no test may touch")
    file.write_text('ANTHROPIC_API_KEY = "not-a-key-at-all\n')
    try:
        with running(tmp_path) as lab:
            lab.up()
            assert EngineClient(paths.socket_path(lab.data)).health()["ok"]
            assert "not-a-key" not in lab.text
    finally:
        file.unlink()
