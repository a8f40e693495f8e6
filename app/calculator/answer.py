"""The answer in three sentences, calculated once for each state."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import streamlit as st

from app.charts import theme as looks
from services.calculator import address, catalog, rank, sensitivity
from services.calculator.address import State
from services.calculator.assumptions import Assumptions
from services.calculator.types import Answer, Option, Swing


def models(assumptions: Assumptions) -> list[str]:
    """Catalogue ids that can be judged good enough."""
    return list(catalog.merged(assumptions.own).model_ids())


def calculate(held: State, measured: Any) -> Answer:
    """The ranking of a state; two people with the same state share it."""
    return _answer(tuple(address.write(held).items()), held, measured)


@st.cache_resource(ttl=600, max_entries=60, show_spinner=False)
def _answer(key: tuple[tuple[str, str], ...], _held: State, measured: Any) -> Answer:
    del key
    return rank.calculate(_held.workload, _held.objectives, assumptions=_held.assumptions, measured=measured)


def swings(held: State, measured: Any) -> Sequence[Swing]:
    """The tornado of a state."""
    return _swings(tuple(address.write(held).items()), held, measured)


@st.cache_resource(ttl=600, max_entries=60, show_spinner=False)
def _swings(key: tuple[tuple[str, str], ...], _held: State, measured: Any) -> Sequence[Swing]:
    del key
    return sensitivity.tornado(calculate(_held, measured), assumptions=_held.assumptions, measured=measured)


def chosen(answer: Answer) -> Option | None:
    """The option that is chosen."""
    return next((one for one in answer.options if one.id == answer.chosen), None)


def draw(answer: Answer) -> None:
    """The sentences, and a mark where the ranking does not hold inside the ranges."""
    shown = looks.look()
    said = " ".join(html.escape(one) for one in answer.sentences)
    st.html(
        f'<div style="border-left:3px solid {shown.good};padding:2px 0 2px 12px;font-size:1.1rem;line-height:1.6;'
        f'max-width:62rem;color:{shown.ink}">{said}</div>'
    )
    if answer.chosen and not answer.stable:
        st.badge("The ranking is not stable inside the ranges", icon=":material/swap_vert:", color="orange")
