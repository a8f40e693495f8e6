"""The writer: commits before it answers, keeps a failing unit to itself, and says so when it cannot write."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import CancelledError

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

import db.engine
from db import runs
from db.writer import WriteFailed, Writer
from tests.db.rows import ask, call_row, do, put, run_row


def insert(run_id):
    return lambda session: runs.insert_run(session=session, values=run_row(run_id))


def ids(url):
    return {row.id for row in ask(url, "SELECT id FROM run")}


class Held:
    """Keeps the writer busy so that what is submitted meanwhile is committed as one group."""

    def __init__(self, writer: Writer) -> None:
        self._go = threading.Event()
        self._busy = threading.Event()
        self._first = writer.submit(self._wait)
        assert self._busy.wait(30)

    def _wait(self, session):
        self._busy.set()
        assert self._go.wait(30)

    def release(self):
        self._go.set()
        self._first.result(30)


def test_a_future_resolves_only_after_its_row_can_be_read_by_others(url, writer):
    for number in range(30):
        run_id = f"r{number}"
        writer.submit(insert(run_id)).result(30)
        assert run_id in ids(url)


async def test_many_coroutines_write_at_once_and_each_gets_its_own_result(url, writer):
    async def one(number: int) -> int:
        def unit(session):
            insert(f"r{number}")(session)
            return number

        return await writer.write(unit)

    assert await asyncio.gather(*(one(n) for n in range(200))) == list(range(200))
    assert len(ids(url)) == 200


def test_units_that_fail_fail_alone_in_their_group(url, writer):
    put(writer, "there")

    def mistaken(session):
        insert("half")(session)
        raise ValueError("mistaken")

    def unknown_table(session):
        session.execute(text("SELECT * FROM nowhere"))

    held = Held(writer)
    good = [writer.submit(insert(f"good{n}")) for n in range(5)]
    twice = writer.submit(insert("there"))
    wrong = writer.submit(mistaken)
    nowhere = writer.submit(unknown_table)
    good += [writer.submit(insert(f"good{n}")) for n in range(5, 10)]
    held.release()
    for future in good:
        future.result(30)
    with pytest.raises(IntegrityError):
        twice.result(30)
    with pytest.raises(ValueError, match="mistaken"):
        wrong.result(30)
    with pytest.raises(DBAPIError):
        nowhere.result(30)
    assert ids(url) == {"there", *(f"good{n}" for n in range(10))}
    assert writer.trouble is None


def test_an_error_of_a_unit_does_not_show_the_text_of_a_record(writer):
    put(writer, "there")
    with pytest.raises(IntegrityError) as raised:
        do(writer, runs.insert_run, values=run_row("there", prompt="a secret prompt"))
    assert "a secret prompt" not in str(raised.value)


def test_a_cancelled_unit_is_not_written_and_the_writer_lives_on(url, writer):
    held = Held(writer)
    dropped, kept = writer.submit(insert("dropped")), writer.submit(insert("kept"))
    assert dropped.cancel()
    held.release()
    kept.result(30)
    with pytest.raises(CancelledError):
        dropped.result(30)
    assert ids(url) == {"kept"}


def test_close_writes_what_is_enqueued_and_later_units_are_refused(url, open_writer):
    writer = open_writer(url)
    held = Held(writer)
    waiting = [writer.submit(insert(f"r{n}")) for n in range(150)]
    closing = threading.Thread(target=writer.close)
    closing.start()
    held.release()
    closing.join(60)
    for future in waiting:
        future.result(0)
    assert len(ids(url)) == 150
    with pytest.raises(WriteFailed, match="not recorded"):
        writer.submit(insert("late")).result(30)


def test_a_call_is_finished_exactly_once_by_however_many_writers(url, writer, open_writer):
    put(writer, "run", *({} for _ in range(20)))
    writers = [writer, open_writer(url), open_writer(url)]

    def finish(call_id: str, state: str):
        return lambda session: runs.finish_call(session=session, call_id=call_id, values={"state": state})

    for number in range(20):
        call_id = f"run-{number}"
        outcomes = [w.submit(finish(call_id, f"end{n}")) for n, w in enumerate(writers * 3)]
        won = [n for n, future in enumerate(outcomes) if future.result(60)]
        assert len(won) == 1
        assert ask(url, 'SELECT state FROM "call" WHERE id = :id', id=call_id)[0].state == f"end{won[0]}"


def test_an_outside_writer_and_ours_both_get_everything_in(sqlite_url, open_writer):
    ours, file = open_writer(sqlite_url), db.engine.sqlite_file(sqlite_url)

    def outside() -> None:
        connection = sqlite3.connect(file, timeout=30, isolation_level=None)
        for number in range(60):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO setting VALUES (?, '{}')", (f"k{number}",))
            connection.execute("COMMIT")
        connection.close()

    stranger = threading.Thread(target=outside)
    stranger.start()
    futures = [ours.submit(insert(f"r{n}")) for n in range(500)]
    stranger.join()
    for future in futures:
        future.result(60)
    assert len(ids(sqlite_url)) == 500
    assert ask(sqlite_url, "SELECT count(*) FROM setting")[0][0] == 60


def test_a_transaction_holds_the_write_lock_before_its_first_read(sqlite_url, open_writer):
    stranger = sqlite3.connect(
        db.engine.sqlite_file(sqlite_url), timeout=0, isolation_level=None, check_same_thread=False
    )

    def read_then_write(session):
        session.execute(text("SELECT count(*) FROM run"))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            stranger.execute("BEGIN IMMEDIATE")
        insert("r")(session)

    open_writer(sqlite_url).submit(read_then_write).result(30)
    assert ids(sqlite_url) == {"r"}
    stranger.close()


@pytest.mark.slow
def test_a_database_that_stays_locked_is_said_and_forgotten_after_the_next_write(sqlite_url, open_writer, monkeypatch):
    monkeypatch.setattr(db.engine, "BUSY_MS", 20)
    writer = open_writer(sqlite_url)
    holder = sqlite3.connect(db.engine.sqlite_file(sqlite_url), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(WriteFailed, match="another program holds it locked"):
        writer.submit(insert("r")).result(60)
    assert writer.trouble and writer.trouble.endswith(".")
    holder.execute("ROLLBACK")
    writer.submit(insert("r")).result(60)
    assert writer.trouble is None
    assert ids(sqlite_url) == {"r"}
    holder.close()


@pytest.mark.slow
def test_a_lock_that_goes_away_costs_nothing_but_another_try(sqlite_url, open_writer, monkeypatch):
    monkeypatch.setattr(db.engine, "BUSY_MS", 300)
    writer = open_writer(sqlite_url)
    holder = sqlite3.connect(db.engine.sqlite_file(sqlite_url), isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    future = writer.submit(insert("r"))
    threading.Timer(0.5, lambda: holder.execute("ROLLBACK")).start()
    future.result(60)
    assert ids(sqlite_url) == {"r"}
    holder.close()


def test_a_full_disk_fails_the_group_in_words_and_nothing_of_it_is_half_written(sqlite_url, open_writer):
    writer = open_writer(sqlite_url)
    pages = ask(sqlite_url, "PRAGMA page_count")[0][0]
    writer.submit(lambda session: session.execute(text(f"PRAGMA max_page_count={pages + 2}"))).result(30)
    held = Held(writer)
    small = writer.submit(insert("small"))
    big = writer.submit(lambda session: runs.insert_run(session=session, values=run_row("big", prompt="x" * 1_000_000)))
    held.release()
    for future in (small, big):
        with pytest.raises(WriteFailed, match="the disk is full"):
            future.result(30)
    assert "make room" in (writer.trouble or "")
    assert ids(sqlite_url) == set()
    writer.submit(lambda session: session.execute(text("PRAGMA max_page_count=1000000"))).result(30)
    put(writer, "big", {}, prompt="x" * 1_000_000)
    assert writer.trouble is None and ids(sqlite_url) == {"big"}


@pytest.mark.postgres
def test_a_broken_connection_to_the_server_is_opened_again(migrated_server, open_writer):
    url = migrated_server.create("broken", "migrated")
    writer = open_writer(url)
    put(writer, "before")
    others = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'broken' AND pid <> pg_backend_pid()"
    )
    ask(url, others)
    put(writer, "after", call_row("c", "after"))
    assert ids(url) == {"before", "after"}
