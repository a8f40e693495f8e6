"""The conversation above the prompt: what was asked in earlier turns and what each column answered."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import auth
from app.live import run_view as runs
from app.playground import state
from app.widgets import playground_inputs
from app.widgets.text import clip, plain
from db.run_rows import CallRow, RunRow
from services.call_record import from_row
from services.runs import view


def draw(shown: runs.Shown, *, masked: bool) -> None:
    """Earlier turns, each folded; and, while the conversation goes on, the way out of it."""
    for number, turn in enumerate(runs.ancestors(shown.run), 1):
        _turn(turn, number, masked=masked)


def _turn(turn: RunRow, number: int, *, masked: bool) -> None:
    title = clip(str(turn.get("prompt") or "text not stored"), 90)
    folded = st.expander(
        f"Turn {number}: {plain(title)}", icon=":material/forum:", key=f"pg_turn_{turn['id']}", on_change="rerun"
    )
    if not folded.open:
        return
    with folded:
        asked(turn)
        answers(view.shown_calls(runs.calls_of(auth.database(), turn).calls), masked=masked)


def asked(run: RunRow) -> None:
    """What a run asked, as plain text."""
    if run.get("system"):
        st.caption("System prompt")
        st.text(str(run["system"]))
    st.caption("Prompt")
    st.text(str(run.get("prompt") or "The text was not stored."))


def answers(calls: Sequence[CallRow], *, masked: bool) -> None:
    """The answers of a turn side by side, as plain text."""
    with st.grid(min(max(len(calls), 1), 4), border=True) as grid:
        for row in calls:
            with grid.cell():
                st.caption(f"{plain(runs.name_of(row, masked=masked))} · {view.words(from_row(row))}")
                st.text(str(row.get("answer") or "No answer was kept."))


def draw_mode(shown: runs.Shown) -> None:
    """Below the board: go on with this conversation, or begin another."""
    going_on = st.session_state[playground_inputs.CONTINUE]
    with st.container(horizontal=True, vertical_alignment="center"):
        if going_on:
            st.caption(f":material/forum: {plain(continuing(shown))}", width="stretch")
        else:
            st.button(
                "Continue",
                key="pg_continue_button",
                icon=":material/reply:",
                on_click=state.continue_run,
                disabled=shown.live is not None or shown.found.batch is not None,
                help="The next prompt goes on from here; each deployment is sent its own answers, no other's "
                "and never an error text.",
            )
        st.button("New conversation", key="pg_new", icon=":material/add_comment:", on_click=state.new_conversation)


def continuing(shown: runs.Shown) -> str:
    """Who goes on with what, in one or two sentences."""
    had = {row["deployment_id"] for row in shown.columns}
    fresh = [s.deployment.name for s in state.chosen() if s.deployment.id not in had]
    said = "The next prompt continues this conversation: each deployment sees its own answers."
    return f"{said} {', '.join(fresh)} was not in it and begins anew." if fresh else said


def draw_current(shown: runs.Shown, *, typed: str | None) -> None:
    """What the shown run asked, where the prompt box does not say the same."""
    sent = shown.run.get("template") if shown.run.get("template") is not None else shown.run.get("prompt")
    if typed is not None and typed == sent and not shown.run.get("variables"):
        return
    text = str(shown.run.get("prompt") or "The text of this run was not stored.")
    with st.container(border=True):
        if shown.run.get("system"):
            st.caption("System prompt")
            st.text(str(shown.run["system"]))
            st.caption("Prompt")
        if len(text) > 1200:
            st.text(text[:1200].rstrip() + "…")
            with st.expander("The whole prompt"):
                st.text(text)
        else:
            st.text(text)
