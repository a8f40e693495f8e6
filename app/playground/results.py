"""What is below the columns of a finished run: votes, the comparison, a difference of answers, code, export,
details."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app import auth
from app.glossary import FIGURES
from app.live import download as takeaway
from app.live import run_view as runs
from app.live.diff import draw_diff
from app.playground import call_details as details
from app.playground import state
from app.widgets.text import plain
from db.run_rows import Ballot, CallRow, VoteRow
from services.runs import compare, view

PAIR = {"a": "{a} is better", "b": "{b} is better", "tie": "Tie", "both_bad": "Both are bad"}

ICONS = {"a": "thumb_up", "b": "thumb_up", "tie": "drag_handle", "both_bad": "thumb_down"}


def draw_votes(shown: runs.Shown, person: auth.Person, *, masked: bool) -> None:
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
        st.markdown(
            "**Which answer is better?**" if len(answered) == 2 else "**Which answer is the best?**", width="content"
        )
        for key, label, icon, ballot in ballots(answered, blind=masked):
            st.button(
                plain(label),
                key=f"pg_vote_{key}",
                icon=f":material/{icon}:",
                on_click=state.vote,
                args=(shown.id, ballot),
            )
        if masked:
            st.button(
                "Show names without a vote", key="pg_reveal", type="tertiary", on_click=runs.reveal, args=(shown.id,)
            )
    if masked:
        st.caption("Names, speed and cost appear after your vote. The sides were shuffled when the run was sent.")


def ballots(answered: Sequence[CallRow], *, blind: bool) -> list[tuple[str, str, str, Ballot]]:
    """(key, label, icon, ballot) of every button: four for a pair, one a column and "none" for more."""
    repetition = int(answered[0]["repetition"])
    if len(answered) == 2:
        a, b = answered
        names = {"a": runs.name_of(a, masked=blind), "b": runs.name_of(b, masked=blind)}
        base: Ballot = {
            "choice": "",
            "winner": None,
            "blind": blind,
            "column_a": a["column_no"],
            "column_b": b["column_no"],
            "deployment_a": a["deployment_id"],
            "deployment_b": b["deployment_id"],
            "repetition": repetition,
        }
        winner = {"a": a["deployment_id"], "b": b["deployment_id"]}
        return [
            (choice, label.format(**names), ICONS[choice], {**base, "choice": choice, "winner": winner.get(choice)})
            for choice, label in PAIR.items()
        ]
    made: list[tuple[str, str, str, Ballot]] = [
        (
            f"best_{row['column_no']}",
            runs.name_of(row, masked=blind),
            "star",
            {
                "choice": "best",
                "blind": blind,
                "column_a": row["column_no"],
                "column_b": None,
                "deployment_a": row["deployment_id"],
                "deployment_b": None,
                "winner": row["deployment_id"],
                "repetition": repetition,
            },
        )
        for row in answered
    ]
    return made


def verdict(vote: VoteRow, answered: Sequence[CallRow]) -> str:
    """What a vote said, with names."""
    names = {row["deployment_id"]: str(row["deployment"]["name"]) for row in answered}
    how = " without knowing the names" if vote.get("blind") else ""
    if vote["choice"] == "tie":
        return f"You called it a tie{how}."
    if vote["choice"] == "both_bad":
        return f"You found both bad{how}."
    return f"You preferred {names.get(vote['winner'] or '', 'an answer')}{how}."


def states(shown: runs.Shown) -> str:
    """How many calls ended how: "4 done, 1 stopped"."""
    counts: dict[str, int] = {}
    for row in shown.answers:
        words = view.STATE_WORDS.get(str(row["state"]), str(row["state"]))
        counts[words] = counts.get(words, 0) + 1
    return ", ".join(f"{n} {words}" for words, n in counts.items())


BEST = {
    "light": "background-color: #e6f3ee; color: #0f6b4f; font-weight: 600",
    "dark": "background-color: #1d3129; color: #5fd3a8; font-weight: 600",
}

HELP = {"ttft": "ttft", "ttlt": "ttlt", "decode": "decode", "out": "output", "cost": "cost"}


def draw(shown: runs.Shown, person: auth.Person, *, masked: bool) -> None:
    """Everything final of a run. While names are hidden, only the answers may be compared."""
    if not shown.calls:
        return
    if not masked and not shown.found.cut:
        _comparison(shown)
        with st.container(horizontal=True):
            if runs.may_act(shown, person):
                _again(shown)
            takeaway.downloads(shown.run, shown.calls, shown.votes, prefix="pg")
    draw_diff(shown, masked=masked)
    if not masked:
        takeaway.draw(shown)
        details.draw(shown)


def _comparison(shown: runs.Shown) -> None:
    k = int(shown.run["repetitions"])
    st.subheader(f"Comparison, {k} repetitions" if k > 1 else "Comparison")
    rows = compare.compare(shown.calls)
    st.dataframe(
        styled(rows),
        hide_index=True,
        height="content",
        column_config={
            "name": st.column_config.TextColumn("Deployment", pinned=True),
            "succeeded": st.column_config.TextColumn("Succeeded", help=FIGURES["succeeded"]),
            "note": st.column_config.TextColumn("Note", help=FIGURES["self_lag"]),
            **{
                m.key: st.column_config.TextColumn(
                    f"{m.title}, median (95 %)" if k > 1 and m.key == "ttft" else m.title, help=FIGURES[HELP[m.key]]
                )
                for m in compare.METRICS
            },
        },
        alt="Comparison of the deployments of this run, best values marked",
    )
    if any(cell.best for row in rows for cell in row.cells.values()):
        said = f" Of several repetitions: {FIGURES['median']}" if k > 1 else ""
        apart = " Lines with a warm prompt cache are compared among themselves." if mixed(rows) else ""
        st.caption(f"Marked: the best value; beside the others, their distance from it.{apart}{said}")
    if k > 1:
        st.caption("The columns and bars above show the last repetition; “Call details” has every one.")


def mixed(rows: Sequence[compare.CompareRow]) -> bool:
    """Whether some lines found the prompt cache warm and others did not: they are compared apart, and named apart."""
    return len({row.warm for row in rows}) > 1


def styled(rows: Sequence[compare.CompareRow]) -> pd.io.formats.style.Styler:
    """The comparison as a table whose best cells are marked in the colours of the theme."""
    frame = pd.DataFrame(
        [
            {"name": f"{row.name} · warm" if mixed(rows) and row.warm and not row.cache else row.name}
            | {m.key: cell_text(row, m.key) for m in compare.METRICS}
            | {"succeeded": row.succeeded}
            | ({"note": row.note} if any(r.note for r in rows) else {})
            for row in rows
        ]
    )
    mark = BEST["dark" if st.context.theme.type == "dark" else "light"]
    marks = pd.DataFrame("", index=frame.index, columns=frame.columns)
    for line, row in enumerate(rows):
        for metric in compare.METRICS:
            if row.cells[metric.key].best:
                marks.loc[line, metric.key] = mark
    return frame.style.apply(lambda _: marks, axis=None)


def cell_text(row: compare.CompareRow, key: str) -> str:
    """A figure with its distance from the best; why a whole line is missing stands at its end, once."""
    cell = row.cells[key]
    if cell.value is None:
        said_once = all(c.value is None for c in row.cells.values()) or cell.beside in row.note
        if said_once or not cell.beside:
            return cell.text
        # "free", "no price", "$39.60 / h" are themselves what is known of a cost that is no number.
        return cell.beside if key == "cost" else f"{cell.text} · {cell.beside}"
    return f"{cell.text} · {cell.beside}" if cell.beside else cell.text


def _again(shown: runs.Shown) -> None:
    names = {str(row["column_no"]): str(row["deployment"]["name"]) for row in shown.columns}
    st.menu_button(
        "Retry a column",
        list(names),
        key="pg_retry",
        icon=":material/refresh:",
        format_func=lambda column: plain(names[column]),
        help="Sends the last call of one column again, as a further attempt; the others stay as they are.",
        on_click=_retry,
        args=(shown.id,),
    )


def _retry(run_id: str) -> None:
    column = st.session_state.get("pg_retry")
    if column is not None:
        state.retry(run_id, int(column))
