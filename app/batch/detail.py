"""The batches that there are, newest first; and one batch: how it stands while it runs, its jobs at a service, what can
be done about it, and the way to its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo

import pandas as pd
import streamlit as st
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.batch import results, summary, upload
from app.widgets.filters import zone
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import clip, plain
from db import batch_queries, batches
from db.batch_rows import BatchRow, JobRow
from services.batch import stats
from services.batch import text as words
from services.batch.reconcile import Reconciliation
from services.formatting import NANODOLLARS
from services.pricing.cost import money

EVERY_S, WINDOW_S = 2.0, 60.0

WORKING = ("running", "pausing")

NO_BATCH = "There is no batch at this address; it may have been deleted."

AWAY = "The records cannot be read just now; they are kept. Reload the page in a moment."


# Somebody has to do something about these, so why it is so is no small print.
STOPPED, BY_HAND = ("paused", "failed", "expired"), "Paused by hand."


DELETING, BUDGET, LIVE = "bt_deleting", "bt_new_budget", "bt_live"


def draw(batch_id: str, person: auth.Person) -> None:
    """The batch at an address."""
    st.button(
        "All batches",
        key="bt_back",
        type="tertiary",
        icon=":material/arrow_back:",
        on_click=upload.open_batch,
        args=(None,),
    )
    row = load(batch_id)
    if row is None:
        return
    if not words.over(row):
        _watch(batch_id, person)
        return
    _head(row)
    account = _standing(row, person)
    if account is not None:
        results.draw(row, account, person)


def load(batch_id: str) -> BatchRow | None:
    """The batch; None after one sentence on the page that says why not."""
    try:
        row = batches.batch(auth.database(), batch_id)
    except SQLAlchemyError:
        st.warning(AWAY, icon=":material/database_off:")
        return None
    if row is None:
        st.caption(NO_BATCH)
    return row


@st.fragment(run_every=EVERY_S, key="bt_watch")
def _watch(batch_id: str, person: auth.Person) -> None:
    row = load(batch_id)
    if row is None:
        return
    if words.over(row):
        st.rerun()
    with st.container(key=LIVE):  # nothing in it fades while it is looked at again (`app.style`)
        _head(row)
        _standing(row, person)
        results.draw_table(row, live=True)


def _head(row: BatchRow) -> None:
    st.subheader(plain(row["name"]))
    parts = [
        row["file_name"],
        f"{row['n_lines']:,} {'line' if row['n_lines'] == 1 else 'lines'}" if row["n_lines"] else "",
        f"{row['n_left_out']:,} left out" if row.get("n_left_out") else "",
        words.deployment_name(row),
        words.route(row["route"]),
        row["person"],
        words.ago(row["created_at"]),
    ]
    badge = " :gray-badge[simulated]" if words.simulated(row) else ""
    st.caption(plain(" · ".join(fact for fact in parts if fact)) + badge)
    results.draw_links(row)


def _standing(row: BatchRow, person: auth.Person) -> Reconciliation | None:
    """State, why it is so, progress, figures and what can be done, of now. The account of a batch that is over."""
    try:
        reader = auth.database()
        counts, spent = batches.counts(reader, row["id"]), batches.spent(reader, row["id"])
        working = row["route"] == "runner" and row["state"] in WORKING
        pace = stats.rate(reader, row, WINDOW_S) if working else None
        of_service = batches.jobs(reader, row["id"])
    except SQLAlchemyError:
        st.warning(AWAY, icon=":material/database_off:")
        return None
    recording = words.recording(row)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(words.status_of(row, counts).markdown, width="stretch")
        if person.may_change("send", row):
            _controls(row, person)
    account = summary.account_of(row, counts) if words.over(row) else None
    if explanation := words.last_sentence(row) or (_no_worker() if row["state"] == "queued" else None):
        stopped = row["state"] in STOPPED and explanation != BY_HAND
        st.markdown(f":orange[{plain(explanation)}]") if stopped else st.caption(plain(explanation))
    if account is not None:
        summary.draw_failures(account)
    if not words.over(row) and not recording:
        done, counted = progress(row, counts, of_service)
        if done is not None:
            share = min(done / row["n_lines"], 1.0) if row["n_lines"] else 0.0
            st.progress(share, text=f"{done:,} of {row['n_lines']:,} lines")
        if counted:
            st.caption(plain(counted))
        _figures(row, counts, spent, pace)
    draw_refusal(upload.SUBMIT_REFUSAL)
    draw_jobs(row, of_service, counts)
    return account


def _no_worker() -> str | None:
    """Why nobody works on batches just now, where that is known."""
    try:
        sentence: str | None = auth.engine().batches.workers()["said"]
        return sentence
    except auth.EngineError as error:
        return str(error)


def progress(row: BatchRow, counts: Mapping[str, int], of_service: Sequence[JobRow]) -> tuple[int | None, str]:
    """(lines done, the counts in words). While a service works its own counts are taken, where it tells any, and None
    is known where it tells none; our own are known only when its answers have been collected."""
    done = words.done(counts)
    if row["route"] == "runner":
        return done, words.by_state(counts)
    job_counts = [counted_there for job in of_service if (counted_there := job.get("counts"))]
    answered = sum(states.get("succeeded", 0) for states in job_counts)
    failed = sum(states.get("failed", 0) for states in job_counts)
    if not job_counts:
        return (done, words.by_state(counts)) if done else (None, "")
    parts = [f"{answered:,} answered", f"{failed:,} failed" if failed else "", "as the service counts"]
    return max(done, answered + failed), " · ".join(phrase for phrase in parts if phrase)


def _figures(row: BatchRow, counts: Mapping[str, int], spent: int | None, pace: tuple[int, float] | None) -> None:
    runner = row["route"] == "runner"
    with st.container(horizontal=True, gap="large"):
        if runner:
            n_open = row["n_lines"] - words.done(counts)
            eta = words.eta_s(n_open, *pace) if pace and row["state"] == "running" else None
            st.metric(
                "Rate",
                words.rate(*pace) if pace else "–",
                width="content",
                help="Of the time in the last minute in which it worked; none while it is paused.",
            )
            st.metric(
                "Time left",
                f"~{words.spans(*eta)}" if eta else "–",
                width="content",
                help="From the lines of the last minute; the range is what chance makes of such a count.",
            )
        budget = row.get("budget_nanousd")
        st.metric(
            "Spent so far",
            spent_words(row, spent),
            width="content",
            delta=f"of {money(budget)}" if budget else None,
            delta_color="off",
            delta_arrow="off",
        )
        if runner:
            st.metric(
                "Lanes",
                f"{row['lanes']:,}" if row.get("lanes") else "–",
                width="content",
                help="Lines under way at once. Found by itself: one more while it goes well, half of them when "
                "the service throttles or answers too late.",
            )


def spent_words(row: BatchRow, spent: int | None) -> str:
    """What was spent so far; "free" where nothing can be."""
    if not spent and words.costs_nothing(row):
        return "free"
    if spent is None or (not spent and row["route"] != "runner"):  # a service tells its counts with its answers
        return "–"
    return money(spent)


def _controls(row: BatchRow, person: auth.Person) -> None:
    state, command = row["state"], row.get("wanted")
    if words.over(row):
        if person.may("delete"):
            st.button(
                "Delete", key="bt_delete", type="tertiary", icon=":material/delete:", on_click=_ask, args=(row["id"],)
            )
            if st.session_state.get(DELETING) == row["id"]:
                _confirm(row)
        return
    if row["route"] == "runner" and state in ("running", "queued") and command == "run":
        st.button("Pause", key="bt_pause", icon=":material/pause:", on_click=_do, args=("pause", row["id"]))
    if state in ("paused", "pausing") or command == "pause":
        if (budget := row.get("budget_nanousd")) and state == "paused":
            st.number_input(
                "Budget, $",
                key=BUDGET,
                min_value=0.0,
                value=budget / NANODOLLARS,
                step=1.0,
                format="%.2f",
                width=150,
                label_visibility="collapsed",
            )
        st.button(
            "Resume", key="bt_resume", type="primary", icon=":material/play_arrow:", on_click=_resume, args=(row,)
        )
    if command != "cancel" and state != "cancelling":
        st.button(
            "Cancel",
            key="bt_cancel",
            icon=":material/stop:",
            on_click=_do,
            args=("cancel", row["id"]),
            help="Lines that are answered are kept; no other is sent.",
        )


def _do(action: str, batch_id: str) -> None:
    attempt(upload.SUBMIT_REFUSAL, lambda: getattr(auth.engine().batches, action)(batch_id))


def _resume(row: BatchRow) -> None:
    """Callback: go on, with another budget where one was written."""
    dollars = st.session_state.get(BUDGET)
    budget = round(dollars * NANODOLLARS) if dollars and row.get("budget_nanousd") else None
    changed = None if budget is None or budget == row["budget_nanousd"] else budget
    attempt(upload.SUBMIT_REFUSAL, lambda: auth.engine().batches.resume(row["id"], changed))


def _ask(batch_id: str) -> None:
    st.session_state[DELETING] = batch_id


def _keep() -> None:
    st.session_state.pop(DELETING, None)


def _delete(batch_id: str) -> None:
    _keep()
    if attempt(upload.SUBMIT_REFUSAL, lambda: auth.engine().batches.delete(batch_id)):
        upload.open_batch(None)


@st.dialog("Delete this batch?", on_dismiss=_keep)
def _confirm(row: BatchRow) -> None:
    st.markdown(f"{plain(clip(row['name'], 160))}\n\nIts file, lines and answers go with it. This cannot be undone.")
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Keep it", key="bt_keep", on_click=_keep):
            st.rerun()
        if st.button("Delete", key="bt_delete_now", type="primary", on_click=_delete, args=(row["id"],)):
            st.rerun()


def draw_jobs(row: BatchRow, jobs: Sequence[JobRow], counts: Mapping[str, int]) -> None:
    """A line for each job; nothing where our own runner sends the lines. ``counts``: our own, of the batch's lines."""
    if not jobs or row["route"] == "runner":
        return
    zone_name, zone_info = zone()
    frame = pd.DataFrame(
        {
            "no": [job["no"] for job in jobs],
            "lines": [job["n_lines"] for job in jobs],
            "state": [words.state(job["state"]) for job in jobs],
            "vendor_state": [job.get("vendor_state") or "–" for job in jobs],
            "counts": [counted(job.get("counts")) for job in jobs],
            "vendor_id": [job.get("vendor_id") or "not given yet" for job in jobs],
            "submitted": [_at(job.get("submitted_at"), zone_info) for job in jobs],
            "expires": [_at(job.get("expires_at"), zone_info) for job in jobs],
            "said": [job.get("said") or "" for job in jobs],
        }
    )
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    st.dataframe(
        frame,
        hide_index=True,
        height="content",
        column_config={
            "no": number("Job", width=50),
            "lines": number("Lines", format="localized", width=70),
            "state": text("State", width=190),
            "vendor_state": text("In its own words", width=130),
            "counts": text("Counts", width=150),
            "vendor_id": text("Id at the service", width=210),
            "submitted": text(f"Sent ({zone_name})", width=100),
            "expires": text("Expires", width=100),
            "said": text("What the service said", width=300),
        },
        alt="Jobs of the batch service",
    )
    if difference := words.differing(row, jobs, counts):
        st.caption(f":orange[:material/warning: {plain(difference)}]")
    if row["route"] == "anthropic" and not words.over(row):
        st.caption(words.NO_COUNTS)


def counted(counts: Mapping[str, int] | None) -> str:
    """ "120 of 500, 3 failed"; a dash where the service tells none."""
    if not counts:
        return "–"
    done = counts.get("succeeded", 0) + counts.get("failed", 0)
    failed = f", {counts['failed']:,} failed" if counts.get("failed") else ""
    return f"{done:,} of {counts['total']:,}{failed}" if counts.get("total") else f"{done:,}{failed}"


def _at(value: datetime | None, time_zone: tzinfo) -> str:
    return "–" if value is None else f"{value.astimezone(time_zone):%-d %b %H:%M}"


# --- the batches that there are --------------------------------------------------------------------------------------
TABLE, MINE, SHOWN = "bt_list", "bt_list_mine", 50
LIST_AWAY = "The batches cannot be read just now; they are kept. Reload the page in a moment."
EMPTY = (
    "Batches appear here, with their state and their results. They go on when you close this page, and "
    "everybody here can open them."
)


def draw_list(person: auth.Person) -> None:
    """The table, or one sentence."""
    try:
        person_name = person.name if st.session_state.get(MINE) else None
        rows = batches.batches(auth.database(), SHOWN, person_name)
        standing, cost = [_short_status(row) for row in rows], [_cost(row) for row in rows]
    except SQLAlchemyError:
        st.caption(f":red[:material/error: {plain(LIST_AWAY)}]")
        return
    if not rows and person_name is None:
        st.caption(EMPTY)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Batches", width="stretch")
        if person_name is not None or any(row["person"] != person.name for row in rows):
            st.toggle("Only mine", key=MINE)
    if not rows:
        st.caption("You have submitted none.")
        return
    chosen = _table(rows, standing, cost)
    if chosen is not None:
        upload.open_batch(str(chosen["id"]))
        st.session_state.pop(TABLE, None)
        st.rerun()
    if len(rows) == SHOWN:
        st.caption(f"The newest {SHOWN}; `lab batch list` lists them all.")


def _table(rows: Sequence[BatchRow], standing: Sequence[str], cost: Sequence[str]) -> BatchRow | None:
    zone_name, zone_info = zone()
    frame = pd.DataFrame(
        {
            "name": [clip(str(row["name"]), 80) for row in rows],
            "cost": list(cost),
            "state": list(standing),
            "lines": [row["n_lines"] or None for row in rows],
            "when": [row["created_at"].astimezone(zone_info) for row in rows],
            "deployment": [words.deployment_name(row) for row in rows],
            "route": [words.route(row["route"]) for row in rows],
            "file": [clip(str(row["file_name"]), 60) for row in rows],
            "person": [row["person"] for row in rows],
        }
    )
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    event = st.dataframe(
        frame,
        key=TABLE,
        hide_index=True,
        height="content",
        on_select="rerun",
        selection_mode=upload.ANY_CELL,
        column_config={
            # First and narrow, so that a telephone shows which it is, how it stands and what it cost.
            "name": text("Name", width=140),
            "state": text("State", width=190),
            "cost": text(
                "Cost",
                width=66,
                alignment="right",
                help="Of all its calls so far. ≥: the cost of some is "
                "not known; ~: some are reckoned from our own counts.",
            ),
            "lines": number("Lines", format="localized", width=66),
            "when": st.column_config.DatetimeColumn(
                f"Submitted ({zone_name})", format="YYYY-MM-DD HH:mm", timezone=zone_name
            ),
            "deployment": text("Deployment", width=160),
            "route": text("By"),
            "file": text("File"),
            "person": text("Person"),
        },
        alt="Batches, newest first; click one to open it",
    )
    st.caption("Click a batch to open it.")
    chosen = upload.clicked(event.selection, len(rows))
    return None if chosen is None else rows[chosen]


def _short_status(row: BatchRow) -> str:
    """How it stands, in a few words. Lines are only counted of a batch that is over, and then once."""
    counts = _counts(auth.database(), str(row["id"]), str(row["ended_at"])) if words.over(row) else {}
    return words.status_of(row, counts, short=True).words


@st.cache_data(max_entries=2_000, show_spinner=False)
def _counts(_database: Engine, batch_id: str, ended: str) -> dict[str, int]:
    del ended  # part of the key only: what has ended does not change
    return batches.counts(_database, batch_id)


def _cost(row: BatchRow) -> str:
    """What it has cost, added up once of a batch that is over."""
    database = auth.database()
    return cost_words(
        _costs(database, str(row["id"]), str(row["ended_at"]))
        if words.over(row)
        else batch_queries.costs(database, row["id"])
    )


def cost_words(costs: Mapping[str, batch_queries.Costs]) -> str:
    """ "$0.41", "≥ $0.41", "free", "by the hour", "no price"; a dash where nothing was called or billed."""
    if not set(costs) - {"not_billed"}:
        return "–"
    total, n_known = sum(group.nanousd for group in costs.values()), sum(group.n_known for group in costs.values())
    if summary.is_free({state: group.n for state, group in costs.items()}) and not total:
        return "free"
    if not n_known:
        return "by the hour" if "by_the_hour" in costs else "no price"
    incomplete = any(group.n_known < group.n for state, group in costs.items() if state not in ("free", "not_billed"))
    return money(total, "≥" if incomplete or "lower_bound" in costs else "~" if "estimated" in costs else "")


@st.cache_data(max_entries=2_000, show_spinner=False)
def _costs(_database: Engine, batch_id: str, ended: str) -> dict[str, batch_queries.Costs]:
    del ended
    return batch_queries.costs(_database, batch_id)
