"""The table of recorded runs, and what can be done with one: open, star, tag, export, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from app import auth, navigation
from app.glossary import FIGURES
from app.live import run_view
from app.live.download import downloads
from app.live.run_view import hidden
from app.widgets.filters import SOURCES, zone
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import clip, plain
from db.run_rows import CallRow, ListedRun, RunRow, VoteRow
from services.call_record import from_row
from services.runs import record, view

TABLE, PAGE, PAGE_SIZE = "rn_table", "page", 20


def draw_table(rows: Sequence[ListedRun], names: Mapping[str, str]) -> ListedRun | None:
    """The table; returns the selected run, if one is."""
    where, zone_info = zone()
    frame = pd.DataFrame(
        {
            "starred": ["★" if row["starred"] else "" for row in rows],
            "when": [row["created_at"].astimezone(zone_info) for row in rows],
            "prompt": [clip(row["prompt"] or "text not stored", 160) for row in rows],
            "deployments": [", ".join(names.get(d, d) for d in row["deployments"]) for row in rows],
            "ended": [ended(row) for row in rows],
            "repetitions": [row["repetitions"] for row in rows],
            "person": [row["person"] for row in rows],
            "tags": [", ".join(row["tags"] or ()) for row in rows],
            "source": [SOURCES.get(row["source"], row["source"]) for row in rows],
        }
    )
    event = st.dataframe(
        frame,
        key=TABLE,
        hide_index=True,
        height="content",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "starred": st.column_config.TextColumn(" ", width=36, help="Starred"),
            "when": st.column_config.DatetimeColumn(f"Started ({where})", format="YYYY-MM-DD HH:mm:ss", timezone=where),
            "prompt": st.column_config.TextColumn("Prompt", width=300),
            "deployments": st.column_config.TextColumn("Deployments", width=220),
            "ended": st.column_config.TextColumn("Calls", help="How many calls of the run ended how."),
            "repetitions": st.column_config.NumberColumn("Repetitions", format="%d ×"),
            "person": st.column_config.TextColumn("Person"),
            "tags": st.column_config.TextColumn("Tags"),
            "source": st.column_config.TextColumn("Source"),
        },
        alt="Recorded runs, newest first",
    )
    chosen = event.selection.rows
    return rows[chosen[0]] if chosen and chosen[0] < len(rows) else None


def ended(row: ListedRun) -> str:
    """How many calls of a run ended how: "3 done, 1 stopped"."""
    counts: dict[str, int] = {}
    for state, n in row["states"].items():
        words = "running" if state == "running" else view.STATE_WORDS.get(state, state)
        counts[words] = counts.get(words, 0) + n
    return ", ".join(f"{n:,} {words}" for words, n in counts.items()) or "no calls"


DELETING, REFUSAL, LONGEST_TAG = "rn_deleting", "rn_refusal", 40


def draw(
    run: RunRow, found: run_view.RunCalls, votes: Sequence[VoteRow], person: auth.Person, known_tags: Sequence[str]
) -> None:
    """The panel of the selected run: its prompt, its figures as they are in the records, and what can be done."""
    masked = hidden(run, votes, person)
    with st.container(border=True):
        st.text(clip(run["prompt"] or "The text of this run was not stored.", 600))
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Open", key="rn_open", type="primary", icon=":material/open_in_new:"):
                navigation.open_run(run["id"])
            if person.may_change("annotate", run):
                label = "Unstar" if run["starred"] else "Star"
                st.button(
                    label,
                    key="rn_star",
                    icon=":material/star:",
                    on_click=_star,
                    args=(run["id"], not run["starred"]),
                )
            if not masked and not found.cut:
                downloads(run, found.calls, votes, prefix="rn")
            if person.may_change("delete", run):
                st.button("Delete", key="rn_delete", icon=":material/delete:", on_click=_ask, args=(run["id"],))
        if person.may_change("annotate", run):
            _tags(run, known_tags)
        draw_refusal(REFUSAL)
        if masked:
            st.caption("This run is blind: its names and figures appear here once you have voted in the playground.")
        else:
            run_view.draw_rest(found, "rn_open_batch")
            figures(found.calls)
    if st.session_state.get(DELETING) == run["id"]:
        _confirm(run)


def figures(calls: Sequence[CallRow]) -> None:
    """One line for each call of a run, with the figures that its columns showed."""
    rows = [
        {"name": str(c["deployment"]["name"]), "repetition": c["repetition"], **record.in_words(from_row(c))}
        for c in view.last_attempts(calls)
    ]
    if not rows:
        return
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "name": st.column_config.TextColumn("Deployment", pinned=True),
            "repetition": st.column_config.NumberColumn("Repetition", format="%d"),
            "state": st.column_config.TextColumn("State", help=FIGURES["state"]),
            "ttft": st.column_config.TextColumn("First token", help=FIGURES["ttft"]),
            "ttlt": st.column_config.TextColumn("Last token", help=FIGURES["ttlt"]),
            "decode": st.column_config.TextColumn("Decode speed", help=FIGURES["decode"]),
            "in": st.column_config.TextColumn("Input", help=FIGURES["input"]),
            "cached": st.column_config.TextColumn("Cached", help=FIGURES["cached"]),
            "cache": st.column_config.TextColumn("Prompt cache", help=FIGURES["cache"]),
            "out": st.column_config.TextColumn("Output", help=FIGURES["output"]),
            "cost": st.column_config.TextColumn("Cost", help=FIGURES["cost"]),
        },
        alt="Figures of each call of the selected run",
    )


def _tags(run: RunRow, known: Sequence[str]) -> None:
    key = f"rn_tags_{run['id']}"
    now = list(run["tags"] or ())
    st.session_state.setdefault(key, now)
    st.multiselect(
        "Tags",
        sorted({*known, *now}),
        key=key,
        accept_new_options=True,
        placeholder="Add a tag",
        on_change=_tag,
        args=(run["id"], key),
    )


def _tag(run_id: str, key: str) -> None:
    tags = tidy(st.session_state[key])
    attempt(REFUSAL, lambda: auth.engine().annotate(run_id, tags=tags))


def tidy(tags: Sequence[str]) -> list[str]:
    """Tags on one line each, no longer than 40 characters, none twice."""
    return list(dict.fromkeys(clip(tag, LONGEST_TAG) for tag in tags if tag.strip()))


def _star(run_id: str, on: bool) -> None:
    attempt(REFUSAL, lambda: auth.engine().annotate(run_id, starred=on))


def _ask(run_id: str) -> None:
    st.session_state[DELETING] = run_id


def _keep() -> None:
    st.session_state.pop(DELETING, None)


def _delete(run_id: str) -> None:
    _keep()
    attempt(REFUSAL, lambda: auth.engine().delete_runs([run_id]))


@st.dialog("Delete this run?", on_dismiss=_keep)
def _confirm(run: RunRow) -> None:
    st.markdown(
        f"{plain(clip(run['prompt'] or 'This run', 160))}\n\n"
        "Its answers, figures and votes go with it, and its address opens nothing any more. This cannot be undone."
    )
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Keep it", key="rn_keep", on_click=_keep):
            st.rerun()
        if st.button("Delete", key="rn_delete_now", type="primary", on_click=_delete, args=(run["id"],)):
            st.rerun()
