"""Only a file is read: a pipe would be waited for, a device never ends, and a file of the system lies of its size."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from services.batch.files import check, records, sha256_of
from services.batch.types import Options
from services.paths import NotRegular, regular


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    os.mkfifo(path)
    return path


def test_a_pipe_is_not_waited_for(pipe: Path) -> None:
    said = check(pipe, Options()).refused or ""
    assert said == f"{pipe} is a pipe, not a file: write what is to be sent into a file, and name that."
    with pytest.raises(ValueError, match="is a pipe"):
        list(records(pipe, Options()))
    with pytest.raises(ValueError, match=r"cannot be read any more \(it is a pipe, not a file\)"):
        sha256_of(pipe)


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/dev/tty"])
def test_a_device_is_not_read(name: str) -> None:
    assert "is a device, not a file" in (check(Path(name), Options()).refused or "")


def test_a_socket_and_a_folder_are_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        assert "is a socket, not a file" in (check(tmp_path / "s", Options()).refused or "")
    assert "is a folder; name one file in it." in (check(tmp_path, Options()).refused or "")


def test_what_was_swapped_for_a_pipe_after_it_was_looked_at_is_not_read(
    pipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    seen = plain.stat()
    monkeypatch.setattr(Path, "stat", lambda self: seen)
    with pytest.raises(NotRegular):
        regular(pipe)


@pytest.mark.parametrize(
    ("name", "words"),
    [("/proc/self/mem", "cannot be read (Input/output error)"), ("/proc/self/status", "says that it is empty and")],
)
def test_a_file_of_the_system_is_refused_by_its_own_name(name: str, words: str) -> None:
    found = check(Path(name), Options(format="jsonl"))
    assert found.refused is not None
    assert found.refused.startswith(f"{name} ")
    assert words in found.refused
    assert not found.sendable


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "a", "prompt": "x"}\n')

    def grow(_: object) -> None:
        with path.open("ab") as file:
            file.write(b'{"id": "b", "prompt": "y"}\n' * 10_000)

    found = check(path, Options(), on_progress=grow)
    assert "grew while it was read" in (found.refused or "")
