"""A panel of the History page: its chart whose marks can be clicked, its export, and the calls behind a mark."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st

from app.charts import theme
from app.charts.picture import picture
from app.charts.vega import Spec, finished, standalone, unlabelled
from app.history import calls
from app.history.data import to_csv, with_units
from app.widgets.text import NOTHING, plain
from services.dashboard.figures import Data
from services.types import JsonMapping

WIDTH = 900  # of an exported picture, in pixels of the screen


@dataclass(frozen=True, slots=True)
class Export:
    """What a panel gives away. ``frame``: its data, each unit in the column's name. ``chart``: draws the picture in a
    width, None for a table."""

    name: str
    frame: Callable[[], pd.DataFrame]
    chart: Callable[[], Spec] | None = None


def export(data: Data, exported: Export, title: str, subtitle: str) -> None:
    """A small menu with the data as CSV and the picture as PNG and SVG, each made when it is asked for."""
    look, zone = theme.look(), data.window.zone
    stem = f"inference-lab-{exported.name}-{data.window.end.astimezone(ZoneInfo(zone)):%Y%m%d-%H%M}"
    with st.popover("Export", icon=":material/download:", type="tertiary", key=f"hs_export_{exported.name}"):
        st.download_button(
            "Data as CSV",
            lambda: to_csv(with_units(exported.frame())),
            f"{stem}.csv",
            "text/csv",
            key=f"hs_csv_{exported.name}",
            on_click="ignore",
            width="stretch",
        )
        for kind, mime in (("png", "image/png"), ("svg", "image/svg+xml")) if exported.chart else ():
            st.download_button(
                f"Picture as {kind.upper()}",
                _drawn(exported, kind, look, title, f"{subtitle} · {span(data)}"),  # type: ignore[arg-type]  # of two literals
                f"{stem}.{kind}",
                mime,
                key=f"hs_{kind}_{exported.name}",
                on_click="ignore",
                width="stretch",
            )
        st.caption(f"Times in {plain(zone)}")


def _drawn(
    exported: Export, kind: Literal["png", "svg"], look: theme.Look, title: str, subtitle: str
) -> Callable[[], bytes]:
    def draw() -> bytes:
        assert exported.chart is not None
        return picture(standalone(exported.chart(), look, _unescaped(title), _unescaped(subtitle)), kind)

    return draw


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text.replace(NOTHING, ""))


def span(data: Data) -> str:
    """The stretch of time, in words of its zone."""
    first, last = (pd.Timestamp(moment).tz_convert(data.window.zone) for moment in (data.window.start, data.window.end))
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}, {data.window.zone}"


def draw_chart(
    chart: Any,
    key: str,
    alt: str,
    mark_of: Callable[[JsonMapping], calls.Mark | None] | None = None,
    *,
    look: theme.Look,
    legend: Sequence[tuple[str, str, str]] = (),
) -> None:
    """A chart whose marks can be clicked; what was clicked last in a panel is kept for `draw_calls` by its key.

    ``mark_of`` makes a mark of the fields that were clicked, None where there is no such mark any more. ``legend``:
    (colour, words, sign) of what is drawn below it.
    """
    chart = finished(unlabelled(chart), look)
    if mark_of is None:
        st.vega_lite_chart(spec=chart, width="stretch", key=key, alt=alt)
        return
    place = key.partition("__")[0]
    slot = f"{place}_last"
    full = f"{key}__{st.session_state.get(f'{key}_turn', 0)}"
    event = st.vega_lite_chart(
        spec=chart,
        width="stretch",
        key=full,
        alt=alt,
        selection_mode=["pick"],
        on_select=lambda: _clicked(slot, key, full),
    )
    draw_legend(legend, look)
    point = calls.clicked(event)
    if point and st.session_state.get(slot) == (key, full):
        st.session_state[f"{place}_mark"] = (mark_of(point), key)
    elif st.session_state.get(f"{place}_mark", (None, None))[1] == key:
        st.session_state[f"{place}_mark"] = (None, key)


def draw_legend(entries: Sequence[tuple[str, str, str]], look: theme.Look) -> None:
    """What the colours mean: (colour, words, sign), in lines that wrap."""
    parts = "".join(
        f'<span style="white-space:nowrap;margin-right:14px"><span style="color:{color}">{html.escape(sign)}</span> '
        f"{html.escape(words)}</span> "
        for color, words, sign in entries
    )
    if len(entries) > 1:
        st.html(f'<div style="font-size:12.5px;color:{look.muted};line-height:1.7">{parts}</div>')


def _clicked(slot: str, key: str, full: str) -> None:
    """Callback: this chart was clicked; what is selected in another chart of its panel is let go."""
    previous = st.session_state.get(slot)
    if previous and previous[0] != key:
        st.session_state[f"{previous[0]}_turn"] = st.session_state.get(f"{previous[0]}_turn", 0) + 1
    st.session_state[slot] = (key, full)


def draw_calls(data: Data, place: str) -> None:
    """The calls behind the mark that was clicked last in a panel, and a way to close them."""
    mark, key = st.session_state.get(f"{place}_mark", (None, None))
    if mark is None:
        return
    calls.draw(data, mark, place, lambda: _close(place, key))


def _close(place: str, key: str) -> None:
    """Callback: a chart under a new key has nothing selected."""
    st.session_state.pop(f"{place}_mark", None)
    st.session_state.pop(f"{place}_last", None)
    st.session_state[f"{key}_turn"] = st.session_state.get(f"{key}_turn", 0) + 1


def hint(words: Sequence[str]) -> str:
    """Parts of a subtitle, joined."""
    return " · ".join(word for word in words if word)
