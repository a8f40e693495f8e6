"""Where a file can go, with what that costs and takes; and the last step: a name, a budget, what our own runner keeps
to, whom to tell, three lines as a try, and the button."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import PurePath

import pandas as pd
import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from app import auth, navigation
from app.batch import upload
from app.batch.validation import leave_out_label
from app.live import run_view as runs
from app.live.board import LEGEND, board
from app.tickets import board_token
from app.widgets.status import draw_refusal
from app.widgets.text import clip, plain
from db import batches
from services.batch import text as words
from services.batch.estimate import (
    Key,
    Way,
    cheapest,
    cost_words,
    jobs_words,
    label,
    plain_words,
    time_words,
    tokens_words,
    ways_to,
)
from services.batch.service import BatchSpec
from services.batch.types import MOST_LANES, MOST_PER_MINUTE, Checked, Record
from services.deployments.registry import DeploymentStatus
from services.formatting import NANODOLLARS
from services.pricing.cost import money
from services.runs.spec import ColumnSpec, RunSpec

BUDGET, OBJECTIVE, NOTIFY = "bt_budget", "bt_objective", "bt_notify"

LANES, PER_MINUTE = upload.LANES, upload.PER_MINUTE

AGAIN, OVER_BUDGET, TARGETS = "bt_again", "bt_over_budget", "bt_targets"

ASK_AGAIN_S = 10.0


def draw(checked: Checked, way: Way, file: upload.Picked, person: auth.Person) -> None:
    """What is still open, and the button that sends."""
    st.session_state.setdefault(upload.NAME, PurePath(file.name).stem)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("Name", key=upload.NAME, max_chars=120, width=320)
        st.number_input(
            "Budget, $",
            key=BUDGET,
            min_value=0.0,
            value=None,
            step=1.0,
            format="%.2f",
            placeholder="none",
            width=160,
            help="The estimate has to fit into it, and our own runner pauses before it is passed.",
        )
        _notify()
    if way.estimate.route == "runner":
        _runner()
    missing = _warnings(checked, way)
    draw_trial(checked, way, person)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            button(checked),
            key="bt_send",
            type="primary",
            icon=":material/send:",
            disabled=bool(missing),
            on_click=_submit,
            args=(checked, way, file),
        )
        trial_button(checked, way)
        st.caption(plain(summary(way)), width="stretch")
    if missing:
        sentence = f"To send it, {'; and '.join(missing)}."
        st.caption(f":orange[:material/lock: {plain(sentence)}]")
    draw_refusal(upload.SUBMIT_REFUSAL)


def button(checked: Checked) -> str:
    """What the button says: how many lines are sent, and how many are left out."""
    n, bad = checked.n_valid, checked.n_records - checked.n_valid
    if bad > 0:
        return f"Send the {n:,} valid {'line' if n == 1 else 'lines'}, leave out {bad:,}"
    return f"Send {n:,} {'line' if n == 1 else 'lines'}"


def summary(way: Way) -> str:
    """Where it goes, what it costs and how long it takes, in one line."""
    return " · ".join(
        phrase for phrase in (way.name, cost_words(way.estimate), time_words(way.estimate)) if phrase != "–"
    )


def _notify() -> None:
    targets = _targets()
    if targets:
        st.multiselect(
            "Tell at the end",
            targets,
            key=NOTIFY,
            placeholder="nobody",
            width=260,
            help="A notice by webhook or e-mail when every line is accounted for.",
        )


def _targets() -> list[str]:
    """Whom a notice can be sent to. The list changes with the server's own settings only: asked for now and then."""
    asked_at, targets = st.session_state.get(TARGETS, (-math.inf, []))
    if time.monotonic() - asked_at > ASK_AGAIN_S:
        try:
            targets = auth.engine().history.alerts()[1]
        except auth.EngineError:
            return []
        st.session_state[TARGETS] = (time.monotonic(), targets)
    return list(targets)


def _runner() -> None:
    with st.expander("How our own runner sends them", icon=":material/speed:"):
        st.caption(
            "It finds by itself how many lines to have under way: one more while it goes well, half of them when the "
            "service throttles or answers too late. Empty fields leave it free."
        )
        with st.grid(3, gap="small"):
            st.number_input(
                "Most lines at once",
                key=LANES,
                min_value=1,
                max_value=MOST_LANES,
                value=None,
                step=1,
                placeholder="as many as go well",
            )
            st.number_input(
                "Most lines a minute",
                key=PER_MINUTE,
                min_value=1,
                max_value=MOST_PER_MINUTE,
                value=None,
                step=1,
                placeholder="no limit",
            )
            st.number_input(
                "Answered within, s (p95)",
                key=OBJECTIVE,
                min_value=0.1,
                max_value=3600.0,
                value=None,
                step=1.0,
                placeholder="no objective",
                help="It keeps 95 of 100 lines under this time to the last token.",
            )


def _warnings(checked: Checked, way: Way) -> list[str]:
    """What has to be confirmed first; what of it is not yet, in words that name its switch."""
    bad, missing = checked.n_records - checked.n_valid, list[str]()
    if not checked.sendable:
        missing.append(
            f"switch on “{leave_out_label(bad)}” above, or mend the file and choose it again"
            if bad > 0
            else "mend what is said above"
        )
    try:
        earlier_batches = batches.same_file(auth.database(), checked.sha256)
    except SQLAlchemyError:
        earlier_batches = []
    if earlier_batches:
        latest = earlier_batches[0]
        sentence = f"This file was submitted {words.ago(latest['created_at'])} as “{clip(latest['name'], 60)}”."
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f":orange[:material/history: {plain(sentence)}]", width="content")
            st.button(
                "Open it",
                key="bt_open_before",
                type="tertiary",
                on_click=upload.open_batch,
                args=(earlier_batches[0]["id"],),
            )
        if not st.checkbox("Send it again", key=AGAIN):
            missing.append("tick “Send it again”")
    if way.estimate.unpriced:
        st.caption(plain(unpriced_words(way.estimate.unpriced)))
    budget, highest_cost = _budget(), way.estimate.cost_high
    if budget is not None and highest_cost is not None and highest_cost > budget:
        sentence = f"It can cost up to {money(highest_cost)}, which is above the budget."
        st.caption(f":orange[:material/savings: {plain(sentence)}]")
        if not st.checkbox(f"Send it although it can cost {plain(money(highest_cost))}", key=OVER_BUDGET):
            missing.append(f"tick “Send it although it can cost {money(highest_cost)}”, or raise the budget")
    return missing


def unpriced_words(why: str) -> str:
    """What follows for a budget where no cost is known."""
    return f"{why.rstrip('.')}: a budget cannot be checked, and the tokens of every line are recorded."


def _budget() -> int | None:
    dollars = st.session_state.get(BUDGET)
    return round(float(dollars) * NANODOLLARS) if dollars else None


def _submit(checked: Checked, way: Way, file: upload.Picked) -> None:
    """Callback: submit. A refusal is kept as a sentence, and everything that was typed with it."""
    state = st.session_state
    runner = way.estimate.route == "runner"
    objective = state.get(OBJECTIVE)
    spec = BatchSpec(
        deployment_id=way.deployment.id,
        sha256=checked.sha256,
        file_name=file.name,
        route=way.estimate.route,
        options=checked.options,
        name=(state.get(upload.NAME) or "").strip() or PurePath(file.name).stem,
        budget_nanousd=_budget(),
        objective_ms=float(objective) * 1000 if runner and objective else None,
        max_lanes=state.get(LANES) if runner else None,
        per_minute=state.get(PER_MINUTE) if runner else None,
        notify=tuple(state.get(NOTIFY) or ()),
        estimate=way.estimate.to_json(),
        again=bool(state.get(AGAIN)),
        over_budget=bool(state.get(OVER_BUDGET)),
    )
    state.pop(upload.SUBMIT_REFUSAL, None)
    try:
        batch_id = auth.engine().batches.submit(spec)
    except (auth.EngineError, ValueError) as error:
        state[upload.SUBMIT_REFUSAL] = str(error)
        return
    upload.forget()
    upload.open_batch(batch_id)


LINES = 3

SOURCE = "playground"


def usable(checked: Checked) -> list[Record]:
    """The first lines that are one question, which is what a column can be asked."""
    return [record for record in checked.preview if len(record.ask.messages) == 1][:LINES]


def trial_button(checked: Checked, way: Way) -> None:
    """The button that sends the first lines alone, now."""
    if lines := usable(checked):
        n = len(lines)
        st.button(
            f"Try {n} {'line' if n == 1 else 'lines'} live",
            key="bt_try",
            icon=":material/play_arrow:",
            on_click=_start,
            args=(lines, way),
            help=f"{n} real {'call' if n == 1 else 'calls'} to {plain(way.deployment.name)} at the interactive price; "
            "the batch itself is not sent.",
        )


def specs(lines: Sequence[Record], way: Way) -> list[RunSpec]:
    """A run for each line, as the playground would send it."""
    return [
        RunSpec(
            prompt=record.ask.messages[-1].text,
            system=record.ask.system,
            params=dict(record.ask.params),
            columns=(ColumnSpec(way.deployment.id, cache=record.ask.cache),),
            source=SOURCE,
        )
        for record in lines
    ]


def _start(lines: Sequence[Record], way: Way) -> None:
    """Callback: send the lines; a refusal is kept as a sentence."""
    st.session_state.pop(upload.SUBMIT_REFUSAL, None)
    started: list[tuple[int, str]] = []
    try:
        engine = auth.engine()
        for record, spec in zip(lines, specs(lines, way), strict=True):
            started.append((record.line, engine.start_run(spec)))
    except (auth.EngineError, ValueError) as error:
        st.session_state[upload.SUBMIT_REFUSAL] = str(error)
    st.session_state[upload.TRIED] = started


def draw_trial(checked: Checked, way: Way, person: auth.Person) -> None:
    """The tried lines beside each other, live while they run."""
    tried: list[tuple[int, str]] = st.session_state.get(upload.TRIED) or []
    if not tried:
        return
    for slot, (line, run_id) in zip(st.columns(len(tried), gap="small"), tried, strict=True):
        with slot:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption(f"line {line:,}", width="stretch")
                if st.button(
                    "Playground",
                    key=f"bt_tried_{line}",
                    type="tertiary",
                    icon=":material/open_in_new:",
                    help="Open this call in the playground, to change and compare it.",
                ):
                    navigation.open_run(run_id)
            loaded_run, trouble = runs.load(run_id)
            if loaded_run is None:
                st.caption(plain(trouble or ""))
                continue
            board(
                key=f"bt_board_{line}",
                snapshot=runs.frame(loaded_run, masked=False),
                run_id=run_id,
                live=loaded_run.live is not None,
                legend=False,
                token=board_token(run_id, person.name, person.role, until=person.until, mark=person.mark),
            )
    st.caption(LEGEND)


AWAY = "What was recorded cannot be read just now, so nothing can be estimated; reload the page in a moment."


def draw_targets(checked: Checked, statuses: Sequence[DeploymentStatus]) -> Way | None:
    """The choice and the table; returns what is chosen."""
    ready = [status.deployment for status in statuses if status.ready]
    try:
        bound = st.session_state
        ways = ways_to(
            auth.database(), checked, ready, lanes=bound.get(upload.LANES), per_minute=bound.get(upload.PER_MINUTE)
        )
    except SQLAlchemyError:
        st.caption(f":red[:material/error: {plain(AWAY)}]")
        return None
    open_ways = {way.key: way for way in ways if way.estimate.why_not is None}
    if not open_ways:
        st.caption(
            "No deployment can take this file; the reasons are below."
            if ready
            else "No deployment is ready: make one ready on the Deployments page."
        )
        _closed_targets(ways, statuses)
        return None
    if st.session_state.get(upload.TARGET) not in open_ways:
        st.session_state[upload.TARGET] = cheapest(list(open_ways.values())).key
    chosen: Key = st.selectbox(
        "Send to",
        list(open_ways),
        key=upload.TARGET,
        format_func=lambda key: label(open_ways[key]),
        label_visibility="collapsed",
    )
    way = open_ways[chosen]
    _targets_table(list(open_ways.values()), chosen)
    if way.estimate.notes:
        with st.expander("What these figures rest on", icon=":material/info:"):
            for note in way.estimate.notes:
                st.caption(plain(note))
    _closed_targets(ways, statuses)
    return way


def _targets_table(ways: Sequence[Way], chosen: Key) -> None:
    frame = pd.DataFrame(
        {
            "chosen": ["●" if way.key == chosen else "" for way in ways],
            # The cost and the time before what they are taken apart by, so that a telephone shows them.
            "deployment": [way.deployment.name for way in ways],
            "cost": [cost_words(way.estimate) for way in ways],
            "time": [time_words(way.estimate) for way in ways],
            "route": [words.route(way.estimate.route) for way in ways],
            "plain": [plain_words(way.estimate) for way in ways],
            "jobs": [jobs_words(way.estimate) for way in ways],
            "tokens": [tokens_words(way.estimate) for way in ways],
        }
    )
    text = st.column_config.TextColumn
    split = any(way.estimate.n_jobs > 1 for way in ways)
    st.dataframe(
        frame if split else frame.drop(columns="jobs"),
        hide_index=True,
        height="content" if len(ways) <= 10 else 380,
        column_config={
            # Without widths each is as wide as what is in it, so that no name and no figure is cut.
            "chosen": text(" ", width=28),
            "deployment": text("Deployment"),
            "route": text("By"),
            "cost": text(
                "Cost this way",
                alignment="right",
                help="Estimated, at the batch price where it goes to a batch service. A dash: no price is known.",
            ),
            "plain": text("One by one", alignment="right", help="The same tokens at the interactive price."),
            "time": text("Takes", alignment="right"),
            "jobs": text(
                "Split",
                alignment="right",
                help="A service takes so much in one job; a larger file "
                "is split into several, which is invisible in the results.",
            ),
            "tokens": text("Tokens in + out", alignment="right"),
        },
        alt="Where the file can go, with cost and time",
    )


def _closed_targets(ways: Sequence[Way], statuses: Sequence[DeploymentStatus]) -> None:
    """Where it cannot go, folded: each reason once, with the routes and deployments that it is true of."""
    reasons: dict[str, tuple[list[str], list[str]]] = {}
    for way in ways:
        if way.estimate.why_not is not None:
            routes, named = reasons.setdefault(way.estimate.why_not, ([], []))
            routes.append(words.route(way.estimate.route))
            named.append(way.deployment.name)
    for status in statuses:
        if not status.ready and status.needs != "disabled":
            reason = f"It {status.needs or 'is not ready'}."
            reasons.setdefault(reason, ([], []))[1].append(status.deployment.name)
    if not reasons:
        return
    with st.expander("Where it cannot go, and why", icon=":material/block:"):
        for why, (routes, named) in reasons.items():
            which = [", ".join(dict.fromkeys(routes)), ", ".join(dict.fromkeys(named))]
            st.caption(f"**{plain(' · '.join(names for names in which if names))}**: {plain(why)}")
