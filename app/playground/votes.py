"""Votes on the answers of a run: A or B, a tie, both bad, or the best of several; and the lifting of the veil."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import auth
from app.live import run_view as runs
from app.playground import actions as act
from app.widgets.text import plain
from services.runs import view

PAIR = {"a": "{a} is better", "b": "{b} is better", "tie": "Tie", "both_bad": "Both are bad"}
ICONS = {"a": "thumb_up", "b": "thumb_up", "tie": "drag_handle", "both_bad": "thumb_down"}


def draw(shown: runs.Shown, person: auth.Person, *, masked: bool) -> None:
    """The vote for this run, or what was voted."""
    answered = [row for row in shown.columns if row.get("answer")]
    if len(answered) < 2:
        if masked:
            st.button("Show names", key="pg_reveal", on_click=runs.reveal, args=(shown.id,))
        return
    mine = next((v for v in reversed(shown.votes) if v["person"] == person.name), None)
    if mine is not None:
        st.markdown(f":material/how_to_vote: {plain(verdict(mine, answered))}")
        return
    if not person.may("vote"):
        if shown.votes:
            st.caption(f"{len(shown.votes)} {'vote' if len(shown.votes) == 1 else 'votes'} on this run.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Which answer is better?**" if len(answered) == 2 else "**Which answer is the best?**",
                    width="content")  # fmt: skip
        for key, label, icon, ballot in ballots(answered, blind=masked):
            st.button(plain(label), key=f"pg_vote_{key}", icon=f":material/{icon}:", on_click=act.vote,
                      args=(shown.id, ballot))  # fmt: skip
        if masked:
            st.button("Show names without a vote", key="pg_reveal", type="tertiary", on_click=runs.reveal,
                      args=(shown.id,))  # fmt: skip
    if masked:
        st.caption("Names, speed and cost appear after your vote. The sides were shuffled when the run was sent.")


def ballots(answered: Sequence[runs.Row], *, blind: bool) -> list[tuple[str, str, str, dict[str, Any]]]:
    """(key, label, icon, ballot) of every button: four for a pair, one a column and "none" for more."""
    repetition = int(answered[0]["repetition"])
    if len(answered) == 2:
        a, b = answered
        names = {"a": runs.name_of(a, masked=blind), "b": runs.name_of(b, masked=blind)}
        base = {
            "blind": blind, "column_a": a["column_no"], "column_b": b["column_no"],
            "deployment_a": a["deployment_id"], "deployment_b": b["deployment_id"], "repetition": repetition,
        }  # fmt: skip
        winner = {"a": a["deployment_id"], "b": b["deployment_id"]}
        return [
            (choice, label.format(**names), ICONS[choice], base | {"choice": choice, "winner": winner.get(choice)})
            for choice, label in PAIR.items()
        ]
    made: list[tuple[str, str, str, dict[str, Any]]] = [
        (
            f"best_{row['column_no']}", runs.name_of(row, masked=blind), "star",
            {"choice": "best", "blind": blind, "column_a": row["column_no"], "column_b": None,
             "deployment_a": row["deployment_id"], "deployment_b": None, "winner": row["deployment_id"],
             "repetition": repetition},
        )
        for row in answered
    ]  # fmt: skip
    return made


def verdict(vote: runs.Row, answered: Sequence[runs.Row]) -> str:
    """What a vote said, with names."""
    names = {row["deployment_id"]: str(row["deployment"]["name"]) for row in answered}
    how = " without knowing the names" if vote.get("blind") else ""
    if vote["choice"] == "tie":
        return f"You called it a tie{how}."
    if vote["choice"] == "both_bad":
        return f"You found both bad{how}."
    return f"You preferred {names.get(vote.get('winner'), 'an answer')}{how}."


def states(shown: runs.Shown) -> str:
    """How many calls ended how: "4 done, 1 stopped"."""
    counts: dict[str, int] = {}
    for row in shown.answers:
        words = view.STATE_WORDS.get(str(row["state"]), str(row["state"]))
        counts[words] = counts.get(words, 0) + 1
    return ", ".join(f"{n} {words}" for words, n in counts.items())
