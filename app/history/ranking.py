"""The deployments in one table, to be ranked by any column."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from app.charts import panel as panels
from app.charts import theme as looks
from app.glossary import FIGURES
from app.history import calls
from services import formatting
from services.dashboard import figures
from services.dashboard.figures import Data
from services.pricing.cost import money

PLACE = "hs_ranking"
EFFECTIVE = "Effective: of what is paid by the hour all of its hours, idle ones too, at the measured use."
USE = "Time in which calls were under way ÷ time of being on. Only for what is paid by the hour."
TIMES = ("ttft_p50", "ttft_p95", "ttlt_p50", "ttlt_p95")
DOLLARS = ("usd", "usd_per_1000", "usd_per_1m")


@st.fragment(key="hs_ranking_panel")
def draw(data: Data) -> None:
    """The table; a selected line opens its calls."""
    title = "Deployments"
    subtitle = "click a column's name to rank by it, a line to see its calls · – : too few calls, or no known cost"
    table, shown, names = figures.ranking(data), looks.look(), looks.names_of(data)
    with panels.panel(title, subtitle) as menu:
        with menu:
            panels.export(data, panels.Export(
                "deployments", lambda: table.assign(deployment=table["deployment_id"].map(names)).rename(
                    columns={name: f"{name}_ms" for name in TIMES} | {"n": "calls"}),
            ), title, subtitle)  # fmt: skip
        event = st.dataframe(
            styled(data, table, shown), key=f"{PLACE}_table", hide_index=True, placeholder=formatting.DASH,
            height="content", on_select="rerun", selection_mode="single-row", column_config=_columns(),
            alt="Deployments with their calls, times and costs, to be ranked by any column",
        )  # fmt: skip
        chosen = [row for row in event.selection.rows if row < len(table)]
        if chosen:
            one = str(table["deployment_id"].iloc[chosen[0]])
            calls.draw(data, calls.Mark(names[one], {"deployment_id": one}), PLACE)


def styled(data: Data, table: pd.DataFrame, shown: looks.Look) -> Styler:
    """The table as numbers, to be ranked by, that are written as everywhere else on the page."""
    names = looks.names_of(data)
    colors = [f"color: {looks.color_of(data, one, shown)}" for one in table["deployment_id"]]
    frame = pd.DataFrame({
        "color": "●", "name": table["deployment_id"].map(names), "n": table["n"], "success": table["success"] * 100,
        # Before the times: what is further right is cut off on a small screen.
        "usd": table["nanousd"] / 1e9,
        **{name: table[name] / 1000 for name in TIMES}, "decode": table["decode_p50"],
        "usd_per_1000": table["usd_per_1000"],
        "usd_per_1m": table["usd_per_1m_output"], "utilisation": table["utilisation"] * 100,
    })  # fmt: skip
    frame["usd"] = frame["usd"].where((table["n_unpriced"] < table["n"]) | (table["nanousd"] > 0))
    written = {**dict.fromkeys(TIMES, lambda s: formatting.seconds(s * 1000)), "decode": formatting.rate,
               **dict.fromkeys(DOLLARS, lambda usd: money(round(usd * 1e9)))}  # fmt: skip
    return frame.style.apply(lambda _: colors, subset=["color"], axis=0).format(written, na_rep=formatting.DASH)


def _columns() -> dict[str, Any]:
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    return {
        "color": text(" ", width=28, pinned=True), "name": text("Deployment", pinned=True, width=180),
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
    }  # fmt: skip
