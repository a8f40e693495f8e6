"""Why a self-hosted option fits: memory, latency against throughput, other ways to cut the model, and a simulation."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.calculator import options
from app.charts import theme
from app.charts.vega import Spec, layers, q, show, tips, view, word
from app.widgets.panel import panel
from app.widgets.text import plain
from services.calculator import memory, options_hourly, queueing, roofline, simulation
from services.calculator.address import State
from services.calculator.types import Memory, Option, Precision, Serving, Spread, Waits, Workload

KEY = "ca_waits"

REQUESTS = 2_000


@st.fragment(key="ca_simulation")
def draw_simulation(option: Option, state: State) -> None:
    """A button, its progress, and the waits at the busiest hour; kept for as long as nothing it rests on changes."""
    serving = option.serving
    if serving is None or not option.replicas:
        return
    work = state.workload
    replicas = max(option.replicas)
    peak = max(queueing.sized_rates(work))
    cached = options_hourly.cached_share(serving, work) if state.assumptions.self_host_cache else 0.0
    question = (serving, peak, work.input_tokens, work.output_tokens, cached, work.burstiness, replicas)
    with (
        panel(
            "Waits at the busiest hour, simulated",
            plain(
                f"{REQUESTS:,} requests at {options.rate(peak)} a minute on {replicas} "
                f"replica{'s' if replicas > 1 else ''}, continuous batching with chunked prefill, seed 1"
            ),
        ) as right,
        right,
    ):
        start = st.button("Simulate", icon=":material/play_arrow:", key="ca_simulate")
    if start:
        place = st.container(horizontal=True, vertical_alignment="center")
        bar = place.progress(0.0, "Simulating …")
        place.button("Stop", icon=":material/stop:", key="ca_stop")  # a click ends this run at its next progress
        try:
            st.session_state[KEY] = (question, _run(question, bar))
        except ValueError as error:
            st.warning(plain(str(error)), icon=":material/error:")
            return
        st.rerun(scope="fragment")
    last = st.session_state.get(KEY)
    if last is None or last[0] != question:
        st.caption("The figures in the table are of a closed form; this walks through the queue request by request.")
        return
    _draw(last[1])


def _run(question: tuple[Serving, float, Spread, Spread, float, float, int], bar: DeltaGenerator) -> Waits:
    serving, peak, inputs, out, cached, burst, replicas = question

    def tell(share: float) -> None:
        bar.progress(min(share, 1.0), "Simulating …")

    return simulation.run(
        serving,
        peak,
        inputs,
        out,
        cached_share=cached,
        burstiness=burst,
        replicas=replicas,
        requests=REQUESTS,
        progress=tell,
    )


def _draw(waits: Waits) -> None:
    if waits.overloaded:
        st.warning("The queue grows without end at this rate: more replicas are needed.", icon=":material/trending_up:")
    with st.container(horizontal=True):
        for title, value in (
            ("First token p50", waits.ttft_p50_s),
            ("First token p95", waits.ttft_p95_s),
            ("First token p99", waits.ttft_p99_s),
            ("Last token p50", waits.ttlt_p50_s),
            ("Last token p95", waits.ttlt_p95_s),
            ("Last token p99", waits.ttlt_p99_s),
        ):
            st.metric(title, f"~{options.seconds(value)}", width=150)
    st.caption(
        plain(
            f"Simulated: {waits.requests:,} requests, seed {waits.seed} · {waits.mean_running:.1f} running on "
            f"average · {waits.utilisation * 100:.0f} % of the time computing · {waits.preempted:,} preempted."
        )
    )


GIB = 2**30

PARTS = ("weights", "activations", "KV cache", "kept free")

TINTS = {"light": ("#C56893", "#b9bdb6", "#8a7d55", "#e3e4df"), "dark": ("#F7A8DC", "#6b6962", "#b3a573", "#2f2d29")}


def draw(option: Option, workload: Workload) -> None:
    """Memory split, sequences at once, the binding limit; a sentence where nothing is hosted by oneself."""
    serving = option.serving
    if serving is None:
        with panel("Why it fits", ""):
            st.caption(
                "The provider runs this model: memory and batch are its own affair. Select a self-hosted "
                "option above to see its memory, its batch and its limit."
            )
        return
    i, o = int(workload.input_tokens.median), int(workload.output_tokens.median)
    use, look = memory.of(serving, i, o), theme.look()
    with panel("Why it fits", plain(f"memory of one replica · {name(serving)}")):
        show(_split(use, look), "ca_memory", f"Memory of {name(serving)}: {_words(use)}", look)
        st.caption(plain(_words(use)))
        if not use.fits or not use.sequences:
            return
        point = roofline.point(serving, min(use.sequences, serving.max_seqs), i, o)
        st.caption(
            plain(
                f"{use.sequences:,} sequences of {i + o:,} tokens at once ({use.slots:,} tokens of KV cache in "
                f"blocks of {serving.block}). At the full batch the limit is {point.bound}."
            )
        )


def name(serving: Serving) -> str:
    """Model, GPUs and precision."""
    gpus = serving.gpu.name if serving.tp == 1 else f"{serving.tp} × {serving.gpu.name}"
    return f"{serving.llm.name}, {serving.precision.value}, on {gpus}"


def _words(use: Memory) -> str:
    parts = zip(PARTS, _bytes(use), strict=True)
    return f"{use.total / GIB:,.1f} GiB: " + ", ".join(f"{name} {size / GIB:,.1f}" for name, size in parts) + " GiB."


def _bytes(use: Memory) -> tuple[float, float, float, float]:
    return use.weights, use.activations, max(use.kv, 0.0), use.reserve


def _split(use: Memory, look: theme.Look) -> Spec:
    rows = pd.DataFrame({"part": PARTS, "gib": [size / GIB for size in _bytes(use)], "no": range(4)})
    return layers(
        view(
            "bar",
            rows,
            {
                "x": q("gib", title="GiB", axis={"grid": False, "tickCount": 6}, stack="zero"),
                "color": word(
                    "part",
                    sort=list(PARTS),
                    legend={"title": None, "orient": "bottom"},
                    scale={"domain": list(PARTS), "range": list(TINTS[look.theme])},
                ),
                "order": q("no"),
                "tooltip": tips(("part", "Part"), ("gib", "GiB", ",.2f")),
            },
            height=30,
        ),
        height=40,
    )


def draw_curve(option: Option, workload: Workload, measured: pd.DataFrame | None = None) -> None:
    """Latency against throughput over the batch, with the range, measured points over it; static batching beside."""
    serving = option.serving
    if serving is None:
        return
    i, o = int(workload.input_tokens.median), int(workload.output_tokens.median)
    look, rows = theme.look(), []
    for words, setup in (("continuous batching", serving), ("static batches", replace(serving, continuous=False))):
        rows += [
            {
                "kind": words,
                "batch": p.batch,
                "tok_s": p.output_tok_s.mid,
                "low": p.output_tok_s.low,
                "high": p.output_tok_s.high,
                "tpot": p.tpot_s.mid * 1000,
                "ttft": p.ttft_s.mid,
                "e2e": p.e2e_s.mid,
                "rpm": p.rpm.mid,
                "bound": p.bound,
            }
            for p in roofline.curve(setup, i, o)
        ]
    frame = pd.DataFrame(rows)
    if frame.empty:
        return
    with panel(
        "Latency against throughput",
        plain(f"one replica, {i:,} in / {o:,} out · each point a batch size · ~ estimated, pale: its range"),
    ):
        show(
            _curve(frame, measured, look),
            "ca_curve",
            "Time to last token against output tokens a second by batch size",
            look,
        )
        st.dataframe(
            frame[frame["kind"] == "continuous batching"].drop(columns=["kind", "low", "high"]),
            hide_index=True,
            column_config={
                "batch": st.column_config.NumberColumn("Batch", format="%d"),
                "tok_s": st.column_config.NumberColumn("Output tok/s", format="~%.0f"),
                "tpot": st.column_config.NumberColumn("TPOT ms", format="~%.1f"),
                "ttft": st.column_config.NumberColumn("First token s", format="~%.2f"),
                "e2e": st.column_config.NumberColumn("Last token s", format="~%.2f"),
                "rpm": st.column_config.NumberColumn("Requests/min", format="~%.1f"),
                "bound": st.column_config.TextColumn("Limit"),
            },
            alt="The same by batch size",
        )


def _curve(frame: pd.DataFrame, measured: pd.DataFrame | None, look: theme.Look) -> Spec:
    x = q("tok_s", title="output tokens per second (log)", scale={"type": "log"}, axis={"grid": False, "tickCount": 6})
    y = q("e2e", title="last token, s (log)", scale={"type": "log"}, axis={"tickCount": 5})
    said_ = tips(
        ("kind", "Batching"),
        ("batch", "Batch", ".0f"),
        ("tok_s", "Output tok/s", ",.0f"),
        ("e2e", "Last token s", ".2f"),
        ("bound", "Limit"),
    )
    dash = word(
        "kind",
        scale={"domain": ["continuous batching", "static batches"], "range": [[1, 0], [4, 4]]},
        legend={"title": None, "orient": "bottom"},
    )
    parts = [
        view(
            "rule",
            frame[frame["kind"] == "continuous batching"],
            {"x": {**q("low"), "scale": x["scale"]}, "x2": {"field": "high"}, "y": y},
            strokeWidth=7,
            opacity=0.18,
            color=look.ink,
        ),
        view("line", frame, {"x": x, "y": y, "strokeDash": dash}, color=look.ink, strokeWidth=1.5),
        view("point", frame, {"x": x, "y": y, "tooltip": said_}, color=look.ink, filled=False, size=40),
    ]
    if measured is not None and not measured.empty:
        parts.append(
            view(
                "point",
                measured,
                {"x": x, "y": y, "tooltip": tips(("name", "Measured"))},
                filled=True,
                size=90,
                color=look.good,
            )
        )
    return layers(*parts, height=260)


def draw_cuts(option: Option, workload: Workload) -> None:
    """The same model and GPU at every tensor-parallel size and precision side by side."""
    serving = option.serving
    if serving is None:
        return
    i, o = int(workload.input_tokens.median), int(workload.output_tokens.median)
    rows = []
    for tp in (1, 2, 4, 8):
        for precision in Precision:
            if precision is Precision.FP8 and serving.gpu.tflops_fp8 is None:
                continue
            setup = replace(serving, tp=tp, precision=precision)
            use = memory.of(setup, i, o)
            fits = use.fits and use.sequences > 0
            point = roofline.point(setup, min(max(use.sequences, 1), setup.max_seqs), i, o) if fits else None
            single = roofline.point(setup, 1, i, o) if fits else None
            rows.append(
                {
                    "cut": f"TP {tp}, {precision.value}",
                    "weights": use.weights / GIB,
                    "sequences": use.sequences if fits else None,
                    "ttft": single.ttft_s.mid if single else None,
                    "tpot": single.tpot_s.mid * 1000 if single else None,
                    "tok_s": point.output_tok_s.mid if point else None,
                    "bound": point.bound if point else "does not fit",
                }
            )
    with panel("Tensor parallel and precision", plain(f"{serving.llm.name} on {serving.gpu.name} · ~ estimated")):
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            placeholder="–",
            height=280,
            column_config={
                "cut": "Cut",
                "weights": st.column_config.NumberColumn("Weights GiB", format="%.1f"),
                "sequences": st.column_config.NumberColumn("Sequences at once", format="%d"),
                "ttft": st.column_config.NumberColumn("First token alone s", format="~%.3f"),
                "tpot": st.column_config.NumberColumn("TPOT alone ms", format="~%.1f"),
                "tok_s": st.column_config.NumberColumn("Full batch tok/s", format="~%.0f"),
                "bound": "Limit at the full batch",
            },
            alt="Tensor-parallel sizes and precisions side by side",
        )
