"""Calculator: which deployment for this workload, what it costs, and what would have to change for another to win."""

from __future__ import annotations

import streamlit as st

from app import auth
from app.calculator import assumptions, inputs, options, scenarios, serving
from app.calculator import cost as calculator_cost
from app.calculator import state as calculator_state

person = auth.person_and_role()

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Calculator", width="content")
    tools = st.container(horizontal=True, vertical_alignment="center", width="content")
st.caption("Which deployment for this workload, what it costs, and what would have to change for another to win.")

measured = inputs.measured()
with tools:
    inputs.use()
held, wrong = inputs.draw(calculator_state.models(calculator_state.current_assumptions()))
calculator_state.give(held)
if wrong:
    st.warning(
        "Nothing is calculated until what is said above in red is mended, or the assumptions below are undone.",
        icon=":material/edit:",
    )
    assumptions.draw(held)
    st.stop()

answer = calculator_state.calculate(held, measured)
with tools:
    scenarios.draw(person, held, answer)
calculator_state.draw(answer)
with st.container(border=True):
    selected = options.draw(answer)

left, right = st.columns([3, 2], gap="small")
with left.container(border=True, height="stretch"):
    calculator_cost.draw(answer, selected)
with right.container(border=True, height="stretch"):
    if selected:
        serving.draw(selected, held.workload)
        options.draw_why(selected)

left, right = st.columns(2, gap="small")
with left.container(border=True, height="stretch"):
    calculator_cost.draw_drivers(answer)
    calculator_cost.draw_savings(answer)
with right.container(border=True, height="stretch"):
    calculator_cost.draw_swings(lambda: calculator_state.swings(held, measured), calculator_state.chosen(answer))

if selected and selected.serving:
    inside = st.expander(
        "How a server of your own runs it: batch, precision, waits",
        icon=":material/memory:",
        key="ca_inside",
        on_change="rerun",
    )
    if inside.open:
        with inside:
            serving.draw_curve(selected, held.workload, inputs.points(selected))
            serving.draw_cuts(selected, held.workload)
            serving.draw_simulation(selected, held)
assumptions.draw(held)
scenarios.compare(held, measured)
