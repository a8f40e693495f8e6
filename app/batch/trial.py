"""Three lines of the file, live in the playground's columns, before all of them are sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import auth, navigation
from app.batch import state as bt
from app.live import run_view as runs
from app.live.board import LEGEND, board
from app.live.tickets import board_token
from app.widgets.text import plain
from services.batch.targets import Way
from services.batch.types import Checked, Record
from services.runs.spec import ColumnSpec, RunSpec

LINES = 3
SOURCE = "playground"


def usable(checked: Checked) -> list[Record]:
    """The first lines that are one question, which is what a column can be asked."""
    return [record for record in checked.preview if len(record.ask.messages) == 1][:LINES]


def button(checked: Checked, way: Way) -> None:
    """The button that sends the first lines alone, now."""
    if lines := usable(checked):
        n = len(lines)
        st.button(
            f"Try {n} {'line' if n == 1 else 'lines'} live", key="bt_try", icon=":material/play_arrow:",
            on_click=_start, args=(lines, way),
            help=f"{n} real {'call' if n == 1 else 'calls'} to {plain(way.deployment.name)} at the interactive price; "
            "the batch itself is not sent.",
        )  # fmt: skip


def specs(lines: Sequence[Record], way: Way) -> list[RunSpec]:
    """A run for each line, as the playground would send it."""
    return [
        RunSpec(
            prompt=record.ask.messages[-1].text, system=record.ask.system, params=dict(record.ask.params),
            columns=(ColumnSpec(way.deployment.id, cache=record.ask.cache),), source=SOURCE,
        )
        for record in lines
    ]  # fmt: skip


def _start(lines: Sequence[Record], way: Way) -> None:
    """Callback: send the lines; a refusal is kept as a sentence."""
    st.session_state.pop(bt.REFUSAL, None)
    started: list[tuple[int, str]] = []
    try:
        engine = auth.engine()
        for record, spec in zip(lines, specs(lines, way), strict=True):
            started.append((record.line, engine.start_run(spec)))
    except (auth.EngineError, ValueError) as error:
        st.session_state[bt.REFUSAL] = str(error)
    st.session_state[bt.TRIED] = started


def draw(checked: Checked, way: Way, person: auth.Person) -> None:
    """The tried lines beside each other, live while they run."""
    tried: list[tuple[int, str]] = st.session_state.get(bt.TRIED) or []
    if not tried:
        return
    for slot, (line, run_id) in zip(st.columns(len(tried), gap="small"), tried, strict=True):
        with slot:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption(f"line {line:,}", width="stretch")
                if st.button("Playground", key=f"bt_tried_{line}", type="tertiary", icon=":material/open_in_new:",
                             help="Open this call in the playground, to change and compare it."):  # fmt: skip
                    navigation.open_run(run_id)
            shown, trouble = runs.load(run_id)
            if shown is None:
                st.caption(plain(trouble or ""))
                continue
            frame: dict[str, Any] = runs.frame(shown, masked=False)
            board(
                key=f"bt_board_{line}",
                snapshot=frame,
                run_id=run_id,
                live=shown.live is not None,
                legend=False,
                token=board_token(run_id, person.name, person.role, until=person.until, mark=person.mark),
            )
    st.caption(LEGEND)
