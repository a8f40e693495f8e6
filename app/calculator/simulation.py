"""Waits from a simulation of the scheduler: seeded, told apart from the closed form, run when it is asked for."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.calculator import text as said
from app.charts import panel as panels
from app.widgets.text import plain
from services.calculator import hours_option, shape, simulation
from services.calculator.address import State
from services.calculator.types import Option, Serving, Spread, Waits

KEY = "ca_waits"
REQUESTS = 2_000


@st.fragment(key="ca_simulation")
def draw(option: Option, held: State) -> None:
    """A button, its progress, and the waits at the busiest hour; kept for as long as nothing it rests on changes."""
    serving = option.serving
    if serving is None or not option.replicas:
        return
    work = held.workload
    replicas = max(option.replicas)
    peak = max(shape.sized_rates(work))
    cached = hours_option.cached_share(serving, work) if held.assumptions.self_host_cache else 0.0
    asked = (serving, peak, work.input_tokens, work.output_tokens, cached, work.burstiness, replicas)
    with panels.panel("Waits at the busiest hour, simulated", plain(
        f"{REQUESTS:,} requests at {said.rate(peak)} a minute on {replicas} replica{'s' if replicas > 1 else ''}, "
        "continuous batching with chunked prefill, seed 1"
    )) as right, right:  # fmt: skip
        start = st.button("Simulate", icon=":material/play_arrow:", key="ca_simulate")
    if start:
        place = st.container(horizontal=True, vertical_alignment="center")
        bar = place.progress(0.0, "Simulating …")
        place.button("Stop", icon=":material/stop:", key="ca_stop")  # a click ends this run at its next progress
        try:
            st.session_state[KEY] = (asked, _run(asked, bar))
        except ValueError as error:
            st.warning(plain(str(error)), icon=":material/error:")
            return
        st.rerun(scope="fragment")
    kept = st.session_state.get(KEY)
    if kept is None or kept[0] != asked:
        st.caption("The figures in the table are of a closed form; this walks through the queue request by request.")
        return
    _draw(kept[1])


def _run(asked: tuple[Serving, float, Spread, Spread, float, float, int], bar: DeltaGenerator) -> Waits:
    serving, peak, given, out, cached, burst, replicas = asked

    def tell(share: float) -> None:
        bar.progress(min(share, 1.0), "Simulating …")

    return simulation.run(
        serving, peak, given, out, cached_share=cached, burstiness=burst, replicas=replicas, requests=REQUESTS,
        progress=tell,
    )  # fmt: skip


def _draw(waits: Waits) -> None:
    if waits.overloaded:
        st.warning("The queue grows without end at this rate: more replicas are needed.", icon=":material/trending_up:")
    with st.container(horizontal=True):
        for title, value in (
            ("First token p50", waits.ttft_p50_s), ("First token p95", waits.ttft_p95_s),
            ("First token p99", waits.ttft_p99_s), ("Last token p50", waits.ttlt_p50_s),
            ("Last token p95", waits.ttlt_p95_s), ("Last token p99", waits.ttlt_p99_s),
        ):  # fmt: skip
            st.metric(title, f"~{said.seconds(value)}", width=150)
    st.caption(plain(
        f"Simulated: {waits.requests:,} requests, seed {waits.seed} · {waits.mean_running:.1f} running on average · "
        f"{waits.utilisation * 100:.0f} % of the time computing · {waits.preempted:,} preempted."
    ))  # fmt: skip
