"""Where a file can go: every deployment by every route to it, what that costs and takes, and why not."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.batch import upload
from app.widgets.text import plain
from services.batch import text as words
from services.batch.targets import (
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
from services.batch.types import Checked
from services.deployments.registry import DeploymentStatus

AWAY = "What was recorded cannot be read just now, so nothing can be estimated; reload the page in a moment."


def draw(checked: Checked, statuses: Sequence[DeploymentStatus]) -> Way | None:
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
        _closed(ways, statuses)
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
    _table(list(open_ways.values()), chosen)
    if way.estimate.notes:
        with st.expander("What these figures rest on", icon=":material/info:"):
            for note in way.estimate.notes:
                st.caption(plain(note))
    _closed(ways, statuses)
    return way


def _table(ways: Sequence[Way], chosen: Key) -> None:
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


def _closed(ways: Sequence[Way], statuses: Sequence[DeploymentStatus]) -> None:
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
