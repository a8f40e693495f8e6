"""Connections: which database, how it is opened, and what readers may do."""

from __future__ import annotations

import threading
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, StatementError

from db import run_queries, runs
from db.engine import database_url, make_engine, reader, refuse_network_disk, sqlite_file
from db.migrate import upgrade
from tests.db.rows import START, ask, do, put, run_row


@pytest.mark.parametrize("given", ["postgres://u:p@h/d", "postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"])
def test_database_url_wins_and_goes_through_psycopg(given, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", given)
    assert database_url(tmp_path) == "postgresql+psycopg://u:p@h/d"


def test_a_database_of_another_kind_is_refused_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "mysql://u:hidden@h/d")
    with pytest.raises(ValueError, match="is no address of a database that can be used here") as raised:
        database_url(tmp_path)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("name", ["a b", "50%41 off", "what?", "no#1", "été"])
def test_a_data_directory_may_have_any_name(name, tmp_path, open_writer):
    folder = tmp_path / name
    url = database_url(folder)
    assert sqlite_file(url) == folder / "lab.sqlite3"
    upgrade(url, folder)
    put(open_writer(url), "r")
    assert run_queries.run_by_id(reader(url), "r")
    assert (folder / "lab.sqlite3").exists()


def test_the_writer_opens_sqlite_durably(sqlite_url):
    engine = make_engine(sqlite_url)
    with engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "secure_delete")
        }
    engine.dispose()
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 5000,
        "secure_delete": 1,
    }


def test_a_reader_cannot_write(url, writer):
    put(writer, "r")
    with reader(url).connect() as connection, pytest.raises(DBAPIError):
        connection.execute(text("DELETE FROM run"))
    assert run_queries.run_by_id(reader(url), "r")


@pytest.mark.slow
def test_readers_in_many_threads_read_while_the_writer_writes(url, writer):
    wrong: list[object] = []

    def read() -> None:
        try:
            for _ in range(20):
                page = run_queries.search_runs(reader(url), run_queries.RunFilter(), limit=1000)
                assert page.total == len(page.rows)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number in range(50):
        put(writer, f"r{number}")
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_moment_comes_back_as_the_same_moment_in_utc(url, writer):
    local = START.astimezone(timezone(timedelta(hours=5, minutes=30)))
    put(writer, "r", created_at=local.replace(microsecond=123456))
    (row,) = run_queries.search_runs(reader(url), run_queries.RunFilter()).rows
    assert row["created_at"] == START.replace(microsecond=123456)
    assert row["created_at"].utcoffset() == timedelta(0)


def test_a_moment_without_a_zone_is_refused(writer):
    with pytest.raises(StatementError, match="without a zone"):
        do(writer, runs.insert_run, values=run_row("r", created_at=START.replace(tzinfo=None)))


def test_what_a_hostile_server_sends_is_recorded_and_costs_no_record(url, writer):
    put(writer, "r", {})
    hostile = "a\0b\ud800c"
    values = {
        "state": "succeeded",
        "answer": hostile,
        "model_reported": hostile,
        "error_code": "x" * 100_000,
        "usage_raw": {"n": 2**70, hostile: [hostile, float("nan")], "fine": 1},
        "uncached_input": 2**70,
        "answer_output": 2**40,
        "delta_us": b"\0\1\2\3",
    }
    assert do(writer, runs.finish_call, call_id="r-0", values=values)
    (call,) = run_queries.calls_of_run(reader(url), "r")
    assert call["answer"] == call["model_reported"] == "a�b�c"
    assert call["usage_raw"] == {"n": str(2**70), "a�b�c": ["a�b�c", None], "fine": 1}
    assert (call["uncached_input"], call["answer_output"], call["delta_us"]) == (None, 2**40, b"\0\1\2\3")
    assert run_queries.search_runs(reader(url), run_queries.RunFilter(text="A\0B")).total == 1


MOUNTS = """overlay / overlay rw 0 0
tmpfs /tmp tmpfs rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sda1 /home/local ext4 rw 0 0
C:\\134 /mnt/c 9p rw 0 0
//nas/share /mnt/my\\040share cifs rw 0 0
me@host:/ /mnt/far fuse.sshfs rw 0 0
s3 /mnt/bucket fuse rw 0 0
/dev/sdb1 /mnt/stick fuseblk rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ("/data", False),
        ("/tmp/x", False),
        ("/home/me/data", True),
        ("/home/local/data", False),
        ("/mnt/c/data", True),
        ("/mnt/my share/data", True),
        ("/mnt/far/data", True),
        ("/mnt/bucket/d", True),
        ("/mnt/stick/data", False),
        ("/homeless", False),
    ],
)
def test_a_network_disk_is_refused_and_a_local_one_is_not(path, refused, tmp_path):
    table = tmp_path / "mounts"
    table.write_text(MOUNTS)
    if refused:
        with pytest.raises(ValueError, match=r"network disk .*\.$"):
            refuse_network_disk(Path(path) / "lab.sqlite3", table)
    else:
        refuse_network_disk(Path(path) / "lab.sqlite3", table)


def test_without_a_mount_table_nothing_is_refused(tmp_path):
    refuse_network_disk(tmp_path / "lab.sqlite3", tmp_path / "no such table")


def test_what_is_asked_of_one_page_is_of_one_state_of_the_database(url, writer):
    put(writer, "r1")
    with reader(url).connect() as connection:
        before = connection.execute(text("SELECT count(*) FROM run")).scalar()
        put(writer, "r2")
        assert connection.execute(text("SELECT count(*) FROM run")).scalar() == before == 1
    assert ask(url, "SELECT count(*) FROM run")[0][0] == 2
