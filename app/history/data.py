"""What the page reads: one `Data` for each filter, kept for all who look at the same thing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

import streamlit as st
from sqlalchemy import Engine

from app import auth
from app.history.demo import Source
from db import history, run_queries
from services.dashboard import figures
from services.dashboard.figures import Data, Filter

# Drawing is one thread's work at a time whatever we do (the interpreter's lock): people who wait in a line are served
# sooner, nearly all of them, than people who all get a slice of it. Nobody waits longer than this for a slow one.
TURN_S = 2.0
_turns = threading.Lock()
KEEP_S, LOOK_AGAIN_S, CHOICES_S = 60.0, 1.0, 5.0
Teams = Mapping[str, tuple[str, ...]]


@contextmanager
def turn() -> Iterator[None]:
    """The time in which one page is drawn, one after the other in the order in which they came."""
    mine = _turns.acquire(timeout=TURN_S)
    try:
        yield
    finally:
        if mine:
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


def _read(engine: Engine, chosen: Filter, now: datetime, known: Teams, *, lean: bool = False) -> Data:
    # All who look within a minute share one reading, until a call is made or ends.
    minute = now.replace(second=0, microsecond=0)
    return _load(chosen, lean, minute, _version(_number(engine), engine), _number(engine), engine, now, known)


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
def _values(of: int, _engine: Engine) -> dict[str, list[Any]]:
    del of
    return _found(_engine)


def _found(engine: Engine) -> dict[str, list[Any]]:
    found = history.values_of(engine, "deployment_id", "kind", "model", "person", "source")
    return {**found, "tag": run_queries.tags(engine)}


def choices(engine: Engine) -> dict[str, list[Any]]:
    """What can be chosen in the filters: every kind, model, person, source and tag that any call has, as it was up to
    five seconds ago; the first call of all is there at once."""
    known = _values(_number(engine), engine)
    return known if known["deployment_id"] else _found(engine)


# With forty people looking while calls are being made, each second's change is read once and not forty times.
@st.cache_data(ttl=LOOK_AGAIN_S, max_entries=20, show_spinner=False)
def _version(of: int, _engine: Engine) -> str:
    del of
    return run_queries.history_version(_engine)
