"""The inputs of the caching page: whom to ask, with which long prompt, how often and how far apart."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import auth
from app.caching import state as cc
from app.widgets.parameters import UNASKED, cache_words
from app.widgets.text import plain
from services import caching_samples as samples
from services.deployments.status import DeploymentStatus
from services.providers import kind_of
from services.providers.caching import DROPPED, LABEL
from services.runs.spec import MAX_COLUMNS
from services.types import Ask, Deployment, Message


def draw(statuses: Sequence[DeploymentStatus], *, live: bool) -> None:
    """Everything that decides what is sent, and the button that sends it."""
    known = {s.deployment.id: s.deployment for s in statuses if s.ready}
    st.session_state[cc.CHOSEN] = [d for d in st.session_state[cc.CHOSEN] if d in known]
    st.multiselect(
        "Deployments", list(known), key=cc.CHOSEN, format_func=lambda d: known[d].name if d in known else str(d),
        max_selections=MAX_COLUMNS, placeholder="Choose a deployment", select_all=False, persist_state="session",
    )  # fmt: skip
    chosen = [known[d] for d in st.session_state[cc.CHOSEN]]
    _prompt()
    _how(chosen)
    for sentence in cautions(chosen):
        st.caption(f":material/info: {plain(sentence)}")
    st.button(
        "Measure", key="cc_start", type="primary", icon=":material/play_arrow:", on_click=start, args=(chosen,),
        disabled=live or not chosen,
    )  # fmt: skip
    if st.session_state[cc.TROUBLE]:
        st.caption(f":red[:material/error: {plain(st.session_state[cc.TROUBLE])}]")


def _prompt() -> None:
    with st.expander(f"Prompt · about {samples.about(st.session_state[cc.SYSTEM] or ''):,} tokens",
                     icon=":material/article:"):  # fmt: skip
        st.selectbox(
            "Sample", [book.title for book in samples.HANDBOOKS], index=None, key=cc.SAMPLE, on_change=cc.take_sample,
            placeholder="own text", persist_state="session",
            help="The handbook of an invented bicycle shop, cut after 3, 8, 18 or all of its chapters.",
        )  # fmt: skip
        st.text_area(
            "System prompt, the same in every call", key=cc.SYSTEM, height=180, persist_state="session",
        )  # fmt: skip
        st.text_input("Question", key=cc.QUESTION, persist_state="session")


def _how(chosen: Sequence[Deployment]) -> None:
    modes = cc.modes_of(chosen)
    if st.session_state[cc.MODE] not in (None, *modes):
        st.session_state[cc.MODE] = None
    with st.grid(4, gap="small"):
        st.number_input(
            "Calls",
            min_value=cc.MIN_CALLS,
            max_value=cc.MAX_CALLS,
            step=1,
            key=cc.CALLS,
            persist_state="session",
            help="Sent one after the other. The first one is cold, the others find what it left in the cache.",
        )
        st.selectbox(
            LABEL, modes, index=None, key=cc.MODE, format_func=cache_words, placeholder=UNASKED,
            persist_state="session", help="Nothing chosen: nothing is said about caching in the request.",
        )  # fmt: skip
        st.number_input(
            "Pause between calls, s",
            min_value=0.0,
            max_value=float(cc.MAX_PAUSE),
            step=1.0,
            key=cc.PAUSE,
            persist_state="session",
            help="Longer than a prefix is kept, every call is cold again.",
        )
        st.number_input(
            "Max output tokens",
            min_value=1,
            max_value=4096,
            step=1,
            key=cc.TOKENS,
            persist_state="session",
            help="A short answer is enough: the cache changes the time to the first token. Models that reason need "
            "more, or their answer is empty.",
        )
    with st.container(horizontal=True):
        st.toggle(
            "Start cold", key=cc.COLD, persist_state="session",
            help="Puts one line with a new number before the system prompt. A cache only knows prompts by how they "
            "begin, so nothing that was sent earlier can have warmed it.",
        )  # fmt: skip
        st.toggle(
            "Also call with caching off", key=cc.CONTROL, persist_state="session",
            disabled=not any(cc.can_be_off(d) for d in chosen),
            help="As many calls again whose prompt is not cached: enough cold ones for an interval of the difference. "
            "For deployments that can be told so.",
        )  # fmt: skip


def cautions(chosen: Sequence[Deployment]) -> list[str]:
    """What to know before sending, one sentence each: too long a prompt, a mode that is not sent, a shared cache."""
    state, sentences = st.session_state, []
    whole = samples.about(f"{state[cc.SYSTEM] or ''}{state[cc.QUESTION] or ''}") + int(state[cc.TOKENS])
    for d in chosen:
        if d.context_tokens is not None and whole > d.context_tokens:
            sentences.append(
                f"{d.name} holds {d.context_tokens:,} tokens, and prompt and answer need about {whole:,}: choose a "
                "shorter sample."
            )
        try:
            dropped = kind_of(d).request(d, Ask((Message("user", "…"),), "…", {}, state[cc.MODE])).dropped_params
        except ValueError as error:
            sentences.append(f"{d.name}: {error}")
            continue
        if DROPPED in dropped:
            sentences.append(f"{LABEL} is not sent to {d.name}: {dropped[DROPPED]}.")
    seen: dict[tuple[str, str], str] = {}
    for d in chosen:
        where = (d.base_url, d.model)
        if where in seen:
            sentences.append(
                f"{d.name} and {seen[where]} reach the same server and may share its cache: the one that is called "
                "second can be warm from its first call on."
            )
        seen.setdefault(where, d.name)
    return sentences


def start(chosen: Sequence[Deployment]) -> None:
    """Callback: start the run. A refusal is kept as one sentence; nothing that was typed is lost."""
    st.session_state[cc.TROUBLE] = None
    try:
        run_id = auth.engine().start_run(cc.spec(chosen))
    except (ValueError, auth.EngineError) as error:
        st.session_state[cc.TROUBLE] = str(error)
        return
    cc.show(run_id)
