"""The demo data: simulated calls in a database of their own, for a workshop or a first look at the History page.

`make` writes ``demo.sqlite3`` beside the real records, whatever database those are in, and never touches them. The file
is finished under another name and then moved, so that a reader sees all of it or nothing.
"""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from db import rollups, small_tables
from db.engine import make_engine, reader, why_not
from db.migrate import upgrade
from db.models import Alert, AlertEvent, Annotation, DeploymentRow, Powered
from db.permissions import private_directory
from db.rollups import COUNTS
from services.dashboard import demo_calls
from services.dashboard.demo_calls import PLANS, SOURCE, TAGS, Calls, Story
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
    value = small_tables.read(engine, ABOUT)
    if value is None:
        return None
    start, end = (datetime.fromisoformat(value[name]) for name in ("start", "end"))
    return About(value["calls"], start, end, value["seed"])


def make(
    target: Path,
    calls: int = DEFAULT_CALLS,
    *,
    days: int = DEFAULT_DAYS,
    seed: int = DEFAULT_SEED,
    end: datetime | None = None,
    progress: Progress | None = None,
) -> About:
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
        file = folder / target.name
        upgrade(f"sqlite:///{file}", folder)
        filled = _fill(f"sqlite:///{file}", calls, story, seed, progress)
        for suffix in ("-wal", "-shm"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        file.replace(target)
        # A reader that is kept would go on with the file that is gone only for as long as its own connection lives.
        reader(f"sqlite:///{target}").dispose()
        return filled
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fill(address: str, calls: int, story: Story, seed: int, progress: Progress) -> About:
    engine = make_engine(address)
    about = About(calls, story.start, story.end, seed)
    try:
        with Session(engine) as session:
            driver = _driver(session)
            indexes = _without_indexes(driver)
            _declare(session, story)
            done = 0
            for moments in _moments(np.random.default_rng(seed), calls, story):
                dice = np.random.default_rng((seed, done))
                drawn = demo_calls.draw(dice, moments, story)
                write(driver, drawn, first=done)
                rollups.insert_cells(driver, drawn.frame)
                done += len(moments)
                progress(done, calls)
            for statement in indexes:
                driver.execute(statement)
            _watch(session, story)
            value = {"calls": calls, "start": story.start.isoformat(), "end": story.end.isoformat(), "seed": seed}
            small_tables.write(session=session, key=ABOUT, value=value)
            session.commit()
    finally:
        engine.dispose()
    return about


def _driver(session: Session) -> sqlite3.Connection:
    driver = session.connection().connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    session.rollback()
    # What is lost in a power cut is the unfinished copy, which is thrown away anyway. No journal stays beside it.
    for pragma in (
        "journal_mode=DELETE",
        "journal_mode=OFF",
        "synchronous=OFF",
        "foreign_keys=OFF",
        "secure_delete=OFF",
        f"cache_size=-{CACHE_KIB}",
    ):
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
                id=d.id,
                spec=d.to_json(),
                origin="page",
                enabled=True,
                color_slot=d.color_slot,
                archived=False,
                created_at=story.start,
                updated_at=story.start,
            )
        )
        per_hour = d.price.per_hour
        if per_hour is None or Decimal(per_hour) == 0:
            continue
        price = Price(SOURCE, "2026-01-01", per_hour=per_hour).to_json()
        for on_at, off_at in story.stretches(plan):
            row = {"deployment_id": d.id, "on_at": on_at, "off_at": off_at, "usd_per_hour": per_hour, "price": price}
            session.execute(insert(Powered).values(**row))
    for number, (moment, note) in enumerate(story.notes()):
        session.execute(
            insert(Annotation).values(id=f"demo-note-{number}", at=moment, note=note, person=SOURCE, created_at=moment)
        )


def _watch(session: Session, story: Story) -> None:
    """An alert that fired and ended during the incident."""
    broken = next(plan.deployment for plan in PLANS if plan.breaks)
    begun, ended = story.incident[0] + timedelta(minutes=6), story.incident[1] + timedelta(minutes=21)
    if not story.start < begun < ended < story.end:
        return
    session.execute(
        insert(Alert).values(
            id="demo-alert",
            name="Slow first token",
            metric="p95_ttft",
            threshold=2000.0,
            window_s=900,
            deployments=[broken.id],
            targets=[],
            enabled=True,
            person=SOURCE,
            created_at=story.start,
            firing=False,
            checked_at=story.end,
            value=1180.0,
            n=41,
        )
    )
    of = f"p95 time to first token of {broken.name}"
    events = [
        ("demo-event-1", begun, True, 4310.0, 38, f"{of} was 4.31 s over the last 15 min (38 calls): above 2 s."),
        (
            "demo-event-2",
            ended,
            False,
            1620.0,
            33,
            f"{of} was 1.62 s over the last 15 min (33 calls): no longer above 2 s.",
        ),
    ]
    for number, moment, firing, value, n, sentence in events:
        session.execute(
            insert(AlertEvent).values(
                id=number,
                alert_id="demo-alert",
                at=moment,
                firing=firing,
                value=value,
                n=n,
                sentence=sentence,
                delivered="simulated: nobody was told",
            )
        )


CALL = (
    "id",
    "run_id",
    "column_no",
    "repetition",
    "attempt_no",
    "deployment_id",
    "deployment",
    "kind",
    "model",
    "wire",
    "source",
    "person",
    "state",
    "outcome",
    "phase",
    "message",
    "created_at",
    "started_at",
    "ended_at",
    "waited_ms",
    "ttft_ms",
    "ttfat_ms",
    "ttlt_ms",
    "end_ms",
    "tpot_ms",
    "decode_tps",
    "e2e_tps",
    "lag_marked",
    *COUNTS,
    "usage_source",
    "region",
    "tier_asked",
    "cost_state",
    "cost_nanousd",
    "cost_high_nanousd",
    "cost_drivers",
    "plain_nanousd",
    "price",
    "rolled",
)

RUN = (
    "id",
    "created_at",
    "person",
    "source",
    "start_mode",
    "stagger_s",
    "repetitions",
    "blind",
    "starred",
    "tags",
    "text_stored",
    "n_calls",
)

FIGURES = {
    "ttft_ms": "ttft",
    "ttfat_ms": "ttfat",
    "ttlt_ms": "ttlt",
    "end_ms": "end",
    "tpot_ms": "tpot",
    "decode_tps": "decode",
    "e2e_tps": "e2e",
}

HOUR_US = 3_600_000_000


def write(driver: sqlite3.Connection, calls: Calls, *, first: int) -> None:
    """Insert calls and their runs; ``first`` is the number of the first of them, which makes ids unique."""
    frame, given = calls.frame, calls.columns
    at_us = frame["created_at"].astype("int64").to_numpy() // (1000 if _in_ns(frame) else 1)
    run, runs = _runs(frame, at_us, first)
    end = np.nan_to_num(given["times"]["end"]) * 1000
    moments, until = _moment_texts(at_us), _moment_texts(at_us + end.astype(np.int64))
    n = len(frame)
    counts = _counts(frame, given)
    cost = _where(frame["cost_nanousd"], given["priced"])
    values = {
        "id": [f"demo-{first + number:08d}" for number in range(n)],
        "run_id": run,
        "column_no": [0] * n,
        "repetition": [1] * n,
        "attempt_no": [1] * n,
        "created_at": moments,
        "started_at": moments,
        "ended_at": until,
        "waited_ms": [0.0] * n,
        "lag_marked": [0] * n,
        "rolled": [1] * n,
        "cost_nanousd": cost,
        "cost_high_nanousd": cost,
        "plain_nanousd": _where(frame["plain_nanousd"], given["sold"] | ~given["billed"]),
        **{name: _figures(given["times"][source]) for name, source in FIGURES.items()},
        **counts,
        **{
            name: frame[name].tolist()
            for name in ("deployment_id", "kind", "model", "source", "person", "state", "outcome")
        },
    }
    columns = [values[name] if name in values else _list(given[name]) for name in CALL]
    _insert(driver, "run", RUN, runs)
    _insert(driver, "call", CALL, zip(*columns, strict=True))


def _in_ns(frame: pd.DataFrame) -> bool:
    return str(frame["created_at"].dtype).startswith("datetime64[ns")


def _insert(driver: sqlite3.Connection, table: str, names: Sequence[str], rows: Any) -> None:
    listed, marks = ", ".join(f'"{name}"' for name in names), ", ".join("?" * len(names))
    driver.executemany(f'INSERT INTO "{table}" ({listed}) VALUES ({marks})', rows)  # noqa: S608 - names are ours


def _runs(frame: pd.DataFrame, at_us: Any, first: int) -> tuple[list[str], list[tuple[Any, ...]]]:
    """A run for each person, source and hour: the id of each call's run, and the rows of the runs."""
    keys = pd.DataFrame({"hour": at_us // HOUR_US, "person": frame["person"], "source": frame["source"]})
    number = keys.groupby(["hour", "person", "source"], sort=False).ngroup().to_numpy()
    starts = np.unique(number, return_index=True)[1]
    sizes = np.bincount(number)
    ids = [f"demo-run-{first:08d}-{place:06d}" for place in range(len(starts))]
    tag = (at_us[starts] // HOUR_US * 7 + starts) % (2 * len(TAGS))
    rows = [
        (
            ids[position],
            moment,
            person,
            source,
            "together",
            0.0,
            1,
            0,
            0,
            '["nightly"]' if source == "batch" else f'["{TAGS[mark]}"]' if mark < len(TAGS) else "[]",
            0,
            int(size),
        )
        for position, (moment, person, source, mark, size) in enumerate(
            zip(
                _moment_texts(at_us[starts]),
                keys["person"].to_numpy()[starts],
                keys["source"].to_numpy()[starts],
                tag,
                sizes,
                strict=True,
            )
        )
    ]
    return [ids[position] for position in number], rows


def _moment_texts(at_us: Any) -> list[str]:
    """Moments as SQLAlchemy writes them into SQLite."""
    texts: list[str] = np.datetime_as_string(at_us.astype("M8[us]"), unit="us").tolist()
    return [text.replace("T", " ") for text in texts]


def _counts(frame: pd.DataFrame, columns: Any) -> dict[str, list[Any]]:
    """Token counts; None where nothing was billed, and for the cache where the service says nothing of one."""
    billed, told_cache = columns["billed"], columns["billed"] & columns["told_cache"]
    return {name: _where(frame[name], told_cache if name.startswith("cache") else billed) for name in COUNTS}


def _where(values: Any, there: Any) -> list[Any]:
    objects = np.asarray(values).astype(object)
    objects[~there] = None
    listed: list[Any] = objects.tolist()
    return listed


def _figures(values: Any) -> list[Any]:
    return _where(values, ~np.isnan(values))


def _list(values: Any) -> list[Any]:
    return values if isinstance(values, list) else list(values.tolist())
