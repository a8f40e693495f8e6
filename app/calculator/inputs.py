"""The workload and what has to hold, typed in or taken from the recorded calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.calculator import state
from app.widgets.filters import zone
from app.widgets.text import plain
from services.calculator import catalog, presets, validation
from services.calculator import measured as calculator_measured
from services.calculator.address import State
from services.calculator.assumptions import ApiSpeed
from services.calculator.serialization import FieldError
from services.calculator.types import Option, Reuse, Spread

REUSE = {Reuse.STEADY.value: "At random, over the hour", Reuse.BURST.value: "In sessions, then never again"}

MONTHS = {0: "None", 1: "1 month", 6: "6 months", 12: "1 year", 36: "3 years"}

VOTED = "ca_voted"

INSIDE = (
    "in_s",
    "out_s",
    "shape",
    "burst",
    "prefix",
    "reuse",
    "reuse_h",
    "session",
    "peak",
    "months",
    "replicas",
    "isolated",
    "own",
    "models",
    "ttft",
    "ttlt",
)

SPREAD_HELP = "σ of the logarithm: 0 all alike, 0.5 usual for prompts of one kind, 1 very mixed."


def draw(models: Sequence[str]) -> tuple[State, list[FieldError]]:
    """The fields; returns what they hold and what is wrong with it. ``models``: catalogue ids that can be ticked."""
    strange = state.take()
    # A popover's fields are made in the browser when it is first opened, and take what the session said last then.
    for name in INSIDE:
        st.session_state[f"ca_{name}"] = st.session_state[f"ca_{name}"]
    _presets()
    starts = state.starts()
    slots: dict[str, Any] = {}
    with st.container(horizontal=True, gap="small", vertical_alignment="top"):
        with _field(
            "Requests per minute",
            "rpm",
            slots,
            ("workload.rpm", "workload.shape", "workload.burstiness", "workload.peak_concurrency"),
        ):
            st.number_input(
                "Requests/min", key="ca_rpm", **starts["rpm"], step=10.0, format="%g", help="Mean over the day."
            )
            with st.popover(_shape_words(), key="ca_pop_rpm", type="tertiary"):
                _rate()
        with _field(
            "Input",
            "in",
            slots,
            ("workload.input_tokens", "workload.prefix_share", "workload.reuse_per_hour", "workload.calls_per_session"),
        ):
            st.number_input(
                "Input tokens",
                key="ca_in",
                **starts["in"],
                step=100,
                help="Median of a request, system prompt included.",
            )
            with st.popover(f"{st.session_state.ca_prefix:g} % repeated", key="ca_pop_in", type="tertiary"):
                _input()
        with _field("Output", "out", slots, ("workload.output_tokens",)):
            st.number_input(
                "Output tokens", key="ca_out", **starts["out"], step=50, help="Median of an answer, reasoning included."
            )
            with st.popover("Spread", key="ca_pop_out", type="tertiary"):
                st.number_input("Spread of the answers", key="ca_out_s", step=0.1, format="%g", help=SPREAD_HELP)
        with _field("Batch", "batch", slots, ("workload.batch_share", "workload.months")):
            st.number_input(
                "May wait, %",
                key="ca_batch",
                **starts["batch"],
                step=10.0,
                format="%g",
                help="Share of the requests that may take up to 24 hours.",
            )
            with st.popover(f"Commit: {MONTHS[st.session_state.ca_months].lower()}", key="ca_pop_b", type="tertiary"):
                st.selectbox(
                    "Commitment that may be signed", list(MONTHS), key="ca_months", format_func=MONTHS.__getitem__
                )
        with _field("First", "ttft", slots, ("objectives.ttft_s",)):
            st.number_input(
                "First token, s",
                key="ca_ttft",
                value=None,
                step=0.5,
                format="%g",
                placeholder="No limit",
                help="Within so long at p95: 3 s is acceptable, 1 s is better.",
            )
        with _field("Last", "ttlt", slots, ("objectives.ttlt_s", "objectives.replicas", "objectives.models")):
            st.number_input(
                "Last token, s",
                key="ca_ttlt",
                value=None,
                step=0.5,
                format="%g",
                placeholder="No limit",
                help="Within so long at p95. How long an answer fits depends on it.",
            )
            with st.popover("More needs", key="ca_pop_needs", type="tertiary"):
                _needs(models)
    state_now = state.current()
    wrong = validation.check(state_now.workload, state_now.objectives, state_now.assumptions)
    _say(wrong, slots)
    for error in strange[:3]:
        st.caption(f":material/info: {plain(error.sentence)}")
    return state_now, wrong


def _field(_title: str, name: str, slots: dict[str, Any], fields: Sequence[str]) -> Any:
    place = st.container(width=138, gap="xsmall", key=f"ca_box_{name}")
    inner = place.container(gap="xsmall")
    slot = place.empty()
    for field in fields:
        slots[field] = slot
    return inner


def _say(wrong: Sequence[FieldError], slots: dict[str, Any]) -> None:
    """Each sentence on its field; what has no field of its own below them all."""
    by_slot: dict[int, tuple[Any, list[str]]] = {}
    for error in wrong:
        slot = next(
            (slot for name, slot in slots.items() if error.field == name or error.field.startswith(f"{name}.")), None
        )
        if slot is None:
            st.caption(f":red[:material/error: {plain(error.sentence)}]")
        else:
            by_slot.setdefault(id(slot), (slot, []))[1].append(error.sentence)
    for slot, sentences in by_slot.values():
        slot.caption(f":red[:material/error: {plain(' '.join(sentences))}]")


def _presets() -> None:
    titles = {preset.id: preset.title for preset in presets.PRESETS}
    if st.session_state.get("ca_preset_pick") != (st.session_state.get(state.PRESET) or None):
        st.session_state["ca_preset_pick"] = st.session_state.get(state.PRESET) or None
    st.pills(
        "Begin with",
        list(titles),
        key="ca_preset_pick",
        format_func=titles.__getitem__,
        label_visibility="collapsed",
        on_change=_begin,
    )


def _begin() -> None:
    """Callback: a preset's workload and objectives, with the assumptions as they are."""
    chosen = presets.BY_ID.get(st.session_state["ca_preset_pick"] or "")
    if chosen:
        assumptions = state.current().assumptions
        state.put(State(chosen.workload, chosen.objectives, assumptions, chosen.id))


def _shape_words() -> str:
    return presets.SHAPE_TITLES[st.session_state.ca_shape]


def _rate() -> None:
    st.selectbox(
        "Over the day", list(presets.SHAPE_TITLES), key="ca_shape", format_func=presets.SHAPE_TITLES.__getitem__
    )
    shape = st.session_state.ca_shape
    curve = st.session_state[state.OWN_SHAPE] if shape == "own" else presets.SHAPES[shape]
    if shape == "own":
        edited = st.data_editor(
            pd.DataFrame({"hour": range(24), "weight": list(curve)[:24]}),
            hide_index=True,
            height=220,
            disabled=["hour"],
            key="ca_curve_edit",
        )
        st.session_state[state.OWN_SHAPE] = tuple(float(weight or 0) for weight in edited["weight"])
    else:
        st.bar_chart(pd.DataFrame({"weight": curve}), height=120, x_label="hour of the day", y_label="weight")
    st.number_input(
        "Burstiness",
        key="ca_burst",
        step=0.5,
        format="%g",
        help="Squared variation of the gaps: 1 is Poisson, 0 a clock, 4 bursts.",
    )
    st.number_input(
        "Concurrent requests at the peak", key="ca_peak", value=None, step=1, placeholder="From the rate", format="%d"
    )


def _input() -> None:
    st.number_input(
        "Repeated prefix, % of the input",
        key="ca_prefix",
        step=10.0,
        format="%g",
        help="System prompt, documents, examples that come again word for word.",
    )
    st.selectbox("It comes again", list(REUSE), key="ca_reuse", format_func=REUSE.__getitem__)
    if st.session_state.ca_reuse == Reuse.STEADY.value:
        st.number_input("Times an hour, each prefix", key="ca_reuse_h", step=10.0, format="%g")
    else:
        st.number_input("Calls in a session", key="ca_session", step=1.0, format="%g")
    st.number_input("Spread of the inputs", key="ca_in_s", step=0.1, format="%g", help=SPREAD_HELP)


def _needs(models: Sequence[str]) -> None:
    st.number_input("Replicas at least", key="ca_replicas", step=1, help="2 keep answering when one machine fails.")
    st.toggle("No machine shared with other customers", key="ca_isolated")
    st.toggle("Custom or fine-tuned model", key="ca_own")
    choices = [*models, *(model for model in st.session_state.ca_models if model not in models)]
    st.multiselect(
        "Models judged good enough",
        choices,
        key="ca_models",
        placeholder="All, unjudged",
        width=420,
        help="Only these are ranked. Compare and vote in the playground first.",
    )
    st.button("Those that won votes here", icon=":material/thumb_up:", type="tertiary", on_click=_voted)
    if message := st.session_state.pop(VOTED, None):
        st.caption(f":material/info: {plain(message)}")


def _voted() -> None:
    """Callback: the models that people preferred in the playground."""
    try:
        wins = calculator_measured.wins(auth.database())
    except SQLAlchemyError:
        wins = {}
    if wins:
        st.session_state["ca_models"] = list(wins)
    counts = ", ".join(f"{name} ({n:,})" for name, n in list(wins.items())[:4])
    st.session_state[VOTED] = f"Votes won: {counts}." if wins else "Nobody has voted on a model of this list yet."


SAID = "ca_history_said"

KEEP_S = 30.0


def measured() -> dict[str, ApiSpeed]:
    """Measured speeds by way and model; empty where nothing was recorded or the records cannot be read."""
    try:
        return _speeds(auth.database())
    except SQLAlchemyError:
        return {}


@st.cache_data(ttl=KEEP_S, max_entries=4, show_spinner=False)
def _speeds(_engine: Engine) -> dict[str, ApiSpeed]:
    return calculator_measured.of(_engine)


def use() -> None:
    """The menu that fills the fields from what was recorded, or counts a file of prompts."""
    with st.popover("Fill in", icon=":material/input:", key="ca_fill"):
        st.button(
            "Use my history",
            icon=":material/monitoring:",
            on_click=_from_history,
            help="Rate, tokens, hours of the day and repeated prefix of the calls of the last days.",
        )
        file = st.file_uploader(
            "Count a file of prompts",
            type=["txt", "csv", "jsonl"],
            key="ca_prompts",
            help="One prompt a line; 4 characters are taken as a token.",
        )
        if file is not None:
            st.button("Take its lengths", on_click=_from_file, args=(file.getvalue(),))
    for sentence in st.session_state.get(SAID, ()):
        st.caption(f":material/info: {plain(sentence)}")


def _from_history() -> None:
    """Callback: the workload of the recorded calls into the fields."""
    try:
        recorded = calculator_measured.history(auth.database(), zone=zone()[0])
    except SQLAlchemyError:
        st.session_state[SAID] = ("The records cannot be read just now; they are kept. Try again in a moment.",)
        return
    if recorded is None:
        st.session_state[SAID] = ("There are too few recorded calls: send some prompts in the playground first.",)
        return
    state_now = state.current()
    state.put(State(recorded.workload, state_now.objectives, state_now.assumptions, ""))
    first, last = (moment.astimezone(ZoneInfo(zone()[0])) for moment in (recorded.start, recorded.end))
    st.session_state[SAID] = (f"From {recorded.n:,} calls, {first:%-d %b %Y} to {last:%-d %b %Y}.", *recorded.sentences)


def _from_file(data: bytes) -> None:
    """Callback: the lengths of a file's lines as the input tokens."""
    lines = [line for line in data.decode("utf-8", errors="replace").splitlines() if line.strip()]
    counted = _counted(lines)
    if counted is None:
        st.session_state[SAID] = ("The file holds no line with text: nothing was changed.",)
        return
    st.session_state[state.PUT] = True
    st.session_state["ca_in"], st.session_state["ca_in_s"] = int(counted.median), round(counted.sigma, 2)
    st.session_state[SAID] = (f"Estimated from {len(lines):,} lines at 4 characters a token.",)


def _counted(lines: Iterable[str]) -> Spread | None:
    return calculator_measured.counted(max(1, round(len(line) / 4)) for line in lines)


def points(option: Option) -> pd.DataFrame | None:
    """Measured calls of the same model, to be drawn over the estimate: output tokens a second and seconds in all."""
    if option.serving is None:
        return None
    try:
        deployments = calculator_measured.deployments(auth.database())
    except SQLAlchemyError:
        return None
    rows = [
        {
            "tok_s": deployment.tok_s_p50,
            "e2e": deployment.ttlt_p50_s,
            "name": f"{deployment.name}, measured, n {deployment.n:,}",
        }
        for deployment in deployments
        if deployment.tok_s_p50 and deployment.ttlt_p50_s and _is(deployment.model, option.serving.llm.name)
    ]
    return pd.DataFrame(rows, columns=["tok_s", "e2e", "name"])


def _is(model: str, name: str) -> bool:
    try:
        return catalog.llm(model).name == name
    except LookupError:
        return False
