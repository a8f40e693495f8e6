"""The one writer: a thread that owns one connection and commits what callers enqueue, up to 64 units at a time."""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from db import engine
from db.engine import make_engine

log = logging.getLogger(__name__)
T = TypeVar("T")
GROUP = 64
TRIES = 5
Unit = tuple[Callable[[Session], Any], "Future[Any]"]
Result = tuple[Any, BaseException | None]


class WriteFailed(Exception):
    """A write could not be made durable; the text is a sentence for the person."""


class Writer:
    """Serialises all writes of a process. A future resolves only after the COMMIT that holds its unit.

    A unit may run more than once (a busy database makes the whole group start again), so it must change nothing but
    its session.
    """

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        self._queue: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="db-writer", daemon=True)
        self._gate = threading.Lock()
        self._closed = False
        self._committing = False
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin to write. What was submitted before is written first."""
        self._thread.start()

    def submit(self, unit: Callable[[Session], T]) -> Future[T]:
        """Enqueue one unit of work; its future carries the result, the unit's own error, or `WriteFailed`."""
        future: Future[T] = Future()
        with self._gate:
            if self._closed:
                future.set_exception(WriteFailed("The records are closed already, so this was not recorded."))
            else:
                self._queue.put((unit, future))
        return future

    async def write(self, unit: Callable[[Session], T]) -> T:
        """`submit` for a coroutine. Cancelling the caller does not undo the write."""
        return await asyncio.shield(asyncio.wrap_future(self.submit(unit)))

    def close(self) -> None:
        """Write what is enqueued, then stop. Later units are refused."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(30)
        self._engine.dispose()

    def _run(self) -> None:
        open_for_more = True
        while open_for_more:
            group: list[Unit] = []
            next_unit = self._queue.get()
            while next_unit is not None:
                group.append(next_unit)
                if len(group) == GROUP:
                    break
                try:
                    next_unit = self._queue.get_nowait()
                except queue.Empty:
                    break
            open_for_more = next_unit is not None
            # A future that says "running" can no longer be cancelled under our hands.
            units = [unit for unit in group if unit[1].set_running_or_notify_cancel()]
            if units:
                self._commit(units)

    def _commit(self, group: list[Unit]) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                results = self._transaction(group)
            except DBAPIError as error:
                if attempt < TRIES and engine.worth_a_retry(error, committing=self._committing):
                    time.sleep(random.uniform(0.01, 0.05) * attempt)  # noqa: S311 - jitter, not a secret
                    continue
                return self._fail(group, error)
            except Exception as error:
                return self._fail(group, error)
            self.trouble = None
            for (_, future), (value, raised) in zip(group, results, strict=True):
                if raised is None:
                    future.set_result(value)
                else:
                    future.set_exception(raised)
            return None
        return None

    def _transaction(self, group: list[Unit]) -> list[Result]:
        """One transaction for the group; each unit in a savepoint, so that one that fails fails alone."""
        results: list[Result] = []
        self._committing = False
        with Session(self._engine, expire_on_commit=False) as session:
            for unit, _ in group:
                try:
                    with session.begin_nested():
                        value = unit(session)
                    results.append((value, None))
                except BaseException as error:
                    if cause := engine.ends_transaction(error):
                        raise cause from None
                    results.append((None, error))
            if not _is_open(session):
                raise WriteFailed("the transaction was undone")
            self._committing = True
            session.commit()
        return results

    def _fail(self, group: list[Unit], error: Exception) -> None:
        self.trouble = engine.sentence(error)
        log.error("%d writes failed: %s", len(group), self.trouble)
        for _, future in group:
            future.set_exception(WriteFailed(self.trouble))


def _is_open(session: Session) -> bool:
    """Whether the transaction still stands: a COMMIT after the database undid it would succeed and record nothing."""
    driver = session.connection().connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        return driver.in_transaction
    return driver is not None and driver.info.transaction_status.name != "INERROR"
