"""Cost: by driver and by whatever it is told apart by, what was saved, and where the month is heading for its
budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from sqlalchemy import Engine

from app import auth
from app.charts import theme
from app.charts.theme import Look
from app.charts.vega import Spec, layers, q, tips, to, view, when, word
from app.history import panel as panels
from app.history.calls import Mark, Narrow
from app.history.data import month as month_of
from app.widgets.panel import panel
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import KIND_NAMES, clip, plain
from services.dashboard import figures
from services.dashboard.calls import NO_TAG, UNKNOWN
from services.dashboard.cost import BY_THE_HOUR, NO_PRICE_THEN, NO_PRICE_TODAY, NOT_COUNTED, NOT_READABLE, paid
from services.dashboard.figures import COST_DRIVERS, Data, Pace
from services.formatting import NANODOLLARS
from services.pricing import budget
from services.pricing.cost import money
from services.types import JsonMapping

BYS = {
    "deployment": "Deployment",
    "model": "Model",
    "kind": "Kind",
    "person": "Person",
    "team": "Team",
    "tag": "Tag",
    "day": "Day",
}

PLACE = "hs_cost"


# Short enough for a column beside the name.
NOT_COMPARED = {
    "": "",
    NO_PRICE_THEN: "no price then",
    NO_PRICE_TODAY: "no price today",
    NOT_READABLE: "price unreadable",
    NOT_COUNTED: "tokens unknown",
}


NARROW: Mapping[str, Callable[[str], Narrow]] = {
    "deployment": lambda key: {"deployment_id": key},
    "model": lambda key: {"model": key},
    "kind": lambda key: {"kind": key},
    "person": lambda key: {"person": key},
    "team": lambda key: {"team": key},
}


@st.fragment(key="hs_cost_panel")
def draw(data: Data) -> None:
    """The panel; what costs are told apart by is part of the page's address."""
    title = "Cost by driver"
    with panel(title, "") as menu:
        with menu:
            by = st.selectbox(
                "By",
                list(BYS),
                key="by",
                bind="query-params",
                width=150,
                format_func=BYS.__getitem__,
                label_visibility="collapsed",
            )
        by = by if by in BYS else "deployment"
        frame, look = figures.cost(data, by), theme.look()
        largest_part, n = largest(frame, _names(data, by)) if by != "day" else (frame, 0)
        subtitle = panels.hint(
            (
                "US dollars before tax and discounts",
                "hatched: hours paid for and unused",
                f"the {MOST} largest of {n:,}" if n > MOST + 1 else "",
                f"days of {plain(data.window.day_zone)}" if by == "day" else "",
            )
        )

        def picture() -> Any:
            return days(data, largest_part, look) if by == "day" else bars(largest_part, look)

        with menu:
            panels.export(
                data,
                panels.Export(
                    f"cost-by-{by}",
                    lambda: table_of(data, frame, by),
                    (lambda: {**picture(), "width": panels.WIDTH}) if len(frame) else None,
                ),
                f"{title}, by {BYS[by].lower()}",
                subtitle,
            )
        st.caption(subtitle)
        if frame.empty:
            st.caption(_nothing(data))
        else:
            panels.draw_chart(
                picture(),
                f"{PLACE}__{by}",
                _alt(frame, by, _names(data, by)),
                lambda mark: mark_of(data, by, mark),
                look=look,
                legend=legend(frame, look),
            )
        _sentences(data)
        panels.draw_calls(data, PLACE)


def _names(data: Data, by: str) -> dict[str, str]:
    if by == "deployment":
        return theme.names_of(data)
    return dict(KIND_NAMES) if by == "kind" else {}


def _nothing(data: Data) -> str:
    spent = figures.spend(data)
    if spent.n_unpriced:
        return f"No cost is known: {spent.n_unpriced:,} calls are without a price (see Prices)."
    return "Nothing was spent: no call of this selection cost anything."


def table_of(data: Data, frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """What is exported: a line for each key and driver, dollars to the last nano-dollar."""
    names = _names(data, by)
    return pd.DataFrame(
        {
            by: [names.get(key, key) for key in frame["key"]],
            f"{by}_key": frame["key"],
            "driver": frame["driver"],
            "cost_usd": [format(Decimal(int(nanousd)) / 10**9, "f") for nanousd in frame["nanousd"]],
            "idle": frame["hatched"],
        }
    )


def _alt(frame: pd.DataFrame, by: str, names: dict[str, str]) -> str:
    sums = frame.groupby("key", sort=False)["nanousd"].sum()
    parts = [f"{names.get(str(key), key)} {money(int(nanousd))}" for key, nanousd in sums.head(12).items()]
    return f"Cost by {BYS[by].lower()} and driver: {', '.join(parts)}"


def mark_of(data: Data, by: str, point: JsonMapping) -> Mark | None:
    """The calls of a bar or a column and what of it was paid by the hour; None for what has neither."""
    key = str(point.get("key") or "")
    if by == "day":
        label = next((day for day in data.days.labels if day.date().isoformat() == key), None)
        if label is None:
            return None
        return Mark(f"{key} ({data.window.day_zone})", {"day": label}, paid=paid(data, by, key))
    if not key:
        return None
    title = _names(data, by).get(key, key)
    if key == BY_THE_HOUR:
        return Mark(title, paid=paid(data, by, key), calls=False)
    if by == "tag":
        return Mark(title, tags=() if key == NO_TAG else tuple(key.split(" + ")))
    if key == UNKNOWN:
        return Mark(title, NARROW[by]("")) if by in ("model", "kind") else None
    return Mark(title, NARROW[by](key), paid=paid(data, by, key))


def _sentences(data: Data) -> None:
    spent, saved = figures.spend(data), figures.savings(data)
    hours = spent.used + spent.idle
    total = panels.hint(
        (
            f"**{plain(money(spent.total, spent.mark))} in all**",
            f"{plain(money(spent.calls))} by calls" if hours else "",
            f"{plain(money(hours))} by the hour, {plain(money(spent.idle))} of it idle" if hours else "",
            f"{spent.n_unpriced:,} calls without a known cost are not in it" if spent.n_unpriced else "",
        )
    )
    st.caption(total)
    words = [
        f"{name} {'saved' if saving > 0 else 'cost'} {plain(money(abs(saving)))}{'' if saving > 0 else ' more'}"
        for name, saving in (("prompt caching", saved.caching), ("batches", saved.batch))
        if saving
    ]
    if words:
        st.caption(f"Against the plain price of {plain(money(saved.plain))}: {', '.join(words)}.")
    if st.toggle(
        "Re-price at today's prices",
        key="today",
        bind="query-params",
        help="A view: what the same calls would cost at the prices that are in use now.",
    ):
        _repriced(data)


def _repriced(data: Data) -> None:
    prices, names = figures.repriced(data), theme.names_of(data)
    st.caption(plain(prices.words))
    if prices.table.empty:
        return
    frame = pd.DataFrame(
        {
            "name": [names.get(deployment_id, deployment_id) for deployment_id in prices.table["deployment_id"]],
            # Why a deployment has a second line, beside its name: further right it would be cut off. No column
            # where none has.
            **({"reason": prices.table["reason"].map(NOT_COMPARED)} if prices.table["reason"].any() else {}),
            "n": prices.table["n"],
            **{
                column: [_amount(nanousd) for nanousd in prices.table[column]]
                for column in ("was_nanousd", "today_nanousd", "difference")
            },
        }
    )
    text = st.column_config.TextColumn
    st.dataframe(
        frame,
        hide_index=True,
        height="content",
        key="hs_repriced",
        alt="The same calls at today's prices",
        column_config={
            "name": text("Deployment", pinned=True),
            "reason": text("Not compared", width=115),
            "n": st.column_config.NumberColumn("Calls", format="localized", width=50),
            "was_nanousd": text("Cost", alignment="right", width=68),
            "today_nanousd": text("Today", alignment="right", width=68, help="At today's prices."),
            "difference": text("Difference", alignment="right", width=76),
        },
    )


def _amount(value: Any) -> str:
    return "–" if value is None or value != value else money(int(value))


# --- the month -----------------------------------------------------------------------------------------------------
@st.fragment(key="hs_month_panel")
def draw_month(data: Data) -> None:
    """The month so far against the budget, whatever range the page shows."""
    pace_of_month, look = pace(data), theme.look()
    title = "This month"
    subtitle = panels.hint(
        ("spent up to each day", "dashed: at this pace", "the month so far, whatever the range above")
    )
    with panel(title, subtitle) as menu:
        with menu:
            # The subtitle of the picture says which time is drawn: the month's, not that of the filter.
            panels.export(
                month_of(data),
                panels.Export(
                    "month",
                    lambda: pd.DataFrame(
                        {
                            "day": [day.date().isoformat() for day in pace_of_month.days["day"]],
                            "spent_usd": [
                                format(Decimal(int(nanousd)) / 10**9, "f") for nanousd in pace_of_month.days["spent"]
                            ],
                            "budget_usd": pace_of_month.days["budget"] / 1e9,
                        }
                    ),
                    lambda: {**month(pace_of_month, look), "width": panels.WIDTH},
                ),
                title,
                subtitle,
            )
        if pace_of_month.spent or pace_of_month.budget:
            panels.draw_chart(month(pace_of_month, look), "hs_month", pace_of_month.text, look=look)
        st.caption(plain(pace_of_month.text) + ("" if pace_of_month.budget is not None else " · no budget is set"))


def pace(data: Data) -> figures.Pace:
    """The month so far of what is filtered, against the budget where everything is looked at."""
    whole_month = budget.monthly(data.engine) if not data.filter.is_narrowed else None
    return figures.pace(month_of(data), int(whole_month * 10**9) if whole_month is not None else None)


MOST = 12  # bars; what is beyond is one more

STEP, HEIGHT = 30, 210

IDLE = "hours idle"

STRIPES = 48  # over the length of the axis

_SHADE = {"cache read": 4, "uncached input": 3, "not itemised": 2, "cache write": 1, "output": 0}

_HOURS = {"light": "#8a7a55", "dark": "#b3a06f"}


def driver_color(driver: str, look: Look) -> str:
    """The colour of a cost driver: one hue in steps for tokens, another for hours."""
    if driver not in _SHADE:
        return _HOURS[look.theme]
    steps = theme.DRIVERS_DARK if look.theme == "dark" else theme.DRIVERS_LIGHT
    return steps[_SHADE[driver]]


def largest(frame: pd.DataFrame, names: Mapping[str, str]) -> tuple[pd.DataFrame, int]:
    """The lines of the `MOST` largest keys, the rest as one key; with how many keys there are. ``name``: in words."""
    keys = list(dict.fromkeys(frame["key"]))
    largest_keys = set(keys if len(keys) <= MOST + 1 else keys[:MOST])
    others_name = f"{len(keys) - len(largest_keys)} others"
    table = frame.assign(
        name=[clip(names.get(key, key), 34) if key in largest_keys else others_name for key in frame["key"]],
        key=[key if key in largest_keys else "" for key in frame["key"]],
    )
    return table.groupby(["key", "name", "driver", "hatched"], as_index=False, sort=False)["nanousd"].sum(), len(keys)


def bars(table: pd.DataFrame, look: Look) -> Spec:
    """One bar for each key, stacked by driver; idle hours are hatched."""
    table = _stacked(table)
    sums = table.groupby(["key", "name"], as_index=False, sort=False)["nanousd"].sum()
    # A row for each key: two that are called alike share neither their bar nor their amount.
    called = theme.lookup(dict(zip(sums["key"], sums["name"], strict=True)))
    sums["words"], sums["to"] = [money(int(nanousd)) for nanousd in sums["nanousd"]], sums["nanousd"] / NANODOLLARS
    longest = max(float(table["to"].max()), 1e-9)
    y = {"sort": list(sums["key"]), "title": None, "scale": {"paddingInner": 0.36, "paddingOuter": 0.1}}
    axis = {"labelExpr": called, "labelLimit": 165, "labelColor": look.ink, "labelFontSize": 12}
    named = word("key", axis=axis, **y)
    x = {
        "title": None,
        "axis": {"tickCount": 5, "format": "$,~r"},
        "scale": {"domain": [min(0.0, float(table["from"].min())), longest * 1.3], "nice": False},
    }
    fill = view(
        "bar",
        table,
        {
            "y": named,
            "x": q("from", **x),
            "x2": to("to"),
            **_painted(table, look),
            "tooltip": tips(("name", "Of"), ("driver", "For"), ("words", "Cost")),
        },
        pick=["key", "driver"],
        cursor="pointer",
        strokeWidth=1,
    )
    stripes = _stripes(table[table["hatched"]], ["key"], longest / STRIPES)
    hatch = view(
        "rule",
        stripes,
        {
            "x": q("low", **x),
            "x2": to("high"),
            "y": word("key", bandPosition=1, **y),
            "y2": {"field": "key", "bandPosition": 0},
        },
        color=_HOURS[look.theme],
        strokeWidth=1.3,
        tooltip=None,
    )
    amounts = view(
        "text",
        sums,
        {"y": named, "x": q("to", **x), "text": word("words")},
        align="left",
        dx=6,
        color=look.ink,
        fontSize=12,
    )
    return layers(fill, *([hatch] if len(stripes) else []), amounts, height=STEP * len(sums))


def _stacked(table: pd.DataFrame) -> pd.DataFrame:
    table = table.assign(
        usd=table["nanousd"] / NANODOLLARS, words=[money(int(nanousd)) for nanousd in table["nanousd"]]
    )
    table["to"] = table.groupby("key", sort=False)["usd"].cumsum()
    table["from"] = table["to"] - table["usd"]
    return table


def _painted(table: pd.DataFrame, look: Look) -> Spec:
    """The colour of a driver; what is hatched is an outline for the stripes."""
    there = [driver for driver in COST_DRIVERS if driver in set(table["driver"])]
    words = [f"{driver} (hatched)" if driver == IDLE else driver for driver in there]
    scale = {"domain": there, "range": [driver_color(driver, look) for driver in there]}
    return {
        "color": word("driver", scale=scale, legend=theme.legend_of(words, there)),
        "fillOpacity": when("datum.hatched", 0.08, 1),
        "stroke": {
            "condition": {"param": "pick", "empty": False, "value": look.ink},
            **word("driver", scale=scale, legend=None),
        },
    }


def legend(table: pd.DataFrame, look: Look) -> list[tuple[str, str, str]]:
    """Colour, words and sign of each driver."""
    there = [driver for driver in COST_DRIVERS if driver in set(table["driver"])]
    return [(driver_color(driver, look), driver, "▨" if driver == IDLE else "■") for driver in there]


def _stripes(rows: pd.DataFrame, keys: Sequence[str], step: float) -> pd.DataFrame:
    """Slanted lines over what is hatched, ``low`` to ``high``: Vega has no patterns."""
    lines = [
        {**{name: row[name] for name in keys}, "low": float(a), "high": float(min(a + step, row["to"]))}
        for row in rows.to_dict("records")
        for a in np.arange(row["from"], row["to"], step)
        if row["to"] - a > step * 0.5
    ]
    return pd.DataFrame(lines, columns=[*keys, "low", "high"])


def days(data: Data, table: pd.DataFrame, look: Look) -> Spec:
    """One column for each day, stacked by driver; idle hours are hatched; a day without cost is an empty place."""
    table, spans = _stacked(table), day_spans(data)
    table["at"], table["until"] = [spans[day][0] for day in table["key"]], [spans[day][1] for day in table["key"]]
    gap = (table["until"] - table["at"]) * 0.1
    table["bar"], table["bar_end"] = table["at"] + gap, table["until"] - gap
    cut = dict(zip(spans, data.days.is_partial.tolist(), strict=True))
    table["running"] = [cut[day] for day in table["key"]]
    x = theme.time_x(data, 8, zone=data.window.day_zone)
    top = max(float(table["to"].max()), 1e-9)
    y = {"title": None, "scale": {"domain": [0, top * 1.05], "nice": False}, "axis": {"tickCount": 4, "format": "$,~r"}}
    fill = view(
        "rect",
        table,
        {
            "x": q("bar", **x),
            "x2": to("bar_end"),
            "y": q("from", **y),
            "y2": to("to"),
            **_painted(table, look),
            "opacity": when("datum.running", theme.PALE, 1),
            "tooltip": tips(("key", f"Day ({data.window.day_zone})"), ("driver", "For"), ("words", "Cost")),
        },
        pick=["key", "driver"],
        cursor="pointer",
        strokeWidth=1,
    )
    stripes = _stripes(table[table["hatched"]], ["bar", "bar_end"], top / 26)
    hatch = view(
        "rule",
        stripes,
        {"x": q("bar", **x), "x2": to("bar_end"), "y": q("low", **y), "y2": to("high")},
        color=_HOURS[look.theme],
        strokeWidth=1.2,
        tooltip=None,
    )
    return layers(fill, *([hatch] if len(stripes) else []), height=HEIGHT)


def day_spans(data: Data) -> dict[str, tuple[int, int]]:
    """ISO date → where the day begins and ends on the time axis."""
    edges = theme.millis(data.days.edges).tolist()
    labels = [label.date().isoformat() for label in data.days.labels]
    return {label: (edges[n], edges[n + 1]) for n, label in enumerate(labels)}


def month(pace_of_month: Pace, look: Look) -> Spec:
    """The month so far, day by day, against the line of the budget; where this pace leads is dashed."""
    frame = pd.DataFrame(
        {
            "at": [f"{day:%Y-%m-%d}" for day in pace_of_month.days["day"]],
            "day": [day.day for day in pace_of_month.days["day"]],
            "usd": pace_of_month.days["spent"] / NANODOLLARS,
        }
    )
    length = int(pace_of_month.days["day"].iloc[0].days_in_month)
    top = max(
        (pace_of_month.expected or 0) / NANODOLLARS,
        (pace_of_month.budget or 0) / NANODOLLARS,
        float(frame["usd"].max()),
        1e-9,
    )
    x = q(
        "day",
        title=None,
        scale={"domain": [0.5, length + 0.5], "nice": False},
        axis={"values": [1, 8, 15, 22, length], "grid": False, "format": "d"},
    )
    y = q("usd", title=None, axis={"tickCount": 4, "format": "$,~r"}, scale={"domain": [0, top * 1.12], "nice": False})
    tooltip = tips(("at", "Up to"), ("usd", "Spent, $", ",.2f"))
    drawn = [
        view(
            "line",
            frame,
            {"x": x, "y": y, "tooltip": tooltip},
            color=look.ink,
            strokeWidth=2,
            point={"color": look.ink, "size": 16},
        )
    ]
    if pace_of_month.expected is not None:
        last = frame.iloc[-1]
        ahead = pd.DataFrame(
            {"day": [int(last["day"]), length], "usd": [float(last["usd"]), pace_of_month.expected / NANODOLLARS]}
        )
        drawn.append(view("line", ahead, {"x": x, "y": y}, color=look.muted, strokeDash=[4, 3], strokeWidth=1.4))
    if pace_of_month.budget is not None:
        rule = pd.DataFrame(
            {
                "usd": [pace_of_month.budget / NANODOLLARS],
                "words": [f"budget {money(pace_of_month.budget)}"],
                "day": [0.5],
            }
        )
        drawn += [
            view("rule", rule, {"y": y}, color=look.good, strokeWidth=1.2),
            view(
                "text",
                rule,
                {"x": x, "y": y, "text": word("words")},
                align="left",
                dy=-7,
                dx=4,
                color=look.good,
                fontSize=11,
            ),
        ]
    return layers(*drawn, height=HEIGHT)


REFUSED = "hx_budget_refused"


def manage(database: Engine, person: auth.Person, *, demo: bool = False) -> None:
    """The popover "Budget": US dollars a month, for those who may change it; the others see it."""
    amount = budget.monthly(database)
    with st.popover("Budget", icon=":material/savings:"):
        sentence = f"{_dollars(amount)} a month." if amount is not None else "No budget is set."
        st.caption(f"{sentence} It is a line on the spending; nothing is stopped when it is crossed.")
        if not person.may("deploy") or demo:
            return
        with st.form("hx_budget", border=False):
            typed = budget.typed(amount) if amount is not None else ""
            st.text_input(
                "US dollars a month",
                key="hx_budget_usd",
                value=typed,
                placeholder="none",
                max_chars=16,
                help="Written like 1000, 1,000 or 1,000.50; empty for no budget.",
            )
            st.form_submit_button("Set budget", icon=":material/check:", on_click=_set)
        draw_refusal(REFUSED)


def _set() -> None:
    text = str(st.session_state.get("hx_budget_usd") or "").strip()
    attempt(REFUSED, lambda: _keep(text or None))


def _keep(text: str | None) -> None:
    auth.engine().history.set_budget(text)
    # What is kept stands in the field, and not what was typed.
    amount = budget.monthly(auth.database())
    st.session_state["hx_budget_usd"] = budget.typed(amount) if amount is not None else ""


def _dollars(amount: Decimal) -> str:
    return money(int(amount * NANODOLLARS))
