"""The filter bar of the history, whose state is the page's address; the demo switch; and the page without any call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import streamlit as st
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from streamlit.errors import StreamlitAPIException

from app import auth, navigation
from app.widgets.filters import SOURCES, zone
from app.widgets.text import KIND_NAMES, clip, plain
from db.engine import reader
from services import paths
from services.dashboard import demo
from services.dashboard.figures import RANGE_WORDS, RANGES, Filter
from services.dashboard.filters import ADDRESS, ALIASES, CACHES, DEFAULT_RANGE, LISTS, Range, params_of, unknown

COMING = (
    (
        "Latency",
        "First and last token over time for each deployment: median, p95 and p99, with gaps where nothing was "
        "called; as a distribution; by weekday and hour.",
    ),
    ("Throughput", "Calls a minute, output tokens a second, calls in flight; throttles, timeouts and errors apart."),
    ("Cost", "By driver and by deployment, model, person, team, tag or day; idle hours hatched; the month's pace."),
    ("Speed against price", "Which deployment is fast, which is cheap, and which is both."),
)


def draw_empty(person: auth.Person) -> None:
    """What will be here, and the one button that gets there."""
    st.caption("Nothing was called yet. Every call of the playground, of batches and of load tests will be here:")
    with st.grid(2, min_column_width=280, gap="small"):
        for title, words in COMING:
            with st.container(border=True, height="stretch"):
                st.markdown(f"**{title}**")
                st.caption(words)
    with st.container(horizontal=True):
        first = person.may("send") and st.button(
            "Send the first prompt", type="primary", icon=":material/compare_arrows:", key="hs_first"
        )
        st.button("Look at demo data", icon=":material/science:", key="hs_look_demo", on_click=_demo)
        if not person.may("send"):
            st.caption("Somebody who may send prompts has to make the first call.")
    if first:  # the playground suggests a prompt by itself
        st.switch_page(navigation.page_file("playground"))


def _demo() -> None:
    """Callback: switch the simulated calls on."""
    st.session_state[SWITCH] = True


def draw_no_match(chosen: Filter) -> None:
    """No call of this selection, while there are others."""
    narrowed = "this selection in " if chosen.is_narrowed else ""
    st.caption(
        f"No call of {narrowed}this stretch of time. {'Take a filter away or c' if narrowed else 'C'}hoose a "
        "longer one."
    )
    st.button("Show everything", key="hs_all", icon=":material/all_inclusive:", on_click=clear, args=("all",))


HELD, EXACT, RANGE, ZONE, FROM, TO = "hs_held", "hs_exact", "hs_range", "hs_zone", "hs_from", "hs_to"

CACHE_WORDS = {"warm": "Warm", "cold": "Cold", "unknown": "Not reported"}

SOURCE_WORDS = {**SOURCES, "batch": "Batch", "load": "Load test"}


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be chosen, by field of `Filter`: value → what it is called."""

    of: Mapping[str, Mapping[str, str]]

    @classmethod
    def made(cls, values: Mapping[str, Sequence[str]], names: Mapping[str, str], teams: Sequence[str]) -> Choices:
        """From the values that calls have; ``names`` are the deployments' that were ever declared."""
        kinds = {kind: KIND_NAMES.get(kind, kind) for kind in values["kind"]}
        used = {deployment_id: names.get(deployment_id, deployment_id) for deployment_id in values["deployment_id"]}
        # Only those that were called or paid for can be chosen; a link may name any that was ever declared.
        return cls(
            {
                "deployments": used,
                "kinds": kinds,
                "models": _same(values["model"]),
                "persons": _same(values["person"]),
                "teams": _same(teams),
                "tags": _same(values["tag"]),
                "caches": CACHE_WORDS,
                "sources": {source: SOURCE_WORDS.get(source, source) for source in values["source"]},
            }
        )


@cache
def _zones() -> list[str]:
    """Every zone there is; the disk is asked once."""
    return sorted({*available_timezones(), "UTC"})


def _same(values: Sequence[str]) -> dict[str, str]:
    return {value: value for value in values}


def draw(choices: Choices) -> Filter:
    """The bar; returns what is chosen and makes it the page's address."""
    ignored = _take_address(choices)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _time()
        with _pill("deployments", choices, "All deployments", ":material/dns:"):
            for name, label in (("deployments", "Deployment"), ("kinds", "Kind"), ("models", "Model")):
                _list(name, label, choices)
        with _pill("sources", choices, "All sources", ":material/input:", "caches"):
            _list("sources", "Source", choices)
            _list(
                "caches",
                "Prompt cache",
                choices,
                help="Warm: at least a twentieth of the input was read from the service's prompt cache.",
            )
        with _pill("persons", choices, "Everyone", ":material/group:", "teams", "tags"):
            for name, label in (("persons", "Person"), ("teams", "Team"), ("tags", "Tag")):
                _list(name, label, choices)
        chosen = _chosen()
        if chosen.is_narrowed or chosen.range != DEFAULT_RANGE:
            st.button("Clear", key="hs_clear", type="tertiary", icon=":material/close:", on_click=clear)
    if ignored:
        st.caption(f":material/info: {plain(' '.join(ignored))}")
    if strange := unknown(st.query_params):
        st.caption(f":material/info: {plain(strange)}")
    _give_address(chosen)
    return chosen


# --- widgets -------------------------------------------------------------------------------------------------------
def _time() -> None:
    state = st.session_state
    words = RANGE_WORDS[state[RANGE]] if state[RANGE] != "custom" else _span_words()
    with st.popover(plain(f"{words} · {state[ZONE]}"), icon=":material/schedule:", key="hs_time"):
        st.pills("Time", RANGES, key=RANGE, required=True, format_func=RANGE_WORDS.__getitem__)
        if state[RANGE] == "custom":
            with st.container(horizontal=True):
                st.datetime_input("From", key=FROM, value=None, width=220)
                st.datetime_input("To, not included", key=TO, value=None, width=220)
        st.selectbox("Zone of days and hours", _zones(), key=ZONE, width=320)


def _span_words() -> str:
    """The dates of a range of one's own. An end that is not chosen is said as what is shown in its place."""
    first, last = (f"{moment:%Y-%m-%d %H:%M}" if moment else "" for moment in map(st.session_state.get, (FROM, TO)))
    if not first:
        return f"7 days to {last}" if last else f"{RANGE_WORDS[DEFAULT_RANGE]} (no dates are chosen)"
    return f"{first} to {last or 'now'}"


def _pill(name: str, choices: Choices, nothing: str, icon: str, *details: str) -> Any:
    fields = {"deployments": ("deployments", "kinds", "models")}.get(name, (name, *details))
    chosen = [choices.of[field].get(value, value) for field in fields for value in st.session_state[f"hs_{field}"]]
    words = nothing if not chosen else ", ".join(chosen) if len(chosen) < 3 else f"{chosen[0]} + {len(chosen) - 1}"
    return st.popover(plain(clip(words, 44)), icon=icon, key=f"hs_pill_{name}")


def _list(name: str, label: str, choices: Choices, help: str | None = None) -> None:
    options = choices.of[name]
    st.multiselect(
        label,
        list(options),
        key=f"hs_{name}",
        format_func=lambda value: options.get(value, value),
        placeholder="All",
        help=help,
        disabled=not options,
        width=380,
    )


# --- the address ---------------------------------------------------------------------------------------------------
def _take_address(choices: Choices) -> list[str]:
    """Bring an address that the session does not know into the widgets; returns what it held that means nothing."""
    state = st.session_state
    words = params_of(_query())
    if RANGE in state and (not words or words == state.get(HELD)):
        return []
    # Coming back from another page finds the address cleared: what was chosen last is shown again.
    words = words or dict(state.get(HELD) or {})
    words.setdefault("zone", zone()[0])
    chosen = Filter.from_params(words)
    ignored = list(chosen.ignored)
    state[RANGE], state[ZONE] = chosen.range, chosen.zone
    state[EXACT] = {}
    for key, moment in ((FROM, chosen.start), (TO, chosen.end)):
        local = moment.astimezone(ZoneInfo(chosen.zone)) if moment else None
        state[key] = local.replace(tzinfo=None, second=0, microsecond=0, fold=0) if local else None
        state[EXACT][key] = (state[key], chosen.zone, moment)
    for name, word in LISTS.items():
        # The command line takes a deployment's name too; the page's own address holds its id.
        ids = (
            {} if name != "deployments" else {label: deployment_id for deployment_id, label in choices.of[name].items()}
        )
        asked_for = [value if value in choices.of[name] else ids.get(value, value) for value in getattr(chosen, name)]
        selected = [value for value in dict.fromkeys(asked_for) if value in choices.of[name]]
        ignored += [
            f"There is no {word} “{clip(value, 40)}” in the history."
            for value in asked_for
            if value not in choices.of[name]
        ]
        state[f"hs_{name}"] = selected
    return ignored[:3] + ([f"{len(ignored) - 3} more were ignored."] if len(ignored) > 3 else [])


def _query() -> dict[str, list[str]]:
    """The words of the address with their values. Those of the command line are taken out of it."""
    query = {name: st.query_params.get_all(name) for name in ADDRESS.values() if name in st.query_params}
    for word in ALIASES:
        if word in st.query_params:
            values = st.query_params.get_all(word)
            try:
                del st.query_params[word]
            except StreamlitAPIException:  # bound a moment ago: it is the other page's that somebody comes from
                continue
            query[word] = values
    return query


def _give_address(chosen: Filter) -> None:
    params = chosen.to_params() | {"zone": chosen.zone}
    for word, name in ADDRESS.items():
        if word in params:
            if st.query_params.get(name) != params[word]:
                st.query_params[name] = params[word]
        elif name in st.query_params:
            del st.query_params[name]
    # The browser's way back from an opened run leaves the run in the address.
    st.query_params.pop("run", None)
    st.session_state[HELD] = params


def _chosen() -> Filter:
    state = st.session_state
    range_ = state[RANGE] if state[RANGE] in RANGES else DEFAULT_RANGE
    start, end = (_moment(FROM), _moment(TO)) if range_ == "custom" else (None, None)
    if start and end and start >= end:
        end = start + timedelta(days=1)
    lists = {name: tuple(state[f"hs_{name}"]) for name in LISTS}
    lists["caches"] = tuple(cache for cache in CACHES if cache in lists["caches"])
    return Filter(range=range_, zone=state[ZONE] or "UTC", start=start, end=end).but(**lists)


def _moment(key: str) -> datetime | None:
    """The moment of a date input. One that came from the address is kept to the second, in the hour it meant."""
    value = st.session_state.get(key)
    if value is None:
        return None
    exact: datetime | None
    last_text, last_zone, exact = st.session_state[EXACT].get(key, (None, None, None))
    if exact is not None and value == last_text and last_zone == st.session_state[ZONE]:
        return exact
    moment: datetime = value.replace(tzinfo=ZoneInfo(st.session_state[ZONE]))
    return moment.astimezone(UTC)


def clear(range: Range = DEFAULT_RANGE) -> None:
    """Callback: every call of a range; the zone stays."""
    state = st.session_state
    state[RANGE], state[FROM], state[TO] = range, None, None
    for name in LISTS:
        state[f"hs_{name}"] = []


SWITCH, TROUBLE = "hx_demo", "hx_demo_trouble"

PARAM = "demo"

LABEL = "demo data, simulated"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the page reads from. ``now``: the moment that the ranges end at. ``ready`` false: there is nothing to draw
    yet, and the page said so."""

    database: Engine
    demo: bool
    now: datetime
    ready: bool = True


def source(person: auth.Person) -> Source:
    """The switch, and the database that the page shows. With demo data on, the page is labelled as simulated."""
    if SWITCH not in st.session_state:
        st.session_state[SWITCH] = st.query_params.get(PARAM) == "1"
    on = st.toggle("Demo data", key=SWITCH, help="Simulated calls from a database of their own. Nothing was measured.")
    now = datetime.now(UTC)
    if not on:
        st.query_params.pop(PARAM, None)
        return Source(auth.database(), False, now)
    st.query_params[PARAM] = "1"
    st.badge(LABEL, icon=":material/science:", color="orange")
    there = found()
    if there is None:
        _offer(person)
        return Source(auth.database(), True, now, ready=False)
    return Source(there[0], True, there[1].end)


def found() -> tuple[Engine, demo.About] | None:
    """The demo database and what it holds; None where there is none that can be read."""
    data = paths.data_dir()
    if not demo.file(data).exists():
        return None
    engine = reader(demo.url(data))
    try:
        about = demo.about(engine)
    except SQLAlchemyError:
        return None
    return (engine, about) if about else None


def _offer(person: auth.Person) -> None:
    st.caption(
        f"There is no demo data on this server yet. It takes some seconds to simulate {demo.DEFAULT_CALLS:,} calls of "
        f"{demo.DEFAULT_DAYS} days; they go into a file of their own."
    )
    if not person.may("send"):
        st.caption("Somebody who may send prompts can make it here, or on the command line with “lab demo”.")
        return
    if st.button("Make demo data", key="hx_demo_make", type="primary", icon=":material/science:"):
        _make()
    if st.session_state.get(TROUBLE):
        st.caption(f":red[:material/error: {plain(st.session_state.pop(TROUBLE))}]")


def _make() -> None:
    bar = st.progress(0.0, "Simulating calls …")

    def told(done: int, all_of_them: int) -> None:
        bar.progress(done / all_of_them, f"{done:,} of {all_of_them:,} calls simulated")

    try:
        demo.make(demo.file(paths.data_dir()), progress=told)
    except (demo.DemoTrouble, ValueError) as error:
        bar.empty()
        st.session_state[TROUBLE] = str(error)
        return
    st.rerun()
