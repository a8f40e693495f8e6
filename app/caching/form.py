"""The inputs of the caching page, what it remembers of them, and the run that it asks for."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app import auth
from app.widgets.parameters import UNASKED, cache_words
from app.widgets.text import plain
from services import caching
from services.deployments.registry import DeploymentStatus
from services.providers import kind_of
from services.providers.base import DROPPED, LABEL, MODE_WORDS
from services.runs.spec import MAX_COLUMNS, ColumnSpec, RunSpec
from services.types import Ask, CacheMode, Deployment, Message


def draw(statuses: Sequence[DeploymentStatus], *, live: bool) -> None:
    """Everything that decides what is sent, and the button that sends it."""
    ready = {s.deployment.id: s.deployment for s in statuses if s.ready}
    st.session_state[CHOSEN] = [d for d in st.session_state[CHOSEN] if d in ready]
    st.multiselect(
        "Deployments",
        list(ready),
        key=CHOSEN,
        format_func=lambda d: ready[d].name if d in ready else str(d),
        max_selections=MAX_COLUMNS,
        placeholder="Choose a deployment",
        select_all=False,
        persist_state="session",
    )
    chosen = [ready[d] for d in st.session_state[CHOSEN]]
    _prompt()
    _how(chosen)
    for sentence in cautions(chosen):
        st.caption(f":material/info: {plain(sentence)}")
    st.button(
        "Measure",
        key="cc_start",
        type="primary",
        icon=":material/play_arrow:",
        on_click=start,
        args=(chosen,),
        disabled=live or not chosen,
    )
    if st.session_state[TROUBLE]:
        st.caption(f":red[:material/error: {plain(st.session_state[TROUBLE])}]")


def _prompt() -> None:
    with st.expander(
        f"Prompt · about {caching.about(st.session_state[SYSTEM] or ''):,} tokens", icon=":material/article:"
    ):
        st.selectbox(
            "Sample",
            [book.title for book in caching.HANDBOOKS],
            index=None,
            key=SAMPLE,
            on_change=take_sample,
            placeholder="own text",
            persist_state="session",
            help="The handbook of an invented bicycle shop, cut after 3, 8, 18 or all of its chapters.",
        )
        st.text_area(
            "System prompt, the same in every call",
            key=SYSTEM,
            height=180,
            persist_state="session",
        )
        st.text_input("Question", key=QUESTION, persist_state="session")


def _how(chosen: Sequence[Deployment]) -> None:
    modes = modes_of(chosen)
    if st.session_state[MODE] not in (None, *modes):
        st.session_state[MODE] = None
    with st.grid(4, gap="small"):
        st.number_input(
            "Calls",
            min_value=MIN_CALLS,
            max_value=MAX_CALLS,
            step=1,
            key=CALLS,
            persist_state="session",
            help="Sent one after the other. The first one is cold, the others find what it left in the cache.",
        )
        st.selectbox(
            LABEL,
            modes,
            index=None,
            key=MODE,
            format_func=cache_words,
            placeholder=UNASKED,
            persist_state="session",
            help="Nothing chosen: nothing is said about caching in the request.",
        )
        st.number_input(
            "Pause between calls, s",
            min_value=0.0,
            max_value=float(MAX_PAUSE),
            step=1.0,
            key=PAUSE,
            persist_state="session",
            help="Longer than a prefix is kept, every call is cold again.",
        )
        st.number_input(
            "Max output tokens",
            min_value=1,
            max_value=4096,
            step=1,
            key=TOKENS,
            persist_state="session",
            help="A short answer is enough: the cache changes the time to the first token. Models that reason need "
            "more, or their answer is empty.",
        )
    with st.container(horizontal=True):
        st.toggle(
            "Start cold",
            key=COLD,
            persist_state="session",
            help="Puts one line with a new number before the system prompt. A cache only knows prompts by how they "
            "begin, so nothing that was sent earlier can have warmed it.",
        )
        st.toggle(
            "Also call with caching off",
            key=CONTROL,
            persist_state="session",
            disabled=not any(can_be_off(d) for d in chosen),
            help="As many calls again whose prompt is not cached: enough cold ones for an interval of the difference. "
            "For deployments that can be told so.",
        )


def cautions(chosen: Sequence[Deployment]) -> list[str]:
    """What to know before sending, one sentence each: too long a prompt, a mode that is not sent, a shared cache."""
    state, sentences = st.session_state, []
    n_tokens = caching.about(f"{state[SYSTEM] or ''}{state[QUESTION] or ''}") + int(state[TOKENS])
    for d in chosen:
        if d.context_tokens is not None and n_tokens > d.context_tokens:
            sentences.append(
                f"{d.name} holds {d.context_tokens:,} tokens, and prompt and answer need about {n_tokens:,}: choose a "
                "shorter sample."
            )
        try:
            dropped = kind_of(d).request(d, Ask((Message("user", "…"),), "…", {}, state[MODE])).dropped_params
        except ValueError as error:
            sentences.append(f"{d.name}: {error}")
            continue
        if DROPPED in dropped:
            sentences.append(f"{LABEL} is not sent to {d.name}: {dropped[DROPPED]}.")
    seen: dict[tuple[str, str], str] = {}
    for d in chosen:
        server = (d.base_url, d.model)
        if server in seen:
            sentences.append(
                f"{d.name} and {seen[server]} reach the same server and may share its cache: the one that is called "
                "second can be warm from its first call on."
            )
        seen.setdefault(server, d.name)
    return sentences


def start(chosen: Sequence[Deployment]) -> None:
    """Callback: start the run. A refusal is kept as one sentence; nothing that was typed is lost."""
    st.session_state[TROUBLE] = None
    try:
        run_id = auth.engine().start_run(spec(chosen))
    except (ValueError, auth.EngineError) as error:
        st.session_state[TROUBLE] = str(error)
        return
    show(run_id)


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
        (CHOSEN, [d.id for d in first]),
        (QUESTION, caching.QUESTION),
        (CALLS, 5),
        (MODE, None),
        (PAUSE, 0.0),
        (TOKENS, 48),
        (COLD, True),
        (CONTROL, False),
        (RUN, None),
        (TROUBLE, None),
    ):
        state.setdefault(key, value)
    fits = caching.fitting(first[0].context_tokens if first else None, 48)
    state.setdefault(SAMPLE, fits.title)
    state.setdefault(SYSTEM, fits.text)
    deployment_ids = {s.deployment.id for s in statuses}
    state[CHOSEN] = [d for d in state[CHOSEN] if d in deployment_ids]


def take_sample() -> None:
    """Callback: put the chosen handbook into the box."""
    chosen = next((book for book in caching.HANDBOOKS if book.title == st.session_state.get(SAMPLE)), None)
    if chosen is not None:
        st.session_state[SYSTEM] = chosen.text


def modes_of(deployments: Sequence[Deployment]) -> list[CacheMode]:
    """The modes that at least one of the deployments can be asked for, in the usual order."""
    supported = {mode for d in deployments for mode in kind_of(d).cache_modes(d)}
    return [mode for mode in MODE_WORDS if mode in supported]


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
        prompt=state[QUESTION] or "",
        columns=tuple(columns),
        system=unique(system) if state[COLD] else system,
        params={"max_tokens": int(state[TOKENS])},
        repetitions=int(state[CALLS]),
        start="sequential",
        pause_s=float(state[PAUSE] or 0.0),
        source=SOURCE,
    ).checked()


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
        state[SAMPLE] = next((b.title for b in caching.HANDBOOKS if b.text == state[SYSTEM]), None)
    if run.get("prompt"):
        state[QUESTION] = run["prompt"]


def sync(address_run: str | None) -> str | None:
    """Bring address and session together; returns the id of a run that the session did not know yet."""
    session_run = st.session_state.get(RUN)
    if address_run:
        return address_run if address_run != session_run else None
    if session_run:
        st.query_params["run"] = session_run
    return None


def show(run_id: str | None) -> None:
    """Make a run the one that the page shows, or none, and keep the page's address in step."""
    st.session_state[RUN] = run_id
    if run_id:
        st.query_params["run"] = run_id
    elif "run" in st.query_params:
        del st.query_params["run"]
