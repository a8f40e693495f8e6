"""What is drawn of a measurement: its progress, one sentence, two charts, the medians and every call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import auth, navigation
from app.caching import charts
from app.caching import state as cc
from app.glossary import FIGURES
from app.live import run_view as runs
from app.live.download import downloads
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import plain
from services import caching, caching_words, formatting
from services.caching import Measured
from services.pricing.cost import money
from services.runs import cache_state, compare, record, view

REFUSAL = "cc_refusal"


def draw(shown: runs.Shown, person: auth.Person) -> None:
    """The measurement. While it runs it is read again every second, until the last call has ended."""
    if shown.live is None:
        results(shown)
        _after(shown, person)
    else:
        _live(shown.id, person)


@st.fragment(run_every=1.0, key="cc_live")
def _live(run_id: str, person: auth.Person) -> None:
    shown, trouble = runs.load(run_id)
    if shown is None or shown.live is None:
        if trouble is None:
            st.rerun()
        st.caption(plain(trouble or ""))
        return
    done, whole = progress(shown)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(done / whole if whole else 0.0, text=f"{done:,} of {whole:,} calls ended")
        if person.may_change("send", shown.run):
            st.button("Stop", key="cc_stop", icon=":material/stop:", on_click=_stop, args=(run_id,))
    draw_refusal(REFUSAL)
    results(shown)


def progress(shown: runs.Shown) -> tuple[int, int]:
    """(calls that have ended, calls of the run)."""
    ended = [row for row in view.last_attempts(shown.calls) if row["state"] != "running"]
    return len(ended), max(int(shown.run.get("n_calls") or 0), len(ended))


def _stop(run_id: str) -> None:
    attempt(REFUSAL, lambda: auth.engine().stop(run_id))


def results(shown: runs.Shown) -> None:
    """Everything that the calls so far show."""
    found = caching.measured(shown.calls)
    if not found:
        st.caption("The first call is under way; what it shows is drawn here when it ends.")
        return
    if shown.live is None:
        for m in found:
            st.markdown(plain(caching_words.conclusion(m)))
    for m in found:
        if m.succeeded and (others := failures(m)):
            st.caption(f":material/error: {plain(f'{m.deployment.name}: {others}; in no figure here.')}")
    if not any(m.succeeded for m in found):
        return
    called = charts.names(found)
    if len(found) == 1:
        left, right = st.columns(2)
        with left:
            charts.first_tokens(found)
        with right:
            charts.tokens(found[0], called[0])
    else:
        charts.first_tokens(found)
        sides = st.columns(2)
        for n, (m, name) in enumerate(zip(found, called, strict=True)):
            with sides[n % 2]:
                st.caption(plain(name))
                charts.tokens(m, name)
    medians(found, called)
    for m, name in zip(found, called, strict=True):
        if said := caching_words.pays_when(m):
            st.caption(plain(f"{name}: {said}" if len(found) > 1 else said))


def failures(m: Measured) -> str:
    """Calls that did not succeed, in words: "2 failed, 1 stopped"; "" where all did."""
    ends: dict[str, int] = {}
    for row in m.calls:
        if row["state"] != "succeeded":
            ends[view.words(row)] = ends.get(view.words(row), 0) + 1
    return ", ".join(f"{n:,} {end}" for end, n in ends.items())


def medians(found: Sequence[Measured], called: Sequence[str]) -> None:
    """Cold beside warm, their difference, and the money with and without the cache."""
    st.dataframe(
        pd.DataFrame([_line(m, name) for m, name in zip(found, called, strict=True)]),
        hide_index=True, height="content",
        column_config={
            "name": st.column_config.TextColumn("Deployment", pinned=True),
            "cold": st.column_config.TextColumn("First token, cold", help=f"{FIGURES['ttft']} {FIGURES['cache']}"),
            "warm": st.column_config.TextColumn("First token, warm", help=f"{FIGURES['ttft']} {FIGURES['cache']}"),
            "difference": st.column_config.TextColumn(
                "Cold − warm (95 %)", help="Difference of the medians with its bootstrap interval; it needs two calls "
                "of each kind. “Also call with caching off” makes more cold ones."
            ),
            "with": st.column_config.TextColumn("Cost with the cache", help="Sum over the calls whose cost is exact."),
            "without": st.column_config.TextColumn(
                "Cost without it", help="The same token counts, all input at the plain input price of the price row "
                "that is stored with each call."
            ),
        },
        alt="Medians of cold and warm calls, their difference, and the cost with and without the cache",
    )  # fmt: skip


def _line(m: Measured, name: str) -> dict[str, Any]:
    said = m.cost_words if m.with_cache is None else money(m.with_cache)
    return {
        "name": name,
        "cold": _median(m.cold), "warm": _median(m.warm), "difference": _difference(m),
        "with": said if m.priced in (0, len(m.calls)) else f"{said} ({m.priced} of {len(m.calls)} calls)",
        "without": m.cost_words if m.without is None else money(m.without),
    }  # fmt: skip


def _median(values: Sequence[float]) -> str:
    middle = compare.median_interval(values)
    if middle.median is None:
        return f"{formatting.DASH} · n = 0"
    text = formatting.seconds(middle.median)
    if middle.low is not None:
        text += f" ({formatting.seconds(middle.low)} – {formatting.seconds(middle.high)})"
    return f"{text} · n = {middle.n:,}"


def _difference(m: Measured) -> str:
    cold, warm = compare.median_interval(m.cold).median, compare.median_interval(m.warm).median
    if cold is None or warm is None:
        return formatting.DASH
    gap = m.difference
    if gap.low is None:
        return f"{formatting.seconds(cold - warm)} · too few for an interval"
    text = f"{formatting.seconds(cold - warm)} ({formatting.seconds(gap.low)} – {formatting.seconds(gap.high)})"
    return text if gap.seen else f"{text} · no difference seen"


def _after(shown: runs.Shown, person: auth.Person) -> None:
    with st.container(horizontal=True):
        st.button("New measurement", key="cc_new", icon=":material/add:", on_click=cc.show, args=(None,),
                  help="Leaves this run, which stays under Runs; the inputs stay as they are.")  # fmt: skip
        if st.button("Open in the playground", key="cc_open", icon=":material/open_in_new:"):
            navigation.open_run(shown.id)
        downloads(shown.run, shown.calls, shown.votes, prefix="cc")
    section = st.expander("Every call", icon=":material/list:", key="cc_each", on_change="rerun")
    if section.open:
        with section:
            _calls(shown)


def _calls(shown: runs.Shown) -> None:
    st.dataframe(
        pd.DataFrame(
            [
                {
                    "Deployment": row["deployment"]["name"],
                    "Call": row["repetition"],
                    "Asked for": row.get("cache_mode") or "nothing",
                    "State": view.words(row),
                    "Prompt cache": cache_state.words(row),
                    "First token": formatting.seconds(row.get("ttft_ms")),
                    "Not cached": formatting.count(row.get("uncached_input")),
                    "Read": formatting.count(row.get("cache_read")),
                    "Written, short": formatting.count(row.get("cache_write_5m")),
                    "Written, long": formatting.count(row.get("cache_write_1h")),
                    "Cost": record.in_words(row)["cost"],
                }
                for row in view.last_attempts(shown.calls)
            ]
        ),
        hide_index=True,
        alt="Every call of this measurement",
    )
