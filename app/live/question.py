"""The session-state keys of the playground's question, and how another page puts a question there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

PROMPT, SYSTEM, CHOSEN, RUN = "pg_prompt", "pg_system", "pg_deployments", "pg_run"


def shared_key(name: str) -> str:
    """Session key of a parameter of the shared set."""
    return f"pg_param_{name}"


def put(prompt: str, system: str, deployment_id: str, params: Mapping[str, Any]) -> None:
    """The playground opens with this question for one deployment, and shows no run."""
    state = st.session_state
    state[PROMPT], state[SYSTEM], state[RUN] = prompt, system, None
    state[CHOSEN] = [deployment_id]
    for name, value in params.items():
        state[shared_key(name)] = value
