"""The results as files: made when they are asked for, in the order of the file, joined to its own columns."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO

import streamlit as st

from app import auth
from app.widgets.text import plain
from db import batches as store
from services.batch.export import ENDINGS, TYPES, Kind, write

Row = Mapping[str, Any]
TITLES: dict[Kind, str] = {"csv": "CSV", "jsonl": "JSONL", "parquet": "Parquet", "excel": "Excel"}
EXCEL_ROWS, LARGE = 1_048_575, 100_000
FOR_MACHINES = "bt_for_machines"
BESIDE = "Your columns in the order of the file, with the results beside them."
ESCAPED = (
    f"{BESIDE} In CSV and Excel an apostrophe stands before each text that a spreadsheet would take for a formula; "
    "JSONL and Parquet hold every text as it was."
)
AS_THEY_WERE = f"{BESIDE} Every text as it was: a spreadsheet may take one in the CSV for a formula and run it."


def draw(row: Row, *, first: bool) -> None:
    """A menu with every kind of file. ``first``: it is what one most likely wants to do next."""
    with st.popover(
        "Download", icon=":material/download:", key="bt_download", type="primary" if first else "secondary"
    ):
        for kind, title in TITLES.items():
            st.download_button(
                title, made(row, kind), file_name(row, kind), TYPES[kind], key=f"bt_file_{kind}", on_click="ignore",
                width="stretch", disabled=kind == "excel" and row["n_lines"] > EXCEL_ROWS,
                help=f"At most {EXCEL_ROWS:,} lines." if kind == "excel" else None,
            )  # fmt: skip
        machine = st.toggle("For a program, without apostrophes", key=FOR_MACHINES)
        st.caption(AS_THEY_WERE if machine else ESCAPED)
        if row["n_lines"] > LARGE:
            command = f"lab batch results {row['id']} --to FILE"
            st.caption(plain(f"So many lines are written faster without a browser: {command}"))


def file_name(row: Row, kind: Kind) -> str:
    """A name that says which batch it is: "inference-lab-reviews-20261124.csv"."""
    name = re.sub(r"[^\w-]+", "-", str(row["name"]), flags=re.ASCII).strip("-")[:60] or "batch"
    return f"inference-lab-{name}-{row['created_at']:%Y%m%d-%H%M}.{ENDINGS[kind]}"


def made(row: Row, kind: Kind) -> Callable[[], BinaryIO]:
    """What makes a file when it is asked for; it runs in a thread of its own."""
    escape = not st.session_state.get(FOR_MACHINES)
    return partial(_make, auth.database(), row, kind, escape)


def _make(database: Any, row: Row, kind: Kind, escape: bool) -> BinaryIO:
    # A file without a name: it is gone with its last reader. A second handle, because Streamlit only reads what was
    # opened for nothing but reading.
    with tempfile.TemporaryFile() as target:
        lines = store.each_line(database, row["id"])
        write(lines, row.get("columns") or (), kind, target, escape=escape, n=row["n_lines"])
        target.flush()
        found = os.fdopen(os.dup(target.fileno()), "rb")
    found.seek(0)
    return found
