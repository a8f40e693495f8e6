"""Speed against price: p95 of the first token × cost per 1,000 calls, one bubble for each deployment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.charts import palette
from app.charts import panel as panels
from app.charts import theme as looks
from app.charts.theme import Look
from app.charts.vega import Spec, layers, picked, q, tips, to, view, word
from app.history.calls import Mark
from app.widgets.text import clip, plain
from services import formatting
from services.dashboard import figures
from services.dashboard.figures import Data
from services.pricing.cost import money

PLACE, HEIGHT = "hs_scatter", 320
# What a label is taken to need of a plot of this size, in pixels, when places are given out. In a wider plot everything
# is further apart.
PLOT, LETTER, LINE = (270.0, float(HEIGHT)), 5.9, 15.0
AREA = (60, 900)  # of the smallest and the largest bubble, in square pixels


@st.fragment(key="hs_scatter_panel")
def draw(data: Data) -> None:
    """The panel, with a sentence on who is missing in it."""
    title, subtitle = (
        "Speed against price",
        "p95 of the first token and spend per 1,000 calls, both log · bubble: calls",
    )
    frame, shown = figures.scatter(data), looks.look()
    names = looks.names_of(data)
    fit = frame[frame["p95_ttft"].notna() & frame["usd_per_1000"].notna()]
    with panels.panel(title, subtitle) as menu:
        with menu:
            panels.export(data, panels.Export(
                "speed-and-price", lambda: frame.assign(deployment=frame["deployment_id"].map(names)).rename(
                    columns={"p95_ttft": "ttft_p95_ms", "n": "calls"}),
                (lambda: {**chart(data, fit, shown), "width": panels.WIDTH}) if len(fit) else None,
            ), title, subtitle)  # fmt: skip
        if fit.empty:
            st.caption("A bubble needs 20 measured calls and a known cost.")
        else:
            unnamed = not placed(data, fit).found["named"].all()
            panels.draw_chart(
                chart(data, fit, shown), f"{PLACE}__all", _alt(fit, names),
                lambda found: Mark(names[found["deployment_id"]], {"deployment_id": found["deployment_id"]})
                if found.get("deployment_id") in names else None, shown=shown,
                legend=looks.legend_entries(data, list(fit["deployment_id"]), shown) if unnamed else (),
            )  # fmt: skip
        _absent(frame, names)
        panels.draw_calls(data, PLACE)


def _absent(frame: pd.DataFrame, names: dict[str, str]) -> None:
    slow = [names[one] for one in frame.loc[frame["p95_ttft"].isna(), "deployment_id"]]
    free = [names[one] for one in frame.loc[frame["p95_ttft"].notna() & frame["usd_per_1000"].isna(), "deployment_id"]]
    parts = [f"fewer than 20 measured calls: {', '.join(slow)}" if slow else "",
             f"no known cost: {', '.join(free)}" if free else ""]  # fmt: skip
    if any(parts) and len(frame):
        st.caption(plain(f"Not drawn: {'; '.join(one for one in parts if one)}."))


def _alt(fit: pd.DataFrame, names: dict[str, str]) -> str:
    parts = [f"{names[row.deployment_id]} {formatting.seconds(row.p95_ttft)} {money(round(row.usd_per_1000 * 1e9))}"
             for row in fit.itertuples()]  # fmt: skip
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
    names, free = looks.names_of(data), fit["usd_per_1000"] <= 0
    ys = looks.log_domain(fit["p95_ttft"] / 1000, pad=1.6) or (0.1, 1.0)
    xs = looks.log_domain(fit["usd_per_1000"], pad=1.6)
    first, last = xs or (1.0, 10.0)
    room = (last / first) ** 0.16
    lowest = first / room**1.5 if free.any() else first
    found = pd.DataFrame({
        "deployment_id": fit["deployment_id"].to_numpy(),
        "name": [clip(names[one], 30) for one in fit["deployment_id"]], "s": fit["p95_ttft"].to_numpy() / 1000,
        "usd": fit["usd_per_1000"].where(~free, first / room).to_numpy(), "n": fit["n"].to_numpy(),
        "speed": [formatting.seconds(one) for one in fit["p95_ttft"]],
        "cost": [money(round(one * 1e9)) if one > 0 else "free" for one in fit["usd_per_1000"]],
    })  # fmt: skip
    place_labels(found, (lowest, last), ys)
    ticks = [*([first / room] if free.any() else []), *(looks.log_ticks(first, last) if xs else [])]
    return Placed(found, (lowest, last), ys, first, ticks)


def chart(data: Data, fit: pd.DataFrame, shown: Look) -> Spec:
    """The bubbles, named beside themselves, with the better corner shaded. What is free stands left of the scale. There
    is a legend where some name has no room beside its bubble."""
    at_all = placed(data, fit)
    found, (lowest, last), ys, first = at_all.found, at_all.xs, at_all.ys, at_all.first
    ids = list(found["deployment_id"])
    said = f"datum.value < {first * 0.999!r} ? 'free' : '$' + format(datum.value, '~r')"
    x = {"title": "spend per 1,000 calls, $ (log)", "scale": {"type": "log", "domain": [lowest, last], "nice": False},
         "axis": {"values": at_all.ticks, "labelExpr": said, "grid": False}}  # fmt: skip
    y = {"title": "p95 first token, s (log)", "scale": {"type": "log", "domain": list(ys), "nice": False},
         "axis": {"values": looks.log_ticks(*ys), "format": "~r"}}  # fmt: skip
    corner = pd.DataFrame({"usd": [lowest], "to": [math.sqrt(lowest * last)], "s": [ys[0]],
                           "up": [math.sqrt(ys[0] * ys[1])], "words": ["faster and cheaper"]})  # fmt: skip
    at = {"x": q("usd", **x), "y": q("s", **y)}
    dots = view("point", found, {
        **at, "color": looks.deployment_colors(data, ids, shown, legend=not found["named"].all()),
        "shape": word("deployment_id", legend=None, scale=looks.slots(data, ids, palette.shape)),
        "size": q("n", legend=None, scale={"type": "sqrt", "domain": [0, int(found["n"].max())], "range": list(AREA)}),
        "stroke": picked(shown.ink, "transparent"),
        "tooltip": tips(("name", "Deployment"), ("speed", "p95 first token"), ("cost", "per 1,000 calls"),
                        ("n", "Calls", ",")),
    }, pick=["deployment_id"], filled=True, cursor="pointer", strokeWidth=2, opacity=0.88)  # fmt: skip
    return layers(
        *_better(corner, at, shown, len(found)),
        dots,
        *(
            view("text", rows, {**at, "text": word("name")}, align=str(align), dx=float(dx), dy=float(dy),
                 baseline="middle", color=shown.ink, fontSize=12, limit={"expr": _room(str(align), float(dx))})
            for (align, dx, dy), rows in found[found["named"]].groupby(["align", "dx", "dy"])
        ),
        height=HEIGHT,
    )  # fmt: skip


def _room(align: str, dx: float) -> str:
    """The pixels between a label's anchor and the edge, or the next bubble at its height, as an expression: in a plot
    narrower than `PLOT` a label ends in an ellipsis and its tooltip tells the rest."""
    at = "scale('x', datum.usd)"
    after = "(isValid(datum.after) ? scale('x', datum.after) - datum.after_r : width)"
    before = "(isValid(datum.before) ? scale('x', datum.before) + datum.before_r : 0)"
    # A limit of 0 would be none.
    if align == "center":
        return f"max(1, 2 * min({at} - {before}, {after} - {at}))"
    return f"max(1, {after} - {at} - {dx!r})" if align == "left" else f"max(1, {at} + {dx!r} - {before})"


def _better(corner: pd.DataFrame, at: Spec, shown: Look, n: int) -> list[Spec]:
    """The better corner, where there is something to compare."""
    if n < 2:
        return []
    return [
        view("rect", corner, {**at, "x2": to("to"), "y2": to("up")}, color=shown.good, opacity=0.1),
        view("text", corner, {**at, "text": word("words")}, align="left", baseline="bottom", dx=6, dy=-5,
             color=shown.good, fontSize=11.5),
    ]  # fmt: skip


def place_labels(found: pd.DataFrame, xs: tuple[float, float], ys: tuple[float, float]) -> None:
    """Beside each bubble where nothing else is. Writes align, dx and dy; ``named`` is false where there is no such
    place: a name on another's bubble would be taken for that one's. ``before`` and ``after``: the bubbles left and
    right of the label at its height, with their radius."""
    wide, high = PLOT
    px = np.log(found["usd"] / xs[0]) / math.log(xs[1] / xs[0]) * wide
    py = (1 - np.log(found["s"] / ys[0]) / math.log(ys[1] / ys[0])) * high
    share = np.sqrt(found["n"] / max(int(found["n"].max()), 1))  # as the scale of the sizes has it
    radius = np.sqrt((AREA[0] + (AREA[1] - AREA[0]) * share) / math.pi) + 4
    bubbles = [(x - r, y - r, x + r, y + r) for x, y, r in zip(px, py, radius, strict=True)]
    taken = [*bubbles, (0.0, high - 24, 130.0, high)]  # the words in the corner
    lines = []
    for number, (x, y, r, name) in enumerate(zip(px, py, radius, found["name"], strict=True)):
        line: dict[str, Any] = {"named": False, "align": "left", "dx": 0.0, "dy": 0.0}
        for align, dx, dy in _sides(float(r), float(x), wide - float(x)):
            box = _box(x + dx, y + dy, len(name) * LETTER, align)
            inside = box[0] >= 0 and box[2] <= wide and box[1] >= 0 and box[3] <= high
            if inside and not any(_overlap(box, other) for at, other in enumerate(taken) if at != number):
                line = {"named": True, "align": align, "dx": dx, "dy": dy}
                taken.append(box)
                break
        lines.append(line | _walls(found, px, bubbles, number, y + line["dy"]))
    for column in ("named", "align", "dx", "dy", "before", "before_r", "after", "after_r"):
        found[column] = [one[column] for one in lines]


def _sides(r: float, left: float, right: float) -> list[tuple[str, float, float]]:
    """Places of a label around a bubble, the best first: how it is aligned, and its distance from the middle, which is
    ``left`` and ``right`` pixels from the edges."""
    along = [(align, sign * min(far * r, room)) for far in (1, 3)
             for align, sign, room in (("left", -1, left), ("right", 1, right))]  # fmt: skip
    return [("left", r, 0.0), ("right", -r, 0.0), ("center", 0.0, -r - 7), ("center", 0.0, r + 8),
            ("left", r, -11.0), ("left", r, 12.0), ("right", -r, -11.0), ("right", -r, 12.0),
            *((align, dx, dy) for dy in (-r - 7, r + 8) for align, dx in along)]  # fmt: skip


def _box(x: float, y: float, length: float, align: str) -> tuple[float, float, float, float]:
    left = x - (length if align == "right" else length / 2 if align == "center" else 0)
    return left, y - LINE / 2, left + length, y + LINE / 2


def _walls(
    found: pd.DataFrame, px: pd.Series, bubbles: Sequence[tuple[float, ...]], number: int, y: float
) -> dict[str, float]:  # fmt: skip
    """The nearest bubbles left and right at the height of a label, by their place on the axis; NaN for none."""
    said = {"before": math.nan, "before_r": 0.0, "after": math.nan, "after_r": 0.0}
    near = {"before": -math.inf, "after": math.inf}
    for other, (left, top, right, bottom) in enumerate(bubbles):
        if other == number or bottom <= y - LINE / 2 or top >= y + LINE / 2:
            continue
        side = "after" if px.iloc[other] > px.iloc[number] else "before"
        edge = left if side == "after" else right
        if (edge < near[side]) == (side == "after"):
            near[side] = edge
            said |= {side: float(found["usd"].iloc[other]), f"{side}_r": (right - left) / 2}
    return said


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
