"""Every command in every broken environment: it ends, with a sentence, and never with a traceback."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from db.migrate import upgrade
from tests.start.commands import lab

pytestmark = pytest.mark.slow

QUICK = (
    "runs",
    "history",
    "rollup",
    "rollup --rebuild",
    "demo --calls 50",
    "worker",
    "doctor",
    "batch list",
    "batch show x",
    "batch check FILE",
    "batch results x",
    "calculate --example",
)
# Each of these starts an engine, which takes a second and more: every environment is tried with one of them.
WITH_ENGINE = (
    "send Hi -d nobody-knows-this",
    "deployments",
    "run --no-browser --port 9391",
    "batch check FILE -d nobody-knows-this",
    "batch submit FILE -d nobody-knows-this",
    "batch cancel x",
)
# `run` and `worker` go on with what they have.
READ_THE_FILE = ("send", "deployments", "history", "doctor", "batch")


@dataclass
class Broken:
    """An environment: how it is made in a folder, and which commands are right to fail in it."""

    make: Callable[[Path], None]
    environment: dict[str, str | None] = field(default_factory=dict)
    nobody: bool = False


def _too_new(folder: Path) -> None:
    _good(folder)
    with sqlite3.connect(folder / "data" / "lab.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()


def _good(folder: Path) -> None:
    data = folder / "data"
    upgrade(f"sqlite:///{data / 'lab.sqlite3'}", data)


def _corrupt(folder: Path) -> None:
    _good(folder)
    file = folder / "data" / "lab.sqlite3"
    size = file.stat().st_size
    with file.open("r+b") as out:
        out.seek(4096)
        out.write(os.urandom(size - 4096))


def _no_database(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "lab.sqlite3").write_bytes(b"This is a text and no database. " * 400)


def _database_directory(folder: Path) -> None:
    (folder / "data" / "lab.sqlite3").mkdir(parents=True)


def _data_is_file(folder: Path) -> None:
    (folder / "data").write_text("x")


def _of_another(folder: Path) -> None:
    _good(folder)
    if os.getuid() == 0:
        os.chown(folder / "data", 65_534, 65_534)
    (folder / "data").chmod(0o700 if os.getuid() == 0 else 0)


def _file_closed(folder: Path) -> None:
    _file_broken(folder)
    (folder / "deployments.toml").chmod(0)


def _folder_of_file_closed(folder: Path) -> None:
    (folder / "shut").mkdir()
    (folder / "shut" / "deployments.toml").write_text("")
    (folder / "shut").chmod(0)


def _database_closed(folder: Path) -> None:
    _good(folder)
    (folder / "data" / "lab.sqlite3").chmod(0)


def _readonly(folder: Path) -> None:
    _good(folder)
    (folder / "data").chmod(0o555)


def _logs_is_file(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "logs").write_text("x")


def _log_is_directory(folder: Path) -> None:
    for name in ("engine", "pages", "worker"):
        (folder / "data" / "logs" / f"{name}.log").mkdir(parents=True)


def _file_is_directory(folder: Path) -> None:
    (folder / "deployments.toml").mkdir()


def _file_broken(folder: Path) -> None:
    (folder / "deployments.toml").write_text('[[deployment]]\nname = "x\n')


def _file_no_text(folder: Path) -> None:
    (folder / "deployments.toml").write_bytes(b"\xff\xfe\x00\x01")


def _nothing(_folder: Path) -> None:
    pass


SQL = "DATABASE_URL"
ENVIRONMENTS = {
    "database of a later version": Broken(_too_new),
    "corrupt database": Broken(_corrupt),
    "a database that is none": Broken(_no_database),
    "database file is a directory": Broken(_database_directory),
    "data directory is a file": Broken(_data_is_file),
    "data directory of another user": Broken(_of_another, nobody=True),
    "data directory may only be read": Broken(_readonly, nobody=True),
    "data directory below a file": Broken(_data_is_file, {"LAB_DATA": "FOLDER/data/below"}),
    "logs is a file": Broken(_logs_is_file),
    "each log is a directory": Broken(_log_is_directory),
    "deployments file is a directory": Broken(_file_is_directory),
    "deployments file is broken": Broken(_file_broken),
    "deployments file is closed": Broken(_file_closed, nobody=True),
    "deployments file in a closed folder": Broken(
        _folder_of_file_closed, {"LAB_DEPLOYMENTS": "FOLDER/shut/deployments.toml"}, nobody=True
    ),
    "database is closed": Broken(_database_closed, nobody=True),
    "deployments file is no text": Broken(_file_no_text),
    "DATABASE_URL is another kind": Broken(_nothing, {SQL: "mysql://u:p@h/d"}),
    "DATABASE_URL is nonsense": Broken(_nothing, {SQL: "postgresql://u:p@h:port/d"}),
    "DATABASE_URL is a word": Broken(_nothing, {SQL: "lab"}),
    "DATABASE_URL is half": Broken(_nothing, {SQL: "sqlite:///"}),
    "DATABASE_URL is unreachable": Broken(_nothing, {SQL: "postgresql://lab:geheim-geheim@127.0.0.1:9/lab"}),
    "DATABASE_URL names a host that is none": Broken(_nothing, {SQL: "postgresql://lab:x@nobody.invalid/lab"}),
    "DATABASE_URL in a folder of nobody": Broken(_nothing, {SQL: "sqlite:////proc/none/lab.sqlite3"}),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_command_ends_with_a_sentence_and_without_a_traceback(name: str, tmp_path: Path) -> None:
    broken = ENVIRONMENTS[name]
    broken.make(tmp_path)
    readable = tmp_path / "lines.csv"
    readable.write_text("prompt\nHi\n")
    environment = {
        "LAB_DATA": str(tmp_path / "data"),
        "LAB_DEPLOYMENTS": str(tmp_path / "deployments.toml"),
        "LAB_EMBEDDED": "0",
        "LAB_SOCKET": None,
    }
    environment |= {k: v.replace("FOLDER", str(tmp_path)) if v else v for k, v in broken.environment.items()}
    turn = list(ENVIRONMENTS).index(name)
    starting = WITH_ENGINE[turn % len(WITH_ENGINE)]
    flaws = []
    for command in (*QUICK, starting):
        if "deployments file" in name and command.split()[0] not in READ_THE_FILE:
            continue
        words = [str(readable) if word == "FILE" else word for word in command.split()]
        outcome = lab(*words, environment=environment, nobody=broken.nobody)
        if outcome.flaw:
            flaws.append(f"{' '.join(words)}: {outcome.flaw}\n{outcome.text[-1500:]}")
        if "geheim" in outcome.text:
            flaws.append(f"{' '.join(words)}: it printed a password")
    for place in tmp_path.rglob("*"):
        place.chmod(0o700)
    assert not flaws, "\n".join(flaws)
