"""Votes of people on two answers to the same line, and how they add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import auth
from app.batch import summary
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import plain
from db import batch_votes as store
from services.batch.compare import Pair, tally

Row = Mapping[str, Any]
REFUSAL = "bt_vote_refusal"
CHOICES = {"a": "The first is better", "tie": "Alike", "b": "The second is better"}


def draw_tally(a: Row, b: Row) -> None:
    """Who was preferred, once anybody has voted."""
    if votes := store.votes(auth.database(), str(a["id"]), str(b["id"])):
        found = tally(votes)
        st.caption(f":material/how_to_vote: {plain(found.sentence)}")


def draw(a: Row, b: Row, pair: Pair, person: auth.Person) -> None:
    """The three buttons for a line that both answered; the person's own choice is marked."""
    if not person.may("vote") or pair.a is None or pair.b is None or not pair.answered:
        return
    no = store.line_of(str(a["id"]), str(b["id"]), int(pair.a["no"]), int(pair.b["no"]))
    mine = [vote for vote in store.votes(auth.database(), str(a["id"]), str(b["id"]), person.name)
            if vote["no"] == no]  # fmt: skip
    chosen = mine[0]["choice"] if mine else None
    names = f"{summary.name_of(a)} is the first, {summary.name_of(b)} the second."
    with st.container(horizontal=True, vertical_alignment="center"):
        for choice, title in CHOICES.items():
            st.button(
                title, key=f"bt_vote_{choice}", type="primary" if choice == chosen else "secondary", on_click=_vote,
                args=(a, b, no, None if choice == chosen else choice), help=plain(names),
            )  # fmt: skip
    draw_refusal(REFUSAL)


def _vote(a: Row, b: Row, no: int, choice: str | None) -> None:
    """Callback: keep the choice; the same button again takes it back."""
    attempt(REFUSAL, lambda: auth.engine().batches.vote(str(a["id"]), str(b["id"]), no, choice))
