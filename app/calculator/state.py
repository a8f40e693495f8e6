"""The calculator's state, which is the page's address, and the answer, calculated once for each state."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import streamlit as st

from app.charts import theme
from services.calculator import address, catalog, presets, rank
from services.calculator.address import State
from services.calculator.assumptions import Assumptions
from services.calculator.serialization import FieldError
from services.calculator.types import Answer, Objectives, Option, Reuse, Spread, Swing, Workload

HELD, ASSUMED, PRESET, OWN_SHAPE, PUT = "ca_held", "ca_assumed", "ca_from", "ca_curve", "ca_put"

OUTER = ("rpm", "in", "out", "batch")

FIELDS = (
    "rpm",
    "in",
    "in_s",
    "out",
    "out_s",
    "shape",
    "burst",
    "prefix",
    "reuse",
    "reuse_h",
    "session",
    "batch",
    "peak",
    "months",
    "ttft",
    "ttlt",
    "replicas",
    "isolated",
    "own",
    "models",
)


def take() -> list[FieldError]:
    """Bring an address that the session does not know into the widgets; returns what in it means nothing."""
    words = {name: value for name, value in st.query_params.to_dict().items() if name != "embed"}
    state_held = st.session_state.get(HELD)
    if "ca_rpm" in st.session_state and state_held is not None and (not words or words == state_held):
        return []
    # Coming back from another page finds the address cleared: what was chosen last is shown again.
    state, ignored = address.read(words or state_held or {})
    put(state)
    return ignored


def put(state: State) -> None:
    """Write a state into the widgets."""
    work, goal, keep = state.workload, state.objectives, st.session_state
    shape = presets.shape_name(work.shape)
    values: dict[str, Any] = {
        "rpm": float(work.rpm),
        "in": int(work.input_tokens.median),
        "in_s": float(work.input_tokens.sigma),
        "out": int(work.output_tokens.median),
        "out_s": float(work.output_tokens.sigma),
        "shape": shape,
        "burst": float(work.burstiness),
        "prefix": work.prefix_share * 100,
        "reuse": work.reuse.value,
        "reuse_h": float(work.reuse_per_hour),
        "session": float(work.calls_per_session),
        "batch": work.batch_share * 100,
        "peak": work.peak_concurrency,
        "months": work.months,
        "ttft": goal.ttft_s,
        "ttlt": goal.ttlt_s,
        "replicas": goal.replicas,
        "isolated": goal.isolated,
        "own": goal.own_weights,
        "models": list(goal.models or ()),
    }
    for name in FIELDS:
        keep[f"ca_{name}"] = values[name]
    keep[OWN_SHAPE] = tuple(work.shape) if shape == "own" else presets.SHAPES[shape]
    keep[ASSUMED], keep[PRESET], keep[PUT] = state.assumptions, state.preset, True


def current() -> State:
    """What the widgets hold. A field left empty is 0 where a number is needed, which the checks then say."""
    v = {name: st.session_state.get(f"ca_{name}") for name in FIELDS}
    shape = v["shape"] or "flat"
    work = Workload(
        v["rpm"] or 0.0,
        Spread(float(v["in"] or 0), v["in_s"] or 0.0),
        Spread(float(v["out"] or 0), v["out_s"] or 0.0),
        shape=tuple(st.session_state[OWN_SHAPE]) if shape == "own" else presets.SHAPES[shape],
        burstiness=v["burst"] or 0.0,
        prefix_share=(v["prefix"] or 0.0) / 100,
        reuse=Reuse(v["reuse"] or "steady"),
        reuse_per_hour=v["reuse_h"] or 0.0,
        calls_per_session=v["session"] or 0.0,
        batch_share=(v["batch"] or 0.0) / 100,
        peak_concurrency=v["peak"],
        months=int(v["months"] or 0),
    )
    goal = Objectives(
        v["ttft"],
        v["ttlt"],
        replicas=int(v["replicas"] or 0),
        isolated=bool(v["isolated"]),
        own_weights=bool(v["own"]),
        models=tuple(v["models"]) if v["models"] else None,
    )
    begun = presets.BY_ID.get(st.session_state.get(PRESET) or "")
    # Once a field is changed it is no longer the preset's workload: its button can be pressed to begin again.
    same = begun is not None and (begun.workload, begun.objectives) == (work, goal)
    return State(work, goal, st.session_state.get(ASSUMED) or Assumptions(), begun.id if begun and same else "")


def starts() -> dict[str, dict[str, Any]]:
    """What each outer field begins with. A browser that missed the run in which a value was put shows what the field
    begins with, so that is the value itself; in that run Streamlit takes no beginning beside it."""
    put_now = st.session_state.pop(PUT, False)
    return {name: {} if put_now else {"value": st.session_state[f"ca_{name}"]} for name in OUTER}


def give(state: State) -> None:
    """Make what is chosen the page's address."""
    params = address.write(state)
    st.session_state[PRESET] = state.preset
    if st.session_state.get(HELD) != params or st.query_params.to_dict() != params:
        st.session_state[HELD] = params
        st.query_params.from_dict(params)


def assume(assumptions: Assumptions) -> None:
    """Change the assumptions; they are part of the address from the next draw on."""
    st.session_state[ASSUMED] = assumptions


def current_assumptions() -> Assumptions:
    """The assumptions of this session, before the address was looked at."""
    return st.session_state.get(ASSUMED) or Assumptions()


def models(assumptions: Assumptions) -> list[str]:
    """Catalogue ids that can be judged good enough."""
    return list(catalog.merged(assumptions.own).model_ids())


def calculate(state: State, measured: Any) -> Answer:
    """The ranking of a state; two people with the same state share it."""
    return _answer(tuple(address.write(state).items()), state, measured)


@st.cache_resource(ttl=600, max_entries=60, show_spinner=False)
def _answer(key: tuple[tuple[str, str], ...], _held: State, measured: Any) -> Answer:
    del key
    return rank.calculate(_held.workload, _held.objectives, assumptions=_held.assumptions, measured=measured)


def swings(state: State, measured: Any) -> Sequence[Swing]:
    """The tornado of a state."""
    return _swings(tuple(address.write(state).items()), state, measured)


@st.cache_resource(ttl=600, max_entries=60, show_spinner=False)
def _swings(key: tuple[tuple[str, str], ...], _held: State, measured: Any) -> Sequence[Swing]:
    del key
    return rank.tornado(calculate(_held, measured), assumptions=_held.assumptions, measured=measured)


def chosen(answer: Answer) -> Option | None:
    """The option that is chosen."""
    return next((option for option in answer.options if option.id == answer.chosen), None)


def draw(answer: Answer) -> None:
    """The sentences, and a mark where the ranking does not hold inside the ranges."""
    look = theme.look()
    text = " ".join(html.escape(sentence) for sentence in answer.sentences)
    st.html(
        f'<div style="border-left:3px solid {look.good};padding:2px 0 2px 12px;font-size:1.1rem;line-height:1.6;'
        f'max-width:62rem;color:{look.ink}">{text}</div>'
    )
    if answer.chosen and not answer.stable:
        st.badge("The ranking is not stable inside the ranges", icon=":material/swap_vert:", color="orange")
