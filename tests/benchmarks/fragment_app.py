"""The usual way to show streams in Streamlit: a fragment that reruns by itself and paints what there is."""

from __future__ import annotations

import threading
from typing import Any

import streamlit as st

from app.live.websocket import Mirror
from services.client import client_from_env

EVERY_S = 0.2


@st.cache_resource
def following(run_id: str) -> Mirror:
    """One mirror of the run for all sessions, fed by one thread, as our own relay has it."""
    mirror = Mirror()

    def follow() -> None:
        with client_from_env("bench", "viewer").stream(run_id) as frames:
            for frame in frames:
                mirror.apply(frame)

    threading.Thread(target=follow, daemon=True).start()
    return mirror


@st.fragment(run_every=EVERY_S)
def columns(mirror: Mirror) -> None:
    """Paint every column anew."""
    living: list[Any] = list(mirror._columns.values())
    for place, column in zip(st.columns(max(1, len(living))), living, strict=False):
        place.markdown(f"column {column.fields['i']}\n{''.join(column.answer)}")
    if living and not mirror.live:
        st.markdown("over")


columns(following(st.query_params.get("run", "")))
