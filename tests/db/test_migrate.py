"""Migrations: the tables the code wants, one process at a time, a backup first, and never backwards."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlmodel import SQLModel

from db import migrate, run_queries
from db.engine import database_url, make_engine, reader
from db.migrate import DatabaseTooNew, backup, current_revision, upgrade
from tests.db.rows import ask, put

ROOT = Path(__file__).parents[2]

HEAD = migrate.revisions()[-1]
NEXT = "9001"
SECOND = f"""
import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{HEAD}"


def upgrade():
    with op.batch_alter_table("run", recreate="always") as batch:
        batch.add_column(sa.Column("extra", sa.Integer()))
"""
BROKEN = (
    SECOND
    + """
    op.create_table("half", sa.Column("id", sa.Integer()))
    op.execute("INSERT INTO nowhere VALUES (1)")
"""
)


@pytest.fixture
def newer_code(tmp_path, monkeypatch):
    """Code with one migration more than the product has: call it with the text of that migration."""

    def use(migration: str) -> None:
        folder = tmp_path / "code" / "migrations"
        shutil.copytree(migrate.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / f"{NEXT}_second.py").write_text(migration)
        monkeypatch.setattr(migrate, "FOLDER", folder)

    return use


def test_the_migrations_make_exactly_the_tables_of_the_code(url):
    engine = create_engine(url)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), SQLModel.metadata)
    engine.dispose()
    assert differences == []


CODE = "import sys; from pathlib import Path; from db.migrate import upgrade; upgrade(sys.argv[1], Path(sys.argv[2]))"


def start_two(url: str, *folders: Path) -> list[subprocess.Popen[bytes]]:
    return [
        subprocess.Popen([sys.executable, "-c", CODE, url, str(folder)], cwd=ROOT, stderr=subprocess.PIPE)
        for folder in folders
    ]


def wait_until_all_wait(processes: list[subprocess.Popen[bytes]], waiting: Callable[[], int]) -> None:
    """Until each process stands before the lock that the test holds; one that got past it fails the test."""
    deadline = time.monotonic() + 120
    while waiting() < len(processes):
        assert all(process.poll() is None for process in processes), "a process did not wait for the lock"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def both_succeed_and_migrate_once(url: str, processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    assert [row[0] for row in ask(url, "SELECT version_num FROM alembic_version")] == migrate.revisions()[-1:]
    assert ask(url, "SELECT count(*) FROM run")[0][0] == 0
    reader(url).dispose()


@pytest.mark.slow
def test_two_processes_that_start_at_once_migrate_a_file_one_after_the_other(tmp_path):
    url = database_url(tmp_path)
    with (tmp_path / "migrate.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        processes = start_two(url, tmp_path, tmp_path / "another data directory")
        ours = {str(process.pid) for process in processes}

        def waiting() -> int:
            rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
            return len({row[5] for row in rows if row[1:3] == ["->", "FLOCK"]} & ours)

        wait_until_all_wait(processes, waiting)
    both_succeed_and_migrate_once(url, processes)


@pytest.mark.postgres
def test_two_hosts_that_start_at_once_migrate_a_server_one_after_the_other(server, tmp_path):
    url = server.create("raced")
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (migrate.ADVISORY_LOCK,))
        processes = start_two(url, tmp_path / "one", tmp_path / "two")

        def waiting() -> int:
            row = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            return row.fetchone()[0]

        wait_until_all_wait(processes, waiting)
    both_succeed_and_migrate_once(url, processes)


@pytest.mark.slow
def test_a_start_with_nothing_to_do_does_not_load_alembic_and_makes_no_backup(url, tmp_path):
    code = (
        "import sys; from pathlib import Path; from db.migrate import upgrade\n"
        "upgrade(sys.argv[1], Path(sys.argv[2])); assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, url, str(tmp_path)], cwd=ROOT, check=True, timeout=60)
    assert not (tmp_path / "backups").exists()


def test_a_database_of_a_later_version_is_refused_in_one_sentence_and_left_alone(url, tmp_path):
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(DatabaseTooNew, match=r"^The database was written by a later version .*9999.*\.$"):
        upgrade(url, tmp_path)
    assert current_revision(url) == "9999"


@pytest.mark.slow
def test_a_migration_keeps_calls_and_leaves_a_backup_that_can_be_restored(
    sqlite_url, tmp_path, open_writer, newer_code
):
    writer = open_writer(sqlite_url)
    put(writer, "run", {}, {}, prompt="kept")
    writer.close()
    newer_code(SECOND)
    upgrade(sqlite_url, tmp_path)
    assert current_revision(sqlite_url) == NEXT
    assert [call["id"] for call in run_queries.calls_of_run(reader(sqlite_url), "run")] == ["run-0", "run-1"]
    assert ask(sqlite_url, "SELECT extra FROM run") == [(None,)]

    (copy,) = (tmp_path / "backups").iterdir()
    restored = tmp_path / "restored"
    restored.mkdir()
    url = database_url(restored)
    shutil.copy(copy, restored / "lab.sqlite3")
    assert current_revision(url) == HEAD
    assert ask(url, "PRAGMA integrity_check") == [("ok",)]
    run = run_queries.run_by_id(reader(url), "run")
    assert run is not None and run["prompt"] == "kept"
    after = open_writer(url)
    put(after, "another", {})
    upgrade(url, restored)
    assert len(run_queries.calls_of_run(reader(url), "run")) == 2


def test_a_migration_that_fails_leaves_the_database_as_it_was(url, tmp_path, open_writer, newer_code):
    writer = open_writer(url)
    put(writer, "run", {})
    writer.close()
    newer_code(BROKEN)
    with pytest.raises(OSError, match="left as it was"):
        upgrade(url, tmp_path)
    assert current_revision(url) == HEAD
    assert len(run_queries.calls_of_run(reader(url), "run")) == 1
    with pytest.raises(Exception, match="half"):
        ask(url, "SELECT * FROM half")


def test_a_backup_is_taken_while_a_writer_works_and_the_last_five_are_kept(sqlite_url, tmp_path, open_writer):
    writer = open_writer(sqlite_url)
    folder = tmp_path / "backups"
    made = []
    for number in range(7):
        put(writer, f"r{number}", {})
        made.append(backup(tmp_path / "lab.sqlite3", folder))
    (folder / "left.half").write_text("of a backup that was killed")
    made.append(backup(tmp_path / "lab.sqlite3", folder))
    assert sorted(folder.iterdir()) == made[-5:]
    with sqlite3.connect(made[-1]) as copy:
        assert copy.execute("SELECT count(*) FROM run").fetchone() == (7,)


def test_a_file_that_is_no_database_is_said_in_words(tmp_path):
    (tmp_path / "lab.sqlite3").write_text("this is not a database, " * 100)
    with pytest.raises(OSError, match="cannot be read"):
        upgrade(database_url(tmp_path), tmp_path)


@pytest.mark.postgres
def test_a_server_that_does_not_answer_is_said_in_words(tmp_path):
    with pytest.raises(OSError, match="does not answer"):
        upgrade(f"postgresql+psycopg://lab:hidden@/lab?host={tmp_path}", tmp_path)


def test_a_database_that_lost_its_version_is_left_alone_and_the_backups_are_named(tmp_path: Path) -> None:
    file = tmp_path / "lab.sqlite3"
    migrate.upgrade(f"sqlite:///{file}", tmp_path)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("DELETE FROM alembic_version")
        connection.commit()
    with pytest.raises(OSError, match=r"which version it has.*backups"):
        migrate.upgrade(f"sqlite:///{file}", tmp_path)
