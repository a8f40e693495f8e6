"""One deployment: what it is, its connection test, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import auth
from app.deployments import aws, form, server
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import plain
from services.deployments.config import to_toml
from services.deployments.status import DeploymentStatus
from services.params import PARAMS
from services.providers import kind_of
from services.types import Deployment, PriceRef

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
        server.draw(d)
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
        "Wire": form.WIRE_WORDS.get(d.wire, d.wire),
        "Model": d.model,
        "Address": address,
        **({"Key": f"the variable {d.key_env}" if d.key_env else "none"} if d.aws is None else aws.facts(d)),
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
    if hourly := aws.hourly(price):
        return hourly
    if price.provider and price.model:
        return f"price list: {price.provider}, {price.model}"
    return "no price"


def _buttons(status: DeploymentStatus, person: auth.Person) -> None:
    d = status.deployment
    with st.container(horizontal=True):
        st.button(
            "Test", key=f"dp_test_{d.id}", type="primary", icon=":material/network_check:",
            help="One short call: is it reachable, are we authorised, does the model exist, what can it do?",
        )  # fmt: skip
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
    at = str(result.get("at") or "–").replace("T", " ").removesuffix("+00:00")
    st.caption(f"Tested {plain(at)} (UTC)")


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
