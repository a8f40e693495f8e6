"""One batch: how it stands while it runs, its jobs at a service, what can be done about it, and the way to its
results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo

import pandas as pd
import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.batch import results, summary, upload
from app.widgets.filters import zone
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import clip, plain
from db import batches
from db.batch_rows import BatchRow, JobRow
from services.batch import stats
from services.batch import text as words
from services.batch.reconcile import Reconciliation
from services.pricing.cost import money

EVERY_S, WINDOW_S = 2.0, 60.0

WORKING = ("running", "pausing")

NO_BATCH = "There is no batch at this address; it may have been deleted."

AWAY = "The records cannot be read just now; they are kept. Reload the page in a moment."


# Somebody has to do something about these, so why it is so is no small print.
STOPPED, BY_HAND = ("paused", "failed", "expired"), "Paused by hand."


DELETING, BUDGET, NANO, LIVE = "bt_deleting", "bt_new_budget", 1_000_000_000, "bt_live"


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
    name = (row.get("deployment") or {}).get("name") or row["deployment_id"]
    parts = [
        row["file_name"],
        f"{row['n_lines']:,} {'line' if row['n_lines'] == 1 else 'lines'}" if row["n_lines"] else "",
        f"{row['n_left_out']:,} left out" if row.get("n_left_out") else "",
        str(name),
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
                value=budget / NANO,
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
    budget = round(dollars * NANO) if dollars and row.get("budget_nanousd") else None
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
