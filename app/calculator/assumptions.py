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
from services.calculator.assumptions import ALL, ApiSpeed, Assumptions, TokenPrice
from services.calculator.catalog_rows import Instance
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
    given = held.assumptions
    yours = " (changed)" if given != Assumptions() else ""
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
            "Serving": lambda: _serving(given),
            "Machine prices": lambda: _machines(given),
            "Token prices": lambda: _tokens(given),
            "API speeds": lambda: _speeds(given),
            "Efficiency": lambda: _efficiency(given),
            "Hardware and models": lambda: draw_own_rows(given, _set),
        }
        for tab, draw_part in zip(st.tabs(list(parts), key="ca_tabs", on_change="rerun"), parts.values(), strict=True):
            if tab.open:
                with tab:
                    draw_part()


def _serving(given: Assumptions) -> None:
    with st.form("ca_serving", border=False):
        left, middle, right = st.columns(3)
        made: dict[str, Any] = {
            "headroom": left.number_input("Headroom over the rate, %", value=given.headroom * 100, step=5.0) / 100,
            "ops_share": left.number_input("Operations on top of machine hours, %", value=given.ops_share * 100) / 100,
            "autoscale": left.toggle("Replicas follow the hours of the day", given.autoscale),
            "max_tp": middle.selectbox("Tensor parallel at most", [1, 2, 4, 8], index=[1, 2, 4, 8].index(given.max_tp)),
            "max_seqs": middle.number_input("Sequences at once at most", value=given.max_seqs, step=32),
            "step_tokens": middle.number_input("Tokens a step at most", value=given.step_tokens, step=1024),
            "continuous": right.toggle("Continuous batching", given.continuous),
            "self_host_cache": right.toggle("Prefix cache of the own server", given.self_host_cache),
            "precisions": tuple(
                Precision(one)
                for one in right.multiselect(
                    "Precisions", [one.value for one in Precision], [one.value for one in given.precisions]
                )
            ),
        }
        spot = left.number_input("Spot discount, %", value=given.spot_discount.get(ALL, 0.0) * 100, step=5.0) / 100
        plans = given.savings_discount.get(ALL, {})
        year = middle.number_input("Savings plan of 1 year, %", value=plans.get(12, 0.0) * 100, step=5.0) / 100
        three = right.number_input("Savings plan of 3 years, %", value=plans.get(36, 0.0) * 100, step=5.0) / 100
        if st.form_submit_button("Apply", icon=":material/check:"):
            terms = {months: share for months, share in ((12, year), (36, three)) if share}
            _set(
                replace(
                    given,
                    **made,
                    spot_discount={**_without(given.spot_discount, ALL), **({ALL: spot} if spot else {})},
                    savings_discount={**_without(given.savings_discount, ALL), **({ALL: terms} if terms else {})},
                )
            )


def _machines(given: Assumptions) -> None:
    rows = pd.DataFrame(
        [
            {
                "instance": one.name,
                "gpu": f"{one.count} × {one.gpu}",
                "list": one.usd_per_hour,
                "yours": given.instance_prices.get(one.name),
                "source": one.source,
                "date": one.date,
            }
            for one in catalog.instances().values()
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
    found = {row["instance"]: float(row["yours"]) for row in edited.to_dict("records") if pd.notna(row["yours"])}
    shown = set(rows["instance"])
    found |= {name: price for name, price in given.instance_prices.items() if name not in shown}
    if found != dict(given.instance_prices):
        _set(replace(given, instance_prices=found))


def _tokens(given: Assumptions) -> None:
    st.caption("US dollars per 1M tokens. The list's price stands beside yours, which goes before it.")
    models = {one.model_ref: one for one in catalog.api_models()}
    names = sorted(models)
    rows = pd.DataFrame(
        [
            {"model": name, **_listed(models[name].provider, name), **_price_row(given.token_prices.get(name))}
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
    found = {}
    for row in edited.to_dict("records"):
        if pd.notna(row["input"]) and pd.notna(row["output"]):
            given_row: dict[str, Any] = {name: float(row[name]) if pd.notna(row[name]) else None for name in money}
            old = given.token_prices.get(row["model"])
            found[row["model"]] = replace(old, **given_row) if old else TokenPrice(**given_row)
    halves = [
        str(row["model"]) for row in edited.to_dict("records") if pd.notna(row["input"]) != pd.notna(row["output"])
    ]
    if halves:
        st.caption(f":red[:material/error: {plain(halves[0])}: a price needs input and output.]")
    kept = {name: price for name, price in given.token_prices.items() if name not in names}
    if {**kept, **found} != dict(given.token_prices):
        _set(replace(given, token_prices={**kept, **found}))


@st.cache_data(ttl=3600, show_spinner=False)
def _listed(provider: str, model: str) -> dict[str, Any]:
    found = token_cost.price(provider, model, datetime.now(UTC).date())
    if found is None:
        return {"list_in": None, "list_out": None, "source": "no list has it", "date": ""}
    return {"list_in": found.base.input, "list_out": found.base.output, "source": found.source, "date": found.date}


def _price_row(price: TokenPrice | None) -> dict[str, float | None]:
    names = ("input", "output", "cache_read", "cache_write_5m", "batch_input", "batch_output")
    return {name: getattr(price, name) if price else None for name in names}


def _speeds(given: Assumptions) -> None:
    st.caption("No provider promises these: measure them in the playground, which fills them in, or state your own.")
    names = sorted({one.model_ref for one in catalog.api_models()})
    parts = ("ttft_p50_s", "ttft_p95_s", "tok_s_p50", "tok_s_p10")
    rows = pd.DataFrame(
        [{"model": name, **{part: getattr(given.api_speeds.get(name), part, None) for part in parts}} for name in names]
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
    found: dict[str, ApiSpeed] = {}
    for row in edited.to_dict("records"):
        values: dict[str, Any] = {part: float(row[part]) if pd.notna(row[part]) else None for part in parts}
        if any(value is not None for value in values.values()):
            old = given.api_speeds.get(row["model"])
            found[row["model"]] = replace(old, **values) if old else ApiSpeed(**values)
    kept = {name: one for name, one in given.api_speeds.items() if name not in names}
    if {**kept, **found} != dict(given.api_speeds):
        _set(replace(given, api_speeds={**kept, **found}))


def _efficiency(given: Assumptions) -> None:
    gpu = st.selectbox("GPU", list(catalog.gpus()), key="ca_eff_gpu", width=260)
    usual = roofline.of(gpu)
    own = given.efficiency.get(gpu)
    rows = pd.DataFrame(
        [
            {
                "factor": TITLES.get(one.name, one.name),
                "low": value.low,
                "mid": value.mid,
                "high": value.high,
                "_": one.name,
            }
            for one in fields(usual)
            if isinstance(value := getattr(own or usual, one.name), Range)
        ]
    )
    edited = _editor(rows, f"ca_eff_{gpu}", {"factor": "Factor", "_": None}, ["low", "mid", "high"])
    made = replace(
        usual,
        **{
            row["_"]: Range(*sorted(float(row[part] or 0) for part in ("low", "mid", "high")))
            for row in edited.to_dict("records")
        },
    )
    if made != (own or usual):
        _set(replace(given, efficiency={**given.efficiency, gpu: made}))
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


def _without(given: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != key}


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


def draw_own_rows(given: Assumptions, keep: Callable[[Assumptions], None]) -> None:
    """The three tables; ``keep`` takes the assumptions with the lines that differ from the data files."""
    base = catalog.base()
    for name, title, cls, needed in TABLES:
        st.caption(f"{title}. Change a line or add one below the last; {', '.join(needed[1:])} are needed.")
        rows: Mapping[str, Any] = getattr(base, name)
        own: Sequence[Any] = getattr(given.own, name)
        shown = {**rows, **{one.name: one for one in own}}
        frame = pd.DataFrame(
            [serialization.to_plain(one, whole=True) for one in shown.values()],
            columns=[one.name for one in fields(cls)],
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
        found = changed(edited, cls, rows, needed, name, errors)
        for one in errors[:3]:
            st.caption(f":red[:material/error: {plain(one.sentence)}]")
        if not errors and found != tuple(own):
            keep(replace(given, own=replace(given.own, **{name: found})))


def changed(
    edited: pd.DataFrame,
    cls: type[Any],
    rows: Mapping[str, Any],
    needed: Sequence[str],
    at: str,
    errors: list[FieldError],
) -> tuple[Any, ...]:
    """The lines that are not in the data files as they are. A line that is being typed (no name yet) is passed over."""
    found = []
    for row in edited.to_dict("records"):
        values = {str(name): value for name, value in row.items() if not _empty(value)}
        if not values.get("name"):
            continue
        missing = [name for name in needed if name not in values]
        if missing:
            errors.append(FieldError(at, f"{values['name']}: fill in {', '.join(missing)} too."))
            continue
        values.setdefault("source", "yours")
        values.setdefault("date", "")
        if cls is Gpu:
            values.setdefault("link", "PCIe4")
            values.setdefault("link_gb_s", 32.0)
            values.setdefault("tflops_fp8", "none")
            values.setdefault("tflops_fp4", "none")
        wrong: list[FieldError] = []
        made = serialization.from_plain(cls, values, at, wrong)
        errors.extend(FieldError(one.field, f"{values['name']}: {one.sentence}") for one in wrong)
        if made is not None and not wrong and made != rows.get(made.name):
            found.append(made)
    return tuple(found)


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and pd.isna(value)) or value == ""
