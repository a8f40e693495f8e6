"""What the batch page remembers between clicks: the file, how it is read, and where it is to go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from services.batch.types import Checked, Options
from services.params import PARAMS

FILE, OPTIONS, UPLOAD, TROUBLE = "bt_file", "bt_options", "bt_upload", "bt_trouble"
LANES, PER_MINUTE = "bt_lanes", "bt_per_minute"
PROMPT, SYSTEM, TARGET, ROUTE, NAME = "bt_prompt", "bt_system", "bt_target", "bt_route", "bt_name"
TAB, TABS = "bt_tabs", ("Results", "Figures", "Compare")  # of a batch that is over
SHEET, TRIED, REFUSAL = "bt_sheet", "bt_tried", "bt_refusal"
# A click on any cell of a line takes the line: the boxes before the lines are small, and nobody looks for them.
ANY_CELL: Literal["single-cell"] = "single-cell"
OPTION_WIDGETS = ("format", "encoding", "delimiter", "id_column", "suffix_ids", "leave_out")
Origin = Literal["upload", "sample", "path", "s3"]


@dataclass(frozen=True, slots=True)
class Picked:
    """The file that the page is about. ``key`` changes with its content. ``path``: a text where it lies
    elsewhere, in S3 or in a folder of the server's, and is copied before it is read."""

    path: Path | str
    name: str
    key: str
    n_bytes: int
    origin: Origin
    sha256: str | None = None  # of a spooled upload


def picked() -> Picked | None:
    """The file that was chosen."""
    found: Picked | None = st.session_state.get(FILE)
    return found


def pick(file: Picked, options: Options | None = None) -> None:
    """Take a file; whatever was said about the one before is forgotten."""
    forget()
    st.session_state[FILE] = file
    set_options(options or Options())


def forget() -> None:
    """Callback: no file is chosen, and nothing that belonged to it is left."""
    kept = st.session_state.get(UPLOAD, 0)
    for key in [key for key in st.session_state if str(key).startswith("bt_") and not str(key).startswith("bt_list")]:
        del st.session_state[key]
    st.session_state[UPLOAD] = kept + 1  # a new key: the uploader is empty again


def options() -> Options:
    """How the file is read."""
    found: Options = st.session_state.get(OPTIONS) or Options()
    return found


def set_options(wanted: Options) -> None:
    """Read the file so from now on. The boxes follow."""
    state = st.session_state
    state[OPTIONS] = wanted
    for name in OPTION_WIDGETS:
        state[widget(name)] = getattr(wanted, name)
    for name, spec in PARAMS.items():
        value = wanted.params.get(name)
        state[parameter(name)] = list(value or []) if spec.kind == "list" else value
    state[PROMPT], state[SYSTEM], state[SHEET] = wanted.prompt or "", wanted.system or "", wanted.sheet or ""
    state.pop(TRIED, None)


def widget(name: str) -> str:
    """Session key of the widget of an option."""
    return f"bt_o_{name}"


def parameter(name: str) -> str:
    """Session key of the widget of a parameter."""
    return f"bt_p_{name}"


def change(**values: Any) -> None:
    """Callback: read the file with some options changed."""
    set_options(replace(options(), **values))


def leave_out(checked: Checked) -> Checked:
    """What was found, with the person's own word on leaving lines out."""
    return replace(checked, options=replace(checked.options, leave_out=options().leave_out))


def clicked(selection: Mapping[str, Any], n: int) -> int | None:
    """Which of a table's ``n`` lines the selected cell is in (`ANY_CELL`); None for none, or for one that is gone."""
    cells = selection.get("cells") or ()
    return int(cells[0][0]) if cells and 0 <= int(cells[0][0]) < n else None


def open_batch(batch_id: str | None) -> None:
    """Make a batch the one that the page shows, or none; the address follows."""
    if batch_id:
        st.query_params["batch"] = batch_id
    else:
        st.query_params.pop("batch", None)
