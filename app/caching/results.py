"""What is drawn of a measurement: its progress, one sentence, two charts, the medians and every call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import auth, navigation
from app.caching import form
from app.charts import theme as charts_theme
from app.glossary import FIGURES
from app.live import run_view as runs
from app.live.download import downloads
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import plain
from db.run_rows import Counted
from services import caching, formatting
from services.caching import Measured
from services.call_record import from_row, usage_of
from services.pricing.cost import money
from services.providers.base import MODE_WORDS
from services.runs import compare, record
from services.runs import view as runs_view

REFUSAL = "cc_refusal"


def draw(loaded_run: runs.Shown, person: auth.Person) -> None:
    """The measurement. While it runs it is read again every second, until the last call has ended."""
    if loaded_run.live is None:
        results(loaded_run)
        _after(loaded_run, person)
    else:
        _live(loaded_run.id, person)


@st.fragment(run_every=1.0, key="cc_live")
def _live(run_id: str, person: auth.Person) -> None:
    loaded_run, trouble = runs.load(run_id)
    if loaded_run is None or loaded_run.live is None:
        if trouble is None:
            st.rerun()
        st.caption(plain(trouble or ""))
        return
    n_ended, n_calls = progress(loaded_run)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(n_ended / n_calls if n_calls else 0.0, text=f"{n_ended:,} of {n_calls:,} calls ended")
        if person.may_change("send", loaded_run.run):
            st.button("Stop", key="cc_stop", icon=":material/stop:", on_click=_stop, args=(run_id,))
    draw_refusal(REFUSAL)
    results(loaded_run)


def progress(loaded_run: runs.Shown) -> tuple[int, int]:
    """(calls that have ended, calls of the run)."""
    ended = [row for row in runs_view.last_attempts(loaded_run.calls) if row["state"] != "running"]
    return len(ended), max(int(loaded_run.run.get("n_calls") or 0), len(ended))


def _stop(run_id: str) -> None:
    attempt(REFUSAL, lambda: auth.engine().stop(run_id))


def results(loaded_run: runs.Shown) -> None:
    """Everything that the calls so far show."""
    measurements = caching.measured(loaded_run.calls)
    if not measurements:
        st.caption("The first call is under way; what it shows is drawn here when it ends.")
        return
    if loaded_run.live is None:
        for m in measurements:
            st.markdown(plain(caching.conclusion(m)))
    for m in measurements:
        if m.succeeded and (failure_words := failures(m)):
            st.caption(f":material/error: {plain(f'{m.deployment.name}: {failure_words}; in no figure here.')}")
    if not any(m.succeeded for m in measurements):
        return
    called = names(measurements)
    if len(measurements) == 1:
        left_column, right_column = st.columns(2)
        with left_column:
            first_tokens(measurements)
        with right_column:
            tokens(measurements[0], called[0])
    else:
        first_tokens(measurements)
        sides = st.columns(2)
        for n, (m, name) in enumerate(zip(measurements, called, strict=True)):
            with sides[n % 2]:
                st.caption(plain(name))
                tokens(m, name)
    medians(measurements, called)
    for m, name in zip(measurements, called, strict=True):
        if break_even := caching.pays_when(m):
            st.caption(plain(f"{name}: {break_even}" if len(measurements) > 1 else break_even))


def failures(m: Measured) -> str:
    """Calls that did not succeed, in words: "2 failed, 1 stopped"; "" where all did."""
    ends: dict[str, int] = {}
    for row in m.calls:
        if row["state"] != "succeeded":
            ends[runs_view.words(from_row(row))] = ends.get(runs_view.words(from_row(row)), 0) + 1
    return ", ".join(f"{n:,} {end}" for end, n in ends.items())


def medians(measurements: Sequence[Measured], called: Sequence[str]) -> None:
    """Cold beside warm, their difference, and the money with and without the cache."""
    st.dataframe(
        pd.DataFrame([_line(m, name) for m, name in zip(measurements, called, strict=True)]),
        hide_index=True,
        height="content",
        column_config={
            "name": st.column_config.TextColumn("Deployment", pinned=True),
            "cold": st.column_config.TextColumn("First token, cold", help=f"{FIGURES['ttft']} {FIGURES['cache']}"),
            "warm": st.column_config.TextColumn("First token, warm", help=f"{FIGURES['ttft']} {FIGURES['cache']}"),
            "difference": st.column_config.TextColumn(
                "Cold − warm (95 %)",
                help="Difference of the medians with its bootstrap interval; it needs two calls "
                "of each kind. “Also call with caching off” makes more cold ones.",
            ),
            "with": st.column_config.TextColumn("Cost with the cache", help="Sum over the calls whose cost is exact."),
            "without": st.column_config.TextColumn(
                "Cost without it",
                help="The same token counts, all input at the plain input price of the price row "
                "that is stored with each call.",
            ),
        },
        alt="Medians of cold and warm calls, their difference, and the cost with and without the cache",
    )


def _line(m: Measured, name: str) -> dict[str, Any]:
    cost_text = m.cost_words if m.with_cache is None else money(m.with_cache)
    return {
        "name": name,
        "cold": _median(m.cold),
        "warm": _median(m.warm),
        "difference": _difference(m),
        "with": cost_text if m.priced in (0, len(m.calls)) else f"{cost_text} ({m.priced} of {len(m.calls)} calls)",
        "without": m.cost_words if m.without is None else money(m.without),
    }


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


def _after(loaded_run: runs.Shown, person: auth.Person) -> None:
    with st.container(horizontal=True):
        st.button(
            "New measurement",
            key="cc_new",
            icon=":material/add:",
            on_click=form.show,
            args=(None,),
            help="Leaves this run, which stays under Runs; the inputs stay as they are.",
        )
        if st.button("Open in the playground", key="cc_open", icon=":material/open_in_new:"):
            navigation.open_run(loaded_run.id)
        downloads(loaded_run.run, loaded_run.calls, loaded_run.votes, prefix="cc")
    section = st.expander("Every call", icon=":material/list:", key="cc_each", on_change="rerun")
    if section.open:
        with section:
            _calls(loaded_run)


def _calls(loaded_run: runs.Shown) -> None:
    st.dataframe(
        pd.DataFrame(
            [
                {
                    "Deployment": row["deployment"]["name"],
                    "Call": row["repetition"],
                    "Asked for": row.get("cache_mode") or "nothing",
                    "State": runs_view.words(from_row(row)),
                    "Prompt cache": runs_view.cache_words(usage_of(row)),
                    "First token": formatting.seconds(row.get("ttft_ms")),
                    "Not cached": formatting.count(row.get("uncached_input")),
                    "Read": formatting.count(row.get("cache_read")),
                    "Written, short": formatting.count(row.get("cache_write_5m")),
                    "Written, long": formatting.count(row.get("cache_write_1h")),
                    "Cost": record.in_words(from_row(row))["cost"],
                }
                for row in runs_view.last_attempts(loaded_run.calls)
            ]
        ),
        hide_index=True,
        alt="Every call of this measurement",
    )


KINDS: Mapping[Counted, str] = {
    "uncached_input": "not cached",
    "cache_read": "read from cache",
    "cache_write_5m": "written, short-lived",
    "cache_write_1h": "written, long-lived",
}

FILL = {"cold": 0.0, "warm": 1.0, runs_view.NOT_REPORTED: 0.35}

SIGNS = {
    "cold": "hollow: cold cache",
    "warm": "filled: warm cache",
    runs_view.NOT_REPORTED: "pale: the service does not say",
}

HEIGHT = 240


def theme() -> charts_theme.Theme:
    """The theme that the page is drawn in."""
    return "dark" if st.context.theme.type == "dark" else "light"


def names(measurements: Sequence[Measured]) -> list[str]:
    """What to call each deployment in a legend: its name, with its id where two are called alike."""
    deployment_names = [m.deployment.name for m in measurements]
    return [
        f"{m.deployment.name} ({m.deployment.id})"
        if deployment_names.count(m.deployment.name) > 1
        else m.deployment.name
        for m in measurements
    ]


def first_tokens(measurements: Sequence[Measured]) -> None:
    """One point for each call with a first token: hollow where the cache was cold, filled where it was warm."""
    import altair as alt

    rows: list[dict[str, Any]] = [
        {
            "call": row["repetition"],
            "seconds": ttft / 1000,
            "cache": runs_view.cache_words(usage_of(row)),
            "name": name,
            "asked": MODE_WORDS[mode] if (mode := row["cache_mode"]) else "as the service does",
        }
        for m, name in zip(measurements, names(measurements), strict=True)
        for row in m.succeeded
        if (ttft := row["ttft_ms"]) is not None
    ]
    st.markdown(f"**First token of each call** · n = {len(rows):,}")
    if not rows:
        st.caption("No call has a first token yet.")
        return
    legend = [SIGNS[state] for state in FILL if any(row["cache"] == state for row in rows)]
    st.caption(", ".join(legend))
    color = alt.Color(
        "name:N",
        title=None,
        legend=alt.Legend(orient="bottom", columns=2, labelLimit=320) if len(measurements) > 1 else None,
        scale=alt.Scale(
            domain=names(measurements),
            range=[charts_theme.color(m.deployment.color_slot, theme()) for m in measurements],
        ),
    )
    chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_point(size=80, strokeWidth=2, opacity=1)
        .encode(
            x=alt.X("call:O", title="Call", axis=alt.Axis(labelAngle=0)),
            # Deployments stand beside each other: their times are often alike.
            **({"xOffset": alt.XOffset("name:N", sort=names(measurements))} if len(measurements) > 1 else {}),
            y=alt.Y("seconds:Q", title="First token, s", scale=alt.Scale(zero=True)),
            stroke=color,
            fill=color,
            fillOpacity=alt.FillOpacity(
                "cache:N", legend=None, scale=alt.Scale(type="ordinal", domain=list(FILL), range=list(FILL.values()))
            ),
            tooltip=[
                alt.Tooltip("name:N", title="Deployment"),
                alt.Tooltip("call:O", title="Call"),
                alt.Tooltip("cache:N", title="Prompt cache"),
                alt.Tooltip("asked:N", title="Asked for"),
                alt.Tooltip("seconds:Q", title="First token, s", format=".3f"),
            ],
        )
        .properties(height=HEIGHT if len(measurements) == 1 else HEIGHT + 80)
    )
    st.altair_chart(chart, width="stretch", alt=_alt_times(rows))


def tokens(m: Measured, name: str) -> None:
    """One bar for each call: its input tokens by where they came from. Calls with caching off stand apart."""
    import altair as alt

    rows: list[dict[str, Any]] = [
        {"call": row["repetition"], "kind": KINDS[kind], "tokens": tokens, "order": order}
        for row in m.succeeded
        if row.get("cache_mode") != "off" or set(m.modes) == {"off"}
        for order, kind in enumerate(KINDS)
        if (tokens := row[kind])
    ]
    st.markdown(f"**Input tokens of each call** · n = {len({row['call'] for row in rows}):,}")
    if not rows:
        st.caption("No token counts yet.")
        return
    kinds = [kind for kind in KINDS.values() if any(row["kind"] == kind for row in rows)]
    shades = charts_theme.DRIVERS_DARK if theme() == "dark" else charts_theme.DRIVERS_LIGHT
    steps = dict(zip(KINDS.values(), (shades[0], shades[3], shades[1], shades[2]), strict=True))
    chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar()
        .encode(
            x=alt.X("call:O", title="Call", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("tokens:Q", title="Input tokens", stack="zero"),
            color=alt.Color(
                "kind:N",
                title=None,
                legend=alt.Legend(orient="bottom", columns=2),
                scale=alt.Scale(domain=kinds, range=[steps[kind] for kind in kinds]),
            ),
            order=alt.Order("order:Q"),
            tooltip=[
                alt.Tooltip("call:O", title="Call"),
                alt.Tooltip("kind:N", title="Tokens"),
                alt.Tooltip("tokens:Q", title="Count", format=","),
            ],
        )
        .properties(height=HEIGHT)
    )
    st.altair_chart(chart, width="stretch", alt=f"Input tokens of each call to {name}, by what the cache did with them")


def _alt_times(rows: Sequence[dict[str, Any]]) -> str:
    parts = [f"call {r['call']} {r['cache']} {r['seconds']:.2f} s" for r in rows[:20]]
    return f"Time to first token: {', '.join(parts)}"
