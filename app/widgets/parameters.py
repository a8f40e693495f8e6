"""The parameters: one shared set, any deployment opted out of it, prompt caching, and what will not be sent to whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from app.widgets import playground_inputs
from app.widgets.text import plain
from services.deployments.registry import DeploymentStatus
from services.params import PARAMS, ParamSpec
from services.providers import kind_of
from services.providers.base import DROPPED, LABEL, MODE_WORDS
from services.types import Ask, CacheMode, Deployment, Message

UNASKED = "as the service does"


def draw(columns: Sequence[DeploymentStatus]) -> None:
    """The Settings popover."""
    with st.popover("Settings", icon=":material/tune:", width="content"):
        if not columns:
            st.caption("Choose a deployment first; its parameters appear here.")
            return
        names = playground_inputs.shared_names(columns)
        if names:
            st.markdown("**Shared by all columns**")
            st.caption("Empty means: not sent, the service's own default holds.")
            _inputs(names, playground_inputs.shared_key)
        _caching(columns)
        st.markdown("**Own values**")
        for status in columns:
            deployment = status.deployment
            st.toggle(
                f"{plain(deployment.name)} has its own",
                key=playground_inputs.own_key(deployment.id),
                persist_state="session",
                on_change=_opt_out,
                args=(deployment,),
                help="This column leaves the shared set, starts from its values and is sent only those given here.",
            )
            if playground_inputs.opted_out(deployment.id):
                accepted = kind_of(deployment).accepts(deployment)
                key = own_keys(deployment.id)
                for name in PARAMS:
                    if name in accepted and PARAMS[name].kind == "list":
                        st.session_state.setdefault(key(name), [])
                _inputs([name for name in PARAMS if name in accepted], key)


def _caching(columns: Sequence[DeploymentStatus]) -> None:
    """The switch of each column; a deployment that cannot be asked for anything says so."""
    st.markdown(f"**{LABEL}**")
    with st.grid(2, gap="small"):
        for status in columns:
            _switch(status.deployment)


def _switch(deployment: Deployment) -> None:
    modes, key = kind_of(deployment).cache_modes(deployment), playground_inputs.cache_key(deployment.id)
    # A mode that a reopened run asked for stays visible; what cannot be sent is said before sending.
    asked = st.session_state.get(key)
    options = [*modes, *([asked] if asked and asked not in modes else [])]
    st.selectbox(
        plain(deployment.name),
        options,
        index=None,
        key=key,
        format_func=cache_words,
        disabled=not options,
        placeholder=UNASKED if options else "has no say in it",
        persist_state="session",
        help="Whether the service may keep the beginning of the prompt for later calls. Nothing chosen: nothing is "
        "said about it, and the service does what it does by itself.",
    )


def cache_words(mode: CacheMode) -> str:
    """A mode as a choice: "Automatic"."""
    return MODE_WORDS.get(mode, str(mode)).capitalize()


def _opt_out(deployment: Deployment) -> None:
    """Callback: a column that leaves the shared set starts from the values that it has there."""
    if playground_inputs.opted_out(deployment.id):
        for name in kind_of(deployment).accepts(deployment):
            shared = st.session_state.get(playground_inputs.shared_key(name))
            st.session_state[playground_inputs.own_key(deployment.id, name)] = (
                list(shared) if isinstance(shared, list) else shared
            )


def own_keys(deployment_id: str) -> Callable[[str], str]:
    """The function that names the session keys of one deployment's own parameters."""
    return lambda name: playground_inputs.own_key(deployment_id, name)


def _inputs(names: Sequence[str], key: Callable[[str], str]) -> None:
    with st.grid(2, gap="small"):
        for name in names:
            _input(PARAMS[name], key(name))


def _input(spec: ParamSpec, key: str) -> None:
    if spec.kind == "list":
        st.multiselect(
            spec.label,
            list(st.session_state.get(key) or []),
            key=key,
            accept_new_options=True,
            help=spec.help,
            max_selections=int(spec.maximum or 4),
            placeholder="not sent",
            persist_state="session",
        )
    elif spec.kind == "choice":
        st.selectbox(
            spec.label,
            spec.choices,
            index=None,
            key=key,
            help=spec.help,
            placeholder="not sent",
            persist_state="session",
        )
    elif spec.kind == "text":
        st.text_input(spec.label, key=key, help=spec.help, placeholder="not sent", persist_state="session")
    elif spec.kind == "int":
        st.number_input(
            spec.label,
            value=None,
            key=key,
            help=spec.help,
            placeholder="not sent",
            step=1,
            min_value=None if spec.minimum is None else int(spec.minimum),
            max_value=None if spec.maximum is None else int(spec.maximum),
            persist_state="session",
        )
    else:
        st.number_input(
            spec.label,
            value=None,
            key=key,
            help=spec.help,
            placeholder="not sent",
            step=0.1,
            format="%.2f",
            min_value=spec.minimum,
            max_value=spec.maximum,
            persist_state="session",
        )


def refusals(columns: Sequence[DeploymentStatus]) -> list[str]:
    """One sentence for each parameter that is set and will not be sent to a column, with the reason."""
    shared = playground_inputs.params_of(None, playground_inputs.shared_names(columns))
    sentences = []
    for status in columns:
        deployment = status.deployment
        params = {} if playground_inputs.opted_out(deployment.id) else shared
        ask = Ask((Message("user", "…"),), None, params, playground_inputs.cache_of(deployment.id))
        try:
            dropped = kind_of(deployment).request(deployment, ask).dropped_params
        except ValueError as error:
            sentences.append(f"{deployment.name}: {error}")
            continue
        for name, why in dropped.items():
            label = LABEL if name == DROPPED else PARAMS[name].label if name in PARAMS else name
            sentences.append(f"{label} is not sent to {deployment.name}: {why}.".replace("..", "."))
    return sentences


def not_sent(columns: Sequence[DeploymentStatus]) -> None:
    """Say which parameter a column will not get, before anything is sent."""
    for sentence in refusals(columns):
        st.caption(f":material/block: {plain(sentence)}")
