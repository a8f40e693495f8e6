"""The run that a page shows: read from the records, or from the engine while it lives; never more of its calls than a
page can show, and where the others are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import auth, navigation
from app.live.board import board
from app.tickets import board_token
from app.widgets.text import clip, plain
from db import batch_queries, run_queries
from db.run_rows import CallRow, RunRow, VoteRow
from services.runs import view
from services.types import JsonMapping

REVEALED = "pg_revealed"
LONGEST_THREAD = 20


MOST = 1_000  # a run of the playground has 240 at most, further attempts aside
OF_A_BATCH = 50  # a batch has a page of its own


@dataclass(frozen=True, slots=True)
class RunCalls:
    """The first calls of a run, how many there are, and the batch that they belong to, if they do."""

    calls: Sequence[CallRow] = ()
    total: int = 0
    batch: JsonMapping | None = None

    @property
    def cut(self) -> bool:
        """Whether there are more."""
        return self.total > len(self.calls)


NOTHING = RunCalls()


@dataclass(frozen=True, slots=True)
class Shown:
    """A run as the page shows it. ``live`` is the board's snapshot while the engine still lives it, else None.

    ``unwritten``: the snapshot of a run that has ended but whose end the engine could not write yet. ``found``: the
    calls with how many there are in all: of a batch only the first are here.
    """

    run: RunRow
    calls: Sequence[CallRow]
    votes: Sequence[VoteRow]
    live: view.Snapshot | None
    unwritten: view.Snapshot | None = None
    found: RunCalls = NOTHING

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run["id"]

    @property
    def answers(self) -> list[CallRow]:
        """The last attempt of each column and repetition."""
        return view.last_attempts(self.calls)

    @property
    def columns(self) -> list[CallRow]:
        """The call that each column shows."""
        return view.shown_calls(self.calls)


def load(run_id: str) -> tuple[Shown | None, str | None]:
    """A run with its calls and votes, or None with the sentence that says why not."""
    snapshot = None
    trouble = None
    try:
        snapshot = auth.engine().live(run_id)
    except auth.EngineError as error:
        trouble = str(error)
    try:
        reader = auth.database()
        run = run_queries.run_by_id(reader, run_id)
        if run is None:
            return None, trouble or "There is no run at this address; it may have been deleted."
        found, votes = calls_of(reader, run), run_queries.votes_of_run(reader, run_id)
        calls = found.calls
        if trouble and any(call["state"] == "running" for call in calls):
            # The engine is away in the middle of it: the board waits for it, and says so.
            return Shown(run, calls, votes, view.snapshot_from_rows(run, calls), found=found), None
        if snapshot and not snapshot["live"]:
            return Shown(run, calls, votes, None, snapshot, found), None
        return Shown(run, calls, votes, snapshot, found=found), None
    except SQLAlchemyError:
        return None, "The records cannot be read just now; they are kept. Reload the page in a moment."


def hidden(run: RunRow, votes: Sequence[VoteRow], person: auth.Person) -> bool:
    """Whether names, speed and cost stay hidden: a blind run on which this person has not voted or given up.

    For somebody who may not vote, anybody's vote lifts the veil.
    """
    if not run["blind"] or len(run.get("columns") or ()) < 2 or run["id"] in st.session_state.get(REVEALED, set()):
        return False
    return not any(vote["person"] == person.name or not person.may("vote") for vote in votes)


def reveal(run_id: str) -> None:
    """Callback: show who is who without a vote, for this visit."""
    st.session_state.setdefault(REVEALED, set()).add(run_id)


def letter(column: int) -> str:
    """What a column is called while its name is hidden: A, B, C …"""
    return chr(ord("A") + column)


def name_of(row: CallRow, *, masked: bool) -> str:
    """What to call a call's column."""
    return f"Answer {letter(row['column_no'])}" if masked else str(row["deployment"]["name"])


def frame(shown: Shown, *, masked: bool) -> view.Snapshot:
    """The board's snapshot. While names are hidden they do not leave the server either."""
    drawn = shown.live or shown.unwritten or view.snapshot_from_rows(shown.run, shown.calls)
    columns = [_nameless(column) for column in drawn["columns"]] if masked else drawn["columns"]
    return {**drawn, "blind": masked, "columns": columns}


def _nameless(column: view.Column) -> view.Column:
    return {
        **column,
        "name": "",
        "badge": "",
        "kind": "",
        "model": "",
        "labels": [],
        "deployment": "",
        "color": 0,
    }


def may_act(shown: Shown, person: auth.Person) -> bool:
    """Whether somebody may stop and retry the columns of a run."""
    return shown.found.batch is None and person.may_change("send", shown.run)


def draw(shown: Shown, person: auth.Person, *, masked: bool) -> None:
    """The board: over its socket while the run lives, from the records afterwards."""
    board(
        key="pg_board",
        snapshot=frame(shown, masked=masked),
        run_id=shown.id,
        # A line of a batch is sent again as a batch: a call in its run would be in no line.
        token=board_token(
            shown.id,
            person.name,
            person.role if may_act(shown, person) else "viewer",
            until=person.until,
            mark=person.mark,
        ),
        live=shown.live is not None,
    )


def ancestors(run: RunRow) -> list[RunRow]:
    """The earlier runs of a conversation, oldest first; at most `LONGEST_THREAD` of them."""
    earlier: list[RunRow] = []
    reader = auth.database()
    parent = run["parent_run_id"]
    while parent and len(earlier) < LONGEST_THREAD:
        row = run_queries.run_by_id(reader, parent)
        if row is None:
            break
        earlier.append(row)
        parent = row["parent_run_id"]
    return earlier[::-1]


def calls_of(reader: Engine, run: RunRow) -> RunCalls:
    """The calls of a run."""
    batch = batch_queries.of_run(reader, run["id"]) if run["source"] == "batch" else None
    most = MOST if batch is None else OF_A_BATCH
    calls = run_queries.calls_of_run(reader, run["id"], limit=most)
    total = len(calls) if len(calls) < most else run_queries.count_calls(reader, run["id"])
    return RunCalls(calls, total, batch)


def draw_rest(calls: RunCalls, key: str) -> None:
    """What is not here, and the way to it; nothing for a run that is here as a whole."""
    if calls.batch is None and not calls.cut:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(plain(rest_words(calls)), width="stretch")
        if calls.batch is not None and st.button("Open the batch", key=key, icon=":material/dynamic_form:"):
            navigation.open_batch(str(calls.batch["id"]))


def rest_words(calls: RunCalls) -> str:
    """What a run is of which not everything is shown."""
    shown = f"the first {len(calls.calls):,} of {calls.total:,} calls are here"
    if calls.batch is None:
        return f"{shown[:1].upper()}{shown[1:]}; `lab runs --run ID` prints all of them."
    name = f"These are calls of the batch “{clip(str(calls.batch['name']), 60)}”"
    if calls.cut:
        return f"{name}: {shown}; every line, its figures and its files are on the batch's page."
    return f"{name}, whose lines, figures and files are on its own page."
