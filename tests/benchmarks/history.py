"""The History page on a year of calls, from ten thousand to ten million, beside the plain way, in one run.

``LAB_BENCH_CALLS=10000,1000000`` chooses the sizes; PostgreSQL is measured at a million where it is installed.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import altair as alt
import numpy as np
import pandas as pd
from sqlalchemy import text
from sqlmodel import Session
from streamlit.testing.v1 import AppTest

from app import auth as app_session
from db import history, rollups, sketch
from db.engine import make_engine, reader
from services.dashboard import demo
from services.deployments import config as deployments_config
from services.paths import ROOT
from tests.benchmarks.histories import END
from tests.benchmarks.moved import move
from tests.benchmarks.report import aim, num, table
from tests.postgres import Server, binaries_here

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
PLAIN_UP_TO = 1_000_000  # beyond, the plain way wants more memory than a small server has
RANGES = ("30d", "30d", "90d", "7d", "365d", "365d")
HEADER = (
    "",
    "calls",
    "filter → page, median ms",
    "slowest ms",
    "aim (median)",
    "plain way, 365 days ms",
    "× plain",
    "bytes a call",
    "rollups' share %",
    "fold µs a call",
)


class _Sources:
    """The pages' sources on one generated database; there is no engine."""

    def __init__(self, url: str) -> None:
        self.url = url

    def engine(self, person: app_session.Person) -> Any:
        raise app_session.EngineDown("No engine runs beside this measurement.")

    def database(self) -> Any:
        return reader(self.url)

    def config(self) -> deployments_config.Config:
        return deployments_config.Config()


def main(*, quick: bool = False) -> None:
    """Make, draw, compare; every figure from this run."""
    named = os.environ.get("LAB_BENCH_CALLS")
    sizes = [int(one) for one in named.split(",")] if named else list(SIZES[:2] if quick else SIZES)
    rows, errors, pages = [], [], {}
    for calls in sizes:
        with tempfile.TemporaryDirectory(prefix="lab-history-") as folder:
            file = Path(folder) / "lab.sqlite3"
            url = f"sqlite:///{file}"
            demo.make(file, calls, days=365)
            rows.append(_measured("SQLite", url, calls, pages, Path(folder)))
            errors.append(_error(url, calls))
            if not quick and binaries_here() and calls == 1_000_000:
                rows.append(_on_postgres(file, calls, pages))
    table("the History page: one rerun after a change of filter, nothing cached, 2 cores", HEADER, rows)
    if len(sizes) > 1:
        growth = pages["SQLite", sizes[-1]] / pages["SQLite", sizes[0]]
        print(f"  growth from {sizes[0]:,} to {sizes[-1]:,} calls: {growth:.2f} ×, {aim(growth, 3)}")
    table(
        "relative error of the sketches against every call, worst of eight deployments, 365 days",
        ("", "calls", "p50 %", "p95 %", "p99 %", "aim"),
        errors,
    )


def _on_postgres(file: Path, calls: int, pages: dict[Any, float]) -> list[str]:
    server = Server(binaries_here())  # type: ignore[arg-type]  # looked for by the caller
    try:
        url = server.create("history")
        move(file, url, file.parent)
        _settled(url)
        return _measured("PostgreSQL", url, calls, pages, None)
    finally:
        server.stop()


def _settled(url: str) -> None:
    """What PostgreSQL does by itself in the minutes after so many rows have come at once."""
    with make_engine(url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _measured(name: str, url: str, calls: int, pages: dict[Any, float], folder: Path | None) -> list[str]:
    took = [_page(url, chosen) for chosen in _filters(url)]
    pages[name, calls] = median(took)
    plain = _timed(lambda: _plain(url)) if calls <= PLAIN_UP_TO else float("nan")
    size = share = float("nan")
    if folder is not None:
        size = (folder / "lab.sqlite3").stat().st_size / calls
        share = _share(folder / "lab.sqlite3")
    fold = _fold(url)
    limit = aim(median(took), 500) if calls == 1_000_000 else ""
    return [
        name,
        f"{calls:,}",
        num(median(took), 0),
        num(max(took), 0),
        limit,
        num(plain, 0),
        num(plain / took[4], 1),
        num(size, 0),
        num(share, 1),
        num(fold, 0),
    ]


def _filters(url: str) -> list[dict[str, str]]:
    """Six changes of the filter: the whole of a stretch, two deployments, one source, one model."""
    models, ids, sources = history.values_of(reader(url), "model", "deployment_id", "source").values()
    more = ({}, {"deployments": ",".join(ids[:2])}, {"sources": sources[0]}, {}, {}, {"models": models[0]})
    return [{"range": one, **also} for one, also in zip(RANGES, more, strict=True)]


def _page(url: str, chosen: dict[str, str]) -> float:
    """Milliseconds of the script run that follows a change of the filter, charts made, nothing kept from before."""
    import streamlit as st

    with patch.object(app_session, "sources", _Sources(url)):
        at = AppTest.from_file(str(ROOT / "pages" / "history.py"), default_timeout=600)
        at.run()
        st.cache_data.clear()
        st.cache_resource.clear()
        for name, value in chosen.items():
            at.query_params[name] = value
        begin = time.perf_counter()
        at.run()
        took = (time.perf_counter() - begin) * 1000
    assert not at.exception, at.exception
    return took


def _plain(url: str) -> None:
    """Load the rows of the year, aggregate them in pandas, draw the same kinds of charts."""
    start = END - timedelta(days=365)
    columns = "created_at, deployment_id, state, ttft_ms, ttlt_ms, tpot_ms, decode_tps, cost_nanousd, answer_output"
    with reader(url).connect() as connection:
        frame = pd.read_sql_query(
            text(f"SELECT {columns} FROM call WHERE created_at >= :a"), connection, params={"a": start.isoformat(" ")}
        )
    frame["day"] = pd.to_datetime(frame["created_at"], utc=True).dt.floor("D")
    good = frame[frame["state"] == "succeeded"]
    for metric in ("ttft_ms", "ttlt_ms", "tpot_ms"):
        lines = good.groupby(["deployment_id", "day"])[metric].quantile([0.5, 0.95, 0.99]).unstack().reset_index()
        lines.columns = [str(name) for name in lines.columns]
        alt.Chart(lines).mark_line().encode(x="day:T", y="0.5:Q", color="deployment_id:N").to_dict()
    for by in ("deployment_id", "state", "day"):
        sums = frame.groupby(by)[["cost_nanousd", "answer_output"]].sum().reset_index()
        alt.Chart(sums).mark_bar().encode(x=f"{by}:N", y="cost_nanousd:Q").to_dict()


def _timed(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000


def _share(file: Path) -> float:
    """The rollups' part of the file, in percent; NaN where SQLite was built without dbstat."""
    try:
        with sqlite3.connect(file) as connection:
            found = connection.execute(
                "SELECT sum(pgsize) FILTER (WHERE name LIKE '%rollup%') * 100.0 / sum(pgsize) FROM dbstat"
            ).fetchone()
    except sqlite3.OperationalError:
        return float("nan")
    return float(found[0] or 0)


def _fold(url: str, calls: int = 2000) -> float:
    """Microseconds a call that the engine spends on adding ended calls to the rollups."""
    engine = make_engine(url)
    names = ", ".join(f'"{one.name}"' for one in rollups.CALL.columns if one.name not in ("id", "rolled"))
    with Session(engine) as session:
        session.execute(
            text(
                f"INSERT INTO call (id, rolled, {names}) SELECT :mark || id, :no, {names} FROM call "
                f"ORDER BY created_at DESC LIMIT {calls}"
            ),
            {"no": False, "mark": f"{engine.dialect.name}-"},
        )
        session.commit()
    begin = time.perf_counter()
    added = 0
    while True:
        with Session(engine) as session:
            n = rollups.fold(session=session, limit=rollups.FEW)
            session.commit()
        added += n
        if not n:
            break
    took = (time.perf_counter() - begin) / max(added, 1) * 1e6
    engine.dispose()
    return took


def _error(url: str, calls: int) -> list[str]:
    worst = [0.0, 0.0, 0.0]
    with reader(url).connect() as connection:
        frame = pd.read_sql_query(text("SELECT deployment_id, ttft_ms FROM call WHERE state = 'succeeded'"), connection)
    wanted = history.Wanted(END - timedelta(days=400), datetime.now(UTC) + timedelta(days=1))
    with patch.object(history, "EXACT_UP_TO", -1):
        found = history.pieces(reader(url), wanted, grain="d", sketches=["ttft"])
    for name, values in frame.groupby("deployment_id")["ttft_ms"]:
        cells = found.cells[found.cells["deployment_id"] == name]["ttft"]
        loose = found.calls[found.calls["deployment_id"] == name]["ttft"].dropna().to_numpy()
        held = sketch.merged([*(sketch.unpack(one) for one in cells), sketch.of_values(loose)])
        for at, q in enumerate((0.5, 0.95, 0.99)):
            exact = float(np.quantile(values, q))
            worst[at] = max(worst[at], abs((held.quantile(q) or 0) / exact - 1) * 100)
    return ["sketches", f"{calls:,}", *(num(one, 2) for one in worst), aim(max(worst), 1)]


def clean() -> None:
    """Remove what an interrupted run left in the temporary directory."""
    for left in Path(tempfile.gettempdir()).glob("lab-history-*"):
        shutil.rmtree(left, ignore_errors=True)
