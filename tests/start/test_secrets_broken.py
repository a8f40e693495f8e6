"""A slip in secrets.toml or config.toml hangs nothing: `lab run` comes up, says it, and keys mend with their file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services import paths
from services.client import EngineClient
from tests.start.running import running, until

pytestmark = pytest.mark.slow


def test_a_slip_in_secrets_toml_stops_nothing_and_is_said_until_it_is_mended(tmp_path: Path) -> None:
    clone = tmp_path / "clone"  # of our own, since the file lies in the folder of the program
    for name in ("app", "db", "pages", "services", ".streamlit"):
        shutil.copytree(paths.ROOT / name, clone / name, ignore=shutil.ignore_patterns("secrets.toml"))
    secrets = clone / ".streamlit" / "secrets.toml"
    secrets.write_text('ANTHROPIC_API_KEY = "not-a-key-at-all\n')
    (clone / ".streamlit" / "config.toml").write_bytes(b"[theme]\nbase = 'x\xff'\n")
    with running(tmp_path, environment={"PYTHONPATH": str(clone)}) as lab:
        lab.says("secrets.toml has a mistake in line 1")
        lab.says("config.toml holds bytes in line 2")
        lab.up()
        engine = EngineClient(paths.socket_path(lab.data))
        assert "mistake in line 1" in engine.health()["keys_trouble"]
        secrets.write_text('ANTHROPIC_API_KEY = "not-a-key-at-all"\n')
        until(lambda: engine.health()["keys_trouble"] is None)
        assert "not-a-key" not in lab.text
