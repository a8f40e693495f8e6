"""Where the playground's inputs lie in the session: for the widgets that draw them, and for pages that fill them."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from services.deployments.registry import DeploymentStatus
from services.params import PARAMS
from services.providers import kind_of
from services.types import CacheMode, Json, JsonMapping

PROMPT, SYSTEM, CHOSEN = "pg_prompt", "pg_system", "pg_deployments"

RUN, CONTINUE, BASELINE, AWAY = "pg_run", "pg_continue", "pg_baseline", "pg_away"

AGAIN = "pg_again"  # the turn before the shown one: sending the shown turn again goes on from there as it did


def shared_key(name: str) -> str:
    """Session key of a parameter of the shared set."""
    return f"pg_param_{name}"


def own_key(deployment_id: str, name: str = "") -> str:
    """Session key of a deployment's opt-out switch, or of one of its own parameters."""
    return f"pg_own_{deployment_id}_{name}" if name else f"pg_own_{deployment_id}"


def cache_key(deployment_id: str) -> str:
    """Session key of how a deployment's column asks for prompt caching; None or no key: it says nothing."""
    return f"pg_cache_{deployment_id}"


def cache_of(deployment_id: str) -> CacheMode | None:
    """How a deployment's column asks for prompt caching."""
    mode: CacheMode | None = st.session_state.get(cache_key(deployment_id))
    return mode


def opted_out(deployment_id: str) -> bool:
    """Whether a deployment uses parameters of its own."""
    return bool(st.session_state.get(own_key(deployment_id)))


def shared_names(statuses: Sequence[DeploymentStatus]) -> list[str]:
    """Names of the parameters that at least one of the deployments in the shared set takes, in the usual order."""
    accepted = [kind_of(s.deployment).accepts(s.deployment) for s in statuses if not opted_out(s.deployment.id)]
    return [name for name in PARAMS if any(name in names for names in accepted)]


def params_of(deployment_id: str | None, names: Sequence[str]) -> Json:
    """The parameters that are set, of the shared set (None) or of one deployment's own."""
    key = shared_key if deployment_id is None else (lambda name: own_key(deployment_id, name))
    typed = {name: st.session_state.get(key(name)) for name in names}
    return {name: value for name, value in typed.items() if value not in (None, "", [], ())}


def put(prompt: str, system: str, deployment_id: str, params: JsonMapping) -> None:
    """Fill the playground with one question to one deployment; no run is shown there any more."""
    state = st.session_state
    state[PROMPT], state[SYSTEM], state[RUN], state[CHOSEN] = prompt, system, None, [deployment_id]
    for name, value in params.items():
        state[shared_key(name)] = value
