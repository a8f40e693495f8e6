"""The two pictures of the caching page: time to first token of each call, and where its input tokens came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.charts import palette
from services.caching import Measured
from services.providers.caching import MODE_WORDS
from services.runs import cache_state

KINDS = {
    "uncached_input": "not cached",
    "cache_read": "read from cache",
    "cache_write_5m": "written, short-lived",
    "cache_write_1h": "written, long-lived",
}
FILL = {"cold": 0.0, "warm": 1.0, cache_state.NOT_REPORTED: 0.35}
SIGNS = {
    "cold": "hollow: cold cache",
    "warm": "filled: warm cache",
    cache_state.NOT_REPORTED: "pale: the service does not say",
}
HEIGHT = 240


def theme() -> palette.Theme:
    """The theme that the page is drawn in."""
    return "dark" if st.context.theme.type == "dark" else "light"


def names(found: Sequence[Measured]) -> list[str]:
    """What to call each deployment in a legend: its name, with its id where two are called alike."""
    given = [m.deployment.name for m in found]
    return [f"{m.deployment.name} ({m.deployment.id})" if given.count(m.deployment.name) > 1 else m.deployment.name
            for m in found]  # fmt: skip


def first_tokens(found: Sequence[Measured]) -> None:
    """One point for each call with a first token: hollow where the cache was cold, filled where it was warm."""
    import altair as alt

    rows: list[dict[str, Any]] = [
        {
            "call": row["repetition"], "seconds": row["ttft_ms"] / 1000, "cache": cache_state.words(row), "name": name,
            "asked": MODE_WORDS[row["cache_mode"]] if row.get("cache_mode") else "as the service does",
        }
        for m, name in zip(found, names(found), strict=True)
        for row in m.succeeded
        if row.get("ttft_ms") is not None
    ]  # fmt: skip
    st.markdown(f"**First token of each call** · n = {len(rows):,}")
    if not rows:
        st.caption("No call has a first token yet.")
        return
    shown = [SIGNS[state] for state in FILL if any(row["cache"] == state for row in rows)]
    st.caption(", ".join(shown))
    color = alt.Color(
        "name:N", title=None, legend=alt.Legend(orient="bottom", columns=2, labelLimit=320) if len(found) > 1 else None,
        scale=alt.Scale(domain=names(found), range=[palette.color(m.deployment.color_slot, theme()) for m in found]),
    )  # fmt: skip
    chart = alt.Chart(pd.DataFrame(rows)).mark_point(size=80, strokeWidth=2, opacity=1).encode(
        x=alt.X("call:O", title="Call", axis=alt.Axis(labelAngle=0)),
        # Deployments stand beside each other: their times are often alike.
        **({"xOffset": alt.XOffset("name:N", sort=names(found))} if len(found) > 1 else {}),
        y=alt.Y("seconds:Q", title="First token, s", scale=alt.Scale(zero=True)),
        stroke=color, fill=color,
        fillOpacity=alt.FillOpacity(
            "cache:N", legend=None, scale=alt.Scale(type="ordinal", domain=list(FILL), range=list(FILL.values()))
        ),
        tooltip=[
            alt.Tooltip("name:N", title="Deployment"), alt.Tooltip("call:O", title="Call"),
            alt.Tooltip("cache:N", title="Prompt cache"), alt.Tooltip("asked:N", title="Asked for"),
            alt.Tooltip("seconds:Q", title="First token, s", format=".3f"),
        ],
    ).properties(height=HEIGHT if len(found) == 1 else HEIGHT + 80)  # fmt: skip
    st.altair_chart(chart, width="stretch", alt=_alt_times(rows))


def tokens(m: Measured, name: str) -> None:
    """One bar for each call: its input tokens by where they came from. Calls with caching off stand apart."""
    import altair as alt

    rows: list[dict[str, Any]] = [
        {"call": row["repetition"], "kind": KINDS[kind], "tokens": row[kind], "order": order}
        for row in m.succeeded
        if row.get("cache_mode") != "off" or set(m.modes) == {"off"}
        for order, kind in enumerate(KINDS)
        if row.get(kind)
    ]
    st.markdown(f"**Input tokens of each call** · n = {len({row['call'] for row in rows}):,}")
    if not rows:
        st.caption("No token counts yet.")
        return
    kinds = [kind for kind in KINDS.values() if any(row["kind"] == kind for row in rows)]
    shades = palette.DRIVERS_DARK if theme() == "dark" else palette.DRIVERS_LIGHT
    steps = dict(zip(KINDS.values(), (shades[0], shades[3], shades[1], shades[2]), strict=True))
    chart = alt.Chart(pd.DataFrame(rows)).mark_bar().encode(
        x=alt.X("call:O", title="Call", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("tokens:Q", title="Input tokens", stack="zero"),
        color=alt.Color(
            "kind:N", title=None, legend=alt.Legend(orient="bottom", columns=2),
            scale=alt.Scale(domain=kinds, range=[steps[kind] for kind in kinds]),
        ),
        order=alt.Order("order:Q"),
        tooltip=[alt.Tooltip("call:O", title="Call"), alt.Tooltip("kind:N", title="Tokens"),
                 alt.Tooltip("tokens:Q", title="Count", format=",")],
    ).properties(height=HEIGHT)  # fmt: skip
    st.altair_chart(chart, width="stretch", alt=f"Input tokens of each call to {name}, by what the cache did with them")


def _alt_times(rows: Sequence[dict[str, Any]]) -> str:
    parts = [f"call {r['call']} {r['cache']} {r['seconds']:.2f} s" for r in rows[:20]]
    return f"Time to first token: {', '.join(parts)}"
