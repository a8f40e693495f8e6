"""The server behind a deployment, beside its panel: how it is now, what it is, and what its hours cost at their use."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import streamlit as st

from app import auth
from app.widgets.text import plain
from db import run_queries
from services.pricing import cost, hourly
from services.servers import ServerFacts, has_server, unserved
from services.servers_metrics import FIGURES, Gauge, hits_since, lacks
from services.types import Deployment

WATCHED = "dp_server"  # the deployment that is looked at, and its first gauge
HELP = {
    "running": "Requests that the server works on now, from whomever.",
    "waiting": "Requests that wait in the server's own queue.",
    "kv": "How much of the memory for contexts (the KV cache) is taken. When it is full, requests wait or are pushed "
    "out.",
    "hits": "Prompt tokens that the server read from its prefix cache, of all that it was asked.",
}


def draw(d: Deployment) -> None:
    """All of it, for the deployments that have a server of their own or are paid by the hour."""
    if said := hour_words(d):
        st.caption(f":material/schedule: {plain(said)}", help=HOURS_HELP)
    if has_server(d):
        _watch(d)


HOURS_HELP = (
    "An hour costs the same whether the machine works or not. The cost of the whole time, counted as on without a "
    "pause, is spread over the calls that were made from here; calls that others made to it are not known here."
)


def hour_words(d: Deployment) -> str | None:
    """What an hour-priced deployment cost at its use, in one line; None for all others."""
    now = datetime.now(UTC)
    try:
        price = cost.price_of(d, now)
    except ValueError:
        return None
    if price is None or price.per_hour is None or Decimal(price.per_hour) == 0:
        return None
    declared = run_queries.declared_at(auth.database(), d.id)
    if declared is None:
        return None
    window = hourly.window_of(declared, now)
    rows = run_queries.held_by_calls(auth.database(), d.id, window[0])
    held = [one for row in rows if (one := hourly.held_of(row, now)) is not None]
    return hourly.words(hourly.use_of(held, window, Decimal(price.per_hour)))


@st.fragment(run_every=2.0, key="dp_server_watch")
def _watch(d: Deployment) -> None:
    try:
        said = auth.engine().server(d.id)
    except auth.EngineError as error:
        st.caption(f":material/link_off: {plain(str(error))}")
        return
    gauge = Gauge.from_json(said["gauge"]) if said["gauge"] else None
    if gauge is None:
        st.caption(f":material/monitor_heart: {plain(said['trouble'] or NOTHING)}")
    else:
        _draw_gauge(d, gauge)
    _draw_facts(d, said)


NOTHING = "This server does not say how it is."
UNREADABLE = "not readable"


def _draw_gauge(d: Deployment, gauge: Gauge) -> None:
    seen = st.session_state.get(WATCHED) or {}
    if seen.get("id") != d.id or _started_again(Gauge.from_json(seen["first"]), gauge):
        seen = {"id": d.id, "first": gauge.to_json()}
    st.session_state[WATCHED] = seen
    hits = hits_since(Gauge.from_json(seen["first"]), gauge)
    ever = hits_since(None, gauge)
    with st.container(horizontal=True, gap="medium"):
        none = {name: UNREADABLE if name in gauge.unreadable else "–" for name in FIGURES}
        _figure("Running", _count(gauge.running, none["running"]), HELP["running"])
        _figure("Waiting", _count(gauge.waiting, none["waiting"]), HELP["waiting"])
        _figure("KV cache", _share(gauge.kv_used, none["kv"]), HELP["kv"])
        _figure("Prefix hits", _share(hits, none["prefix"]), HELP["hits"] + " Since you opened this panel.")
        _figure("Hits since its start", _share(ever, none["prefix"]), HELP["hits"] + " Since the server was started.")
    for sentence in lacks(gauge):
        st.caption(plain(sentence))


def _started_again(first: Gauge, now: Gauge) -> bool:
    return (now.prefix_queries or 0) < (first.prefix_queries or 0)


def _figure(label: str, value: str, about: str) -> None:
    st.metric(label, value, help=about, width="content")


def _count(value: int | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:,}"


def _share(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value * 100:.0f} %"


def _draw_facts(d: Deployment, said: dict[str, Any]) -> None:
    if not said["facts"]:
        if said["facts_trouble"] and not said["trouble"]:  # one sentence for one server is enough
            st.caption(plain(said["facts_trouble"]))
        return
    facts = ServerFacts.from_json(said["facts"])
    st.table(fact_rows(facts), border="horizontal", width="content", alt=f"What the server of {d.name} says it is")
    if wrong := unserved(facts, d.model):
        st.caption(f":orange[:material/warning: {plain(wrong)}]")


def fact_rows(facts: ServerFacts) -> dict[str, str]:
    """A server's own account of itself as label and text; what it does not say is said, or left out where few do."""
    rows = {
        "Server": facts.software or "it does not say what it is",
        "Version": facts.version or "not said",
        "Longest context": f"{facts.context_tokens:,} tokens" if facts.context_tokens else "not said",
    }
    if facts.slots:
        rows["At once"] = f"{facts.slots:,} requests"
    if facts.kv_tokens:
        rows["KV cache holds"] = f"{facts.kv_tokens:,} tokens"
    if len(facts.models) > 1:
        rows["Models"] = ", ".join(facts.models[:5]) + (
            f" and {len(facts.models) - 5} more" if facts.models[5:] else ""
        )
    return {label: plain(text) for label, text in rows.items()}
