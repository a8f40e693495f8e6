"""What the list of runs is narrowed to. Every filter is part of the page's address."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from app.glossary import OUTCOME_STATES
from db.run_queries import RunFilter

SOURCES = {"playground": "Playground", "cli": "Command line", "caching": "Prompt caching", "test": "Connection test"}


def zone() -> tuple[str, ZoneInfo]:
    """The time zone of the reader's browser, by name; UTC where it is not known."""
    name = st.context.timezone or "UTC"
    try:
        return name, ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return "UTC", ZoneInfo("UTC")


def day_edges(first: date | None, last: date | None, where: ZoneInfo) -> tuple[datetime | None, datetime | None]:
    """From the start of the first day to the start of the day after the last, of days in a time zone, in UTC."""
    since = datetime.combine(first, time(), where).astimezone(UTC) if first else None
    until = datetime.combine(last + timedelta(days=1), time(), where).astimezone(UTC) if last else None
    return since, until


def draw(names: dict[str, str], people: Sequence[str], tags: Sequence[str]) -> RunFilter:
    """The search box and the filters. ``names`` maps deployment ids to names that tell them apart."""
    ids = {name: deployment_id for deployment_id, name in names.items()}
    states = {words: state for state, words in OUTCOME_STATES.items()}
    sources = {words: source for source, words in SOURCES.items()}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Search in prompts and answers",
            key="q",
            type="search",
            bind="query-params",
            width=420,
            icon=":material/search:",
            placeholder="Search in prompts and answers",
            label_visibility="collapsed",
        )
        starred = st.toggle("Starred", key="starred", bind="query-params")
        with st.popover("Filters", icon=":material/filter_list:"):
            chosen = st.multiselect("Deployment", list(ids), key="deployment", bind="query-params")
            ended = st.multiselect(
                "State",
                list(states),
                key="state",
                bind="query-params",
                help="Runs with at least one call that ended like this.",
            )
            who = st.multiselect("Person", list(people), key="person", bind="query-params")
            tagged = st.selectbox("Tag", list(tags), index=None, key="tag", bind="query-params", placeholder="Any")
            origin = st.multiselect("Source", list(sources), key="source", bind="query-params")
            first = st.date_input("From", value=None, key="from", bind="query-params")
            last = st.date_input("To and including", value=None, key="to", bind="query-params")
    since, until = day_edges(_day(first), _day(last), zone()[1])
    return RunFilter(
        text=(text or "").strip() or None,
        deployments=tuple(ids[name] for name in chosen if name in ids),
        states=tuple(states[words] for words in ended if words in states),
        persons=tuple(who),
        sources=tuple(sources[words] for words in origin if words in sources),
        tag=tagged or None,
        starred=True if starred else None,
        date_from=since,
        date_to=until,
    )


def _day(value: object) -> date | None:
    return value if isinstance(value, date) else None


def tell_apart(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Deployment ids to names, with the id added where two share a name."""
    seen = [name for _, name in pairs]
    return {i: name if seen.count(name) == 1 else f"{name} ({i})" for i, name in pairs}
