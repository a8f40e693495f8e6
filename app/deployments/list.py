"""The table of deployments: one line each, with its colour, where it is and whether it can be called."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

import pandas as pd
import streamlit as st

from app.charts.palette import Theme, color
from app.deployments import aws
from app.widgets.kind_names import KIND_NAMES
from services.deployments.catalog import RESERVED
from services.deployments.status import DeploymentStatus
from services.types import Deployment

TABLE = "dp_table"


def host(deployment: Deployment) -> str:
    """Where a deployment is: its host, its region of AWS, or this machine."""
    if deployment.base_url.startswith("embedded://"):
        return "this machine"
    if deployment.aws is not None:
        return aws.place(deployment)
    return urlsplit(deployment.base_url).hostname or "–"


def state_words(status: DeploymentStatus, embedded: dict[str, dict[str, object]]) -> str:
    """Whether a deployment can be called, in a few words."""
    if status.needs == "disabled":
        return "switched off"
    if status.needs:
        return status.needs
    if status.deployment.base_url.startswith("embedded://"):
        server = embedded.get(status.deployment.base_url.removeprefix("embedded://").strip("/"))
        state = str(server.get("state")) if server else "ready"
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


def draw(statuses: Sequence[DeploymentStatus], embedded: dict[str, dict[str, object]]) -> DeploymentStatus | None:
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
