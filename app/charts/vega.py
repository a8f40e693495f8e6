"""Vega-Lite specifications as plain dictionaries, which Streamlit sends as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.charts import theme
from app.charts.theme import FONT, Look


def show(spec: Spec, key: str, alt: str, look: theme.Look) -> None:
    """A chart as wide as its place. ``alt``: what it shows, for those who cannot see it."""
    st.vega_lite_chart(spec=finished(spec, look), width="stretch", key=key, alt=alt)


Spec = dict[str, Any]


def q(field: str, **options: Any) -> Spec:
    """A channel of numbers."""
    return {"field": field, "type": "quantitative", **options}


def word(field: str, **options: Any) -> Spec:
    """A channel of words."""
    return {"field": field, "type": "nominal", **options}


def to(field: str) -> Spec:
    """The other end of a channel (x2, y2)."""
    return {"field": field}


def tips(*named: tuple[str, str] | tuple[str, str, str]) -> list[Spec]:
    """A tooltip: (field, title) for words, (field, title, format) for numbers."""
    return [
        {"field": channel[0], "title": channel[1], "type": "nominal"}
        if len(channel) == 2
        else {"field": channel[0], "title": channel[1], "type": "quantitative", "format": channel[2]}
        for channel in named
    ]


def view(
    mark: str,
    rows: pd.DataFrame,
    encoding: Mapping[str, Any],
    *,
    pick: Sequence[str] = (),
    only: str = "",
    **style: Any,
) -> Spec:
    """One layer. ``pick``: the fields that a click on a mark selects; ``only``: a condition on the rows, so that layers
    can share one table."""
    spec: Spec = {"mark": {"type": mark, **style}, "data": rows, "encoding": dict(encoding)}
    if only:
        spec["transform"] = [{"filter": only}]
    if pick:
        chosen = {"type": "point", "fields": list(pick), "on": "click", "clear": "dblclick"}
        spec["params"] = [{"name": "pick", "select": chosen}]
    return spec


def when(test: str, then: Any, otherwise: Any) -> Spec:
    """A value that depends on the row."""
    return {"condition": {"test": test, "value": then}, "value": otherwise}


def picked(then: Any, otherwise: Any) -> Spec:
    """A value that depends on whether the mark is selected."""
    return {"condition": {"param": "pick", "empty": False, "value": then}, "value": otherwise}


def layers(
    *views: Spec, height: int | Spec, title: str = "", subtitle: str | Sequence[str] = "", **options: Any
) -> Spec:
    """Views on top of each other. ``subtitle``: one line or several."""
    layered: Spec = {"layer": list(views), "height": height, **options}
    if title:
        layered["title"] = {
            "text": title,
            "fontSize": 12.5,
            "anchor": "start",
            "limit": 230,
            **({"subtitle": _lines(subtitle)} if subtitle else {}),
        }
    return layered


def _lines(text: str | Sequence[str]) -> str | list[str]:
    return text if isinstance(text, str) else list(text) if len(text) > 1 else text[0]


def finished(spec: Spec, look: Look) -> Spec:
    """A specification with its tables as named data sets and the look of the page."""
    tables: dict[str, pd.DataFrame] = {}
    # The height is that of the plot: parts of some charts are placed in it by the pixel.
    fit = {"autosize": {"type": "fit-x", "contains": "padding"}}
    return {**fit, **_named(spec, tables), "datasets": tables, "config": config(look)}


def unlabelled(spec: Spec) -> Spec:
    """The same without the legends of colours that stand for words: the page writes them below, where they wrap."""
    copy_of_spec = dict(spec)
    if "layer" in copy_of_spec:
        copy_of_spec["layer"] = [unlabelled(view) for view in copy_of_spec["layer"]]
    encoding = copy_of_spec.get("encoding", {})
    if encoding.get("color", {}).get("type") == "nominal":
        copy_of_spec["encoding"] = {**encoding, "color": {**encoding["color"], "legend": None}}
    return copy_of_spec


def _named(spec: Spec, tables: dict[str, pd.DataFrame]) -> Spec:
    copy_of_spec = dict(spec)
    if isinstance(copy_of_spec.get("data"), pd.DataFrame):
        name = next((key for key, table in tables.items() if table is copy_of_spec["data"]), f"t{len(tables)}")
        tables[name] = copy_of_spec["data"]
        copy_of_spec["data"] = {"name": name}
    for composition in ("layer", "concat"):
        if composition in copy_of_spec:
            copy_of_spec[composition] = [_named(view, tables) for view in copy_of_spec[composition]]
    return copy_of_spec


def config(look: Look) -> Spec:
    """Axis, legend and title as every chart of the history has them."""
    return {
        "view": {"stroke": None},
        "axis": {
            "labelColor": look.muted,
            "titleColor": look.muted,
            "gridColor": look.grid,
            "labelFontSize": 11,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "labelFont": FONT,
            "titleFont": FONT,
            "labelPadding": 5,
            "domain": False,
            "ticks": False,
        },
        "legend": {
            "labelColor": look.muted,
            "titleColor": look.muted,
            "labelFontSize": 12,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "labelFont": FONT,
            "titleFont": FONT,
            "symbolSize": 90,
        },
        "title": {
            "color": look.ink,
            "subtitleColor": look.muted,
            "fontSize": 13,
            "subtitleFontSize": 11.5,
            "font": FONT,
            "subtitleFont": FONT,
            "anchor": "start",
            "fontWeight": 600,
            "offset": 6,
        },
        "text": {"font": FONT},
    }


def standalone(spec: Spec, look: Look, title: str, subtitle: str) -> Spec:
    """A finished specification that needs no page around it: title, ground, rows as plain values."""
    named = {"text": title, "subtitle": subtitle, "fontSize": 15, "offset": 14}
    titled = finished({**spec, "title": named, "autosize": "pad"}, look)
    plain = {name: [_plain(row) for row in table.to_dict("records")] for name, table in titled["datasets"].items()}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        **titled,
        "datasets": plain,
        "padding": 16,
        "background": look.ground,
    }


def _plain(row: Mapping[Any, Any]) -> Spec:
    merged: Spec = {}
    for name, value in row.items():
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, bool | int | float | str):
            merged[str(name)] = None if value != value else value
    return merged
