"""The table of deployments, the model servers that the product runs itself, and the switches of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import pandas as pd
import streamlit as st

from app import auth
from app.charts.theme import Theme, color
from app.deployments import detail
from app.widgets.status import attempt, draw_refusal, restart_button, sentence
from app.widgets.text import KIND_NAMES, plain
from services.deployments.config import RESERVED
from services.deployments.registry import DeploymentStatus
from services.types import Deployment, ServerState

TABLE = "dp_table"


def host(deployment: Deployment) -> str:
    """Where a deployment is: its host, its region of AWS, or this machine."""
    if deployment.base_url.startswith("embedded://"):
        return "this machine"
    if deployment.aws is not None:
        return detail.place(deployment)
    return urlsplit(deployment.base_url).hostname or "–"


def state_words(status: DeploymentStatus, embedded: Mapping[str, ServerState]) -> str:
    """Whether a deployment can be called, in a few words."""
    if status.needs == "disabled":
        return "switched off"
    if status.needs:
        return status.needs
    if status.deployment.base_url.startswith("embedded://"):
        server = embedded.get(status.deployment.base_url.removeprefix("embedded://").strip("/"))
        state = server["state"] if server else "ready"
        return "ready" if state == "ready" else f"local server: {state}"
    return "ready"


def tested_words(status: DeploymentStatus) -> str:
    """The last connection test in one or two words."""
    if status.test is None:
        return "not tested"
    if not status.test.get("ok"):
        return "failed"
    ttft = status.test.get("ttft_ms")
    return "answered" if ttft is None else f"answered, {ttft / 1000:.2f} s"


def draw(statuses: Sequence[DeploymentStatus], embedded: Mapping[str, ServerState]) -> DeploymentStatus | None:
    """The table; returns the deployment whose line is selected, if one is."""
    theme: Theme = "dark" if st.context.theme.type == "dark" else "light"
    frame = pd.DataFrame(
        {
            "color": ["●"] * len(statuses),
            "name": [" · ".join((s.deployment.name, *s.deployment.labels)) for s in statuses],
            "state": [state_words(s, embedded) for s in statuses],
            "kind": [KIND_NAMES.get(s.deployment.kind, s.deployment.kind) for s in statuses],
            "model": [s.deployment.model for s in statuses],
            "host": [host(s.deployment) for s in statuses],
            "test": [tested_words(s) for s in statuses],
        }
    )
    # A model of the catalogue that was never switched on has no colour of its own yet.
    waiting = "#a3a096" if theme == "dark" else "#c9c9c3"
    slots = [s.deployment.color_slot for s in statuses]
    colors = [color(slot, theme) if slot < RESERVED else waiting for slot in slots]
    styled = frame.style.apply(lambda _: [f"color: {c}" for c in colors], subset=["color"], axis=0)
    event = st.dataframe(
        styled,
        key=TABLE,
        hide_index=True,
        height="content",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "color": st.column_config.TextColumn(
                " ", width=36, pinned=True, help="The colour of this deployment on every page."
            ),
            "name": st.column_config.TextColumn("Name", pinned=True),
            "state": st.column_config.TextColumn("State", help="What is missing before it can be called."),
            "kind": st.column_config.TextColumn("Kind"),
            "model": st.column_config.TextColumn("Model"),
            "host": st.column_config.TextColumn("Host or region"),
            "test": st.column_config.TextColumn("Last test", help="First token of one short call, when it answered."),
        },
        alt="Deployments with their state, kind, model and host",
    )
    rows = event.selection.rows
    return statuses[rows[0]] if rows and rows[0] < len(statuses) else None


CATALOGUES = {"anthropic": "Anthropic models", "openai": "OpenAI models"}


def draw_catalogue(statuses: Sequence[DeploymentStatus], person: auth.Person) -> None:
    """One switch for each provider of the catalogue."""
    with st.container(horizontal=True, gap="large"):
        for provider, label in CATALOGUES.items():
            listed = [s for s in statuses if s.deployment.origin == "catalogue" and s.deployment.kind == provider]
            if not listed:
                continue
            # The engine's word counts, not the one of an earlier click.
            key = f"dp_catalogue_{provider}"
            st.session_state[key] = all(s.deployment.enabled for s in listed)
            needed = listed[0].deployment.key_env
            st.toggle(
                label,
                key=key,
                on_change=_switch,
                args=(provider,),
                disabled=not person.may("deploy"),
                help=f"Switches {len(listed)} current models on or off. They are called with the key in {needed}.",
            )
    draw_refusal("dp_catalogue_refusal")


def _switch(provider: str) -> None:
    on = bool(st.session_state[f"dp_catalogue_{provider}"])
    attempt("dp_catalogue_refusal", lambda: auth.engine().enable_catalogue(provider, on))


def draw_servers(embedded: Mapping[str, ServerState], person: auth.Person) -> None:
    """State, restarts and a restart button for each embedded server."""
    if not embedded:
        st.caption("No local model server runs here.")
        return
    for name, server in embedded.items():
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            restarts = server["restarts"]
            st.markdown(f"**{plain(name)}** · {plain(server['state'])}", width="content")
            times = (
                "restarted once" if restarts == 1 else f"restarted {restarts} times" if restarts else "never restarted"
            )
            reason = "" if server["state"] == "ready" else f" · {plain(sentence(name, server))}"
            st.caption(times + reason, width="stretch")
            if person.may("deploy") or (person.may("send") and server["state"] == "unavailable"):
                restart_button(name, key=f"dp_restart_{name}")
