"""The demo data: simulated calls in a database of their own, for a workshop or a first look at the History page.

`make` writes ``demo.sqlite3`` beside the real records, whatever database those are in, and never touches them. The file
is finished under another name and then moved, so that a reader sees all of it or nothing.
"""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from db import rollup_bulk, settings
from db.engine import make_engine, reader
from db.failures import why_not
from db.history_tables import Alert, AlertEvent, Annotation, Powered
from db.migrate import upgrade
from db.models import DeploymentRow
from db.permissions import private_directory
from services.dashboard import demo_calls, demo_rows
from services.dashboard.demo_plan import PLANS, SOURCE, Story
from services.deployments.serialization import to_json
from services.pricing.cost import Price
from services.security import keys

FILE = "demo.sqlite3"
ABOUT = "demo"
MOST = 10_000_000
LONGEST_DAYS = 3_650
MOST_A_DAY = 500_000
CHUNK = 50_000
CACHE_KIB = 128 * 1024
DEFAULT_CALLS, DEFAULT_DAYS, DEFAULT_SEED = 50_000, 90, 7
HOUR = timedelta(hours=1)
Progress = Callable[[int, int], None]


class DemoTrouble(Exception):
    """The demo data could not be made; the text is a sentence for the person."""


@dataclass(frozen=True, slots=True)
class About:
    """What a demo database holds. ``end``: the moment that counts as now in it."""

    calls: int
    start: datetime
    end: datetime
    seed: int


def file(data: Path) -> Path:
    """Where the demo database of a data directory is."""
    return data / FILE


def url(data: Path) -> str:
    """The address of the demo database."""
    return f"sqlite:///{file(data)}"


def about(engine: Engine) -> About | None:
    """What a database says of itself; None for one that holds no demo data."""
    value = settings.read(engine, ABOUT)
    if value is None:
        return None
    start, end = (datetime.fromisoformat(value[name]) for name in ("start", "end"))
    return About(value["calls"], start, end, value["seed"])


def make(
    target: Path, calls: int = DEFAULT_CALLS, *, days: int = DEFAULT_DAYS, seed: int = DEFAULT_SEED,
    end: datetime | None = None, progress: Progress | None = None,
) -> About:  # fmt: skip
    """Simulate ``calls`` calls of the ``days`` before ``end`` (now) and put them in place of ``target``.

    The same arguments give the same calls. ``progress`` is told (calls written, calls in all). Raises ValueError in
    words for numbers that make no sense, and `DemoTrouble` when it is being made already or the disk refuses.
    """
    if not 1 <= calls <= MOST:
        raise ValueError(f"Between 1 and {MOST:,} calls can be simulated.")
    if not 1 <= days <= LONGEST_DAYS:
        raise ValueError(f"Between 1 and {LONGEST_DAYS:,} days can be simulated.")
    if calls > days * MOST_A_DAY:
        raise ValueError(f"At most {MOST_A_DAY:,} calls a day can be simulated: give more days.")
    last = (end or datetime.now(UTC)).astimezone(UTC).replace(second=0, microsecond=0)
    story = Story(last - timedelta(days=days), last)
    try:
        private_directory(target.parent)
        with target.with_suffix(".lock").open("a+") as lock:
            _hold(lock)
            return _make(target, calls, story, seed, progress or (lambda _done, _all: None))
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        raise DemoTrouble(
            f"The demo data could not be written ({_why(error)}): what was there is kept; see that the data directory "
            "has room and can be written."
        ) from error


def _why(error: OSError | sqlite3.Error | SQLAlchemyError) -> str:
    """The reason of an error, or of the one that it was made of."""
    behind = getattr(error, "orig", None) or error.__cause__ or error
    behind = getattr(behind, "orig", None) or behind
    if isinstance(behind, sqlite3.Error):
        return why_not(behind)[0]
    if isinstance(behind, OSError) and behind.strerror:
        return behind.strerror
    return keys.scrub((str(behind).splitlines() or [""])[0].rstrip(".")) or type(behind).__name__


def _hold(lock: Any) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DemoTrouble("The demo data is being made already; reload the page in a moment.") from None


def _make(target: Path, calls: int, story: Story, seed: int, progress: Progress) -> About:
    folder = target.with_suffix(".making")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        made = folder / target.name
        upgrade(f"sqlite:///{made}", folder)
        found = _fill(f"sqlite:///{made}", calls, story, seed, progress)
        for rest in ("-wal", "-shm"):
            target.with_name(target.name + rest).unlink(missing_ok=True)
        made.replace(target)
        # A reader that is kept would go on with the file that is gone only for as long as its own connection lives.
        reader(f"sqlite:///{target}").dispose()
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fill(address: str, calls: int, story: Story, seed: int, progress: Progress) -> About:
    engine = make_engine(address)
    found = About(calls, story.start, story.end, seed)
    try:
        with Session(engine) as session:
            driver = _driver(session)
            indexes = _without_indexes(driver)
            _declare(session, story)
            done = 0
            for part in _moments(np.random.default_rng(seed), calls, story):
                dice = np.random.default_rng((seed, done))
                drawn = demo_calls.draw(dice, part, story)
                demo_rows.write(driver, drawn, first=done)
                rollup_bulk.insert_cells(driver, drawn.frame)
                done += len(part)
                progress(done, calls)
            for statement in indexes:
                driver.execute(statement)
            _watch(session, story)
            value = {"calls": calls, "start": story.start.isoformat(), "end": story.end.isoformat(), "seed": seed}
            settings.write(session=session, key=ABOUT, value=value)
            session.commit()
    finally:
        engine.dispose()
    return found


def _driver(session: Session) -> sqlite3.Connection:
    driver = session.connection().connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    session.rollback()
    # What is lost in a power cut is the unfinished copy, which is thrown away anyway. No journal stays beside it.
    for pragma in (
        "journal_mode=DELETE", "journal_mode=OFF", "synchronous=OFF", "foreign_keys=OFF", "secure_delete=OFF",
        f"cache_size=-{CACHE_KIB}",
    ):  # fmt: skip
        driver.execute(f"PRAGMA {pragma}")
    session.connection()
    return driver


def _without_indexes(driver: sqlite3.Connection) -> list[str]:
    """Take the indexes away that can be made afterwards, which is quicker; returns the statements that make them."""
    listed = driver.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN "
        "('call', 'run', 'rollup')"
    ).fetchall()
    for name, _ in listed:
        driver.execute(f'DROP INDEX "{name}"')
    return [sql for _, sql in listed]


def _moments(dice: np.random.Generator, calls: int, story: Story) -> Iterator[demo_calls.Ints]:
    """When the calls are made (µs since 1970), ascending, in parts of whole UTC days."""
    first, last = int(story.start.timestamp() // 3600), int(np.ceil(story.end.timestamp() / 3600))
    hours = np.arange(first, last, dtype=np.int64)
    low, high = (int(moment.timestamp() * demo_calls.US) for moment in (story.start, story.end))
    # An hour of which the story has a part has that part of its calls: else the newest minutes would be the busiest.
    hour_us = 3600 * demo_calls.US
    lasts = np.minimum((hours + 1) * hour_us, high) - np.maximum(hours * hour_us, low)
    weights = demo_calls.shares(hours, story) * lasts / hour_us
    per_hour = dice.multinomial(calls, weights / weights.sum())
    waiting: list[demo_calls.Ints] = []
    for hour, n in zip(hours, per_hour, strict=True):
        if n:
            begin, stop = max(int(hour) * hour_us, low), min((int(hour) + 1) * hour_us, high)
            waiting.append(np.sort(dice.integers(begin, stop, n)))
        if hour % 24 == 23 and sum(map(len, waiting)) >= CHUNK:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _declare(session: Session, story: Story) -> None:
    """The deployments with their colours, when those that are paid by the hour were on, and notes."""
    for plan in PLANS:
        d = plan.deployment
        session.execute(
            insert(DeploymentRow).values(
                id=d.id, spec=to_json(d), origin="page", enabled=True, color_slot=d.color_slot, archived=False,
                created_at=story.start, updated_at=story.start,
            )
        )  # fmt: skip
        per_hour = d.price.per_hour
        if per_hour is None or Decimal(per_hour) == 0:
            continue
        price = Price(SOURCE, "2026-01-01", per_hour=per_hour).to_json()
        for on_at, off_at in story.stretches(plan):
            row = {"deployment_id": d.id, "on_at": on_at, "off_at": off_at, "usd_per_hour": per_hour, "price": price}
            session.execute(insert(Powered).values(**row))
    for number, (at, note) in enumerate(story.notes()):
        session.execute(
            insert(Annotation).values(id=f"demo-note-{number}", at=at, note=note, person=SOURCE, created_at=at)
        )


def _watch(session: Session, story: Story) -> None:
    """An alert that fired and ended during the incident."""
    broken = next(plan.deployment for plan in PLANS if plan.breaks)
    begun, ended = story.incident[0] + timedelta(minutes=6), story.incident[1] + timedelta(minutes=21)
    if not story.start < begun < ended < story.end:
        return
    session.execute(
        insert(Alert).values(
            id="demo-alert", name="Slow first token", metric="p95_ttft", threshold=2000.0, window_s=900,
            deployments=[broken.id], targets=[], enabled=True, person=SOURCE, created_at=story.start, firing=False,
            checked_at=story.end, value=1180.0, n=41,
        )
    )  # fmt: skip
    of = f"p95 time to first token of {broken.name}"
    told = [
        ("demo-event-1", begun, True, 4310.0, 38, f"{of} was 4.31 s over the last 15 min (38 calls): above 2 s."),
        ("demo-event-2", ended, False, 1620.0, 33,
         f"{of} was 1.62 s over the last 15 min (33 calls): no longer above 2 s."),
    ]  # fmt: skip
    for number, at, firing, value, n, sentence in told:
        session.execute(
            insert(AlertEvent).values(
                id=number, alert_id="demo-alert", at=at, firing=firing, value=value, n=n, sentence=sentence,
                delivered="simulated: nobody was told",
            )
        )  # fmt: skip
