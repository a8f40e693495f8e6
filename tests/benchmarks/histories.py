"""Generated histories: a year of calls of eight deployments, as rows of the real tables, rolled up by the real code."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from sqlmodel import Session

from db import rollups
from db.engine import make_engine
from db.migrate import upgrade

# Last midnight: a range of 24 hours has calls in it.
END = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = 365
PEOPLE = 12
PRICE = {
    "source": "genai-prices",
    "date": "2026-11-01",
    "model": "m",
    "context": {},
    "tiers": [],
    "per_hour": None,
    "rates": {"input": "3", "cache_read": "0.3", "cache_write_5m": "3.75", "cache_write_1h": "6", "output": "15"},
}
COLUMNS = (
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
    "created_at",
    "started_at",
    "ended_at",
    "ttfb_ms",
    "ttft_ms",
    "ttfat_ms",
    "ttlt_ms",
    "end_ms",
    "tpot_ms",
    "decode_tps",
    "e2e_tps",
    "n_deltas",
    "self_lag_ms",
    "lag_marked",
    "uncached_input",
    "cache_read",
    "cache_write_5m",
    "answer_output",
    "usage_source",
    "cost_state",
    "cost_nanousd",
    "plain_nanousd",
    "cost_drivers",
    "price",
    "rolled",
)
DEPLOYMENT = json.dumps({"id": "d", "name": "D"})
STATES = np.array(["succeeded", "throttled", "failed", "timed_out", "cut_off", "cancelled"])
OUTCOMES = dict(zip(STATES, ("ok", "throttled", "stream_error", "timeout_idle", "truncated", "cancelled"), strict=True))


def days(calls: int, seed: int = 4) -> Iterator[pd.DataFrame]:
    """The calls of each of `DAYS` days, ready for the table; more by day than by night, and fewer on Sundays."""
    dice = np.random.default_rng(seed)
    weights = dice.uniform(0.6, 1.4, DAYS) * np.where(np.arange(DAYS) % 7 == 6, 0.4, 1.0)
    counts = dice.multinomial(calls, weights / weights.sum())
    number = 0
    for day, n in enumerate(counts):
        yield _day(END - timedelta(days=DAYS - day), int(n), number, dice)
        number += int(n)


def _day(day: datetime, n: int, first: int, dice: np.random.Generator) -> pd.DataFrame:
    which = dice.integers(0, 8, n)
    state = STATES[dice.choice(len(STATES), n, p=[0.955, 0.015, 0.012, 0.008, 0.006, 0.004])]
    fine = state == "succeeded"
    at = np.sort(np.clip(dice.normal(13, 4, n), 0, 23.999))
    created = pd.Timestamp(day).tz_convert(None) + pd.to_timedelta(at, unit="h")
    ttft = dice.lognormal(np.log(150.0 + 90.0 * which), 0.6)
    out = dice.integers(20, 900, n)
    decode = dice.normal(60 + 5 * which, 6).clip(5)
    ttlt = ttft + out / decode * 1000
    read = np.where(dice.random(n) < 0.3, 2048, 0)
    fresh = dice.integers(200, 3000, n)
    drivers = {"uncached_input": fresh * 3000, "cache_read": read * 300, "answer_output": out * 15000}
    cost = sum(drivers.values())
    text = created.strftime("%Y-%m-%d %H:%M:%S.%f")
    nothing = np.full(n, None, dtype=object)
    timed = {
        "ttfb_ms": ttft * 0.9,
        "ttft_ms": ttft,
        "ttfat_ms": ttft,
        "ttlt_ms": ttlt,
        "tpot_ms": 1000 / decode,
        "decode_tps": decode,
        "e2e_tps": out / ttlt * 1000,
    }
    return pd.DataFrame(
        {
            "id": [f"c{i}" for i in range(first, first + n)],
            "run_id": [f"r{i // 1000}" for i in range(first, first + n)],
            "column_no": 0,
            "repetition": 1,
            "attempt_no": 1,
            "deployment_id": np.char.add("dep-", which.astype(str)),
            "deployment": DEPLOYMENT,
            "kind": "openai",
            "model": np.char.add("model-", (which // 2).astype(str)),
            "wire": "chat",
            "source": np.where(dice.random(n) < 0.2, "batch", "playground"),
            "person": np.char.add("p", dice.integers(0, PEOPLE, n).astype(str)),
            "state": state,
            "outcome": [OUTCOMES[one] for one in state],
            "created_at": text,
            "started_at": text,
            "ended_at": text,
            **{name: np.where(fine, values, nothing) for name, values in timed.items()},
            "end_ms": ttlt,
            "n_deltas": out,
            "self_lag_ms": 0.6,
            "lag_marked": False,
            "uncached_input": fresh,
            "cache_read": read,
            "cache_write_5m": nothing,
            "answer_output": out,
            "usage_source": "provider",
            "cost_state": "exact",
            "cost_nanousd": cost,
            "plain_nanousd": cost + read * 2700,
            "cost_drivers": [
                json.dumps(dict(zip(drivers, map(int, row), strict=True)))
                for row in zip(*drivers.values(), strict=True)
            ],
            "price": json.dumps(PRICE),
            "rolled": True,
        }
    )[list(COLUMNS)]


def make(url: str, folder: Path, calls: int) -> dict[str, float]:
    """Fill a fresh database; returns seconds for the rows (``raw_s``) and for the rollups (``rollup_s``)."""
    upgrade(url, folder)
    put = _sqlite(url) if url.startswith("sqlite") else _postgres(url)
    engine = make_engine(url)
    took = {"raw_s": 0.0, "rollup_s": 0.0}
    put(
        "run",
        (
            "id",
            "created_at",
            "person",
            "source",
            "start_mode",
            "stagger_s",
            "repetitions",
            "blind",
            "starred",
            "text_stored",
            "n_calls",
        ),
        [
            (f"r{i}", "2026-01-01 00:00:00.000000", "p0", "playground", "together", 0.0, 1, False, False, False, 1)
            for i in range(calls // 1000 + 1)
        ],
    )
    put(
        "deployment",
        ("id", "spec", "origin", "enabled", "color_slot", "archived", "created_at", "updated_at"),
        [
            (f"dep-{i}", json.dumps(_spec(i)), "page", True, 100 + i, False, *["2025-11-01 00:00:00.000000"] * 2)
            for i in range(8)
        ],
    )
    for frame in days(calls):
        begin = time.perf_counter()
        put("call", COLUMNS, list(zip(*(frame[name].tolist() for name in COLUMNS), strict=True)))
        middle = time.perf_counter()
        with Session(engine) as session:
            rows = frame.assign(cost_drivers=[json.loads(one) for one in frame["cost_drivers"]])
            rows["created_at"] = pd.to_datetime(rows["created_at"], utc=True)
            for name in rollups.NEEDED:
                if name not in rows:
                    rows[name] = None
            needed = rows[list(rollups.NEEDED)].astype(object)
            rollups.add(session=session, rows=needed.where(needed.notna(), None).to_dict("records"))
            session.commit()
        took["raw_s"] += middle - begin
        took["rollup_s"] += time.perf_counter() - middle
    engine.dispose()
    return took


def _spec(i: int) -> dict[str, Any]:
    return {
        "id": f"dep-{i}",
        "name": f"Deployment {i}",
        "kind": "openai-compatible",
        "model": f"model-{i // 2}",
        "base_url": "http://127.0.0.1:1/v1",
        "wire": "chat",
        "labels": ["simulated"],
    }


def _sqlite(url: str) -> Any:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")

    def put(table: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        names = ", ".join(f'"{name}"' for name in columns)
        connection.execute("BEGIN")
        connection.executemany(f'INSERT INTO "{table}" ({names}) VALUES ({", ".join("?" * len(columns))})', rows)
        connection.execute("COMMIT")

    return put


def _postgres(url: str) -> Any:
    connection = psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True)

    def put(table: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        names = ", ".join(f'"{name}"' for name in columns)
        with connection.cursor() as cursor, cursor.copy(f'COPY "{table}" ({names}) FROM STDIN') as copy:
            for row in rows:
                copy.write_row(row)

    return put
