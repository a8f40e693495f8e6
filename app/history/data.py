"""What the History page reads, one `Data` for each filter, and what leaves it as CSV."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st
from sqlalchemy import Engine

from app import auth
from app.charts import theme
from app.history.filters import Source
from db import history, run_queries
from db.run_rows import ListedCall
from services.call_record import usage_of
from services.dashboard import figures
from services.dashboard.figures import Data, Filter
from services.formatting import safe_cell
from services.security import keys

# Drawing is one thread's work at a time whatever we do (the interpreter's lock): people who wait in a line are served
# sooner, nearly all of them, than people who all get a slice of it. Nobody waits longer than this for a slow one.
TURN_S = 2.0


_turns = threading.Lock()

KEEP_S, LOOK_AGAIN_S, CHOICES_S = 60.0, 1.0, 5.0

Teams = Mapping[str, tuple[str, ...]]


@contextmanager
def turn() -> Iterator[None]:
    """The time in which one page is drawn, one after the other in the order in which they came."""
    acquired = _turns.acquire(timeout=TURN_S)
    try:
        yield
    finally:
        if acquired:
            _turns.release()


def teams() -> Teams:
    """The teams of deployments.toml: name → people."""
    return getattr(auth.sources.config(), "teams", None) or {}


def load(source: Source, chosen: Filter) -> Data:
    """Everything that the panels of a filter need. Read again when a call was made or has ended since, and each minute.

    It is shared between sessions: nothing may change it.
    """
    return _read(source.database, chosen, source.now, teams())


def month(data: Data) -> Data:
    """The month so far, of everything but the time that ``data`` is filtered by: what `figures.pace` needs of it."""
    if data.filter.range == "mtd":
        return data
    return _read(data.engine, data.filter.but(range="mtd", start=None, end=None), data.now, data.teams, lean=True)


def _read(engine: Engine, chosen: Filter, now: datetime, teams_of_people: Teams, *, lean: bool = False) -> Data:
    # All who look within a minute share one reading, until a call is made or ends.
    minute = now.replace(second=0, microsecond=0)
    return _load(chosen, lean, minute, _version(_number(engine), engine), _number(engine), engine, now, teams_of_people)


# An engine does not tell which file it reads (its address is "sqlite://"), so each gets a number of its own.
_numbers: WeakKeyDictionary[Engine, int] = WeakKeyDictionary()


_next = count()


def _number(engine: Engine) -> int:
    return _numbers.setdefault(engine, next(_next))


# A resource, not data: copying the sketches of a long history for every viewer would take longer than the panels do.
@st.cache_resource(ttl=KEEP_S, max_entries=40, show_spinner=False)
def _load(
    chosen: Filter, lean: bool, minute: datetime, version: str, of: int, _engine: Engine, _now: datetime, _teams: Teams
) -> Data:
    del minute, version, of
    return figures.load(_engine, chosen, _now, teams=_teams, lean=lean)


# What can be chosen changes rarely, and looking it up takes longer than a panel: a few seconds' delay is worth it.
@st.cache_data(ttl=CHOICES_S, max_entries=20, show_spinner=False)
def _values(of: int, _engine: Engine) -> dict[str, list[str]]:
    del of
    return _found(_engine)


def _found(engine: Engine) -> dict[str, list[str]]:
    choices = history.values_of(engine, "deployment_id", "kind", "model", "person", "source")
    return {**choices, "tag": run_queries.tags(engine)}


def choices(engine: Engine) -> dict[str, list[str]]:
    """What can be chosen in the filters: every kind, model, person, source and tag that any call has, as it was up to
    five seconds ago; the first call of all is there at once."""
    values = _values(_number(engine), engine)
    return values if values["deployment_id"] else _found(engine)


# With forty people looking while calls are being made, each second's change is read once and not forty times.
@st.cache_data(ttl=LOOK_AGAIN_S, max_entries=20, show_spinner=False)
def _version(of: int, _engine: Engine) -> str:
    del of
    return run_queries.history_version(_engine)


# What a figure is called in the services → in an export, where each unit is in the column's name.
COLUMNS: Mapping[str, str] = {
    "success": "success_share",
    "share": "share_of_calls",
    "decode_p50": "decode_p50_tokens_per_s",
    "out_tokens": "output_tokens",
    "usd_per_1000": "spend_usd_per_1000_calls",
    "usd_per_1m_output": "spend_usd_per_1m_output_tokens",
    "utilisation": "paid_hours_used_share",
    "n": "calls",
    "n_unpriced": "calls_without_known_cost",
    "still_running": "bucket_is_partial",
    "running": "bucket_is_partial",
    "weekday": "weekday_from_monday_0",
    "hour": "hour_of_day",
    "idle": "is_idle",
}


def with_units(frame: pd.DataFrame) -> pd.DataFrame:
    """A panel's table as it is exported: `COLUMNS` for its names, and nano-dollars as dollars, empty where no cost is
    known."""
    table = frame.rename(columns=COLUMNS)
    if "nanousd" in table:
        unknown = (frame["nanousd"] == 0) & (frame["n_unpriced"] > 0) & (frame["n_unpriced"] == _calls(frame))
        spent = [None if no else _usd(nanousd) for no, nanousd in zip(unknown, frame["nanousd"], strict=True)]
        table["nanousd"] = pd.Series(spent, index=table.index, dtype=object)
        table = table.rename(columns={"nanousd": "spend_usd"})
    return table


def _calls(frame: pd.DataFrame) -> pd.Series:
    return frame["calls" if "calls" in frame else "n"]


def to_csv(frame: pd.DataFrame) -> str:
    """A table as CSV (RFC 4180, CRLF), fit for a spreadsheet: no cell is taken for a formula, no key is in it."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([safe_cell(str(name)) for name in frame.columns])
    for row in frame.itertuples(index=False, name=None):
        writer.writerow(["" if _nothing(value) else safe_cell(_plain(value)) for value in row])
    return keys.scrub(out.getvalue())


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value


def calls_table(data: Data, rows: Sequence[ListedCall]) -> pd.DataFrame:
    """Calls as they are exported, each unit in the column's name; what is not known of a call stays empty."""
    zone, names = ZoneInfo(data.window.zone), theme.names_of(data)
    columns = {
        "sent": [row["created_at"].astimezone(zone).isoformat() for row in rows],
        "deployment": [names.get(row["deployment_id"], row["deployment_id"]) for row in rows],
        "deployment_id": [row["deployment_id"] for row in rows],
        "model": [row["model"] for row in rows],
        "state": [row["state"] for row in rows],
        "ttft_ms": [row["ttft_ms"] for row in rows],
        "ttlt_ms": [row["ttlt_ms"] for row in rows],
        "decode_tokens_per_s": [row["decode_tps"] for row in rows],
        "input_tokens": [usage_of(row).input_total for row in rows],
        "output_tokens": [usage_of(row).output_total for row in rows],
        "cost_usd": [_usd(row["cost_nanousd"]) for row in rows],
        "cost_state": [row["cost_state"] for row in rows],
        "person": [row["person"] for row in rows],
        "source": [row["source"] for row in rows],
        "message": [row["message"] for row in rows],
        "run_id": [row["run_id"] for row in rows],
        "call_id": [row["id"] for row in rows],
    }
    # As they are: a column of numbers with gaps would turn counts into fractions.
    return pd.DataFrame(columns, dtype=object)


def _usd(nanousd: int | None) -> str | None:
    return None if nanousd is None else format(Decimal(int(nanousd)) / 10**9, "f")
