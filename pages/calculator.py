"""Calculator: which deployment for this workload, what it costs, and what would have to change for another to win."""

from __future__ import annotations

import streamlit as st

from app import (
    calc_answer,
    calc_assumptions,
    calc_breakeven,
    calc_history,
    calc_inputs,
    calc_memory,
    calc_money,
    calc_options,
    calc_scenarios,
    calc_simulation,
    calc_state,
    session,
)

person = session.person_and_role()

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Calculator", width="content")
    tools = st.container(horizontal=True, vertical_alignment="center", width="content")
st.caption("Which deployment for this workload, what it costs, and what would have to change for another to win.")

measured = calc_history.measured()
with tools:
    calc_history.use()
held, wrong = calc_inputs.draw(calc_answer.models(calc_state.current_assumptions()))
calc_state.give(held)
if wrong:
    st.warning("Nothing is calculated until what is said above in red is mended, or the assumptions below are undone.",
               icon=":material/edit:")  # fmt: skip
    calc_assumptions.draw(held)
    st.stop()

answer = calc_answer.calculate(held, measured)
with tools:
    calc_scenarios.draw(person, held, answer)
calc_answer.draw(answer)
with st.container(border=True):
    selected = calc_options.draw(answer)

left, right = st.columns([3, 2], gap="small")
with left.container(border=True, height="stretch"):
    calc_breakeven.draw(answer, selected)
with right.container(border=True, height="stretch"):
    if selected:
        calc_memory.draw(selected, held.workload)
        calc_options.draw_why(selected)

left, right = st.columns(2, gap="small")
with left.container(border=True, height="stretch"):
    calc_money.draw_drivers(answer)
    calc_money.draw_savings(answer)
with right.container(border=True, height="stretch"):
    calc_money.draw_swings(lambda: calc_answer.swings(held, measured), calc_answer.chosen(answer))

if selected and selected.serving:
    inside = st.expander("How a server of your own runs it: batch, precision, waits", icon=":material/memory:",
                         key="ca_inside", on_change="rerun")  # fmt: skip
    if inside.open:
        with inside:
            calc_memory.draw_curve(selected, held.workload, calc_history.points(selected))
            calc_memory.draw_cuts(selected, held.workload)
            calc_simulation.draw(selected, held)
calc_assumptions.draw(held)
calc_scenarios.compare(held, measured)
