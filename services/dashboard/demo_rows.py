"""Simulated calls on their way into the tables: straight through the driver, because there can be millions."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from db.rollups import COUNTS
from services.dashboard.demo_calls import Calls
from services.dashboard.demo_plan import TAGS

CALL = (
    "id", "run_id", "column_no", "repetition", "attempt_no", "deployment_id", "deployment", "kind", "model", "wire",
    "source", "person", "state", "outcome", "phase", "message", "created_at", "started_at", "ended_at", "waited_ms",
    "ttft_ms", "ttfat_ms", "ttlt_ms", "end_ms", "tpot_ms", "decode_tps", "e2e_tps", "lag_marked", *COUNTS,
    "usage_source", "region", "tier_asked", "cost_state", "cost_nanousd", "cost_high_nanousd", "cost_drivers",
    "plain_nanousd", "price", "rolled",
)  # fmt: skip
RUN = (
    "id", "created_at", "person", "source", "start_mode", "stagger_s", "repetitions", "blind", "starred", "tags",
    "text_stored", "n_calls",
)  # fmt: skip
FIGURES = {"ttft_ms": "ttft", "ttfat_ms": "ttfat", "ttlt_ms": "ttlt", "end_ms": "end", "tpot_ms": "tpot",
           "decode_tps": "decode", "e2e_tps": "e2e"}  # fmt: skip
HOUR_US = 3_600_000_000


def write(driver: sqlite3.Connection, calls: Calls, *, first: int) -> None:
    """Insert calls and their runs; ``first`` is the number of the first of them, which makes ids unique."""
    frame, given = calls.frame, calls.columns
    at_us = frame["created_at"].astype("int64").to_numpy() // (1000 if _in_ns(frame) else 1)
    run, runs = _runs(frame, at_us, first)
    end = np.nan_to_num(given["times"]["end"]) * 1000
    moments, until = _moments(at_us), _moments(at_us + end.astype(np.int64))
    n = len(frame)
    counts = _counts(frame, given)
    cost = _where(frame["cost_nanousd"], given["priced"])
    held = {
        "id": [f"demo-{first + number:08d}" for number in range(n)], "run_id": run, "column_no": [0] * n,
        "repetition": [1] * n, "attempt_no": [1] * n, "created_at": moments, "started_at": moments, "ended_at": until,
        "waited_ms": [0.0] * n, "lag_marked": [0] * n, "rolled": [1] * n, "cost_nanousd": cost,
        "cost_high_nanousd": cost, "plain_nanousd": _where(frame["plain_nanousd"], given["sold"] | ~given["billed"]),
        **{name: _figures(given["times"][source]) for name, source in FIGURES.items()}, **counts,
        **{name: frame[name].tolist() for name in
           ("deployment_id", "kind", "model", "source", "person", "state", "outcome")},
    }  # fmt: skip
    columns = [held[name] if name in held else _list(given[name]) for name in CALL]
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
    ids = [f"demo-run-{first:08d}-{one:06d}" for one in range(len(starts))]
    tag = (at_us[starts] // HOUR_US * 7 + starts) % (2 * len(TAGS))
    rows = [
        (ids[at], moment, person, source, "together", 0.0, 1, 0, 0,
         '["nightly"]' if source == "batch" else f'["{TAGS[mark]}"]' if mark < len(TAGS) else "[]", 0, int(size))
        for at, (moment, person, source, mark, size) in enumerate(zip(
            _moments(at_us[starts]), keys["person"].to_numpy()[starts], keys["source"].to_numpy()[starts], tag, sizes,
            strict=True,
        ))
    ]  # fmt: skip
    return [ids[at] for at in number], rows


def _moments(at_us: Any) -> list[str]:
    """Moments as SQLAlchemy writes them into SQLite."""
    texts: list[str] = np.datetime_as_string(at_us.astype("M8[us]"), unit="us").tolist()
    return [text.replace("T", " ") for text in texts]


def _counts(frame: pd.DataFrame, given: Any) -> dict[str, list[Any]]:
    """Token counts; None where nothing was billed, and for the cache where the service says nothing of one."""
    billed, told = given["billed"], given["billed"] & given["told_cache"]
    return {name: _where(frame[name], told if name.startswith("cache") else billed) for name in COUNTS}


def _where(values: Any, there: Any) -> list[Any]:
    found = np.asarray(values).astype(object)
    found[~there] = None
    listed: list[Any] = found.tolist()
    return listed


def _figures(values: Any) -> list[Any]:
    return _where(values, ~np.isnan(values))


def _list(values: Any) -> list[Any]:
    return values if isinstance(values, list) else list(values.tolist())
