"""The price in the form of a deployment: from the list, one's own, by the hour, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from services.pricing import cost
from services.types import PriceRef

PRICES = {"list": "Price list", "own": "Own price per 1M tokens", "hour": "Per hour", "none": "No price"}
RATE_LABELS = {
    "input": "Input", "cache_read": "Cache read", "cache_write_5m": "Cache write, 5 min",
    "cache_write_1h": "Cache write, 1 h", "output": "Output",
}  # fmt: skip
EMPTY: Mapping[str, Any] = {
    "price": "list", "per_hour": "", "instance": "", "count": 1, "provider": "", "priced_as": "",
    **dict.fromkeys(cost.RATE_NAMES, ""),
}  # fmt: skip
# The table of the price list that a kind's models stand in, when the form names none.
PROVIDERS: Mapping[str, str] = {"anthropic": "anthropic", "openai": "openai", "bedrock": "aws"}
HOURLY_KINDS = frozenset({"bedrock-provisioned", "sagemaker"})


def fields_of(price: PriceRef) -> dict[str, Any]:
    """The form's fields for a price; `price_of` makes the same price of them again."""
    hourly = price.per_hour is not None or price.instance is not None
    listed = price.provider or price.model
    return {
        "price": "own" if price.override else "hour" if hourly else "list" if listed else "none",
        "per_hour": price.per_hour or "", "instance": price.instance or "", "count": price.count,
        "provider": price.provider or "", "priced_as": price.model or "", **dict(price.override or {}),
    }  # fmt: skip


def first_form(kind_name: str) -> str:
    """The form of price that a kind usually has."""
    return "hour" if kind_name in HOURLY_KINDS else "list"


def draw(prefix: str, kind_name: str) -> None:
    """The choice of form and its fields."""
    st.segmented_control(
        "Price", list(PRICES), key=prefix + "price", format_func=PRICES.__getitem__, required=True,
        help="A price list entry follows the list's dated snapshots; your own price or an hourly one is used as given. "
        "Without any, costs say “no price”.",
    )  # fmt: skip
    form = st.session_state[prefix + "price"]
    if form == "own":
        with st.grid(len(RATE_LABELS)):
            for name, label in RATE_LABELS.items():
                _text(f"{label}, $", prefix + name)
    elif form == "hour":
        _draw_hour(prefix, kind_name)
    elif form == "list":
        with st.grid(2):
            _text(
                "Provider in the price list", prefix + "provider", PROVIDERS.get(kind_name, "anthropic, openai, aws …")
            )
            _text("Model in the price list", prefix + "priced_as", "the same as the model")


def _draw_hour(prefix: str, kind_name: str) -> None:
    units = "Model units" if kind_name == "bedrock-provisioned" else "How many instances"
    with st.grid(2 if kind_name == "bedrock-provisioned" else 3):
        if kind_name != "bedrock-provisioned":
            _text(
                "Instance type", prefix + "instance", "ml.g5.xlarge" if kind_name == "sagemaker" else "g5.xlarge",
                help="Its price is looked up in the dated file of instance prices; “ml.” types are SageMaker's. Leave "
                "it empty to give a price of your own (spot, a contract, your own machine).",
            )  # fmt: skip
        _text("US dollars per hour of one being on", prefix + "per_hour", "own price; 0 costs nothing")
        st.number_input(
            units, key=prefix + "count", min_value=1, step=1, on_change="ignore", persist_state="page",
            help="All of them are paid for by the hour, whether they are used or not.",
        )  # fmt: skip


def _text(label: str, key: str, placeholder: str | None = None, help: str | None = None) -> None:
    st.text_input(label, key=key, placeholder=placeholder, help=help, on_change="ignore", persist_state="page")


def price_of(fields: Mapping[str, Any], *, kind_name: str, model: str) -> PriceRef:
    """The price that the fields describe. Raises ValueError in words."""
    form = fields.get("price")
    if form == "own":
        given = {name: value for name in cost.RATE_NAMES if (value := _amount(fields, name))}
        if not given:
            raise ValueError("The own price is empty: give at least the price of input and of output.")
        return PriceRef(override=given)
    if form == "hour":
        return _by_the_hour(fields, kind_name)
    if form == "list":
        provider = str(fields.get("provider") or "").strip() or PROVIDERS.get(kind_name, "")
        return PriceRef(provider=provider, model=str(fields.get("priced_as") or "").strip() or model) if provider \
            else PriceRef()  # fmt: skip
    return PriceRef()


def _amount(fields: Mapping[str, Any], name: str) -> str:
    return str(fields.get(name) or "").strip().removeprefix("$")


def _by_the_hour(fields: Mapping[str, Any], kind_name: str) -> PriceRef:
    per_hour, count = _amount(fields, "per_hour"), int(fields.get("count") or 1)
    instance = "" if kind_name == "bedrock-provisioned" else str(fields.get("instance") or "").strip()
    if per_hour and instance:
        raise ValueError("The price is given twice: leave either the instance type or your own price per hour empty.")
    if not per_hour and not instance:
        raise ValueError("The price per hour is empty: give US dollars, or 0 for a machine that costs nothing.")
    return PriceRef(instance=instance, count=count) if instance else PriceRef(per_hour=per_hour, count=count)
