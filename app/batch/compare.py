"""Two batches side by side: how often they agree, checks of the answers, a model as judge, and votes of people."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import pandas as pd
import streamlit as st
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.batch import line as batch_line
from app.batch import summary
from app.batch import upload as batch_upload
from app.live.diff import merged
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import clip, plain
from db import batch_queries
from db import batches as batches_module
from db.batch_rows import BatchRow, CalledLine
from services import formatting as units
from services.batch import judge
from services.batch import text as words
from services.batch.evaluate import (
    TITLES,
    Check,
    CheckKind,
    Comparison,
    Kind,
    Pair,
    Rate,
    Verdict,
    compare,
    pairs,
    rate,
    run,
    same_sha,
    tally,
)

OTHER, TABLE, PAGE, WHICH, PAGE_SIZE = "bt_other", "bt_pairs", "bt_pairs_page", "bt_which", 20

DIFFER, ALL = "differ", "all"

KINDS: Mapping[str, tuple[Kind, ...]] = {
    DIFFER: ("differ",),
    "same": ("same",),
    "unanswered": ("one", "neither"),
    "only_a": ("only_a",),
    "only_b": ("only_b",),
}

AT_ONCE = 20_000  # lines that are compared while somebody waits

NONE_YET = (
    "No other batch was made of this file. Submit it to a second deployment, and both are compared here line by line."
)


def draw(row: BatchRow, person: auth.Person) -> None:
    """What a second batch of the same file says to each line, checks of the answers, and a judge."""
    try:
        other_batches = [
            candidate
            for candidate in batches_module.same_file(auth.database(), row["file_sha256"])
            if candidate["id"] != row["id"] and candidate["run_id"]
        ]
    except SQLAlchemyError:
        return
    if not other_batches:
        st.caption(NONE_YET)
        draw_checks([row])
        return
    by_id = {str(batch["id"]): batch for batch in other_batches}
    if st.session_state.get(OTHER) not in by_id:
        st.session_state[OTHER] = next(iter(by_id))
    chosen = st.selectbox(
        "Another batch of the same file",
        list(by_id),
        key=OTHER,
        on_change=forget,
        format_func=lambda batch_id: label(by_id[batch_id]),
    )
    other = by_id[chosen]
    if row["n_lines"] + other["n_lines"] > 2 * AT_ONCE and not st.checkbox(
        f"Compare all {row['n_lines']:,} lines (takes a while)", key="bt_compare_all"
    ):
        return
    with st.spinner("Comparing line by line"):
        totals = comparison(auth.database(), row, other, (str(row["ended_at"]), str(other["ended_at"])))
    st.markdown(plain(totals.sentence_with("this batch", "the other")))
    _figures(row, other, totals)
    draw_tally(row, other)
    _lines(row, other, totals, person)
    draw_checks([row, other])
    draw_judge(row, other, person)


def label(row: BatchRow) -> str:
    """A batch as a choice: "Haiku · reviews · ended · 24 Nov 14:03 UTC". A moment and not an age: a choice whose words
    change from minute to minute is lost between two of them."""
    state = words.state(row["state"], short=True)
    return (
        f"{words.deployment_name(row)} · {clip(str(row['name']), 60)} · {state} · {row['created_at']:%-d %b %H:%M} UTC"
    )


@st.cache_data(max_entries=50, show_spinner=False)
def comparison(_database: Engine, _a: BatchRow, _b: BatchRow, key: tuple[str, str]) -> Comparison:
    """The totals of both. ``key``: what else it depends on than the two ids."""
    del key
    first, second = (batches_module.each_line(_database, batch["id"]) for batch in (_a, _b))
    return compare(first, second, same_file=same_sha(_a, _b))


def _figures(a: BatchRow, b: BatchRow, totals: Comparison) -> None:
    frame = pd.DataFrame(
        {
            "batch": list(sides(a, b)),
            "answered": [
                f"{figures.states.get('succeeded', 0):,} of {figures.n:,}" for figures in (totals.a, totals.b)
            ],
            "ttft": [units.seconds(figures.times["ttft_ms"].p50) for figures in (totals.a, totals.b)],
            "ttlt": [units.seconds(figures.times["ttlt_ms"].p50) for figures in (totals.a, totals.b)],
            "out": [units.count(figures.output_tokens) for figures in (totals.a, totals.b)],
            "cost": [summary.cost(figures) for figures in (totals.a, totals.b)],
        }
    )
    text = st.column_config.TextColumn
    st.dataframe(
        frame,
        hide_index=True,
        height="content",
        column_config={
            "batch": text("Deployment", width=220),
            "answered": text("Answered", alignment="right"),
            "ttft": text("First token, p50", alignment="right"),
            "ttlt": text("Last token, p50", alignment="right"),
            "out": text("Output tokens", alignment="right"),
            "cost": text("Cost", alignment="right"),
        },
        alt="Both batches with their figures",
    )


def _pairs(a: BatchRow, b: BatchRow, which: str) -> Iterator[Pair]:
    reader = auth.database()
    all_pairs = pairs(
        batches_module.each_line(reader, a["id"]), batches_module.each_line(reader, b["id"]), same_file=same_sha(a, b)
    )
    return all_pairs if which == ALL else (pair for pair in all_pairs if pair.kind in KINDS[which])


def choices(totals: Comparison) -> dict[str, str]:
    """Which lines can be listed, each with how many they are. Only lines that both answered agree or differ; those that
    one batch alone has are told apart from them."""
    lines = totals.n_pairs + totals.only_a + totals.only_b
    counted = {
        DIFFER: (totals.n_answered - totals.n_same, "differs", "differ"),
        "same": (totals.n_same, "is the same", "are the same"),
        "unanswered": (totals.n_pairs - totals.n_answered, "lacks an answer", "lack an answer"),
        "only_a": (totals.only_a, "line is only in this batch", "lines are only in this batch"),
        "only_b": (totals.only_b, "line is only in the other", "lines are only in the other"),
        ALL: (lines, "line in all", "lines in all"),
    }
    return {
        which: f"{n:,} {singular if n == 1 else plural}"
        for which, (n, singular, plural) in counted.items()
        if n or which == DIFFER
    }


def _lines(a: BatchRow, b: BatchRow, totals: Comparison, person: auth.Person) -> None:
    offered = choices(totals)
    if st.session_state.get(WHICH) not in offered:
        st.session_state[WHICH] = DIFFER
    which: str = (
        st.segmented_control(
            "Lines",
            list(offered),
            key=WHICH,
            format_func=offered.__getitem__,
            on_change=forget,
            required=True,
            label_visibility="collapsed",
        )
        or DIFFER
    )
    page = max(int(st.session_state.get(PAGE) or 1), 1)
    page_and_next = list(islice(_pairs(a, b, which), (page - 1) * PAGE_SIZE, page * PAGE_SIZE + 1))
    rows, has_next_page = page_and_next[:PAGE_SIZE], len(page_and_next) > PAGE_SIZE
    if not rows:
        st.caption("No line that both answered differs." if page == 1 else "No further line.")
    else:
        _table(a, b, rows, person)
    if page == 1 and not has_next_page:
        return
    with st.container(horizontal=True):
        st.button(
            "Before",
            key="bt_pairs_before",
            icon=":material/chevron_left:",
            disabled=page == 1,
            on_click=_turn,
            args=(page - 1,),
        )
        st.button(
            "Next",
            key="bt_pairs_next",
            icon=":material/chevron_right:",
            disabled=not has_next_page,
            on_click=_turn,
            args=(page + 1,),
        )


def _table(a: BatchRow, b: BatchRow, rows: Sequence[Pair], person: auth.Person) -> None:
    frame = pd.DataFrame(
        {
            "key": [clip(pair.key, 60) for pair in rows],
            "asked": [clip(_asked(a, pair), 200) for pair in rows],
            "a": [clip(outcome_text(pair.a), 300) for pair in rows],
            "b": [clip(outcome_text(pair.b), 300) for pair in rows],
        }
    )
    text, heads = st.column_config.TextColumn, sides(a, b)
    event = st.dataframe(
        frame,
        key=TABLE,
        hide_index=True,
        height="content",
        on_select="rerun",
        selection_mode=batch_upload.ANY_CELL,
        column_config={
            "key": text("Id", width=70),
            "asked": text("Asked", width=150),
            "a": text(heads[0], width=310),
            "b": text(heads[1], width=310),
        },
        alt="Lines of both batches, side by side",
    )
    chosen = batch_upload.clicked(event.selection, len(rows))
    if chosen is None:
        st.caption("Click a line to see both answers and their difference.")
        return
    pair = rows[chosen]
    with st.container(border=True):
        draw_votes(a, b, pair, person)
        for slot, side, line in zip(st.columns(2), heads, (pair.a, pair.b), strict=True):
            with slot:
                st.caption(plain(side))
                batch_line.text(outcome_text(line) or "–")
        if pair.answered and not pair.diff.same:
            st.caption("Struck through in red only in the first, bold in green only in the second.")
            st.markdown(merged(pair.diff.segments))


def _asked(batch: BatchRow, pair: Pair) -> str:
    line = pair.a or pair.b
    return "" if line is None else batch_line.input_text(batch, line)


def sides(a: BatchRow, b: BatchRow) -> tuple[str, str]:
    """What the two are called beside each other: by their deployments, which may be the same one."""
    return f"This batch · {words.deployment_name(a)}", f"The other · {words.deployment_name(b)}"


def outcome_text(row: CalledLine | None) -> str:
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


VOTE_REFUSAL = "bt_vote_refusal"

CHOICES = {"a": "The first is better", "tie": "Alike", "b": "The second is better"}


def draw_tally(a: BatchRow, b: BatchRow) -> None:
    """Who was preferred, once anybody has voted."""
    if votes := batch_queries.votes(auth.database(), str(a["id"]), str(b["id"])):
        result = tally(votes)
        st.caption(f":material/how_to_vote: {plain(result.sentence)}")


def draw_votes(a: BatchRow, b: BatchRow, pair: Pair, person: auth.Person) -> None:
    """The three buttons for a line that both answered; the person's own choice is marked."""
    if not person.may("vote") or pair.a is None or pair.b is None or not pair.answered:
        return
    no = batch_queries.line_of(str(a["id"]), str(b["id"]), int(pair.a["no"]), int(pair.b["no"]))
    own_votes = [
        vote
        for vote in batch_queries.votes(auth.database(), str(a["id"]), str(b["id"]), person.name)
        if vote["no"] == no
    ]
    chosen = own_votes[0]["choice"] if own_votes else None
    names = f"{words.deployment_name(a)} is the first, {words.deployment_name(b)} the second."
    with st.container(horizontal=True, vertical_alignment="center"):
        for choice, title in CHOICES.items():
            st.button(
                title,
                key=f"bt_vote_{choice}",
                type="primary" if choice == chosen else "secondary",
                on_click=_vote,
                args=(a, b, no, None if choice == chosen else choice),
                help=plain(names),
            )
    draw_refusal(VOTE_REFUSAL)


def _vote(a: BatchRow, b: BatchRow, no: int, choice: str | None) -> None:
    """Callback: keep the choice; the same button again takes it back."""
    attempt(VOTE_REFUSAL, lambda: auth.engine().batches.vote(str(a["id"]), str(b["id"]), no, choice))


CRITERIA, JUDGE_REFUSAL, LOOKED_AT = "bt_judge_criteria", "bt_judge_refusal", 500


def draw_judge(a: BatchRow, b: BatchRow, person: auth.Person) -> None:
    """What judges said of these two, and the way to ask one."""
    first, second = sorted((a, b), key=lambda row: str(row["id"]))
    with st.expander("Let a model judge", icon=":material/gavel:", key="bt_judge"):
        for row in judge_batches(first, second):
            _verdict(row, first, second)
        if person.may("send"):
            st.text_area("What makes an answer better", key=CRITERIA, value=judge.CRITERIA, height=68)
            st.button(
                "Prepare the questions",
                key="bt_judge_prepare",
                icon=":material/gavel:",
                on_click=_prepare,
                args=(first, second),
            )
            st.caption(
                "One question for each line on which the two differ; which answer comes first is drawn by lot. You see "
                "cost and time on the next page, and nothing is sent before you say so."
            )
        draw_refusal(JUDGE_REFUSAL)


def judge_batches(first: BatchRow, second: BatchRow) -> list[BatchRow]:
    """The judges' batches of these two, newest first."""
    name = judge.file_name(str(first["id"]), str(second["id"]))
    return [row for row in batches_module.batches(auth.database(), LOOKED_AT) if row["file_name"] == name]


def _verdict(row: BatchRow, first: BatchRow, second: BatchRow) -> None:
    name = words.deployment_name(row)
    if not words.over(row):
        st.caption(plain(f"{name} is judging: {words.state(row['state'])}."))
        return
    judgement = judge.judged(judge.verdicts(batches_module.each_line(auth.database(), row["id"])))
    st.markdown(f"**{plain(name)}** · {plain(judgement.sentence)}")
    which = f"First: {words.deployment_name(first)}; second: {words.deployment_name(second)}."
    st.caption(plain(f"{which} {judgement.bias_sentence}"))
    st.button(
        "Open its batch",
        key=f"bt_judge_open_{row['id']}",
        type="tertiary",
        icon=":material/open_in_new:",
        on_click=batch_upload.open_batch,
        args=(row["id"],),
    )


def _prepare(first: BatchRow, second: BatchRow) -> None:
    """Callback: write the questions, and take the file as a new batch that is ready to be sent."""
    criteria = (st.session_state.get(CRITERIA) or "").strip() or judge.CRITERIA

    def prepare() -> None:
        reader = auth.database()
        line_pairs = pairs(
            batches_module.each_line(reader, first["id"]),
            batches_module.each_line(reader, second["id"]),
            same_file=same_sha(first, second),
        )
        with tempfile.TemporaryFile() as target:
            written = judge.write(line_pairs, target, seed=secrets.randbelow(2**31), criteria=criteria)
            if not written.n:
                raise ValueError("The two batches differ on no line that both answered, so there is nothing to judge.")
            target.seek(0)
            name = judge.file_name(str(first["id"]), str(second["id"]))
            batch_upload.pick(batch_upload.spooled(target, name, "upload"), written.options)
            st.session_state[batch_upload.NAME] = (
                f"Judge of {clip(str(first['name']), 50)} and {clip(str(second['name']), 50)}"
            )
        batch_upload.open_batch(None)

    attempt(JUDGE_REFUSAL, prepare)


KIND, EXPECTED, EXACTLY, TOLERANCE, FOUND = "bt_ck_kind", "bt_ck_expected", "bt_ck_exactly", "bt_ck_tolerance", "bt_ck"

CHECK_REFUSAL, FAILED_SHOWN, CHECKED_AT_ONCE = "bt_ck_refusal", 10, 50_000

HELP: Mapping[CheckKind, str] = {
    "exact": "A fixed text, or a column of the file like {{label}}",
    "contains": "A text, or a column like {{label}}",
    "regex": r"For instance ^(positive|negative)$",
    "json": "",
    "schema": "A JSON schema",
    "number": "A number, or a column like {{total}}",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What a check said of one batch: the rate, and its first failures with their answers."""

    batch_id: str
    rate: Rate
    failed: Sequence[tuple[CalledLine, Verdict]]
    cut: bool  # only the first `AT_ONCE` lines were looked at


def draw_checks(batches: Sequence[BatchRow]) -> None:
    """The form, and what the last check said of these batches."""
    with st.expander("Check the answers", icon=":material/rule:", key="bt_checks"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            kind: CheckKind = st.selectbox("Check", list(TITLES), key=KIND, format_func=TITLES.__getitem__, width=330)
            if kind == "number":
                st.number_input("Tolerance", key=TOLERANCE, min_value=0.0, value=0.0, width=130)
        if kind != "json":
            st.text_area("Expected", key=EXPECTED, height=68, placeholder=HELP[kind])
            if columns := batches[0].get("columns"):
                st.caption(plain(f"Columns of the file: {', '.join(columns[:12])}"))
        if kind in ("exact", "contains", "regex"):
            st.toggle("Every letter counts, its case too", key=EXACTLY)
        st.button("Check", key="bt_ck_run", icon=":material/rule:", on_click=_run, args=(list(batches),))
        draw_refusal(CHECK_REFUSAL)
        _draw_results(batches)


def _draw_results(batches: Sequence[BatchRow]) -> None:
    results: list[Result] = st.session_state.get(FOUND) or []
    by_id = {result.batch_id: result for result in results}
    for row in batches:
        result = by_id.get(str(row["id"]))
        if result is None:
            continue
        of = f"**{plain(words.deployment_name(row))}** · " if len(batches) > 1 else ""
        cut = f" Only the first {CHECKED_AT_ONCE:,} lines were looked at." if result.cut else ""
        st.markdown(f"{of}{plain(result.rate.sentence + cut)}")
        if result.failed:
            st.dataframe(
                pd.DataFrame(
                    {
                        "line": [line["line"] for line, _ in result.failed],
                        "why": [verdict.why for _, verdict in result.failed],
                        "answer": [clip(str(line.get("answer") or ""), 200) for line, _ in result.failed],
                    }
                ),
                hide_index=True,
                height="content",
                column_config={
                    "line": st.column_config.NumberColumn("Line", width=60),
                    "why": "Why it failed",
                    "answer": "Answer",
                },
                alt="The first lines that failed the check",
            )


def _run(batches: Sequence[BatchRow]) -> None:
    """Callback: check every answer of these batches."""
    state = st.session_state
    state.pop(FOUND, None)
    kind: CheckKind = state[KIND]
    check = Check(kind, state.get(EXPECTED) or "", bool(state.get(EXACTLY)), float(state.get(TOLERANCE) or 0.0))

    def work() -> None:
        if why := check.why_not(batches[0].get("columns")):
            raise ValueError(why)
        state[FOUND] = [checked(check, row) for row in batches]

    attempt(CHECK_REFUSAL, work)


def checked(check: Check, row: BatchRow) -> Result:
    """What a check says of a batch. Raises ValueError in words for a pattern or schema that cannot be used."""
    failed: list[tuple[CalledLine, Verdict]] = []
    last: list[CalledLine] = []

    def lines() -> Iterator[CalledLine]:
        for line in islice(batches_module.each_line(auth.database(), row["id"]), CHECKED_AT_ONCE):
            last[:] = [line]
            yield line

    def verdicts() -> Iterator[Verdict]:
        for verdict in run(check, lines()):
            if verdict.passed is False and len(failed) < FAILED_SHOWN:
                failed.append((last[0], verdict))
            yield verdict

    return Result(str(row["id"]), rate(verdicts()), failed, row["n_lines"] > CHECKED_AT_ONCE)
