"""What the recorded calls say, in the calculator: the workload they make up, and their times over the estimates."""

from __future__ import annotations

from collections.abc import Iterable
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.calculator import state
from app.widgets.filters import zone
from app.widgets.text import plain
from services.calculator import catalog
from services.calculator import measured as recorded
from services.calculator.address import State
from services.calculator.assumptions import ApiSpeed
from services.calculator.types import Option, Spread

SAID = "ca_history_said"
KEEP_S = 30.0


def measured() -> dict[str, ApiSpeed]:
    """Measured speeds by way and model; empty where nothing was recorded or the records cannot be read."""
    try:
        return _speeds(auth.database())
    except SQLAlchemyError:
        return {}


@st.cache_data(ttl=KEEP_S, max_entries=4, show_spinner=False)
def _speeds(_engine: Engine) -> dict[str, ApiSpeed]:
    return recorded.of(_engine)


def use() -> None:
    """The menu that fills the fields from what was recorded, or counts a file of prompts."""
    with st.popover("Fill in", icon=":material/input:", key="ca_fill"):
        st.button("Use my history", icon=":material/monitoring:", on_click=_from_history,
                  help="Rate, tokens, hours of the day and repeated prefix of the calls of the last days.")  # fmt: skip
        file = st.file_uploader("Count a file of prompts", type=["txt", "csv", "jsonl"], key="ca_prompts",
                                help="One prompt a line; 4 characters are taken as a token.")  # fmt: skip
        if file is not None:
            st.button("Take its lengths", on_click=_from_file, args=(file.getvalue(),))
    for sentence in st.session_state.get(SAID, ()):
        st.caption(f":material/info: {plain(sentence)}")


def _from_history() -> None:
    """Callback: the workload of the recorded calls into the fields."""
    try:
        found = recorded.history(auth.database(), zone=zone()[0])
    except SQLAlchemyError:
        st.session_state[SAID] = ("The records cannot be read just now; they are kept. Try again in a moment.",)
        return
    if found is None:
        st.session_state[SAID] = ("There are too few recorded calls: send some prompts in the playground first.",)
        return
    held = state.current()
    state.put(State(found.workload, held.objectives, held.assumptions, ""))
    first, last = (one.astimezone(ZoneInfo(zone()[0])) for one in (found.start, found.end))
    st.session_state[SAID] = (f"From {found.n:,} calls, {first:%-d %b %Y} to {last:%-d %b %Y}.", *found.sentences)


def _from_file(data: bytes) -> None:
    """Callback: the lengths of a file's lines as the input tokens."""
    lines = [line for line in data.decode("utf-8", errors="replace").splitlines() if line.strip()]
    found = _counted(lines)
    if found is None:
        st.session_state[SAID] = ("The file holds no line with text: nothing was changed.",)
        return
    st.session_state[state.PUT] = True
    st.session_state["ca_in"], st.session_state["ca_in_s"] = int(found.median), round(found.sigma, 2)
    st.session_state[SAID] = (f"Estimated from {len(lines):,} lines at 4 characters a token.",)


def _counted(lines: Iterable[str]) -> Spread | None:
    return recorded.counted(max(1, round(len(line) / 4)) for line in lines)


def points(option: Option) -> pd.DataFrame | None:
    """Measured calls of the same model, to be drawn over the estimate: output tokens a second and seconds in all."""
    if option.serving is None:
        return None
    try:
        found = recorded.deployments(auth.database())
    except SQLAlchemyError:
        return None
    rows = [
        {"tok_s": one.tok_s_p50, "e2e": one.ttlt_p50_s, "name": f"{one.name}, measured, n {one.n:,}"}
        for one in found if one.tok_s_p50 and one.ttlt_p50_s and _is(one.model, option.serving.llm.name)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["tok_s", "e2e", "name"])


def _is(model: str, name: str) -> bool:
    try:
        return catalog.llm(model).name == name
    except LookupError:
        return False
