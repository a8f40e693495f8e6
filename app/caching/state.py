"""What the caching page remembers, the run it asks for, and the way from a run back to its inputs."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from services import caching_samples as samples
from services.deployments.status import DeploymentStatus
from services.providers import kind_of
from services.providers.caching import MODE_WORDS
from services.runs.spec import MAX_COLUMNS, ColumnSpec, RunSpec
from services.types import CacheMode, Deployment

CHOSEN, SAMPLE, SYSTEM, QUESTION = "cc_deployments", "cc_sample", "cc_system", "cc_question"
CALLS, MODE, PAUSE, TOKENS, COLD, CONTROL = "cc_calls", "cc_mode", "cc_pause", "cc_tokens", "cc_cold", "cc_control"
RUN, TROUBLE = "cc_run", "cc_trouble"
MIN_CALLS, MAX_CALLS, MAX_PAUSE = 2, 20, 600
SOURCE = "caching"
_UNIQUE = re.compile(r"\A[0-9a-f]{16} is the number of this measurement and says nothing\.\n\n")


def prepare(statuses: Sequence[DeploymentStatus]) -> None:
    """Give every key its first value: the first deployment that can be called, and a prompt that fits it."""
    state = st.session_state
    ready = [s.deployment for s in statuses if s.ready]
    local = [d for d in ready if "local" in d.labels]
    first = (local or ready)[:1]
    for key, value in (
        (CHOSEN, [d.id for d in first]), (QUESTION, samples.QUESTION), (CALLS, 5), (MODE, None), (PAUSE, 0.0),
        (TOKENS, 48), (COLD, True), (CONTROL, False), (RUN, None), (TROUBLE, None),
    ):  # fmt: skip
        state.setdefault(key, value)
    fits = samples.fitting(first[0].context_tokens if first else None, 48)
    state.setdefault(SAMPLE, fits.title)
    state.setdefault(SYSTEM, fits.text)
    known = {s.deployment.id for s in statuses}
    state[CHOSEN] = [d for d in state[CHOSEN] if d in known]


def take_sample() -> None:
    """Callback: put the chosen handbook into the box."""
    chosen = next((book for book in samples.HANDBOOKS if book.title == st.session_state.get(SAMPLE)), None)
    if chosen is not None:
        st.session_state[SYSTEM] = chosen.text


def modes_of(deployments: Sequence[Deployment]) -> list[CacheMode]:
    """The modes that at least one of the deployments can be asked for, in the usual order."""
    known = {mode for d in deployments for mode in kind_of(d).cache_modes(d)}
    return [mode for mode in MODE_WORDS if mode in known]


def can_be_off(deployment: Deployment) -> bool:
    """Whether caching can be switched off for a comparison."""
    return "off" in kind_of(deployment).cache_modes(deployment)


def spec(deployments: Sequence[Deployment]) -> RunSpec:
    """The run that the page describes. Raises ValueError with one sentence when it cannot be sent."""
    state = st.session_state
    system = (state[SYSTEM] or "").strip()
    if not system:
        raise ValueError("The system prompt is empty: choose a sample or write the text that all calls share.")
    if not MIN_CALLS <= int(state[CALLS]) <= MAX_CALLS:
        raise ValueError(f"Calls go from {MIN_CALLS} to {MAX_CALLS}; {state[CALLS]} was asked for.")
    mode: CacheMode | None = state[MODE]
    columns = [ColumnSpec(d.id, cache=mode) for d in deployments]
    if state[CONTROL] and mode != "off":
        columns += [ColumnSpec(d.id, cache="off") for d in deployments if can_be_off(d)]
    if len(columns) > MAX_COLUMNS:
        raise ValueError(f"That makes {len(columns)} columns and {MAX_COLUMNS} is the most: choose fewer deployments.")
    return RunSpec(
        prompt=state[QUESTION] or "", columns=tuple(columns), system=unique(system) if state[COLD] else system,
        params={"max_tokens": int(state[TOKENS])}, repetitions=int(state[CALLS]), start="sequential",
        pause_s=float(state[PAUSE] or 0.0), source=SOURCE,
    ).checked()  # fmt: skip


def unique(system: str) -> str:
    """The system prompt behind one line that no earlier prompt began with."""
    return f"{secrets.token_hex(8)} is the number of this measurement and says nothing.\n\n{system}"


def adopt(run: Mapping[str, Any]) -> None:
    """Put the page's inputs back to what a recorded run was sent with."""
    state, columns = st.session_state, run.get("columns") or []
    state[CHOSEN] = list(dict.fromkeys(c["deployment_id"] for c in columns))
    modes = [c.get("cache") for c in columns]
    state[MODE] = modes[0] if modes else None
    state[CONTROL] = len(columns) > len(state[CHOSEN])
    state[CALLS] = min(max(int(run["repetitions"]), MIN_CALLS), MAX_CALLS)
    state[PAUSE] = min(float(run.get("stagger_s") or 0.0), float(MAX_PAUSE))
    state[TOKENS] = int((run.get("params") or {}).get("max_tokens") or state[TOKENS])
    system = run.get("system")
    if system:
        state[COLD] = _UNIQUE.match(system) is not None
        state[SYSTEM] = _UNIQUE.sub("", system)
        state[SAMPLE] = next((b.title for b in samples.HANDBOOKS if b.text == state[SYSTEM]), None)
    if run.get("prompt"):
        state[QUESTION] = run["prompt"]


def sync(asked: str | None) -> str | None:
    """Bring address and session together; returns the id of a run that the session did not know yet."""
    held = st.session_state.get(RUN)
    if asked:
        return asked if asked != held else None
    if held:
        st.query_params["run"] = held
    return None


def show(run_id: str | None) -> None:
    """Make a run the one that the page shows, or none, and keep the page's address in step."""
    st.session_state[RUN] = run_id
    if run_id:
        st.query_params["run"] = run_id
    elif "run" in st.query_params:
        del st.query_params["run"]
