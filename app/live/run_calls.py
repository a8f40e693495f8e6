"""The calls of a run as pages read them: never more than a page can show, and where the others are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from sqlalchemy import Engine

from app import navigation
from app.widgets.text import clip, plain
from db import batch_queries, run_queries
from db.run_rows import CallRow, RunRow
from services.types import JsonMapping

MOST = 1_000  # a run of the playground has 240 at most, further attempts aside
OF_A_BATCH = 50  # a batch has a page of its own


@dataclass(frozen=True, slots=True)
class Found:
    """The first calls of a run, how many there are, and the batch that they belong to, if they do."""

    calls: Sequence[CallRow] = ()
    total: int = 0
    batch: JsonMapping | None = None

    @property
    def cut(self) -> bool:
        """Whether there are more."""
        return self.total > len(self.calls)


NOTHING = Found()


def of_run(reader: Engine, run: RunRow) -> Found:
    """The calls of a run."""
    batch = batch_queries.of_run(reader, run["id"]) if run["source"] == "batch" else None
    most = MOST if batch is None else OF_A_BATCH
    calls = run_queries.calls_of_run(reader, run["id"], limit=most)
    total = len(calls) if len(calls) < most else run_queries.count_calls(reader, run["id"])
    return Found(calls, total, batch)


def draw(found: Found, key: str) -> None:
    """What is not here, and the way to it; nothing for a run that is here as a whole."""
    if found.batch is None and not found.cut:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(plain(words(found)), width="stretch")
        if found.batch is not None and st.button("Open the batch", key=key, icon=":material/dynamic_form:"):
            navigation.open_batch(str(found.batch["id"]))


def words(found: Found) -> str:
    """What a run is of which not everything is shown."""
    shown = f"the first {len(found.calls):,} of {found.total:,} calls are here"
    if found.batch is None:
        return f"{shown[:1].upper()}{shown[1:]}; `lab runs --run ID` prints all of them."
    name = f"These are calls of the batch “{clip(str(found.batch['name']), 60)}”"
    if found.cut:
        return f"{name}: {shown}; every line, its figures and its files are on the batch's page."
    return f"{name}, whose lines, figures and files are on its own page."
