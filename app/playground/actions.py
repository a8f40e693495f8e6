"""What the playground's buttons do. Every function here is a callback: it runs before the page is drawn again."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from app import auth
from app.playground import state as pg
from services.runs.samples import Sample
from services.runs.spec import RunSpec

MOST_STARTED = 50
_shuffle = random.SystemRandom().shuffle


def send() -> None:
    """Start the run that the page describes. A refusal is kept as one sentence; nothing that was typed is lost."""
    state = st.session_state
    state[pg.TROUBLE] = None
    try:
        spec = sided(pg.spec())
        run_id = auth.engine().start_run(spec)
    except (ValueError, auth.EngineError) as error:
        state[pg.TROUBLE] = str(error)
        return
    state[pg.STARTED] = [*state.get(pg.STARTED, ())[-MOST_STARTED:], run_id]
    show(run_id)
    state[pg.BASELINE] = list(state[pg.CHOSEN])
    if spec.parent_run_id is not None:
        state[pg.PROMPT] = ""


def sided(spec: RunSpec) -> RunSpec:
    """The spec, with its columns in a random order when names are hidden: the order is part of the run from then on."""
    if not spec.blind:
        return spec
    columns = list(spec.columns)
    _shuffle(columns)
    return replace(spec, columns=tuple(columns))


def show(run_id: str) -> None:
    """Make a run the one that the page shows, and put it into the page's address."""
    st.session_state[pg.RUN] = run_id
    st.query_params["run"] = run_id


def stop_all() -> None:
    """Stop every column of the shown run, and of whatever else was sent in this visit and is still under way."""
    for run_id in dict.fromkeys([st.session_state[pg.RUN], *st.session_state.pop(pg.STARTED, ())]):
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
    state[pg.PROMPT], state[pg.TROUBLE] = sample.prompt, None
    state[pg.shared_key("max_tokens")] = sample.max_tokens
    if sample.system:
        state[pg.SYSTEM] = sample.system


def continue_run() -> None:
    """The next prompt continues the shown run: each deployment is sent its own answers so far."""
    st.session_state[pg.CONTINUE] = True
    st.session_state[pg.PROMPT] = ""
    st.session_state[pg.TROUBLE] = None


def new_conversation() -> None:
    """Leave the shown run; the inputs stay as they are."""
    state = st.session_state
    state[pg.RUN], state[pg.CONTINUE], state[pg.TROUBLE], state[pg.BASELINE] = None, False, None, []
    state[pg.AGAIN] = None
    if "run" in st.query_params:
        del st.query_params["run"]


def drop_file(position: int) -> None:
    """Take one attached file off the prompt."""
    files = list(st.session_state[pg.FILES])
    if 0 <= position < len(files):
        del files[position]
    st.session_state[pg.FILES] = files


def star(run_id: str, on: bool) -> None:
    """Star or unstar a run."""
    _ask(lambda: auth.engine().annotate(run_id, starred=on))


def vote(run_id: str, ballot: dict[str, Any]) -> None:
    """Record a vote on a run."""
    _ask(lambda: auth.engine().vote(run_id, ballot))


def remember_choice() -> None:
    """Keep the chosen deployments in the page's address, by id: names can change, ids never do."""
    picked = list(st.session_state[pg.CHOSEN])
    if picked != st.session_state.get(pg.BASELINE):
        st.query_params["d"] = ",".join(picked)
    elif "d" in st.query_params:
        del st.query_params["d"]


def _ask(action: Any) -> None:
    st.session_state[pg.TROUBLE] = None
    try:
        action()
    except (ValueError, auth.EngineError) as error:
        st.session_state[pg.TROUBLE] = str(error)
