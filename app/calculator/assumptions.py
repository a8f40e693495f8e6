"""Everything that is assumed, with its source, and hardware and models of one's own; what was changed is marked as
yours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from app.calculator import state
from app.widgets.text import plain
from services.calculator import catalog, roofline, serialization, token_cost
from services.calculator.address import State
from services.calculator.assumptions import ALL, ApiSpeed, Assumptions, Instance, TokenPrice
from services.calculator.serialization import FieldError
from services.calculator.types import Gpu, Llm, Precision, Range
from services.formatting import DASH

TITLES = {
    "bandwidth": "Share of peak memory bandwidth in decode",
    "prefill": "Share of peak compute in prefill",
    "decode_compute": "Share of peak compute in decode",
    "link": "Share of the link's bandwidth",
    "hop_s": "Latency of one all-reduce, s",
    "layer_s": "Overhead a layer, s",
    "step_s": "Overhead a step, s",
    "request_s": "Overhead a request, s",
    "sequence_s": "Overhead a sequence and step, s",
    "experts_layer_s": "Overhead of experts a layer, s",
}


def draw(held: State) -> None:
    """The editors, in tabs; each writes what differs from the data files into the state."""
    assumptions = held.assumptions
    yours = " (changed)" if assumptions != Assumptions() else ""
    place = st.expander(
        f"Assumptions: prices, hardware, efficiency, discounts{yours}",
        icon=":material/tune:",
        key="ca_assume",
        on_change="rerun",
    )
    if not place.open:  # its tables are long, and each change of a field would draw them again
        return
    with place:
        if yours:
            st.button("Back to the data files", icon=":material/undo:", on_click=state.assume, args=(Assumptions(),))
        parts: dict[str, Callable[[], None]] = {
            "Serving": lambda: _serving(assumptions),
            "Machine prices": lambda: _machines(assumptions),
            "Token prices": lambda: _tokens(assumptions),
            "API speeds": lambda: _speeds(assumptions),
            "Efficiency": lambda: _efficiency(assumptions),
            "Hardware and models": lambda: draw_own_rows(assumptions, _set),
        }
        for tab, draw_part in zip(st.tabs(list(parts), key="ca_tabs", on_change="rerun"), parts.values(), strict=True):
            if tab.open:
                with tab:
                    draw_part()


def _serving(assumptions: Assumptions) -> None:
    with st.form("ca_serving", border=False):
        first_column, middle, right = st.columns(3)
        options: dict[str, Any] = {
            "headroom": first_column.number_input(
                "Headroom over the rate, %", value=assumptions.headroom * 100, step=5.0
            )
            / 100,
            "ops_share": first_column.number_input(
                "Operations on top of machine hours, %", value=assumptions.ops_share * 100
            )
            / 100,
            "autoscale": first_column.toggle("Replicas follow the hours of the day", assumptions.autoscale),
            "max_tp": middle.selectbox(
                "Tensor parallel at most", [1, 2, 4, 8], index=[1, 2, 4, 8].index(assumptions.max_tp)
            ),
            "max_seqs": middle.number_input("Sequences at once at most", value=assumptions.max_seqs, step=32),
            "step_tokens": middle.number_input("Tokens a step at most", value=assumptions.step_tokens, step=1024),
            "continuous": right.toggle("Continuous batching", assumptions.continuous),
            "self_host_cache": right.toggle("Prefix cache of the own server", assumptions.self_host_cache),
            "precisions": tuple(
                Precision(precision)
                for precision in right.multiselect(
                    "Precisions",
                    [precision.value for precision in Precision],
                    [precision.value for precision in assumptions.precisions],
                )
            ),
        }
        spot = (
            first_column.number_input("Spot discount, %", value=assumptions.spot_discount.get(ALL, 0.0) * 100, step=5.0)
            / 100
        )
        plans = assumptions.savings_discount.get(ALL, {})
        year = middle.number_input("Savings plan of 1 year, %", value=plans.get(12, 0.0) * 100, step=5.0) / 100
        three = right.number_input("Savings plan of 3 years, %", value=plans.get(36, 0.0) * 100, step=5.0) / 100
        if st.form_submit_button("Apply", icon=":material/check:"):
            terms = {months: share for months, share in ((12, year), (36, three)) if share}
            _set(
                replace(
                    assumptions,
                    **options,
                    spot_discount={**_without(assumptions.spot_discount, ALL), **({ALL: spot} if spot else {})},
                    savings_discount={**_without(assumptions.savings_discount, ALL), **({ALL: terms} if terms else {})},
                )
            )


def _machines(assumptions: Assumptions) -> None:
    rows = pd.DataFrame(
        [
            {
                "instance": instance.name,
                "gpu": f"{instance.count} × {instance.gpu}",
                "list": instance.usd_per_hour,
                "yours": assumptions.instance_prices.get(instance.name),
                "source": instance.source,
                "date": instance.date,
            }
            for instance in catalog.instances().values()
        ]
    )
    edited = _editor(
        rows,
        "ca_machines",
        {
            "instance": "Instance",
            "gpu": "GPUs",
            "list": st.column_config.NumberColumn("List, $/h", format="$%.3f"),
            "yours": st.column_config.NumberColumn("Yours, $/h", min_value=0.0, format="$%.3f"),
            "source": "Source",
            "date": "Date",
        },
        ["yours"],
    )
    prices = {row["instance"]: float(row["yours"]) for row in edited.to_dict("records") if pd.notna(row["yours"])}
    names = set(rows["instance"])
    prices |= {name: price for name, price in assumptions.instance_prices.items() if name not in names}
    if prices != dict(assumptions.instance_prices):
        _set(replace(assumptions, instance_prices=prices))


def _tokens(assumptions: Assumptions) -> None:
    st.caption("US dollars per 1M tokens. The list's price stands beside yours, which goes before it.")
    models = {model.model_ref: model for model in catalog.api_models()}
    names = sorted(models)
    rows = pd.DataFrame(
        [
            {"model": name, **_listed(models[name].provider, name), **_price_row(assumptions.token_prices.get(name))}
            for name in names
        ]
    )
    lists = {
        "list_in": st.column_config.NumberColumn("List in", format="$%.3f"),
        "list_out": st.column_config.NumberColumn("List out", format="$%.3f"),
        "source": "Source",
        "date": "Date",
    }
    money = {
        name: st.column_config.NumberColumn(title, min_value=0.0, format="$%.3f")
        for name, title in (
            ("input", "Input"),
            ("output", "Output"),
            ("cache_read", "Cache read"),
            ("cache_write_5m", "Cache write"),
            ("batch_input", "Batch input"),
            ("batch_output", "Batch output"),
        )
    }
    edited = _editor(rows, "ca_tokens", {"model": "Model", **money, **lists}, list(money))
    prices = {}
    for row in edited.to_dict("records"):
        if pd.notna(row["input"]) and pd.notna(row["output"]):
            given_row: dict[str, Any] = {name: float(row[name]) if pd.notna(row[name]) else None for name in money}
            old = assumptions.token_prices.get(row["model"])
            prices[row["model"]] = replace(old, **given_row) if old else TokenPrice(**given_row)
    halves = [
        str(row["model"]) for row in edited.to_dict("records") if pd.notna(row["input"]) != pd.notna(row["output"])
    ]
    if halves:
        st.caption(f":red[:material/error: {plain(halves[0])}: a price needs input and output.]")
    others = {name: price for name, price in assumptions.token_prices.items() if name not in names}
    if {**others, **prices} != dict(assumptions.token_prices):
        _set(replace(assumptions, token_prices={**others, **prices}))


@st.cache_data(ttl=3600, show_spinner=False)
def _listed(provider: str, model: str) -> dict[str, Any]:
    listed_price = token_cost.price(provider, model, datetime.now(UTC).date())
    if listed_price is None:
        return {"list_in": None, "list_out": None, "source": "no list has it", "date": ""}
    return {
        "list_in": listed_price.base.input,
        "list_out": listed_price.base.output,
        "source": listed_price.source,
        "date": listed_price.date,
    }


def _price_row(price: TokenPrice | None) -> dict[str, float | None]:
    names = ("input", "output", "cache_read", "cache_write_5m", "batch_input", "batch_output")
    return {name: getattr(price, name) if price else None for name in names}


def _speeds(assumptions: Assumptions) -> None:
    st.caption("No provider promises these: measure them in the playground, which fills them in, or state your own.")
    names = sorted({model.model_ref for model in catalog.api_models()})
    parts = ("ttft_p50_s", "ttft_p95_s", "tok_s_p50", "tok_s_p10")
    rows = pd.DataFrame(
        [
            {"model": name, **{figure: getattr(assumptions.api_speeds.get(name), figure, None) for figure in parts}}
            for name in names
        ]
    )
    edited = _editor(
        rows,
        "ca_speeds",
        {
            "model": "Model",
            "ttft_p50_s": st.column_config.NumberColumn("First token p50, s", min_value=0.0),
            "ttft_p95_s": st.column_config.NumberColumn("First token p95, s", min_value=0.0),
            "tok_s_p50": st.column_config.NumberColumn("Output tok/s p50", min_value=0.0),
            "tok_s_p10": st.column_config.NumberColumn("Output tok/s p10", min_value=0.0),
        },
        list(parts),
    )
    speeds: dict[str, ApiSpeed] = {}
    for row in edited.to_dict("records"):
        values: dict[str, Any] = {figure: float(row[figure]) if pd.notna(row[figure]) else None for figure in parts}
        if any(value is not None for value in values.values()):
            old = assumptions.api_speeds.get(row["model"])
            speeds[row["model"]] = replace(old, **values) if old else ApiSpeed(**values)
    others = {name: speed for name, speed in assumptions.api_speeds.items() if name not in names}
    if {**others, **speeds} != dict(assumptions.api_speeds):
        _set(replace(assumptions, api_speeds={**others, **speeds}))


def _efficiency(assumptions: Assumptions) -> None:
    gpu = st.selectbox("GPU", list(catalog.gpus()), key="ca_eff_gpu", width=260)
    usual = roofline.of(gpu)
    own = assumptions.efficiency.get(gpu)
    rows = pd.DataFrame(
        [
            {
                "factor": TITLES.get(field.name, field.name),
                "low": value.low,
                "mid": value.mid,
                "high": value.high,
                "_": field.name,
            }
            for field in fields(usual)
            if isinstance(value := getattr(own or usual, field.name), Range)
        ]
    )
    edited = _editor(rows, f"ca_eff_{gpu}", {"factor": "Factor", "_": None}, ["low", "mid", "high"])
    efficiency = replace(
        usual,
        **{
            row["_"]: Range(*sorted(float(row[bound] or 0) for bound in ("low", "mid", "high")))
            for row in edited.to_dict("records")
        },
    )
    if efficiency != (own or usual):
        _set(replace(assumptions, efficiency={**assumptions.efficiency, gpu: efficiency}))
    st.caption(
        "Each option is run at the bounds of these; the sources are in the documentation."
        if own is None
        else "These are your own."
    )


def _editor(rows: pd.DataFrame, key: str, config: Mapping[str, Any], editable: list[str]) -> pd.DataFrame:
    return st.data_editor(
        rows,
        key=key,
        hide_index=True,
        height=300,
        placeholder=DASH,
        column_config=dict(config),
        disabled=[name for name in rows.columns if name not in editable],
    )


def _without(assumptions: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in assumptions.items() if name != key}


def _set(assumptions: Assumptions) -> None:
    state.assume(assumptions)
    st.rerun()


TABLES: tuple[tuple[str, str, type[Any], tuple[str, ...]], ...] = (
    ("gpus", "GPUs: memory in GiB, GB/s, dense TFLOP/s", Gpu, ("name", "memory_gib", "bandwidth_gb_s", "tflops_bf16")),
    (
        "instances",
        "Machines: “way” is ec2, sagemaker or container",
        Instance,
        ("name", "way", "gpu", "count", "usd_per_hour"),
    ),
    (
        "llms",
        "Models: parameters in 10⁹, the shape as in config.json",
        Llm,
        ("name", "params_b", "active_b", "layers", "hidden", "heads", "kv_heads", "head_dim", "max_context", "vocab"),
    ),
)


def draw_own_rows(assumptions: Assumptions, keep: Callable[[Assumptions], None]) -> None:
    """The three tables; ``keep`` takes the assumptions with the lines that differ from the data files."""
    base = catalog.base()
    for name, title, cls, needed in TABLES:
        st.caption(f"{title}. Change a line or add one below the last; {', '.join(needed[1:])} are needed.")
        rows: Mapping[str, Any] = getattr(base, name)
        own: Sequence[Any] = getattr(assumptions.own, name)
        rows_shown = {**rows, **{row.name: row for row in own}}
        frame = pd.DataFrame(
            [serialization.to_plain(row, whole=True) for row in rows_shown.values()],
            columns=[field.name for field in fields(cls)],
        )
        # A line that was added becomes one of the table: under the same key it would be added once more.
        edited = st.data_editor(
            frame,
            key=f"ca_own_{name}_{hash(tuple(own))}",
            num_rows="dynamic",
            hide_index=True,
            placeholder=DASH,
            height=230,
        )
        errors: list[FieldError] = []
        own_rows = changed(edited, cls, rows, needed, name, errors)
        for error in errors[:3]:
            st.caption(f":red[:material/error: {plain(error.sentence)}]")
        if not errors and own_rows != tuple(own):
            keep(replace(assumptions, own=replace(assumptions.own, **{name: own_rows})))


def changed(
    edited: pd.DataFrame,
    cls: type[Any],
    rows: Mapping[str, Any],
    needed: Sequence[str],
    place: str,
    errors: list[FieldError],
) -> tuple[Any, ...]:
    """The lines that are not in the data files as they are. A line that is being typed (no name yet) is passed over."""
    own_rows = []
    for row in edited.to_dict("records"):
        values = {str(name): value for name, value in row.items() if not _empty(value)}
        if not values.get("name"):
            continue
        missing = [name for name in needed if name not in values]
        if missing:
            errors.append(FieldError(place, f"{values['name']}: fill in {', '.join(missing)} too."))
            continue
        values.setdefault("source", "yours")
        values.setdefault("date", "")
        if cls is Gpu:
            values.setdefault("link", "PCIe4")
            values.setdefault("link_gb_s", 32.0)
            values.setdefault("tflops_fp8", "none")
            values.setdefault("tflops_fp4", "none")
        wrong: list[FieldError] = []
        row_read = serialization.from_plain(cls, values, place, wrong)
        errors.extend(FieldError(error.field, f"{values['name']}: {error.sentence}") for error in wrong)
        if row_read is not None and not wrong and row_read != rows.get(row_read.name):
            own_rows.append(row_read)
    return tuple(own_rows)


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and pd.isna(value)) or value == ""
