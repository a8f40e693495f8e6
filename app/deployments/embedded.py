"""The model servers that the product runs itself, and the two switches of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app import auth
from app.widgets.status import attempt, draw_refusal, restart_button, sentence
from app.widgets.text import plain
from services.deployments.status import DeploymentStatus

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
                label, key=key, on_change=_switch, args=(provider,), disabled=not person.may("deploy"),
                help=f"Switches {len(listed)} current models on or off. They are called with the key in {needed}.",
            )  # fmt: skip
    draw_refusal("dp_catalogue_refusal")


def _switch(provider: str) -> None:
    on = bool(st.session_state[f"dp_catalogue_{provider}"])
    attempt("dp_catalogue_refusal", lambda: auth.engine().enable_catalogue(provider, on))


def draw_servers(embedded: Mapping[str, Mapping[str, Any]], person: auth.Person) -> None:
    """State, restarts and a restart button for each embedded server."""
    if not embedded:
        st.caption("No local model server runs here.")
        return
    for name, server in embedded.items():
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            restarts = int(server.get("restarts") or 0)
            st.markdown(f"**{plain(name)}** · {plain(server.get('state') or 'unknown')}", width="content")
            times = (
                "restarted once" if restarts == 1 else f"restarted {restarts} times" if restarts else "never restarted"
            )
            said = "" if server.get("state") == "ready" else f" · {plain(sentence(name, server))}"
            st.caption(times + said, width="stretch")
            if person.may("deploy") or (person.may("send") and server.get("state") == "unavailable"):
                restart_button(name, key=f"dp_restart_{name}")
