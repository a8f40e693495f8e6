"""A model as judge of two batches: its questions become a file like any other, and its verdicts are read back."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import auth
from app.batch import state as bt
from app.batch import summary, upload
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import clip, plain
from db import batches as store
from services.batch import judge
from services.batch import text as words
from services.batch.compare import pairs, same_sha

Row = Mapping[str, Any]
CRITERIA, REFUSAL, LOOKED_AT = "bt_judge_criteria", "bt_judge_refusal", 500


def draw(a: Row, b: Row, person: auth.Person) -> None:
    """What judges said of these two, and the way to ask one."""
    first, second = sorted((a, b), key=lambda row: str(row["id"]))
    with st.expander("Let a model judge", icon=":material/gavel:", key="bt_judge"):
        for row in asked(first, second):
            _verdict(row, first, second)
        if person.may("send"):
            st.text_area("What makes an answer better", key=CRITERIA, value=judge.CRITERIA, height=68)
            st.button("Prepare the questions", key="bt_judge_prepare", icon=":material/gavel:", on_click=_prepare,
                      args=(first, second))  # fmt: skip
            st.caption(
                "One question for each line on which the two differ; which answer comes first is drawn by lot. You see "
                "cost and time on the next page, and nothing is sent before you say so."
            )
        draw_refusal(REFUSAL)


def asked(first: Row, second: Row) -> list[Row]:
    """The judges' batches of these two, newest first."""
    name = judge.file_name(str(first["id"]), str(second["id"]))
    return [row for row in store.batches(auth.database(), LOOKED_AT) if row["file_name"] == name]


def _verdict(row: Row, first: Row, second: Row) -> None:
    name = summary.name_of(row)
    if not words.over(row):
        st.caption(plain(f"{name} is judging: {words.state(row['state'])}."))
        return
    found = judge.judged(judge.verdicts(store.each_line(auth.database(), row["id"])))
    st.markdown(f"**{plain(name)}** · {plain(found.sentence)}")
    which = f"First: {summary.name_of(first)}; second: {summary.name_of(second)}."
    st.caption(plain(f"{which} {found.bias_sentence}"))
    st.button("Open its batch", key=f"bt_judge_open_{row['id']}", type="tertiary", icon=":material/open_in_new:",
              on_click=bt.open_batch, args=(row["id"],))  # fmt: skip


def _prepare(first: Row, second: Row) -> None:
    """Callback: write the questions, and take the file as a new batch that is ready to be sent."""
    criteria = (st.session_state.get(CRITERIA) or "").strip() or judge.CRITERIA

    def prepare() -> None:
        reader = auth.database()
        both = pairs(store.each_line(reader, first["id"]), store.each_line(reader, second["id"]),
                     same_file=same_sha(first, second))  # fmt: skip
        with tempfile.TemporaryFile() as target:
            written = judge.write(both, target, seed=secrets.randbelow(2**31), criteria=criteria)
            if not written.n:
                raise ValueError("The two batches differ on no line that both answered, so there is nothing to judge.")
            target.seek(0)
            name = judge.file_name(str(first["id"]), str(second["id"]))
            bt.pick(upload.spooled(target, name, "upload"), written.options)
            st.session_state[bt.NAME] = f"Judge of {clip(str(first['name']), 50)} and {clip(str(second['name']), 50)}"
        bt.open_batch(None)

    attempt(REFUSAL, prepare)
