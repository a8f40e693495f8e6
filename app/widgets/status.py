"""How the machinery is: one sentence where something is wrong, nothing where nothing is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from app import auth
from app.widgets.text import plain
from services.client import Health
from services.types import ServerState

SETTLED = frozenset({"ready", "unavailable"})


def draw_person() -> None:
    """In the sidebar: who is signed in, and what somebody who may only look can expect."""
    person = auth.person_and_role()
    if person.name != auth.LOCAL:
        st.caption(f"{plain(person.name)} · {person.role}")
        st.button("Sign out", type="tertiary", icon=":material/logout:", on_click=auth.sign_out)
    elif person.role == "viewer":
        st.caption("Looking only")


def health() -> tuple[Health, str | None]:
    """The engine's own account of itself, and a sentence when it does not answer."""
    try:
        return auth.engine().health(), None
    except auth.EngineError as error:
        return {}, str(error)


def draw(person: auth.Person) -> None:
    """The line below a page's title: engine, database, deployments file and embedded servers, only where one fails."""
    engine, trouble = health()
    if trouble is not None:
        st.warning(plain(trouble), icon=":material/link_off:")
        return
    for sentence_of_trouble in (engine.get("db_trouble"), engine.get("file_trouble"), engine.get("keys_trouble")):
        if sentence_of_trouble:
            st.warning(plain(sentence_of_trouble), icon=":material/error:")
    embedded = engine.get("embedded") or {}
    if any(server["state"] not in SETTLED for server in embedded.values()):
        _watch(person)
    else:
        _draw_servers(embedded, person)


@st.fragment(run_every=2.0, key="embedded_watch")
def _watch(person: auth.Person) -> None:
    engine, trouble = health()
    embedded = engine.get("embedded") or {}
    if trouble is None and all(server["state"] in SETTLED for server in embedded.values()):
        st.rerun()
    _draw_servers(embedded, person)


def _draw_servers(embedded: Mapping[str, ServerState], person: auth.Person) -> None:
    for name, server in embedded.items():
        if server["state"] == "ready":
            continue
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f":material/memory: {plain(sentence(name, server))}", width="stretch")
            if server["state"] == "unavailable" and person.may("send"):
                restart_button(name, key=f"restart_line_{name}")


def sentence(name: str, server: ServerState) -> str:
    """What an embedded server is doing, in one sentence."""
    return (
        server["sentence"] or f"The local model server “{name}” is {server['state']}; everything else works meanwhile."
    )


def restart_button(name: str, *, key: str) -> None:
    """A button that starts an embedded server again; a refusal is kept as a sentence and shown by `draw_refusal`."""
    st.button("Restart", key=key, icon=":material/restart_alt:", on_click=_restart, args=(name,))
    draw_refusal("restart_refusal")


def _restart(name: str) -> None:
    attempt("restart_refusal", lambda: auth.engine().restart_embedded(name))


def attempt(slot: str, action: Callable[[], object]) -> bool:
    """Do something that the engine may refuse; the refusal is kept in the session under ``slot``. True when done."""
    st.session_state.pop(slot, None)
    try:
        action()
    except (auth.EngineError, ValueError) as error:
        st.session_state[slot] = str(error)
        return False
    return True


def draw_refusal(slot: str) -> None:
    """The sentence of the last refusal under ``slot``, if there is one."""
    if st.session_state.get(slot):
        st.caption(f":red[:material/error: {plain(st.session_state[slot])}]")
