"""Logs stay within a bound, in the process that writes them and in those that only have a descriptor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.processes import logs

pytestmark = pytest.mark.slow

WRITER = """
import logging, sys
from pathlib import Path
from services.processes import logs
logs.PART_BYTES = 2000
logs.log_to(Path(sys.argv[1]))
for number in range(400):
    logging.getLogger("x").info("line %04d sk-ant-api03-%s", number, "a" * 60)
"""


def test_a_process_that_logs_for_ever_keeps_its_last_lines_in_a_few_private_files(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "engine.log"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", WRITER, str(file)], check=True, timeout=60)
    parts = sorted(file.parent.iterdir())
    assert [part.name for part in parts] == ["engine.log", *(f"engine.log.{n}" for n in range(1, logs.PARTS + 1))]
    assert all(part.stat().st_size <= 2000 and part.stat().st_mode & 0o077 == 0 for part in parts)
    text = "".join(part.read_text() for part in reversed(parts))
    assert "line 0399" in text and "sk-ant" not in text
    assert text.index("line 0398") < text.index("line 0399")


def test_what_a_program_writes_past_us_is_cut_back_while_it_writes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "RAW_BYTES", 100)
    file, other = tmp_path / "pages.log", tmp_path / "engine.log"
    other.write_bytes(b"x" * 500)
    elsewhere = tmp_path / "not-a-log"
    elsewhere.write_bytes(b"y" * 500)
    (tmp_path / "link.log").symlink_to(elsewhere)
    with file.open("ab", buffering=0) as raw:
        for number in range(50):
            raw.write(f"line {number}\n".encode())
        assert logs.cut_back(tmp_path) == ["pages.log"]
        raw.write(b"after\n")
    assert file.read_bytes() == b"after\n"
    old = tmp_path / "pages.log.1"
    assert old.read_bytes().endswith(b"line 49\n") and old.stat().st_size == 100 and old.stat().st_mode & 0o077 == 0
    assert other.stat().st_size == 500 and elsewhere.stat().st_size == 500
    assert logs.cut_back(tmp_path) == []
