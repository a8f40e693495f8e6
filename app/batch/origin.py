"""The links of a batch to the batch it resends, to the one that resends it, and to the two that it judges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError
from streamlit.delta_generator import DeltaGenerator

from app import auth
from app.batch import compare, summary, upload
from app.widgets.text import clip, plain
from db import batches
from services.batch import judge
from services.batch import text as words

Row = Mapping[str, Any]


def draw(row: Row) -> None:
    """The ways back; nothing where there are none, or where what they lead to is gone."""
    if row.get("parent_id") and (parent := _batch(row["parent_id"])) is not None:
        name = plain(clip(str(parent["name"]), 60))
        with beside(f":material/subdirectory_arrow_right: The lines that “{name}” left unanswered, sent again."):
            st.button("Open it", key="bt_parent", type="tertiary", on_click=upload.open_batch, args=(parent["id"],))
    if (ids := judge.judged_by(str(row["file_name"]))) is None:
        return
    first, second = (_batch(batch_id) for batch_id in ids)
    if first is None or second is None:
        return
    names = " and ".join(f"“{plain(clip(_called(batch), 60))}”" for batch in (first, second))
    with beside(f":material/gavel: It judges {names}."):
        st.button(
            "Open their comparison",
            key="bt_judged",
            type="tertiary",
            on_click=_compare,
            args=(first["id"], second["id"]),
        )


def after(child: Row, n: int) -> None:
    """The way to the batch that the ``n`` lines without an answer went into; what still fails is sent again there."""
    lines = "The line without an answer was" if n == 1 else f"The {n:,} lines without an answer were"
    name, state = plain(clip(str(child["name"]), 60)), words.state(child["state"], short=True)
    with beside(f":material/replay: {lines} sent again as “{name}” ({state})."):
        st.button("Open it", key="bt_child", type="tertiary", on_click=upload.open_batch, args=(child["id"],))


def beside(caption: str) -> DeltaGenerator:
    """A row that says something, for a button behind it: a long label of a button is cut on a telephone."""
    row = st.container(horizontal=True, vertical_alignment="center")
    row.caption(caption, width="content")
    return row


def _called(row: Row) -> str:
    return f"{row['name']} · {summary.name_of(row)}"


def _batch(batch_id: str) -> Row | None:
    try:
        return batches.batch(auth.database(), batch_id)
    except SQLAlchemyError:
        return None


def _compare(first: str, second: str) -> None:
    """Callback: the first one, held against the second."""
    upload.open_batch(first)
    compare.forget()
    st.session_state[upload.TAB] = upload.TABS[2]
    st.session_state[compare.OTHER] = second
