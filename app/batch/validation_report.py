"""What a check found: the file in one line, what was changed, what cannot be sent, and the ways out as buttons."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from app.batch import state as bt
from app.widgets.text import plain
from services.batch.text import FORMATS, line
from services.batch.types import Checked, Fault

DELIMITERS = {",": "comma  ,", ";": "semicolon  ;", "\t": "tab", "|": "bar  |"}
ENCODINGS = {"utf-8": "UTF-8", "cp1252": "Windows-1252"}
LINE = "Where the record begins in the file: a text with line breaks takes several of its lines."
_LINE = re.compile(r"((?:Line|Row) [\d,]+(?:, (?:column|byte) [\d,]+)?)(?:: |, )")


def draw(checked: Checked) -> None:
    """What was found."""
    if checked.refused:
        st.caption(f":red[:material/error: {plain(checked.refused)}]")
        choices(checked)
        return
    st.markdown(plain(line(checked)))
    for notice in checked.notices:
        st.caption(f":material/info: {plain(notice)}")
    if checked.n_faults:
        faults(checked)
    choices(checked)
    if checked.n_faults:
        _leave_out(checked)


def faults(checked: Checked) -> None:
    """The table of what is wrong, its first lines, and how many there are."""
    shown, bad = checked.faults, checked.n_records - checked.n_valid
    of = f"{bad:,} of {checked.n_records:,} lines cannot be sent" if bad > 0 else "This cannot be sent yet"
    more = f"; the first {len(shown)} of {checked.n_faults:,} faults" if checked.n_faults > len(shown) else ""
    st.markdown(f":red[:material/error:] **{of}**{more}", help=LINE)
    whole = [fault for fault in shown if fault.line is None]
    for fault in whole:
        st.caption(f":red[{plain(fault.text)}]")
    if rows := [fault for fault in shown if fault.line is not None]:
        # No table: its cells cut a sentence, and what to do stands at the end of it.
        with st.container(gap="xsmall", key="bt_faults"):
            for fault in rows:
                st.markdown(sentence(fault))


def sentence(fault: Fault) -> str:
    """A fault of a line as markdown: which line, what is wrong and what to do, and what was found where the sentence
    does not show it."""
    where, said = _parted(fault)
    found = f" :gray[Found: {plain(fault.found)}]" if fault.found and fault.found not in said else ""
    return f"**{plain(where or f'Line {fault.line:,}')}** · {plain(said)}{found}"


def _parted(fault: Fault) -> tuple[str, str]:
    """("Line 12, column 17", "Not JSON …") of the whole sentence; nothing for the first where it names no line."""
    match = _LINE.match(fault.text)
    where, said = ("", fault.text) if match is None else (match[1], fault.text[match.end() :])
    named = fault.field and said.startswith(fault.field)  # its name in the file is not ours to write
    return where, said if named else f"{said[:1].upper()}{said[1:]}"


def choices(checked: Checked) -> None:
    """The ways out that the check offers."""
    if checked.choices:
        with st.container(horizontal=True):
            for n, choice in enumerate(checked.choices):
                st.button(plain(choice.label), key=f"bt_choice_{n}", icon=":material/auto_fix_high:",
                          on_click=bt.set_options, args=(choice.options,))  # fmt: skip


def _leave_out(checked: Checked) -> None:
    bad = checked.n_records - checked.n_valid
    if not checked.n_valid or bad <= 0:
        return
    st.toggle(
        leave_out_label(bad), key=bt.widget("leave_out"), on_change=_set,
        args=("leave_out",),
        help="Or mend the file and choose it again: nothing has been sent.",
    )  # fmt: skip


def leave_out_label(bad: int) -> str:
    """What the switch says that leaves ``bad`` lines out."""
    return f"Leave out the {bad:,} that cannot be sent"


def reading(checked: Checked) -> None:
    """How the file is read, for whoever knows better than the recognition."""
    kind = bt.options().format or checked.format
    with st.expander("How the file is read", icon=":material/tune:", key="bt_reading"):
        with st.grid(4, gap="small"):
            recognised = f"recognised: {FORMATS[checked.format]}" if checked.format else "recognised"
            _select("Format", "format", list(FORMATS), FORMATS.__getitem__, recognised)
            if kind in ("csv", "tsv", None):
                mark = DELIMITERS.get(checked.options.delimiter or "")
                _select("Delimiter", "delimiter", list(DELIMITERS), DELIMITERS.__getitem__,
                        f"recognised: {mark}" if mark else "recognised")  # fmt: skip
            if kind not in ("parquet", "excel"):
                st.selectbox("Encoding", list(ENCODINGS), key=bt.widget("encoding"), on_change=_set,
                             format_func=ENCODINGS.__getitem__, args=("encoding",))  # fmt: skip
            _select("Column of ids", "id_column", list(checked.columns), str, "id, else the line's number",
                    "What you know a line by. Results stay in the order of the file.")  # fmt: skip
            if kind == "excel":
                st.text_input("Sheet", key=bt.SHEET, placeholder="the first", on_change=_set, args=("sheet", bt.SHEET))
        st.toggle("Number double ids instead of refusing them", key=bt.widget("suffix_ids"), on_change=_set,
                  args=("suffix_ids",))  # fmt: skip


def _select(
    label: str, name: str, values: Sequence[Any], words: Callable[[Any], str], placeholder: str, help: str | None = None
) -> None:  # fmt: skip
    key = bt.widget(name)
    if st.session_state.get(key) not in (None, *values):  # a widget refuses what is not among its options any more
        st.session_state[key] = None
    st.selectbox(label, values, index=None, key=key, format_func=words, placeholder=placeholder, on_change=_set,
                 args=(name,), help=help)  # fmt: skip


def _set(name: str, key: str | None = None) -> None:
    value = st.session_state.get(key or bt.widget(name))
    bt.change(**{name: value if isinstance(value, bool) else value or None})
