"""Cost: by driver and by whatever it is told apart by, what was saved, and where the month is heading."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pandas as pd
import streamlit as st

from app.charts import panel as panels
from app.charts import theme as looks
from app.history import cost_charts as charts
from app.history.calls import Mark
from app.history.data import month as month_of
from app.widgets.kind_names import KIND_NAMES
from app.widgets.text import plain
from services.dashboard import figures
from services.dashboard.cost import BY_THE_HOUR
from services.dashboard.figures import Data
from services.dashboard.keys import NO_TAG, UNKNOWN
from services.dashboard.paid import paid
from services.dashboard.reprice import NO_PRICE_THEN, NO_PRICE_TODAY, NOT_COUNTED, NOT_READABLE
from services.pricing import budget
from services.pricing.cost import money

BYS = {"deployment": "Deployment", "model": "Model", "kind": "Kind", "person": "Person", "team": "Team", "tag": "Tag",
       "day": "Day"}  # fmt: skip
PLACE = "hs_cost"
# Short enough for a column beside the name.
NOT_COMPARED = {"": "", NO_PRICE_THEN: "no price then", NO_PRICE_TODAY: "no price today",
                NOT_READABLE: "price unreadable", NOT_COUNTED: "tokens unknown"}  # fmt: skip
NARROW = {"deployment": "deployment_id", "model": "model", "kind": "kind", "person": "person", "team": "team"}


@st.fragment(key="hs_cost_panel")
def draw(data: Data) -> None:
    """The panel; what costs are told apart by is part of the page's address."""
    title = "Cost by driver"
    with panels.panel(title, "") as menu:
        with menu:
            by = st.selectbox("By", list(BYS), key="by", bind="query-params", width=150, format_func=BYS.__getitem__,
                              label_visibility="collapsed")  # fmt: skip
        by = by if by in BYS else "deployment"
        frame, shown = figures.cost(data, by), looks.look()
        found, n = charts.largest(frame, _names(data, by)) if by != "day" else (frame, 0)
        subtitle = panels.hint((
            "US dollars before tax and discounts", "hatched: hours paid for and unused",
            f"the {charts.MOST} largest of {n:,}" if n > charts.MOST + 1 else "",
            f"days of {plain(data.window.day_zone)}" if by == "day" else "",
        ))  # fmt: skip

        def picture() -> Any:
            return charts.days(data, found, shown) if by == "day" else charts.bars(found, shown)

        with menu:
            panels.export(data, panels.Export(
                f"cost-by-{by}", lambda: table_of(data, frame, by),
                (lambda: {**picture(), "width": panels.WIDTH}) if len(frame) else None,
            ), f"{title}, by {BYS[by].lower()}", subtitle)  # fmt: skip
        st.caption(subtitle)
        if frame.empty:
            st.caption(_nothing(data))
        else:
            panels.draw_chart(picture(), f"{PLACE}__{by}", _alt(frame, by, _names(data, by)),
                              lambda mark: mark_of(data, by, mark), shown=shown,
                              legend=charts.legend(frame, shown))  # fmt: skip
        _sentences(data)
        panels.draw_calls(data, PLACE)


def _names(data: Data, by: str) -> dict[str, str]:
    if by == "deployment":
        return looks.names_of(data)
    return dict(KIND_NAMES) if by == "kind" else {}


def _nothing(data: Data) -> str:
    spent = figures.spend(data)
    if spent.n_unpriced:
        return f"No cost is known: {spent.n_unpriced:,} calls are without a price (see Prices)."
    return "Nothing was spent: no call of this selection cost anything."


def table_of(data: Data, frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """What is exported: a line for each key and driver, dollars to the last nano-dollar."""
    names = _names(data, by)
    return pd.DataFrame({
        by: [names.get(one, one) for one in frame["key"]], f"{by}_key": frame["key"], "driver": frame["driver"],
        "cost_usd": [format(Decimal(int(one)) / 10**9, "f") for one in frame["nanousd"]], "idle": frame["hatched"],
    })  # fmt: skip


def _alt(frame: pd.DataFrame, by: str, names: dict[str, str]) -> str:
    sums = frame.groupby("key", sort=False)["nanousd"].sum()
    parts = [f"{names.get(str(key), key)} {money(int(one))}" for key, one in sums.head(12).items()]
    return f"Cost by {BYS[by].lower()} and driver: {', '.join(parts)}"


def mark_of(data: Data, by: str, found: Mapping[str, Any]) -> Mark | None:
    """The calls of a bar or a column and what of it was paid by the hour; None for what has neither."""
    key = str(found.get("key") or "")
    if by == "day":
        label = next((one for one in data.days.labels if one.date().isoformat() == key), None)
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
        return Mark(title, {NARROW[by]: ""}) if by in ("model", "kind") else None
    return Mark(title, {NARROW[by]: key}, paid=paid(data, by, key))


def _sentences(data: Data) -> None:
    spent, saved = figures.spend(data), figures.savings(data)
    hours = spent.used + spent.idle
    total = panels.hint((
        f"**{plain(money(spent.total, spent.mark))} in all**",
        f"{plain(money(spent.calls))} by calls" if hours else "",
        f"{plain(money(hours))} by the hour, {plain(money(spent.idle))} of it idle" if hours else "",
        f"{spent.n_unpriced:,} calls without a known cost are not in it" if spent.n_unpriced else "",
    ))  # fmt: skip
    st.caption(total)
    words = [f"{name} {'saved' if one > 0 else 'cost'} {plain(money(abs(one)))}{'' if one > 0 else ' more'}"
             for name, one in (("prompt caching", saved.caching), ("batches", saved.batch)) if one]  # fmt: skip
    if words:
        st.caption(f"Against the plain price of {plain(money(saved.plain))}: {', '.join(words)}.")
    if st.toggle("Re-price at today's prices", key="today", bind="query-params",
                 help="A view: what the same calls would cost at the prices that are in use now."):  # fmt: skip
        _repriced(data)


def _repriced(data: Data) -> None:
    found, names = figures.repriced(data), looks.names_of(data)
    st.caption(plain(found.words))
    if found.table.empty:
        return
    frame = pd.DataFrame({
        "name": [names.get(one, one) for one in found.table["deployment_id"]],
        # Why a deployment has a second line, beside its name: further right it would be cut off. No column where none
        # has.
        **({"reason": found.table["reason"].map(NOT_COMPARED)} if found.table["reason"].any() else {}),
        "n": found.table["n"],
        **{column: [_amount(one) for one in found.table[column]]
           for column in ("was_nanousd", "today_nanousd", "difference")},
    })  # fmt: skip
    text = st.column_config.TextColumn
    st.dataframe(
        frame, hide_index=True, height="content", key="hs_repriced", alt="The same calls at today's prices",
        column_config={
            "name": text("Deployment", pinned=True), "reason": text("Not compared", width=115),
            "n": st.column_config.NumberColumn("Calls", format="localized", width=50),
            "was_nanousd": text("Cost", alignment="right", width=68),
            "today_nanousd": text("Today", alignment="right", width=68, help="At today's prices."),
            "difference": text("Difference", alignment="right", width=76),
        },
    )  # fmt: skip


def _amount(value: Any) -> str:
    return "–" if value is None or value != value else money(int(value))


# --- the month -----------------------------------------------------------------------------------------------------


@st.fragment(key="hs_month_panel")
def draw_month(data: Data) -> None:
    """The month so far against the budget, whatever range the page shows."""
    found, shown = pace(data), looks.look()
    title = "This month"
    subtitle = panels.hint(("spent up to each day", "dashed: at this pace",
                            "the month so far, whatever the range above"))  # fmt: skip
    with panels.panel(title, subtitle) as menu:
        with menu:
            # The subtitle of the picture says which time is drawn: the month's, not that of the filter.
            panels.export(month_of(data), panels.Export(
                "month", lambda: pd.DataFrame({
                    "day": [one.date().isoformat() for one in found.days["day"]],
                    "spent_usd": [format(Decimal(int(one)) / 10**9, "f") for one in found.days["spent"]],
                    "budget_usd": found.days["budget"] / 1e9,
                }), lambda: {**charts.month(found, shown), "width": panels.WIDTH},
            ), title, subtitle)  # fmt: skip
        if found.spent or found.budget:
            panels.draw_chart(charts.month(found, shown), "hs_month", found.text, shown=shown)
        st.caption(plain(found.text) + ("" if found.budget is not None else " · no budget is set"))


def pace(data: Data) -> figures.Pace:
    """The month so far of what is filtered, against the budget where everything is looked at."""
    whole = budget.monthly(data.engine) if not data.filter.is_narrowed else None
    return figures.pace(month_of(data), int(whole * 10**9) if whole is not None else None)
