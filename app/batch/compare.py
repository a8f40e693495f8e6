"""Two batches side by side: how often they agree, the lines where they do not, checks of the answers, and a judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pandas as pd
import streamlit as st
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.batch import answer_checks as checks
from app.batch import judge, summary, votes
from app.batch import line as batch_line
from app.batch import state as bt
from app.live.diff import merged
from app.widgets.text import clip, plain
from db import batches as store
from services import formatting as units
from services.batch import text as words
from services.batch.compare import Comparison, Kind, Pair, compare, pairs, same_sha

Row = Mapping[str, Any]
OTHER, TABLE, PAGE, WHICH, PAGE_SIZE = "bt_other", "bt_pairs", "bt_pairs_page", "bt_which", 20
DIFFER, ALL = "differ", "all"
KINDS: Mapping[str, tuple[Kind, ...]] = {
    DIFFER: ("differ",), "same": ("same",), "unanswered": ("one", "neither"), "only_a": ("only_a",),
    "only_b": ("only_b",),
}  # fmt: skip
AT_ONCE = 20_000  # lines that are compared while somebody waits
NONE_YET = (
    "No other batch was made of this file. Submit it to a second deployment, and both are compared here line by line."
)


def draw(row: Row, person: auth.Person) -> None:
    """What a second batch of the same file says to each line, checks of the answers, and a judge."""
    try:
        others = [one for one in store.same_file(auth.database(), row["file_sha256"])
                  if one["id"] != row["id"] and one["run_id"]]  # fmt: skip
    except SQLAlchemyError:
        return
    if not others:
        st.caption(NONE_YET)
        checks.draw([row])
        return
    by_id = {str(one["id"]): one for one in others}
    if st.session_state.get(OTHER) not in by_id:
        st.session_state[OTHER] = next(iter(by_id))
    chosen = st.selectbox("Another batch of the same file", list(by_id), key=OTHER, on_change=forget,
                          format_func=lambda one: label(by_id[one]))  # fmt: skip
    other = by_id[chosen]
    if row["n_lines"] + other["n_lines"] > 2 * AT_ONCE and not st.checkbox(
        f"Compare all {row['n_lines']:,} lines (takes a while)", key="bt_compare_all"
    ):
        return
    with st.spinner("Comparing line by line"):
        found = comparison(auth.database(), row, other, (str(row["ended_at"]), str(other["ended_at"])))
    st.markdown(plain(found.told("this batch", "the other")))
    _figures(row, other, found)
    votes.draw_tally(row, other)
    _lines(row, other, found, person)
    checks.draw([row, other])
    judge.draw(row, other, person)


def label(row: Row) -> str:
    """A batch as a choice: "Haiku · reviews · ended · 24 Nov 14:03 UTC". A moment and not an age: a choice whose words
    change from minute to minute is lost between two of them."""
    state = words.state(row["state"], short=True)
    return f"{summary.name_of(row)} · {clip(str(row['name']), 60)} · {state} · {row['created_at']:%-d %b %H:%M} UTC"


@st.cache_data(max_entries=50, show_spinner=False)
def comparison(_database: Engine, _a: Row, _b: Row, key: tuple[str, str]) -> Comparison:
    """The totals of both. ``key``: what else it depends on than the two ids."""
    del key
    first, second = (store.each_line(_database, one["id"]) for one in (_a, _b))
    return compare(first, second, same_file=same_sha(_a, _b))


def _figures(a: Row, b: Row, found: Comparison) -> None:
    frame = pd.DataFrame(
        {
            "batch": list(sides(a, b)),
            "answered": [f"{one.states.get('succeeded', 0):,} of {one.n:,}" for one in (found.a, found.b)],
            "ttft": [units.seconds(one.times["ttft_ms"].p50) for one in (found.a, found.b)],
            "ttlt": [units.seconds(one.times["ttlt_ms"].p50) for one in (found.a, found.b)],
            "out": [units.count(one.output_tokens) for one in (found.a, found.b)],
            "cost": [summary.cost(one) for one in (found.a, found.b)],
        }
    )
    text = st.column_config.TextColumn
    st.dataframe(
        frame, hide_index=True, height="content",
        column_config={
            "batch": text("Deployment", width=220), "answered": text("Answered", alignment="right"),
            "ttft": text("First token, p50", alignment="right"), "ttlt": text("Last token, p50", alignment="right"),
            "out": text("Output tokens", alignment="right"), "cost": text("Cost", alignment="right"),
        },
        alt="Both batches with their figures",
    )  # fmt: skip


def _pairs(a: Row, b: Row, which: str) -> Iterator[Pair]:
    reader = auth.database()
    found = pairs(store.each_line(reader, a["id"]), store.each_line(reader, b["id"]), same_file=same_sha(a, b))
    return found if which == ALL else (pair for pair in found if pair.kind in KINDS[which])


def choices(found: Comparison) -> dict[str, str]:
    """Which lines can be listed, each with how many they are. Only lines that both answered agree or differ; those that
    one batch alone has are told apart from them."""
    lines = found.n_pairs + found.only_a + found.only_b
    counted = {
        DIFFER: (found.n_answered - found.n_same, "differs", "differ"), "same": (found.n_same, "is the same",
        "are the same"), "unanswered": (found.n_pairs - found.n_answered, "lacks an answer", "lack an answer"),
        "only_a": (found.only_a, "line is only in this batch", "lines are only in this batch"),
        "only_b": (found.only_b, "line is only in the other", "lines are only in the other"),
        ALL: (lines, "line in all", "lines in all"),
    }  # fmt: skip
    return {which: f"{n:,} {one if n == 1 else many}" for which, (n, one, many) in counted.items()
            if n or which == DIFFER}  # fmt: skip


def _lines(a: Row, b: Row, found: Comparison, person: auth.Person) -> None:
    offered = choices(found)
    if st.session_state.get(WHICH) not in offered:
        st.session_state[WHICH] = DIFFER
    which: str = st.segmented_control(
        "Lines", list(offered), key=WHICH, format_func=offered.__getitem__, on_change=forget, required=True,
        label_visibility="collapsed",
    ) or DIFFER  # fmt: skip
    page = max(int(st.session_state.get(PAGE) or 1), 1)
    shown = list(islice(_pairs(a, b, which), (page - 1) * PAGE_SIZE, page * PAGE_SIZE + 1))
    rows, more = shown[:PAGE_SIZE], len(shown) > PAGE_SIZE
    if not rows:
        st.caption("No line that both answered differs." if page == 1 else "No further line.")
    else:
        _table(a, b, rows, person)
    if page == 1 and not more:
        return
    with st.container(horizontal=True):
        st.button("Before", key="bt_pairs_before", icon=":material/chevron_left:", disabled=page == 1, on_click=_turn,
                  args=(page - 1,))  # fmt: skip
        st.button("Next", key="bt_pairs_next", icon=":material/chevron_right:", disabled=not more, on_click=_turn,
                  args=(page + 1,))  # fmt: skip


def _table(a: Row, b: Row, rows: Sequence[Pair], person: auth.Person) -> None:
    frame = pd.DataFrame(
        {
            "key": [clip(pair.key, 60) for pair in rows],
            "asked": [clip(batch_line.given(a, pair.a or pair.b or {}), 200) for pair in rows],
            "a": [clip(said(pair.a), 300) for pair in rows],
            "b": [clip(said(pair.b), 300) for pair in rows],
        }
    )
    text, heads = st.column_config.TextColumn, sides(a, b)
    event = st.dataframe(
        frame, key=TABLE, hide_index=True, height="content", on_select="rerun", selection_mode=bt.ANY_CELL,
        column_config={
            "key": text("Id", width=70), "asked": text("Asked", width=150),
            "a": text(heads[0], width=310), "b": text(heads[1], width=310),
        },
        alt="Lines of both batches, side by side",
    )  # fmt: skip
    chosen = bt.clicked(event.selection, len(rows))
    if chosen is None:
        st.caption("Click a line to see both answers and their difference.")
        return
    pair = rows[chosen]
    with st.container(border=True):
        votes.draw(a, b, pair, person)
        left, right = st.columns(2)
        for slot, side, line in zip((left, right), heads, (pair.a, pair.b), strict=True):
            with slot:
                st.caption(plain(side))
                batch_line.text(said(line) or "–")
        if pair.answered and not pair.diff.same:
            st.caption("Struck through in red only in the first, bold in green only in the second.")
            st.markdown(merged(pair.diff.segments))


def sides(a: Row, b: Row) -> tuple[str, str]:
    """What the two are called beside each other: by their deployments, which may be the same one."""
    return f"This batch · {summary.name_of(a)}", f"The other · {summary.name_of(b)}"


def said(row: Row | None) -> str:
    """What a line was answered with, or why it was not."""
    if row is None:
        return "not in this batch"
    return str(row.get("answer") or row.get("message") or words.LINES.get(row["state"], row["state"]))


def forget() -> None:
    """Callback of everything that changes which pairs are listed."""
    for key in (TABLE, PAGE):
        st.session_state.pop(key, None)


def _turn(page: int) -> None:
    st.session_state.pop(TABLE, None)
    st.session_state[PAGE] = page
