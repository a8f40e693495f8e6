"""The pictures of cost: bars by driver, idle hours hatched; days; the month against its budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from app.charts import palette
from app.charts import theme as looks
from app.charts.theme import Look
from app.charts.vega import Spec, layers, q, tips, to, view, when, word
from app.widgets.text import clip
from services.dashboard.figures import COST_DRIVERS, Data, Pace
from services.pricing.cost import money

MOST = 12  # bars; what is beyond is one more
STEP, HEIGHT, NANO = 30, 210, 1e9
IDLE = "hours idle"
STRIPES = 48  # over the length of the axis
_SHADE = {"cache read": 4, "uncached input": 3, "not itemised": 2, "cache write": 1, "output": 0}
_HOURS = {"light": "#8a7a55", "dark": "#b3a06f"}


def driver_color(driver: str, shown: Look) -> str:
    """The colour of a cost driver: one hue in steps for tokens, another for hours."""
    if driver not in _SHADE:
        return _HOURS[shown.theme]
    steps = palette.DRIVERS_DARK if shown.theme == "dark" else palette.DRIVERS_LIGHT
    return steps[_SHADE[driver]]


def largest(frame: pd.DataFrame, names: Mapping[str, str]) -> tuple[pd.DataFrame, int]:
    """The lines of the `MOST` largest keys, the rest as one key; with how many keys there are. ``name``: in words."""
    keys = list(dict.fromkeys(frame["key"]))
    kept = set(keys if len(keys) <= MOST + 1 else keys[:MOST])
    rest = f"{len(keys) - len(kept)} others"
    found = frame.assign(name=[clip(names.get(one, one), 34) if one in kept else rest for one in frame["key"]],
                         key=[one if one in kept else "" for one in frame["key"]])  # fmt: skip
    return found.groupby(["key", "name", "driver", "hatched"], as_index=False, sort=False)["nanousd"].sum(), len(keys)


def bars(found: pd.DataFrame, shown: Look) -> Spec:
    """One bar for each key, stacked by driver; idle hours are hatched."""
    found = _stacked(found)
    sums = found.groupby(["key", "name"], as_index=False, sort=False)["nanousd"].sum()
    # A row for each key: two that are called alike share neither their bar nor their amount.
    called = looks.lookup(dict(zip(sums["key"], sums["name"], strict=True)))
    sums["words"], sums["to"] = [money(int(one)) for one in sums["nanousd"]], sums["nanousd"] / NANO
    longest = max(float(found["to"].max()), 1e-9)
    y = {"sort": list(sums["key"]), "title": None, "scale": {"paddingInner": 0.36, "paddingOuter": 0.1}}
    axis = {"labelExpr": called, "labelLimit": 165, "labelColor": shown.ink, "labelFontSize": 12}
    named = word("key", axis=axis, **y)
    x = {"title": None, "axis": {"tickCount": 5, "format": "$,~r"},
         "scale": {"domain": [min(0.0, float(found["from"].min())), longest * 1.3], "nice": False}}  # fmt: skip
    fill = view("bar", found, {
        "y": named, "x": q("from", **x), "x2": to("to"), **_painted(found, shown),
        "tooltip": tips(("name", "Of"), ("driver", "For"), ("words", "Cost")),
    }, pick=["key", "driver"], cursor="pointer", strokeWidth=1)  # fmt: skip
    stripes = _stripes(found[found["hatched"]], ["key"], longest / STRIPES)
    hatch = view("rule", stripes, {
        "x": q("low", **x), "x2": to("high"), "y": word("key", bandPosition=1, **y),
        "y2": {"field": "key", "bandPosition": 0},
    }, color=_HOURS[shown.theme], strokeWidth=1.3, tooltip=None)  # fmt: skip
    amounts = view("text", sums, {"y": named, "x": q("to", **x), "text": word("words")}, align="left", dx=6,
                   color=shown.ink, fontSize=12)  # fmt: skip
    return layers(fill, *([hatch] if len(stripes) else []), amounts, height=STEP * len(sums))


def _stacked(found: pd.DataFrame) -> pd.DataFrame:
    found = found.assign(usd=found["nanousd"] / NANO, words=[money(int(one)) for one in found["nanousd"]])
    found["to"] = found.groupby("key", sort=False)["usd"].cumsum()
    found["from"] = found["to"] - found["usd"]
    return found


def _painted(found: pd.DataFrame, shown: Look) -> Spec:
    """The colour of a driver; what is hatched is an outline for the stripes."""
    there = [one for one in COST_DRIVERS if one in set(found["driver"])]
    words = [f"{one} (hatched)" if one == IDLE else one for one in there]
    scale = {"domain": there, "range": [driver_color(one, shown) for one in there]}
    return {
        "color": word("driver", scale=scale, legend=looks.legend_of(words, there)),
        "fillOpacity": when("datum.hatched", 0.08, 1),
        "stroke": {"condition": {"param": "pick", "empty": False, "value": shown.ink}, **word("driver", scale=scale,
                   legend=None)},
    }  # fmt: skip


def legend(found: pd.DataFrame, shown: Look) -> list[tuple[str, str, str]]:
    """Colour, words and sign of each driver."""
    there = [one for one in COST_DRIVERS if one in set(found["driver"])]
    return [(driver_color(one, shown), one, "▨" if one == IDLE else "■") for one in there]


def _stripes(rows: pd.DataFrame, kept: Sequence[str], step: float) -> pd.DataFrame:
    """Slanted lines over what is hatched, ``low`` to ``high``: Vega has no patterns."""
    lines = [
        {**{name: row[name] for name in kept}, "low": float(a), "high": float(min(a + step, row["to"]))}
        for row in rows.to_dict("records")
        for a in np.arange(row["from"], row["to"], step) if row["to"] - a > step * 0.5
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=[*kept, "low", "high"])


def days(data: Data, found: pd.DataFrame, shown: Look) -> Spec:
    """One column for each day, stacked by driver; idle hours are hatched; a day without cost is an empty place."""
    found, spans = _stacked(found), day_spans(data)
    found["at"], found["until"] = [spans[one][0] for one in found["key"]], [spans[one][1] for one in found["key"]]
    gap = (found["until"] - found["at"]) * 0.1
    found["bar"], found["bar_end"] = found["at"] + gap, found["until"] - gap
    cut = dict(zip(spans, data.days.is_partial.tolist(), strict=True))
    found["running"] = [cut[one] for one in found["key"]]
    x = looks.time_x(data, 8, zone=data.window.day_zone)
    top = max(float(found["to"].max()), 1e-9)
    y = {"title": None, "scale": {"domain": [0, top * 1.05], "nice": False}, "axis": {"tickCount": 4, "format": "$,~r"}}
    fill = view("rect", found, {
        "x": q("bar", **x), "x2": to("bar_end"), "y": q("from", **y), "y2": to("to"), **_painted(found, shown),
        "opacity": when("datum.running", looks.PALE, 1),
        "tooltip": tips(("key", f"Day ({data.window.day_zone})"), ("driver", "For"), ("words", "Cost")),
    }, pick=["key", "driver"], cursor="pointer", strokeWidth=1)  # fmt: skip
    stripes = _stripes(found[found["hatched"]], ["bar", "bar_end"], top / 26)
    hatch = view("rule", stripes, {"x": q("bar", **x), "x2": to("bar_end"), "y": q("low", **y), "y2": to("high")},
                 color=_HOURS[shown.theme], strokeWidth=1.2, tooltip=None)  # fmt: skip
    return layers(fill, *([hatch] if len(stripes) else []), height=HEIGHT)


def day_spans(data: Data) -> dict[str, tuple[int, int]]:
    """ISO date → where the day begins and ends on the time axis."""
    edges = looks.millis(data.days.edges).tolist()
    labels = [label.date().isoformat() for label in data.days.labels]
    return {label: (edges[n], edges[n + 1]) for n, label in enumerate(labels)}


def month(found: Pace, shown: Look) -> Spec:
    """The month so far, day by day, against the line of the budget; where this pace leads is dashed."""
    frame = pd.DataFrame({
        "at": [f"{one:%Y-%m-%d}" for one in found.days["day"]], "day": [one.day for one in found.days["day"]],
        "usd": found.days["spent"] / NANO,
    })  # fmt: skip
    length = int(found.days["day"].iloc[0].days_in_month)
    top = max((found.expected or 0) / NANO, (found.budget or 0) / NANO, float(frame["usd"].max()), 1e-9)
    x = q("day", title=None, scale={"domain": [0.5, length + 0.5], "nice": False},
          axis={"values": [1, 8, 15, 22, length], "grid": False, "format": "d"})  # fmt: skip
    y = q("usd", title=None, axis={"tickCount": 4, "format": "$,~r"},
          scale={"domain": [0, top * 1.12], "nice": False})  # fmt: skip
    said = tips(("at", "Up to"), ("usd", "Spent, $", ",.2f"))
    drawn = [view("line", frame, {"x": x, "y": y, "tooltip": said}, color=shown.ink, strokeWidth=2,
                  point={"color": shown.ink, "size": 16})]  # fmt: skip
    if found.expected is not None:
        last = frame.iloc[-1]
        ahead = pd.DataFrame({"day": [int(last["day"]), length], "usd": [float(last["usd"]), found.expected / NANO]})
        drawn.append(view("line", ahead, {"x": x, "y": y}, color=shown.muted, strokeDash=[4, 3], strokeWidth=1.4))
    if found.budget is not None:
        rule = pd.DataFrame({"usd": [found.budget / NANO], "words": [f"budget {money(found.budget)}"], "day": [0.5]})
        drawn += [
            view("rule", rule, {"y": y}, color=shown.good, strokeWidth=1.2),
            view("text", rule, {"x": x, "y": y, "text": word("words")}, align="left", dy=-7, dx=4, color=shown.good,
                 fontSize=11),
        ]  # fmt: skip
    return layers(*drawn, height=HEIGHT)
