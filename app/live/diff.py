"""The difference of two answers, word by word, as escaped text: nothing in it can be fetched or obeyed."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.live import run_view as runs
from app.widgets.text import plain
from db.run_rows import CallRow
from services.runs.compare import Segment, diff

MARKS = {"equal": "{}", "delete": ":red-background[~~{}~~]", "insert": ":green-background[**{}**]"}


def draw_diff(shown: runs.Shown, *, masked: bool) -> None:
    """Two pickers and the merged text; folded until somebody wants it."""
    answered = [row for row in shown.answers if row.get("answer")]
    if len(answered) < 2:
        return
    section = st.expander("Difference of two answers", icon=":material/difference:", key="pg_diff", on_change="rerun")
    if not section.open:
        return
    labels = {str(row["id"]): label(row, shown, masked=masked) for row in answered}
    with section:
        with st.container(horizontal=True):
            ids = list(labels)
            a, b = first_pair(answered)
            first = st.selectbox("From", ids, index=a, key="pg_diff_a", format_func=labels.__getitem__)
            second = st.selectbox("To", ids, index=b, key="pg_diff_b", format_func=labels.__getitem__)
        texts = {str(row["id"]): str(row["answer"]) for row in answered}
        compared = diff(texts[first or ""], texts[second or ""]) if first and second else None
        if compared is None:
            return
        if compared.same:
            st.caption("The two answers are the same, character by character.")
            return
        st.markdown(merged(compared.segments))
        by = "line by line, because the texts are long" if compared.unit == "line" else "word by word"
        st.caption(f"Compared {by}: struck through in red only in the first, bold in green only in the second.")


def first_pair(answered: Sequence[CallRow]) -> tuple[int, int]:
    """Which two answers are compared at first: those that the first two columns show, their last repetitions."""
    last = {row["column_no"]: at for at, row in enumerate(answered)}
    shown = sorted(last.values())
    return (shown[0], shown[1]) if len(shown) > 1 else (len(answered) - 2, len(answered) - 1)


def label(row: CallRow, shown: runs.Shown, *, masked: bool) -> str:
    """What an answer is called in the pickers."""
    name = runs.name_of(row, masked=masked)
    return f"{name} · repetition {row['repetition']}" if shown.run["repetitions"] > 1 else name


def merged(segments: tuple[Segment, ...]) -> str:
    """Segments as Markdown in which only our own marks mean anything; line breaks are kept."""
    return "".join(_marked(segment) for segment in segments)


def _marked(segment: Segment) -> str:
    lines = []
    for line in segment.text.split("\n"):
        words = plain(line)
        before = " " if line[:1].isspace() else ""
        after = " " if words and line[-1:].isspace() else ""
        lines.append(before + MARKS[segment.kind].format(words) + after if words else before)
    return "  \n".join(lines)
