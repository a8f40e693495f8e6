"""One deployment: what it is, its connection test, the server behind it, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import streamlit as st

from app import auth, glossary
from app.deployments import form
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import plain
from db import run_queries
from services.deployments.registry import DeploymentStatus
from services.deployments.toml_table import to_toml
from services.params import PARAMS
from services.pricing import cost, hourly
from services.providers import kind_of
from services.security.network import on_amazon
from services.servers import FIGURES, Gauge, ServerFacts, ServerReport, has_server, hits_since, lacks, unserved
from services.types import Aws, Deployment, PriceRef

DECLARED = {
    "file": "Declared in deployments.toml: change it there. It can be switched on and off here.",
    "catalogue": "From the catalogue of models that comes with the product; it can be switched on and off here.",
    "embedded": "A model server that the product runs itself; it can be switched on and off here.",
    "page": "Added on this page.",
}

EDITING, REMOVING, REFUSAL = "dp_editing", "dp_removing", "dp_refusal"


def draw(status: DeploymentStatus, person: auth.Person) -> None:
    """The panel below the table."""
    d = status.deployment
    with st.container(border=True):
        st.subheader(plain(d.name))
        st.caption(" ".join((DECLARED[d.origin], plain(d.note))).strip())
        st.table(facts(d), border="horizontal", width="stretch", alt=f"What {d.name} is")
        draw_server(d)
        if person.may("send"):
            _buttons(status, person)
            draw_refusal(REFUSAL)
        _test(status, person)
        if st.session_state.get(EDITING) == d.id and person.may("deploy"):
            form.draw(f"dp_edit_{d.id}_", d)
        with st.expander("Show as TOML", icon=":material/code:"):
            st.caption("Paste this into deployments.toml to declare it for everyone; the key stays in its variable.")
            st.code(to_toml(d), language="toml")
    if st.session_state.get(REMOVING) == d.id:
        _confirm_removal(d)


def facts(d: Deployment) -> dict[str, str]:
    """What a deployment is, as label and text, fit for a table."""
    accepted = kind_of(d).accepts(d)
    address = "this machine" if d.base_url.startswith("embedded://") else d.base_url
    rows = {
        "Kind": kind_of(d).title,
        "Wire": glossary.WIRE_WORDS.get(d.wire, d.wire),
        "Model": d.model,
        "Address": address,
        **({"Key": f"the variable {d.key_env}" if d.key_env else "none"} if d.aws is None else aws_facts(d)),
        "Price": price_words(d.price),
        "Context": f"{d.context_tokens:,} tokens" if d.context_tokens else "not known",
        "Parameters": ", ".join(PARAMS[p].label.lower() for p in PARAMS if p in accepted) or "none",
    }
    return {label: plain(text) for label, text in rows.items()}


def price_words(price: PriceRef) -> str:
    """Where the price comes from, in words."""
    if price.override:
        rates = ", ".join(
            f"{form.RATE_LABELS.get(name, name).lower()} ${rate}" for name, rate in price.override.items()
        )
        return f"own price per 1M tokens: {rates}"
    if hourly := hourly_price(price):
        return hourly
    if price.provider and price.model:
        return f"price list: {price.provider}, {price.model}"
    return "no price"


def _buttons(status: DeploymentStatus, person: auth.Person) -> None:
    d = status.deployment
    with st.container(horizontal=True):
        st.button(
            "Test",
            key=f"dp_test_{d.id}",
            type="primary",
            icon=":material/network_check:",
            help="One short call: is it reachable, are we authorised, does the model exist, what can it do?",
        )
        if not person.may("deploy"):
            return
        label, icon = ("Switch off", "toggle_off") if d.enabled else ("Switch on", "toggle_on")
        st.button(
            label, key=f"dp_switch_{d.id}", icon=f":material/{icon}:", on_click=switch, args=(d.id, not d.enabled)
        )
        if d.origin == "page":
            st.button("Edit", key=f"dp_edit_{d.id}", icon=":material/edit:", on_click=_edit, args=(d.id,))
            st.button("Remove", key=f"dp_remove_{d.id}", icon=":material/delete:", on_click=_ask_removal, args=(d.id,))


def switch(deployment_id: str, on: bool) -> None:
    """Callback: switch one deployment on or off."""
    attempt(REFUSAL, lambda: auth.engine().set_enabled(deployment_id, on))


def _edit(deployment_id: str) -> None:
    st.session_state[EDITING] = None if st.session_state.get(EDITING) == deployment_id else deployment_id


def _ask_removal(deployment_id: str) -> None:
    st.session_state[REMOVING] = deployment_id


def _keep() -> None:
    st.session_state.pop(REMOVING, None)


def _remove(deployment_id: str) -> None:
    _keep()
    attempt(REFUSAL, lambda: auth.engine().remove_deployment(deployment_id))


@st.dialog("Remove this deployment?", on_dismiss=_keep)
def _confirm_removal(d: Deployment) -> None:
    st.markdown(f"{plain(d.name)} leaves the list. Its runs, figures and colour stay in the history.")
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Keep it", key="dp_keep", on_click=_keep):
            st.rerun()
        if st.button("Remove", key="dp_remove_now", type="primary", on_click=_remove, args=(d.id,)):
            st.rerun()


def _test(status: DeploymentStatus, person: auth.Person) -> None:
    d = status.deployment
    result = status.test
    if st.session_state.get(f"dp_test_{d.id}") and person.may("send"):
        with st.spinner(f"One short call to {plain(d.name)} …", show_time=True):
            attempt(REFUSAL, lambda: auth.engine().test_deployment(d.id))
        st.rerun()
    if result is None:
        st.caption("Not tested yet.")
        return
    icon = ":green[:material/check_circle:]" if result.get("ok") else ":red[:material/error:]"
    st.markdown(f"{icon} {plain(result.get('sentence') or '')}")
    st.table(verdict(result), border="horizontal", width="content", alt="Result of the connection test")
    tested_at = str(result.get("at") or "–").replace("T", " ").removesuffix("+00:00")
    st.caption(f"Tested {plain(tested_at)} (UTC)")


def verdict(result: Mapping[str, Any]) -> dict[str, str]:
    """The answers of a connection test as words; a question that was not reached says so."""
    answers = {True: "yes", False: "no", None: "not reached"}
    rows = {
        "Reachable": answers[result.get("reachable")],
        "Authorised": answers[result.get("authorised")],
        "Model exists": answers[result.get("model_exists")],
    }
    capabilities = result.get("capabilities") or {}
    for name, label in CAPABILITIES.items():
        if name in capabilities:
            rows[label] = answers[bool(capabilities[name])]
    if capabilities.get("refuses"):
        rows["Left out, as it refuses it"] = plain(", ".join(capabilities["refuses"]))
    if capabilities.get("model_reported"):
        rows["Calls itself"] = plain(capabilities["model_reported"])
    return rows


CAPABILITIES = {
    "streams": "Streams its answer",
    "reports_usage": "Reports its token counts",
    "reports_cached_tokens": "Reports cached tokens",
    "reports_server_time": "Reports its own time",
    "reasons": "Reasons before it answers",
}

WATCHED = "dp_server"  # the deployment that is looked at, and its first gauge

HELP = {
    "running": "Requests that the server works on now, from whomever.",
    "waiting": "Requests that wait in the server's own queue.",
    "kv": "How much of the memory for contexts (the KV cache) is taken. When it is full, requests wait or are pushed "
    "out.",
    "hits": "Prompt tokens that the server read from its prefix cache, of all that it was asked.",
}


def draw_server(d: Deployment) -> None:
    """All of it, for the deployments that have a server of their own or are paid by the hour."""
    if hourly_sentence := hour_words(d):
        st.caption(f":material/schedule: {plain(hourly_sentence)}", help=HOURS_HELP)
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
    intervals = [interval for row in rows if (interval := hourly.span_of_call(row, now)) is not None]
    return hourly.words(hourly.use_of(intervals, window, Decimal(price.per_hour)))


@st.fragment(run_every=2.0, key="dp_server_watch")
def _watch(d: Deployment) -> None:
    try:
        report = auth.engine().server(d.id)
    except auth.EngineError as error:
        st.caption(f":material/link_off: {plain(str(error))}")
        return
    gauge = Gauge.from_json(report["gauge"]) if report["gauge"] else None
    if gauge is None:
        st.caption(f":material/monitor_heart: {plain(report['trouble'] or NOTHING)}")
    else:
        _draw_gauge(d, gauge)
    _draw_facts(d, report)


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


def _draw_facts(d: Deployment, report: ServerReport) -> None:
    if not report["facts"]:
        if report["facts_trouble"] and not report["trouble"]:  # one sentence for one server is enough
            st.caption(plain(report["facts_trouble"]))
        return
    facts = ServerFacts.from_json(report["facts"])
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


LABELS = {
    "service_tier": "Service tier",
    "latency": "Latency",
    "guardrail": "Guardrail",
    "component": "Inference component",
    "variant": "Variant",
    "serves": "Model behind it",
    "batch_s3": "S3 for batches",
    "batch_role": "Role for batches",
}


def place(d: Deployment) -> str:
    """Its region; with the host where that is not AWS's own."""
    host = urlsplit(d.base_url).hostname or "–"
    return f"AWS {d.region}" if on_amazon(d.base_url) else f"AWS {d.region}, {host}"


def aws_facts(d: Deployment) -> dict[str, str]:
    """What a table says of it beyond what every deployment has; nothing for one that is not on AWS."""
    if d.aws is None:
        return {}
    rows = {"Region": d.region or "–", "Credentials": credentials(d)}
    return rows | {label: value for name, label in LABELS.items() if (value := getattr(d.aws, name))}


def credentials(d: Deployment) -> str:
    """Whose credentials its calls are signed with, by name."""
    if d.key_env:
        return f"the key in {d.key_env}, no signature"
    profile = (d.aws or Aws()).profile
    return f"AWS profile {profile}" if profile else "the ordinary AWS chain"


def hourly_price(price: PriceRef) -> str | None:
    """A price by the hour in words; None for another form of price."""
    many = "" if price.count == 1 else f"{price.count} × "
    if price.instance is not None:
        return f"{many}{price.instance}, by the hour of being on (dated file of instance prices)"
    if price.per_hour is None:
        return None
    return "free" if price.per_hour == "0" else f"{many}${price.per_hour} per hour of being on"
