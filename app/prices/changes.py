"""What changed since the calls were made, in a sentence for each change."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.widgets.filters import zone
from app.widgets.text import plain
from services.pricing import cost, overview
from services.pricing.changes import Change
from services.pricing.price import NOT_READABLE

SHOWN = 20


def draw(found: Sequence[Change]) -> None:
    """The changes, newest first."""
    st.subheader("Changed since the calls were made")
    if not found:
        st.caption("Nothing: every recorded call has the price that a call would have today.")
        return
    st.caption("What recorded calls cost stays as it was; the difference is what the same tokens would cost today.")
    for one in found[:SHOWN]:
        st.markdown(f"**{plain(one.deployment.name)}** {plain(sentence(one))}")
    if len(found) > SHOWN:
        st.caption(f"{len(found) - SHOWN:,} older changes are not shown; filter by deployment to see them.")


def sentence(one: Change) -> str:
    """ "was $3 / $15 until 1 Nov 2026, today $2 / $10: 120 calls, −$1.20 if re-priced"."""
    day = one.last.astimezone(zone()[1]).strftime("%-d %b %Y")
    calls = f"{one.n:,} {'call' if one.n == 1 else 'calls'}"
    if one.damaged:
        paid = f", {cost.money(one.nanousd)} as recorded" if one.nanousd else ""
        return f"{NOT_READABLE} until {day}, today {overview.short(one.now)}: {calls}{paid}"
    was, now = overview.short(one.was), overview.short(one.now)
    was, now = (f"{was}{_lengths(one.was)}", f"{now}{_lengths(one.now)}") if was == now else (was, now)
    return f"was {was} until {day}, today {now}: {calls}{_money(one)}"


def _lengths(price: cost.Price | None) -> str:
    """The rest of a price, when input and output alone do not tell two apart."""
    if price is None or price.rates is None:
        return ""
    cache = f", cache read {overview.dollars(price.rates['cache_read'])}" if "cache_read" in price.rates else ""
    tiers = overview.tier_words(price.tiers)
    return f"{cache}, {tiers}" if tiers else cache


def _money(one: Change) -> str:
    mark = "~ " if one.inexact else ""
    if one.difference is not None:
        sign = "+" if one.difference > 0 else ""
        return f", {mark}{sign}{cost.money(one.difference)} if re-priced"
    if one.today_nanousd is not None:
        return f", {mark}{cost.money(one.today_nanousd)} at today's price"
    return ""
