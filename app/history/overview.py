"""The strip of figures, the ranking of deployments, and speed against price."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler
from streamlit.elements.lib.column_types import ColumnConfig

from app.charts import theme
from app.charts.theme import Look
from app.charts.vega import Spec, layers, picked, q, tips, to, view, word
from app.glossary import FIGURES
from app.history import calls
from app.history import panel as panels
from app.history.calls import Mark
from app.widgets.panel import panel
from app.widgets.text import clip, plain
from services import formatting
from services.dashboard import figures
from services.dashboard.figures import Data, Kpi, Pace
from services.pricing.cost import money

SCATTER, HEIGHT = "hs_scatter", 320


# What a label is taken to need of a plot of this size, in pixels, when places are given out. In a wider plot everything
# is further apart.
PLOT, LETTER, LINE = (270.0, float(HEIGHT)), 5.9, 15.0


AREA = (60, 900)  # of the smallest and the largest bubble, in square pixels


@st.fragment(key="hs_scatter_panel")
def draw_scatter(data: Data) -> None:
    """The panel, with a sentence on who is missing in it."""
    title, subtitle = (
        "Speed against price",
        "p95 of the first token and spend per 1,000 calls, both log · bubble: calls",
    )
    frame, look = figures.scatter(data), theme.look()
    names = theme.names_of(data)
    fit = frame[frame["p95_ttft"].notna() & frame["usd_per_1000"].notna()]
    with panel(title, subtitle) as menu:
        with menu:
            panels.export(
                data,
                panels.Export(
                    "speed-and-price",
                    lambda: frame.assign(deployment=frame["deployment_id"].map(names)).rename(
                        columns={"p95_ttft": "ttft_p95_ms", "n": "calls"}
                    ),
                    (lambda: {**chart(data, fit, look), "width": panels.WIDTH}) if len(fit) else None,
                ),
                title,
                subtitle,
            )
        if fit.empty:
            st.caption("A bubble needs 20 measured calls and a known cost.")
        else:
            unnamed = not placed(data, fit).found["named"].all()
            panels.draw_chart(
                chart(data, fit, look),
                f"{SCATTER}__all",
                _alt(fit, names),
                lambda point: (
                    Mark(names[point["deployment_id"]], {"deployment_id": point["deployment_id"]})
                    if point.get("deployment_id") in names
                    else None
                ),
                look=look,
                legend=theme.legend_entries(data, list(fit["deployment_id"]), look) if unnamed else (),
            )
        _absent(frame, names)
        panels.draw_calls(data, SCATTER)


def _absent(frame: pd.DataFrame, names: dict[str, str]) -> None:
    slow = [names[deployment_id] for deployment_id in frame.loc[frame["p95_ttft"].isna(), "deployment_id"]]
    free = [
        names[deployment_id]
        for deployment_id in frame.loc[frame["p95_ttft"].notna() & frame["usd_per_1000"].isna(), "deployment_id"]
    ]
    parts = [
        f"fewer than 20 measured calls: {', '.join(slow)}" if slow else "",
        f"no known cost: {', '.join(free)}" if free else "",
    ]
    if any(parts) and len(frame):
        st.caption(plain(f"Not drawn: {'; '.join(reason for reason in parts if reason)}."))


def _alt(fit: pd.DataFrame, names: dict[str, str]) -> str:
    parts = [
        f"{names[row.deployment_id]} {formatting.seconds(row.p95_ttft)} {money(round(row.usd_per_1000 * 1e9))}"
        for row in fit.itertuples()
    ]
    return f"p95 first token and spend per 1,000 calls: {', '.join(parts[:12])}"


@dataclass(frozen=True, slots=True)
class Placed:
    """The bubbles with their places and words, and the axes: ``xs`` and ``ys`` from end to end, ``ticks`` of x. What is
    below ``first`` is free and stands left of the scale."""

    found: pd.DataFrame
    xs: tuple[float, float]
    ys: tuple[float, float]
    first: float
    ticks: list[float]


def placed(data: Data, fit: pd.DataFrame) -> Placed:
    """Where each bubble of `figures.scatter` is drawn, and its name."""
    names, free = theme.names_of(data), fit["usd_per_1000"] <= 0
    ys = theme.log_domain(fit["p95_ttft"] / 1000, pad=1.6) or (0.1, 1.0)
    xs = theme.log_domain(fit["usd_per_1000"], pad=1.6)
    first, last = xs or (1.0, 10.0)
    room = (last / first) ** 0.16
    lowest = first / room**1.5 if free.any() else first
    table = pd.DataFrame(
        {
            "deployment_id": fit["deployment_id"].to_numpy(),
            "name": [clip(names[deployment_id], 30) for deployment_id in fit["deployment_id"]],
            "s": fit["p95_ttft"].to_numpy() / 1000,
            "usd": fit["usd_per_1000"].where(~free, first / room).to_numpy(),
            "n": fit["n"].to_numpy(),
            "speed": [formatting.seconds(ttft_ms) for ttft_ms in fit["p95_ttft"]],
            "cost": [money(round(usd * 1e9)) if usd > 0 else "free" for usd in fit["usd_per_1000"]],
        }
    )
    place_labels(table, (lowest, last), ys)
    ticks = [*([first / room] if free.any() else []), *(theme.log_ticks(first, last) if xs else [])]
    return Placed(table, (lowest, last), ys, first, ticks)


def chart(data: Data, fit: pd.DataFrame, look: Look) -> Spec:
    """The bubbles, named beside themselves, with the better corner shaded. What is free stands left of the scale. There
    is a legend where some name has no room beside its bubble."""
    at_all = placed(data, fit)
    table, (lowest, last), ys, first = at_all.found, at_all.xs, at_all.ys, at_all.first
    ids = list(table["deployment_id"])
    label = f"datum.value < {first * 0.999!r} ? 'free' : '$' + format(datum.value, '~r')"
    x = {
        "title": "spend per 1,000 calls, $ (log)",
        "scale": {"type": "log", "domain": [lowest, last], "nice": False},
        "axis": {"values": at_all.ticks, "labelExpr": label, "grid": False},
    }
    y = {
        "title": "p95 first token, s (log)",
        "scale": {"type": "log", "domain": list(ys), "nice": False},
        "axis": {"values": theme.log_ticks(*ys), "format": "~r"},
    }
    corner = pd.DataFrame(
        {
            "usd": [lowest],
            "to": [math.sqrt(lowest * last)],
            "s": [ys[0]],
            "up": [math.sqrt(ys[0] * ys[1])],
            "words": ["faster and cheaper"],
        }
    )
    position = {"x": q("usd", **x), "y": q("s", **y)}
    dots = view(
        "point",
        table,
        {
            **position,
            "color": theme.deployment_colors(data, ids, look, legend=not table["named"].all()),
            "shape": word("deployment_id", legend=None, scale=theme.slots(data, ids, theme.shape)),
            "size": q(
                "n", legend=None, scale={"type": "sqrt", "domain": [0, int(table["n"].max())], "range": list(AREA)}
            ),
            "stroke": picked(look.ink, "transparent"),
            "tooltip": tips(
                ("name", "Deployment"), ("speed", "p95 first token"), ("cost", "per 1,000 calls"), ("n", "Calls", ",")
            ),
        },
        pick=["deployment_id"],
        filled=True,
        cursor="pointer",
        strokeWidth=2,
        opacity=0.88,
    )
    return layers(
        *_better(corner, position, look, len(table)),
        dots,
        *(
            view(
                "text",
                rows,
                {**position, "text": word("name")},
                align=str(align),
                dx=float(dx),
                dy=float(dy),
                baseline="middle",
                color=look.ink,
                fontSize=12,
                limit={"expr": _room(str(align), float(dx))},
            )
            for (align, dx, dy), rows in table[table["named"]].groupby(["align", "dx", "dy"])
        ),
        height=HEIGHT,
    )


def _room(align: str, dx: float) -> str:
    """The pixels between a label's anchor and the edge, or the next bubble at its height, as an expression: in a plot
    narrower than `PLOT` a label ends in an ellipsis and its tooltip tells the rest."""
    position = "scale('x', datum.usd)"
    line_after = "(isValid(datum.after) ? scale('x', datum.after) - datum.after_r : width)"
    line_before = "(isValid(datum.before) ? scale('x', datum.before) + datum.before_r : 0)"
    # A limit of 0 would be none.
    if align == "center":
        return f"max(1, 2 * min({position} - {line_before}, {line_after} - {position}))"
    return (
        f"max(1, {line_after} - {position} - {dx!r})"
        if align == "left"
        else f"max(1, {position} + {dx!r} - {line_before})"
    )


def _better(corner: pd.DataFrame, position: Spec, look: Look, n: int) -> list[Spec]:
    """The better corner, where there is something to compare."""
    if n < 2:
        return []
    return [
        view("rect", corner, {**position, "x2": to("to"), "y2": to("up")}, color=look.good, opacity=0.1),
        view(
            "text",
            corner,
            {**position, "text": word("words")},
            align="left",
            baseline="bottom",
            dx=6,
            dy=-5,
            color=look.good,
            fontSize=11.5,
        ),
    ]


def place_labels(table: pd.DataFrame, xs: tuple[float, float], ys: tuple[float, float]) -> None:
    """Beside each bubble where nothing else is. Writes align, dx and dy; ``named`` is false where there is no such
    place: a name on another's bubble would be taken for that one's. ``before`` and ``after``: the bubbles left and
    right of the label at its height, with their radius."""
    wide, high = PLOT
    px = np.log(table["usd"] / xs[0]) / math.log(xs[1] / xs[0]) * wide
    py = (1 - np.log(table["s"] / ys[0]) / math.log(ys[1] / ys[0])) * high
    share = np.sqrt(table["n"] / max(int(table["n"].max()), 1))  # as the scale of the sizes has it
    radius = np.sqrt((AREA[0] + (AREA[1] - AREA[0]) * share) / math.pi) + 4
    bubbles = [(x - r, y - r, x + r, y + r) for x, y, r in zip(px, py, radius, strict=True)]
    taken = [*bubbles, (0.0, high - 24, 130.0, high)]  # the words in the corner
    labels: list[Label] = []
    walls: list[dict[str, float]] = []
    for number, (x, y, r, name) in enumerate(zip(px, py, radius, table["name"], strict=True)):
        label = Label(False, "left", 0.0, 0.0)
        for align, dx, dy in _sides(float(r), float(x), wide - float(x)):
            box = _box(x + dx, y + dy, len(name) * LETTER, align)
            inside = box[0] >= 0 and box[2] <= wide and box[1] >= 0 and box[3] <= high
            if inside and not any(_overlap(box, other) for place, other in enumerate(taken) if place != number):
                label = Label(True, align, dx, dy)
                taken.append(box)
                break
        labels.append(label)
        walls.append(_walls(table, px, bubbles, number, y + label.dy))
    for place, column in enumerate(Label._fields):
        table[column] = [label[place] for label in labels]
    for column in ("before", "before_r", "after", "after_r"):
        table[column] = [wall[column] for wall in walls]


class Label(NamedTuple):
    """Where a bubble's name stands: how it is aligned, and its distance in pixels from the bubble's middle. ``named``:
    whether there is room for it."""

    named: bool
    align: str
    dx: float
    dy: float


def _sides(r: float, left_edge: float, right: float) -> list[tuple[str, float, float]]:
    """Places of a label around a bubble, the best first: how it is aligned, and its distance from the middle, which is
    ``left_edge`` and ``right`` pixels from the edges."""
    along = [
        (align, sign * min(far * r, room))
        for far in (1, 3)
        for align, sign, room in (("left", -1, left_edge), ("right", 1, right))
    ]
    return [
        ("left", r, 0.0),
        ("right", -r, 0.0),
        ("center", 0.0, -r - 7),
        ("center", 0.0, r + 8),
        ("left", r, -11.0),
        ("left", r, 12.0),
        ("right", -r, -11.0),
        ("right", -r, 12.0),
        *((align, dx, dy) for dy in (-r - 7, r + 8) for align, dx in along),
    ]


def _box(x: float, y: float, length: float, align: str) -> tuple[float, float, float, float]:
    left_edge = x - (length if align == "right" else length / 2 if align == "center" else 0)
    return left_edge, y - LINE / 2, left_edge + length, y + LINE / 2


def _walls(
    table: pd.DataFrame, px: pd.Series, bubbles: Sequence[tuple[float, ...]], number: int, y: float
) -> dict[str, float]:
    """The nearest bubbles left and right at the height of a label, by their place on the axis; NaN for none."""
    neighbours = {"before": math.nan, "before_r": 0.0, "after": math.nan, "after_r": 0.0}
    near = {"before": -math.inf, "after": math.inf}
    for other, (left_edge, top, right, bottom) in enumerate(bubbles):
        if other == number or bottom <= y - LINE / 2 or top >= y + LINE / 2:
            continue
        side = "after" if px.iloc[other] > px.iloc[number] else "before"
        edge = left_edge if side == "after" else right
        if (edge < near[side]) == (side == "after"):
            near[side] = edge
            neighbours |= {side: float(table["usd"].iloc[other]), f"{side}_r": (right - left_edge) / 2}
    return neighbours


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


RANKING = "hs_ranking"

EFFECTIVE = "Effective: of what is paid by the hour all of its hours, idle ones too, at the measured use."

USE = "Time in which calls were under way ÷ time of being on. Only for what is paid by the hour."

TIMES = ("ttft_p50", "ttft_p95", "ttlt_p50", "ttlt_p95")

DOLLARS = ("usd", "usd_per_1000", "usd_per_1m")


@st.fragment(key="hs_ranking_panel")
def draw_ranking(data: Data) -> None:
    """The table; a selected line opens its calls."""
    title = "Deployments"
    subtitle = "click a column's name to rank by it, a line to see its calls · – : too few calls, or no known cost"
    table, look, names = figures.ranking(data), theme.look(), theme.names_of(data)
    with panel(title, subtitle) as menu:
        with menu:
            panels.export(
                data,
                panels.Export(
                    "deployments",
                    lambda: table.assign(deployment=table["deployment_id"].map(names)).rename(
                        columns={name: f"{name}_ms" for name in TIMES} | {"n": "calls"}
                    ),
                ),
                title,
                subtitle,
            )
        event = st.dataframe(
            styled(data, table, look),
            key=f"{RANKING}_table",
            hide_index=True,
            placeholder=formatting.DASH,
            height="content",
            on_select="rerun",
            selection_mode="single-row",
            column_config=_columns(),
            alt="Deployments with their calls, times and costs, to be ranked by any column",
        )
        chosen = [row for row in event.selection.rows if row < len(table)]
        if chosen:
            deployment_id = str(table["deployment_id"].iloc[chosen[0]])
            calls.draw(data, calls.Mark(names[deployment_id], {"deployment_id": deployment_id}), RANKING)


def styled(data: Data, table: pd.DataFrame, look: theme.Look) -> Styler:
    """The table as numbers, to be ranked by, that are written as everywhere else on the page."""
    names = theme.names_of(data)
    colors = [f"color: {theme.color_of(data, deployment_id, look)}" for deployment_id in table["deployment_id"]]
    frame = pd.DataFrame(
        {
            "color": "●",
            "name": table["deployment_id"].map(names),
            "n": table["n"],
            "success": table["success"] * 100,
            # Before the times: what is further right is cut off on a small screen.
            "usd": table["nanousd"] / 1e9,
            **{name: table[name] / 1000 for name in TIMES},
            "decode": table["decode_p50"],
            "usd_per_1000": table["usd_per_1000"],
            "usd_per_1m": table["usd_per_1m_output"],
            "utilisation": table["utilisation"] * 100,
        }
    )
    frame["usd"] = frame["usd"].where((table["n_unpriced"] < table["n"]) | (table["nanousd"] > 0))
    written = {
        **dict.fromkeys(TIMES, lambda s: formatting.seconds(s * 1000)),
        "decode": formatting.rate,
        **dict.fromkeys(DOLLARS, lambda usd: money(round(usd * 1e9))),
    }
    return frame.style.apply(lambda _: colors, subset=["color"], axis=0).format(written, na_rep=formatting.DASH)


def _columns() -> dict[str, ColumnConfig]:
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    return {
        "color": text(" ", width=28, pinned=True),
        "name": text("Deployment", pinned=True, width=180),
        "n": number("Calls", format="localized"),
        "success": number("Succeeded", format="%.1f %%", help=FIGURES["succeeded"]),
        "ttft_p50": number("First token p50", help=FIGURES["ttft"]),
        "ttft_p95": number("First token p95", help="Needs 20 calls. " + FIGURES["ttft"]),
        "ttlt_p50": number("Last token p50", help=FIGURES["ttlt"]),
        "ttlt_p95": number("Last token p95", help="Needs 20 calls. " + FIGURES["ttlt"]),
        "decode": number("Decode p50", help=FIGURES["decode"]),
        "usd": number("Spend", width=105, help="Calls and hours, idle ones too."),
        "usd_per_1000": number("per 1,000 calls", help=EFFECTIVE),
        "usd_per_1m": number("per 1M output", help=EFFECTIVE),
        "utilisation": number("Use of paid hours", format="%.1f %%", help=USE),
    }


# Card → the figures that stand on it.
CARDS = (
    ("Calls", ("calls",)),
    ("Succeeded", ("success",)),
    ("First token p50 / p95", ("ttft_p50", "ttft_p95")),
    ("Last token p50 / p95", ("ttlt_p50", "ttlt_p95")),
    ("Decode speed p50", ("decode_p50",)),
    ("Spend", ("spend",)),
    ("Spend per 1,000 calls", ("spend_1000",)),
)


# Smaller changes are told without a colour: they are what two alike weeks differ by.
CLEAR, CLEAR_POINTS = 0.05, 0.01


def draw(data: Data, month: Pace) -> None:
    """Eight cards. An improvement is green and the opposite red only where it is clear that it is one."""
    kpis = {kpi.key: kpi for kpi in figures.kpis(data)}
    with st.grid(4, min_column_width=150, gap="xsmall"):
        for title, keys in CARDS:
            _card(title, [kpis[key] for key in keys if key in kpis])
        _month(month)
    if data.before is not None and data.before.totals["n"]:
        first, last = (pd.Timestamp(moment).tz_convert(data.window.zone) for moment in data.window.previous or ())
        st.caption(f"Changes are to the stretch before it: {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}.")


def _card(title: str, parts: Sequence[Kpi]) -> None:
    if not parts:
        return
    last = parts[-1]  # of a pair the second speaks: it is the p95 that people feel
    missing = next((kpi.why_missing for kpi in parts if kpi.why_missing), "")
    detail = missing or _short(last.detail) or (f"n {last.n:,}" if last.key != "calls" else "")
    change = f"{last.change_text}{' p95' if len(parts) > 1 else ''}" if last.change_text else ""
    clear = last.better is not None and abs(last.change or 0) >= (CLEAR_POINTS if last.key == "success" else CLEAR)
    tint: Literal["off", "green", "red"] = "off" if not clear or not change else "green" if last.better else "red"
    st.metric(
        title,
        plain(_values(parts)),
        plain(change or detail) or None,
        tint,
        delta_arrow="off",
        border=True,
        height="stretch",
        help=plain(parts[0].help) or None,
        delta_description=plain(detail) if change else None,
    )


def _values(parts: Sequence[Kpi]) -> str:
    texts = [kpi.text for kpi in parts]
    if all(kpi.value is None for kpi in parts):
        return formatting.DASH
    units = {text.rpartition(" ")[2] for text in texts}
    if len(texts) > 1 and len(units) == 1 and all(" " in text for text in texts):
        # "0.39 / 0.92 s": the unit once.
        return " / ".join(text.rpartition(" ")[0] for text in texts) + f" {units.pop()}"
    return " / ".join(texts)


def _short(detail: str) -> str:
    """The two most frequent of a list; the others are told by the panels."""
    parts = detail.split(", ")
    return detail if len(parts) < 3 else f"{', '.join(parts[:2])}, …"


def _month(month: Pace) -> None:
    parts = [
        f"pace {money(month.expected)}" if month.expected is not None else "",
        f"of {money(month.budget)}" if month.budget is not None else "no budget",
    ]
    st.metric(
        "This month",
        plain(money(month.spent)),
        plain(" · ".join(text for text in parts if text)),
        "off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help=figures.PACE_HELP,
    )
