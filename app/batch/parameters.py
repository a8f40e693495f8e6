"""The parameters that every line is sent with, where it brings none of its own."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.batch import state as bt
from app.widgets.text import plain
from services.params import PARAMS, ParamSpec, clean

FIRST = ("max_tokens", "temperature")


def draw() -> None:
    """The two that matter most, and the others folded."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for name in FIRST:
            _input(PARAMS[name], width=190)
        with st.popover("More parameters", icon=":material/tune:", key="bt_params"):
            st.caption("Empty: not sent, the service's own default holds. A line that brings its own keeps it.")
            for name, spec in PARAMS.items():
                if name not in FIRST:
                    _input(spec, width="stretch")
    if trouble := st.session_state.get("bt_p_trouble"):
        st.caption(f":red[:material/error: {plain(trouble)}]")


def _input(spec: ParamSpec, *, width: int | str) -> None:
    key = bt.parameter(spec.name)
    common: Any = {"key": key, "help": spec.help, "on_change": _set, "width": width}
    if spec.kind == "list":
        st.multiselect(spec.label, list(st.session_state.get(key) or []), accept_new_options=True,
                       max_selections=int(spec.maximum or 4), placeholder="not sent", **common)  # fmt: skip
    elif spec.kind == "choice":
        st.selectbox(spec.label, spec.choices, index=None, placeholder="not sent", **common)
    elif spec.kind == "int":
        st.number_input(spec.label, value=None, min_value=int(spec.minimum or 0), max_value=int(spec.maximum or 0),
                        step=1, placeholder="not sent", **common)  # fmt: skip
    else:
        st.number_input(spec.label, value=None, min_value=spec.minimum, max_value=spec.maximum, step=0.1,
                        format="%.2f", placeholder="not sent", **common)  # fmt: skip


def _set() -> None:
    """Callback: the values of all boxes, each in its range."""
    st.session_state.pop("bt_p_trouble", None)
    try:
        bt.change(params=clean({name: st.session_state.get(bt.parameter(name)) for name in PARAMS}))
    except ValueError as error:
        st.session_state["bt_p_trouble"] = str(error)
