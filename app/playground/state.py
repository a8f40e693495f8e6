"""What the playground remembers, the way from a run back to it, and what its buttons do."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from app import auth
from app.widgets.playground_inputs import (
    AGAIN,
    AWAY,
    BASELINE,
    CHOSEN,
    CONTINUE,
    PROMPT,
    RUN,
    SYSTEM,
    cache_key,
    cache_of,
    opted_out,
    own_key,
    params_of,
    shared_key,
    shared_names,
)
from db.run_rows import Ballot
from services.deployments.registry import DeploymentStatus
from services.params import PARAMS
from services.providers import kind_of
from services.runs import spec as runs_spec
from services.runs.spec import MAX_COLUMNS, Attachment, ColumnSpec, RunSpec, Sample

MOST_STARTED = 50

_shuffle = random.SystemRandom().shuffle


def send() -> None:
    """Start the run that the page describes. A refusal is kept as one sentence; nothing that was typed is lost."""
    state = st.session_state
    state[TROUBLE] = None
    try:
        spec = sided(described_run())
        run_id = auth.engine().start_run(spec)
    except (ValueError, auth.EngineError) as error:
        state[TROUBLE] = str(error)
        return
    state[STARTED] = [*state.get(STARTED, ())[-MOST_STARTED:], run_id]
    show(run_id)
    state[BASELINE] = list(state[CHOSEN])
    if spec.parent_run_id is not None:
        state[PROMPT] = ""


def sided(spec: RunSpec) -> RunSpec:
    """The spec, with its columns in a random order when names are hidden: the order is part of the run from then on."""
    if not spec.blind:
        return spec
    columns = list(spec.columns)
    _shuffle(columns)
    return replace(spec, columns=tuple(columns))


def show(run_id: str) -> None:
    """Make a run the one that the page shows, and put it into the page's address."""
    st.session_state[RUN] = run_id
    st.query_params["run"] = run_id


def stop_all() -> None:
    """Stop every column of the shown run, and of whatever else was sent in this visit and is still under way."""
    for run_id in dict.fromkeys([st.session_state[RUN], *st.session_state.pop(STARTED, ())]):
        _ask(lambda run_id=run_id: auth.engine().stop(run_id))


def retry(run_id: str, column: int) -> None:
    """Send one column's last call again, as a further attempt."""
    _ask(lambda: auth.engine().retry(run_id, column))


def take_sample(key: str, prompts: Mapping[str, Sample]) -> None:
    """Put the chosen sample into the prompt box, with its system prompt and a token limit that fits its answer."""
    sample = prompts.get(str(st.session_state.get(key)))
    if sample is None:
        return
    state = st.session_state
    state[PROMPT], state[TROUBLE] = sample.prompt, None
    state[shared_key("max_tokens")] = sample.max_tokens
    if sample.system:
        state[SYSTEM] = sample.system


def continue_run() -> None:
    """The next prompt continues the shown run: each deployment is sent its own answers so far."""
    st.session_state[CONTINUE] = True
    st.session_state[PROMPT] = ""
    st.session_state[TROUBLE] = None


def new_conversation() -> None:
    """Leave the shown run; the inputs stay as they are."""
    state = st.session_state
    state[RUN], state[CONTINUE], state[TROUBLE], state[BASELINE] = None, False, None, []
    state[AGAIN] = None
    if "run" in st.query_params:
        del st.query_params["run"]


def drop_file(position: int) -> None:
    """Take one attached file off the prompt."""
    files = list(st.session_state[FILES])
    if 0 <= position < len(files):
        del files[position]
    st.session_state[FILES] = files


def vote(run_id: str, ballot: Ballot) -> None:
    """Record a vote on a run."""
    _ask(lambda: auth.engine().vote(run_id, ballot))


def remember_choice() -> None:
    """Keep the chosen deployments in the page's address, by id: names can change, ids never do."""
    picked = list(st.session_state[CHOSEN])
    if picked != st.session_state.get(BASELINE):
        st.query_params["d"] = ",".join(picked)
    elif "d" in st.query_params:
        del st.query_params["d"]


def _ask(action: Any) -> None:
    st.session_state[TROUBLE] = None
    try:
        action()
    except (ValueError, auth.EngineError) as error:
        st.session_state[TROUBLE] = str(error)


REPETITIONS, START, STAGGER, BLIND = "pg_repetitions", "pg_start", "pg_stagger", "pg_blind"

TROUBLE, FILES = "pg_trouble", "pg_attachments"

KNOWN, UPLOADS = "pg_known", "pg_uploads"

STARTED = "pg_started"  # the runs of this visit, so that "Stop all" means all of them

DEFAULT_COLUMNS, MAX_STAGGER_S = 3, 60.0

NOT_STORED = "The text of this run was not stored, so the prompt box stays empty."


def variable_key(name: str) -> str:
    """Session key of the value of a template variable."""
    return f"pg_var_{name}"


def sync(run_asked: str | None) -> str | None:
    """Bring address and session together: the address wins, and a return from another page brings the run back.

    Returns the id of a run whose inputs have to be adopted because the session did not know it yet.
    """
    state = st.session_state
    held = state.get(RUN)
    away = state.pop(AWAY, False)
    if run_asked:
        return run_asked if run_asked != held else None
    if held and away:
        st.query_params["run"] = held
    elif held:
        (
            state[RUN],
            state[CONTINUE],
            state[BASELINE],
            state[AGAIN],
        ) = None, False, [], None
    return None


def prepare(suggested: Sample, statuses: Sequence[DeploymentStatus]) -> None:
    """Give every key its first value. Keys that are there already are left alone."""
    state = st.session_state
    for key, value in (
        (PROMPT, suggested.prompt),
        (SYSTEM, ""),
        (REPETITIONS, 1),
        (START, "together"),
        (STAGGER, 0.5),
        (BLIND, False),
        (RUN, None),
        (TROUBLE, None),
        (CONTINUE, False),
        (FILES, []),
        (UPLOADS, 0),
        (BASELINE, []),
    ):
        state.setdefault(key, value)
    state.setdefault(shared_key("max_tokens"), suggested.max_tokens)
    for name, spec in PARAMS.items():
        state.setdefault(shared_key(name), [] if spec.kind == "list" else spec.default)
    state[KNOWN] = {s.deployment.id: s for s in statuses}
    if not state[BASELINE]:
        state[BASELINE] = defaults(statuses)
    if CHOSEN not in state:
        asked = [d for d in st.query_params.get("d", "").split(",") if d in state[KNOWN]]
        state[CHOSEN] = asked[:MAX_COLUMNS] or list(state[BASELINE])
    # A widget refuses a choice that is not among its options any more.
    state[CHOSEN] = [d for d in state[CHOSEN] if d in state[KNOWN]]


def defaults(statuses: Sequence[DeploymentStatus]) -> list[str]:
    """The first three local deployments that can be called, or the first three of any that can."""
    ready = [s.deployment for s in statuses if s.ready]
    local = [d.id for d in ready if "local" in d.labels]
    return (local or [d.id for d in ready])[:DEFAULT_COLUMNS]


def chosen() -> list[DeploymentStatus]:
    """The chosen deployments, in the order of their columns."""
    known: dict[str, DeploymentStatus] = st.session_state.get(KNOWN, {})
    return [known[d] for d in st.session_state.get(CHOSEN, []) if d in known]


def described_run() -> RunSpec:
    """The run that the page describes now. Raises ValueError with one sentence when it cannot be sent."""
    state = st.session_state
    prompt = state.get(PROMPT) or ""
    columns = chosen()
    for status in columns:
        if not status.ready:
            raise ValueError(
                f"{status.deployment.name} {_lacks(status.needs)}: make it ready or take it out of the deployments."
            )
    return RunSpec(
        prompt=prompt,
        system=(state.get(SYSTEM) or "").strip() or None,
        columns=tuple(_column(status) for status in columns),
        params=params_of(None, shared_names(columns)),
        repetitions=int(state.get(REPETITIONS) or 1),
        start=state.get(START) or "together",
        stagger_s=float(state.get(STAGGER) or 0.0),
        blind=bool(state.get(BLIND)),
        variables={name: str(state.get(variable_key(name)) or "") for name in runs_spec.variables(prompt)},
        attachments=tuple(state.get(FILES) or ()),
        parent_run_id=state.get(RUN) if state.get(CONTINUE) else state.get(AGAIN),
    ).checked()


def _lacks(needs: str | None) -> str:
    return "is switched off" if needs == "disabled" else needs or "is not ready"


def _column(status: DeploymentStatus) -> ColumnSpec:
    deployment = status.deployment
    if not opted_out(deployment.id):
        return ColumnSpec(deployment.id, cache=cache_of(deployment.id))
    names = [name for name in PARAMS if name in kind_of(deployment).accepts(deployment)]
    own = params_of(deployment.id, names)
    return ColumnSpec(deployment.id, use_shared_params=False, params=own, cache=cache_of(deployment.id))


def adopt(run: Mapping[str, Any]) -> None:
    """Put the page's inputs back to what a recorded run was sent with."""
    state = st.session_state
    text = run.get("template") if run.get("template") is not None else run.get("prompt")
    state[PROMPT] = text or ""
    state[TROUBLE] = None if text is not None or run.get("text_stored", True) else NOT_STORED
    state[SYSTEM] = run.get("system") or ""
    state[REPETITIONS], state[BLIND] = int(run["repetitions"]), bool(run["blind"])
    state[START], state[STAGGER] = run["start_mode"], min(float(run["stagger_s"]), MAX_STAGGER_S)
    state[RUN], state[CONTINUE], state[AGAIN] = run["id"], False, run.get("parent_run_id")
    columns = run.get("columns") or []
    ids = list(dict.fromkeys(c["deployment_id"] for c in columns))
    # The order of a blind run's columns is its secret: it must not show in the list of what was chosen.
    state[CHOSEN] = sorted(ids) if run["blind"] else ids
    state[BASELINE] = list(state[CHOSEN])
    state[FILES] = [Attachment(a["name"], a["text"]) for a in run.get("attachments") or () if a.get("text") is not None]
    for name, value in (run.get("variables") or {}).items():
        state[variable_key(name)] = value
    _put_params(shared_key, run.get("params") or {})
    for column in columns:
        own = not column.get("use_shared_params", True)
        state[cache_key(column["deployment_id"])] = column.get("cache")
        state[own_key(column["deployment_id"])] = own
        if own:
            deployment_id = column["deployment_id"]
            _put_params(lambda name, d=deployment_id: own_key(d, name), column.get("params") or {})


def _put_params(key: Any, values: Mapping[str, Any]) -> None:
    for name, spec in PARAMS.items():
        value = values.get(name)
        if spec.kind == "float" and value is not None:
            value = float(value)
        st.session_state[key(name)] = list(value or []) if spec.kind == "list" else value
