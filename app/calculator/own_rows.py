"""Hardware, models and machines of one's own: the tables of the catalogue, where a line can be changed or added."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import pandas as pd
import streamlit as st

from app.widgets.text import plain as escaped
from services.calculator import catalog, serialization
from services.calculator.assumptions import Assumptions
from services.calculator.catalog_rows import Instance
from services.calculator.serialization import FieldError
from services.calculator.types import Gpu, Llm
from services.formatting import DASH

TABLES: tuple[tuple[str, str, type[Any], tuple[str, ...]], ...] = (
    ("gpus", "GPUs: memory in GiB, GB/s, dense TFLOP/s", Gpu, ("name", "memory_gib", "bandwidth_gb_s", "tflops_bf16")),
    ("instances", "Machines: “way” is ec2, sagemaker or container", Instance,
     ("name", "way", "gpu", "count", "usd_per_hour")),
    ("llms", "Models: parameters in 10⁹, the shape as in config.json", Llm,
     ("name", "params_b", "active_b", "layers", "hidden", "heads", "kv_heads", "head_dim", "max_context", "vocab")),
)  # fmt: skip


def draw(given: Assumptions, keep: Callable[[Assumptions], None]) -> None:
    """The three tables; ``keep`` takes the assumptions with the lines that differ from the data files."""
    base = catalog.base()
    for name, title, cls, needed in TABLES:
        st.caption(f"{title}. Change a line or add one below the last; {', '.join(needed[1:])} are needed.")
        rows: Mapping[str, Any] = getattr(base, name)
        own: Sequence[Any] = getattr(given.own, name)
        shown = {**rows, **{one.name: one for one in own}}
        frame = pd.DataFrame([serialization.to_plain(one, whole=True) for one in shown.values()],
                             columns=[one.name for one in fields(cls)])  # fmt: skip
        # A line that was added becomes one of the table: under the same key it would be added once more.
        edited = st.data_editor(frame, key=f"ca_own_{name}_{hash(tuple(own))}", num_rows="dynamic",
                                hide_index=True, placeholder=DASH,
                                height=230)  # fmt: skip
        errors: list[FieldError] = []
        found = changed(edited, cls, rows, needed, name, errors)
        for one in errors[:3]:
            st.caption(f":red[:material/error: {escaped(one.sentence)}]")
        if not errors and found != tuple(own):
            keep(replace(given, own=replace(given.own, **{name: found})))


def changed(
    edited: pd.DataFrame, cls: type[Any], rows: Mapping[str, Any], needed: Sequence[str], at: str,
    errors: list[FieldError],
) -> tuple[Any, ...]:  # fmt: skip
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
