"""The calls behind a mark: what was clicked, in words, and the calls that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st

from app import auth, navigation
from app.charts import theme
from app.glossary import FIGURES
from app.history.data import calls_table, to_csv
from app.history.filters import SOURCE_WORDS
from app.widgets.text import clip, plain
from db.history import Behind, Wanted, calls_behind, measured_behind, spent_behind
from db.run_rows import ListedCall
from services import formatting
from services.call_record import cost_of, usage_of
from services.dashboard.calls import forgotten, wanted_behind
from services.dashboard.cost import Paid, paid_words
from services.dashboard.figures import Data
from services.dashboard.window import HOURS_UP_TO
from services.pricing.cost import money
from services.runs import view
from services.types import Json

PAGE_SIZE = 15
IN_FILE = 10_000  # calls of a CSV: more take seconds to read and no spreadsheet shows them well


class Narrow(TypedDict, total=False):
    """What of the filter's calls a mark has. ``bucket`` and ``day``: the labels that the panels give."""

    deployment_id: str
    bucket: datetime
    day: datetime
    model: str
    kind: str
    person: str
    team: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What was clicked. ``title``: in words. ``narrow``: what `wanted_behind` is told; ``states``: only calls that
    ended so; ``tags``: exactly these; ``hour_of_week``: (weekday, hour) of the zone. ``paid``: what of it was paid by
    the hour; ``calls`` false: no call is behind it at all. ``figure``: what the mark is a figure of, one of
    `LATENCIES`; not every call that succeeded was measured in it."""

    title: str
    narrow: Narrow = field(default_factory=Narrow)
    states: Sequence[str] = ()
    tags: Sequence[str] | None = None
    hour_of_week: tuple[int, int] | None = None
    paid: Paid | None = None
    calls: bool = True
    figure: str = ""


def clicked(event: Any, name: str = "pick") -> Json | None:
    """The fields of the mark that is selected in a chart, if one is."""
    points = (getattr(event, "selection", None) or {}).get(name) or []
    return dict(points[0]) if isinstance(points, list) and points else None


def draw(data: Data, mark: Mark, key: str, close: Callable[[], None] | None = None) -> None:
    """The calls of a mark, a page at a time, with their number, what they cost and the way to their runs. ``close``:
    what a button "Close" calls."""
    if not mark.calls:
        _head(f"**{plain(mark.title)}** · no call is behind this", mark, 0, key, close)
        return
    selection = wanted_behind(data, **mark.narrow)
    spans = hours_of_week(data, selection, *mark.hour_of_week) if mark.hour_of_week else ()
    only = Behind(mark.states, spans, mark.tags, mark.figure)
    slot = st.container()
    _, total = calls_behind(data.engine, selection, only, limit=0)
    pages = max(1, -(-total // PAGE_SIZE))
    page = st.pagination(pages, key=f"{key}_page") if pages > 1 else 1
    rows, total = calls_behind(data.engine, selection, only, limit=PAGE_SIZE, offset=(min(page, pages) - 1) * PAGE_SIZE)
    with slot:
        heading = f"**Calls behind {plain(mark.title)}** · {_sums(data, selection, only, total)}"
        file = (file_name(data), lambda: csv_of(data, selection, only)) if total else None
        _head(heading, mark, total, key, close, file)
        if rows:
            _table(data, rows, key)


def _head(
    heading: str,
    mark: Mark,
    total: int,
    key: str,
    close: Callable[[], None] | None,
    file: tuple[str, Callable[[], str]] | None = None,
) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(heading, width="stretch")
        if file is not None:
            label = "CSV" if total <= IN_FILE else f"CSV of the newest {IN_FILE:,}"
            name, content = file
            st.download_button(
                label,
                content,
                name,
                "text/csv",
                key=f"{key}_file",
                type="tertiary",
                icon=":material/download:",
                on_click="ignore",
                help=f"All calls behind the mark, at most {IN_FILE:,}.",
            )
        if close is not None:
            st.button("Close", key=f"{key}_close", type="tertiary", icon=":material/close:", on_click=close)
    if mark.paid is not None:
        st.caption(plain(paid_words(mark.paid)))


def file_name(data: Data) -> str:
    """What the file of calls is called; with the time to which the History was read, as its other exports."""
    return f"inference-lab-calls-{data.window.end.astimezone(ZoneInfo(data.window.zone)):%Y%m%d-%H%M}.csv"


def csv_of(data: Data, selection: Wanted, only: Behind) -> str:
    """The newest `IN_FILE` of the calls as CSV."""
    rows, _ = calls_behind(data.engine, selection, only, limit=IN_FILE)
    return to_csv(calls_table(data, rows))


def _sums(data: Data, selection: Wanted, only: Behind, total: int) -> str:
    gone = forgotten(data.engine, selection)
    if not total:
        if gone is not None:
            return f"no call is kept: {_before(gone)} were forgotten and are only in the sums"
        return _none_made(data, selection, only)
    spent, priced, bounded = spent_behind(data.engine, selection, only)
    cost = plain(money(spent, "≥" if bounded else "")) if priced else "no price of their own"
    without = f" · {total - priced:,} without a price of their own" if priced and priced < total else ""
    rest = f" · {_before(gone)} were forgotten and are only in the sums" if gone is not None else ""
    many = f"{total:,} {'call' if total == 1 else 'calls'}"
    sums, order = _measured(data, selection, only, total, many) if only.figure else (many, "newest first")
    return f"{sums} · {cost}{without} · {order}{rest}"


def _measured(data: Data, selection: Wanted, only: Behind, total: int, many: str) -> tuple[str, str]:
    """How many of the calls are in the figure of the mark and why the others are not; and the order of the list."""
    taken, late, batch = measured_behind(data.engine, selection, only)
    if taken == total:
        return many, "newest first"
    why = [
        (batch, "batch calls, which have no times of their own"),
        (late, "stamped late by our own fault"),
        (total - taken - late - batch, "without this figure"),
    ]
    reasons = ", ".join(f"{n:,} {words}" for n, words in why if n)
    verb = "was" if total == 1 else "were"
    return f"{taken:,} of {many} {verb} measured; the others: {reasons}", "measured first, then newest first"


def _before(day: datetime) -> str:
    return f"those of the days before {day:%-d %b %Y} (UTC)"


def _none_made(data: Data, selection: Wanted, only: Behind) -> str:
    n_others = calls_behind(data.engine, selection, replace(only, states=()), limit=0)[1] if only.states else 0
    if not n_others:
        return f"no call{' of this selection' if data.filter.is_narrowed else ''} was made there"
    ended = " or ".join(theme.state_words(state) for state in only.states)
    return f"{n_others:,} {'call was' if n_others == 1 else 'calls were'} made there, none of them {ended}"


def _table(data: Data, rows: Sequence[ListedCall], key: str) -> None:
    zone, called = data.window.zone, theme.names_of(data)
    frame = pd.DataFrame(
        {
            "when": [row["created_at"].astimezone(ZoneInfo(zone)) for row in rows],
            "deployment": [called.get(row["deployment_id"], row["deployment_id"]) for row in rows],
            "state": [theme.state_words(row["state"]) for row in rows],
            "ttft": [formatting.seconds(row["ttft_ms"]) for row in rows],
            "ttlt": [formatting.seconds(row["ttlt_ms"]) for row in rows],
            "decode": [formatting.rate(row["decode_tps"]) for row in rows],
            "input": [usage_of(row).input_total for row in rows],
            "output": [usage_of(row).output_total for row in rows],
            "cost": [_cost(row) for row in rows],
            "person": [row["person"] for row in rows],
            "source": [SOURCE_WORDS.get(row["source"], row["source"]) for row in rows],
            "message": [clip(row["message"] or "", 120) for row in rows],
        }
    )
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    event = st.dataframe(
        frame,
        key=f"{key}_calls",
        hide_index=True,
        height="content",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "when": st.column_config.DatetimeColumn(f"Sent ({zone})", format="YYYY-MM-DD HH:mm:ss", timezone=zone),
            "deployment": text("Deployment", width=170),
            "state": text("State", help=FIGURES["state"]),
            "ttft": text("First token", help=FIGURES["ttft"], alignment="right"),
            "ttlt": text("Last token", help=FIGURES["ttlt"], alignment="right"),
            "decode": text("Decode speed", help=FIGURES["decode"], alignment="right"),
            "input": number("Input", help=FIGURES["input"], format="localized"),
            "output": number("Output", help=FIGURES["output"], format="localized"),
            "cost": text("Cost", help=FIGURES["cost"], alignment="right"),
            "person": text("Person"),
            "source": text("Source"),
            "message": text("Message"),
        },
        alt="The calls behind the selected mark, newest first",
    )
    chosen = [row for row in event.selection.rows if row < len(rows)]
    if data.engine is not auth.database():
        st.caption("Simulated calls: there is no run to open.")
    elif not chosen:
        st.caption("Select a line to open its run.")
    elif st.button("Open the run", key=f"{key}_open", icon=":material/open_in_new:"):
        navigation.open_run(str(rows[chosen[0]]["run_id"]))


def _cost(row: ListedCall) -> str:
    mark, cost_title = view.cost_words(cost_of(row))
    return f"{mark} {cost_title}".strip()


def hours_of_week(data: Data, selection: Wanted, weekday: int, hour: int) -> list[tuple[datetime, datetime]]:
    """Every such hour of the window, in UTC. The heat map of a long range is of its last 31 days."""
    zone = ZoneInfo(data.window.zone)
    start = max(selection.start, selection.end - HOURS_UP_TO) if data.window.grain == "d" else selection.start
    day, stretches = start.astimezone(zone).date() - timedelta(days=1), []
    while day <= selection.end.astimezone(zone).date():
        if day.weekday() == weekday:
            for fold in (0, 1):  # an hour that the clock shows twice is there twice
                begin = datetime(day.year, day.month, day.day, hour, tzinfo=zone, fold=fold).astimezone(UTC)
                if begin.astimezone(zone).hour == hour:
                    stretches.append((max(begin, start), begin + timedelta(hours=1)))
        day += timedelta(days=1)
    return [(a, b) for a, b in dict.fromkeys(stretches) if a < b] or [(selection.end, selection.end)]
