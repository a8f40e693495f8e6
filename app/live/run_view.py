"""The run that the playground shows: read from the records, or from the engine while it lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.live import run_calls
from app.live.board import board
from app.tickets import board_token
from db import run_queries
from db.run_rows import CallRow, RunRow, VoteRow
from services.runs import view

REVEALED = "pg_revealed"
LONGEST_THREAD = 20


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
    found: run_calls.Found = run_calls.NOTHING

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
        found, votes = run_calls.of_run(reader, run), run_queries.votes_of_run(reader, run_id)
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
    found: list[RunRow] = []
    reader = auth.database()
    parent = run["parent_run_id"]
    while parent and len(found) < LONGEST_THREAD:
        row = run_queries.run_by_id(reader, parent)
        if row is None:
            break
        found.append(row)
        parent = row["parent_run_id"]
    return found[::-1]
