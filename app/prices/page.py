"""The table of prices in use, and what changed since the calls were made."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.charts.theme import Theme, color
from app.widgets.filters import zone
from app.widgets.text import KIND_NAMES, plain
from services.pricing import cost, overview
from services.pricing.overview import Change, PriceLine
from services.pricing.price import NOT_READABLE
from services.security import keys

NONE = "–"

RATES = {
    "input": ("Input", "Input tokens that were not in the prompt cache, per 1M tokens."),
    "cache_read": ("Cache read", "Input tokens read from the prompt cache, per 1M tokens."),
    "cache_write_5m": ("Write 5 min", "Input tokens written to the prompt cache for 5 minutes, per 1M tokens."),
    "cache_write_1h": ("Write 1 h", "Input tokens written to the prompt cache for an hour, per 1M tokens."),
    "output": ("Output", "Output tokens, reasoning and answer, per 1M tokens."),
}


def draw(lines: Sequence[PriceLine]) -> None:
    """The table, and below it what to do about each missing price."""
    theme: Theme = "dark" if st.context.theme.type == "dark" else "light"
    frame = pd.DataFrame([_row(line) for line in lines])
    colors = [f"color: {color(line.deployment.color_slot, theme)}" for line in lines]
    styled = frame.style.apply(lambda _: colors, subset=["color"], axis=0)
    st.dataframe(
        styled,
        key="pr_table",
        hide_index=True,
        height="content",
        column_config=_columns(),
        alt="Prices in use: one line for each deployment, with its rates, their source and their date",
    )


def _row(line: PriceLine) -> dict[str, object]:
    price, d = line.price, line.deployment
    rates = (price.rates if price else None) or {}
    return {
        "color": "●",
        "name": d.name if d.enabled else f"{d.name} (off)",
        "price": overview.short(price),
        "source": overview.source_words(price) if price else NONE,
        "date": price.date if price else NONE,
        **{name: overview.dollars(rates[name]) if name in rates else NONE for name in RATES},
        "tier": line.tier,
        "batch": overview.pair(line.batch.rates) if line.batch else NONE,
        "tiers": (overview.tier_words(price.tiers) if price else "") or NONE,
        "machines": overview.machines(price) or NONE,
        "kind": KIND_NAMES.get(d.kind, d.kind),
        "model": (price.model if price and price.model else d.model) or NONE,
        "calls": line.n,
        "spent": cost.money(line.nanousd) if line.nanousd else NONE,
    }


def _columns() -> dict[str, Any]:
    text = st.column_config.TextColumn
    return {
        "color": text(" ", width=36, pinned=True, help="The colour of this deployment on every page."),
        "name": text("Deployment", pinned=True, width=190),
        "price": text(
            "Price",
            help="Input / output per 1M tokens, or per hour of being on, busy or idle. “no price” is "
            "not zero: no price is known, and why is below.",
            width=130,
        ),
        **{name: text(label, help=help_, alignment="right", width=85) for name, (label, help_) in RATES.items()},
        "machines": text("Machines", help="Instances or units that the hourly price is for, all of them together."),
        "tier": text(
            "Service tier", help="The tier its settings ask for. A call is priced by the tier that served it."
        ),
        "batch": text(
            "In a batch", help="Input / output per 1M tokens in the service's batch API, where a list has it."
        ),
        "tiers": text("Longer inputs", help="Rates of all tokens of a call whose input is longer: input / output."),
        "source": text(
            "Source", help="genai-prices, our dated copy of LiteLLM's list, a file of hourly prices, or you."
        ),
        "date": text("Date", help="How recent the source is: its newest change, or the day it was read."),
        "kind": text("Kind"),
        "model": text("Listed as", help="The model as the list names it; without a list, as it is called."),
        "calls": st.column_config.NumberColumn("Calls", format="localized", help="Recorded calls, however they ended."),
        "spent": text("Spent", alignment="right", help="What those calls cost, by the prices stored with them."),
    }


def to_csv(lines: Sequence[PriceLine]) -> str:
    """All lines as CSV, every amount with its unit in the column's name."""
    out = io.StringIO()
    rows = [overview.export_row(line) for line in lines]
    if rows:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return keys.scrub(out.getvalue())


SHOWN = 20


def draw_changes(changes: Sequence[Change]) -> None:
    """The changes, newest first."""
    st.subheader("Changed since the calls were made")
    if not changes:
        st.caption("Nothing: every recorded call has the price that a call would have today.")
        return
    st.caption("What recorded calls cost stays as it was; the difference is what the same tokens would cost today.")
    for change in changes[:SHOWN]:
        st.markdown(f"**{plain(change.deployment.name)}** {plain(sentence(change))}")
    if len(changes) > SHOWN:
        st.caption(f"{len(changes) - SHOWN:,} older changes are not shown; filter by deployment to see them.")


def sentence(change: Change) -> str:
    """ "was $3 / $15 until 1 Nov 2026, today $2 / $10: 120 calls, −$1.20 if re-priced"."""
    day = change.last.astimezone(zone()[1]).strftime("%-d %b %Y")
    calls = f"{change.n:,} {'call' if change.n == 1 else 'calls'}"
    if change.damaged:
        paid = f", {cost.money(change.nanousd)} as recorded" if change.nanousd else ""
        return f"{NOT_READABLE} until {day}, today {overview.short(change.now)}: {calls}{paid}"
    was, now = overview.short(change.was), overview.short(change.now)
    was, now = (f"{was}{_lengths(change.was)}", f"{now}{_lengths(change.now)}") if was == now else (was, now)
    return f"was {was} until {day}, today {now}: {calls}{_money(change)}"


def _lengths(price: cost.Price | None) -> str:
    """The rest of a price, when input and output alone do not tell two apart."""
    if price is None or price.rates is None:
        return ""
    cache = f", cache read {overview.dollars(price.rates['cache_read'])}" if "cache_read" in price.rates else ""
    tiers = overview.tier_words(price.tiers)
    return f"{cache}, {tiers}" if tiers else cache


def _money(change: Change) -> str:
    mark = "~ " if change.inexact else ""
    if change.difference is not None:
        sign = "+" if change.difference > 0 else ""
        return f", {mark}{sign}{cost.money(change.difference)} if re-priced"
    if change.today_nanousd is not None:
        return f", {mark}{cost.money(change.today_nanousd)} at today's price"
    return ""
