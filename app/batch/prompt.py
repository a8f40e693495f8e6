"""What is asked: the templates with their columns, the parameters, and the first requests as they will be sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypedDict

import streamlit as st

from app.batch import upload
from app.widgets.text import clip, plain
from services.batch.types import Checked, Record
from services.params import PARAMS, ParamSpec, clean

INSERT, INTO = "bt_insert", "bt_into"

CHIPS, PREVIEWED, SHOWN = 24, 3, 700  # columns as chips; records; characters of a text

OWN_MESSAGES = ("openai", "anthropic", "bedrock")


def brings_messages(checked: Checked) -> bool:
    """Whether the file says itself what is asked, so that there is nothing to write."""
    return checked.format in OWN_MESSAGES or "messages" in checked.columns


def draw(checked: Checked) -> None:
    """The templates, where the file needs any, and the preview."""
    if brings_messages(checked):
        st.caption("Each line of this file brings its own messages; they are sent as they are.")
    elif checked.columns:
        _templates(checked)
    draw_parameters()
    preview(checked.preview)


def _templates(checked: Checked) -> None:
    # What the check made of the columns stands in the boxes, to be seen and changed.
    for key, template in ((upload.PROMPT, checked.options.prompt), (upload.SYSTEM, checked.options.system)):
        if not st.session_state.get(key) and template:
            st.session_state[key] = template
    st.text_area(
        "Prompt of each line",
        key=upload.PROMPT,
        height=110,
        on_change=_write,
        placeholder="Summarise in one sentence: {{text}}",
        help="A column's name in double braces stands for its value in each line.",
    )
    if columns := list(checked.columns[:CHIPS]):
        st.pills("Insert a column", columns, key=INSERT, on_change=_insert, format_func=chip)
    with st.expander("System prompt", icon=":material/article:", expanded=bool(st.session_state.get(upload.SYSTEM))):
        st.text_area(
            "System prompt of each line",
            key=upload.SYSTEM,
            height=90,
            on_change=_write,
            args=(True,),
            placeholder="none",
            label_visibility="collapsed",
        )


def chip(column: str) -> str:
    """A column as the label of a chip."""
    return plain(clip(column, 40))


def _write(of_system: bool = False) -> None:
    # No prompt: the likeliest column again. A system prompt that was emptied: none, although a column may be called so;
    # one that nobody touched: that of the records which have one.
    prompt, system = (st.session_state.get(key) or "" for key in (upload.PROMPT, upload.SYSTEM))
    none = "" if of_system or upload.options().system == "" else None
    upload.change(prompt=prompt if prompt.strip() else None, system=system if system.strip() else none)


def _insert() -> None:
    column = st.session_state.get(INSERT)
    st.session_state[INSERT] = None
    if column:
        prompt = (st.session_state.get(upload.PROMPT) or "").rstrip()
        upload.change(prompt=f"{prompt} {{{{{column}}}}}".strip())


def preview(records: Sequence[Record]) -> None:
    """The first requests, as text: nothing in them is obeyed."""
    if not records:
        return
    first = records[:PREVIEWED]
    st.caption(
        "The first request, as it will be sent"
        if len(first) == 1
        else f"The first {len(first)} requests, as they will be sent"
    )
    for slot, record in zip(st.columns(len(first), gap="small"), first, strict=True):
        with slot.container(border=True, height="stretch", gap="xsmall"):
            st.caption(f"line {record.line:,} · {plain(clip(record.id, 60))}")
            if record.ask.system:
                st.caption("system")
                st.text(cut(record.ask.system))
            for message in record.ask.messages:
                if len(record.ask.messages) > 1 or record.ask.system:
                    st.caption(message.role)
                st.text(cut(message.text))


def cut(text: str, limit: int = SHOWN) -> str:
    """The beginning of a long text, with its lines kept and the number of characters that are not shown."""
    return text if len(text) <= limit else f"{text[:limit].rstrip()} … ({len(text) - limit:,} more characters)"


FIRST = ("max_tokens", "temperature")


def draw_parameters() -> None:
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


class _InputLook(TypedDict):
    """What the widgets of all parameters have in common."""

    key: str
    help: str | None
    on_change: Callable[[], None]
    width: int | Literal["stretch"]


def _input(spec: ParamSpec, *, width: int | Literal["stretch"]) -> None:
    key = upload.parameter(spec.name)
    common: _InputLook = {"key": key, "help": spec.help, "on_change": _set, "width": width}
    if spec.kind == "list":
        st.multiselect(
            spec.label,
            list(st.session_state.get(key) or []),
            accept_new_options=True,
            max_selections=int(spec.maximum or 4),
            placeholder="not sent",
            **common,
        )
    elif spec.kind == "choice":
        st.selectbox(spec.label, spec.choices, index=None, placeholder="not sent", **common)
    elif spec.kind == "int":
        st.number_input(
            spec.label,
            value=None,
            min_value=int(spec.minimum or 0),
            max_value=int(spec.maximum or 0),
            step=1,
            placeholder="not sent",
            **common,
        )
    else:
        st.number_input(
            spec.label,
            value=None,
            min_value=spec.minimum,
            max_value=spec.maximum,
            step=0.1,
            format="%.2f",
            placeholder="not sent",
            **common,
        )


def _set() -> None:
    """Callback: the values of all boxes, each in its range."""
    st.session_state.pop("bt_p_trouble", None)
    try:
        upload.change(params=clean({name: st.session_state.get(upload.parameter(name)) for name in PARAMS}))
    except ValueError as error:
        st.session_state["bt_p_trouble"] = str(error)
