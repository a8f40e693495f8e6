"""The dialogs that make a deployment of what runs on AWS, with its price by the hour."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import streamlit as st

from app import auth
from app.capacity import account as look
from app.capacity import dialogs
from app.deployments.form import WIRE_WORDS
from app.widgets.status import attempt, draw_refusal
from services.aws.provisioned import ProvisionedThroughput
from services.aws.sagemaker import SageMakerEndpoint, Variant
from services.deployments import config
from services.pricing.cost import decimal_amount
from services.providers import KINDS
from services.types import Aws, Deployment, PriceRef, Wire

ROUTED = "as the endpoint routes"


@st.dialog("Add as deployment", on_dismiss=dialogs.close)
def provisioned(one: ProvisionedThroughput, seen: look.Seen) -> None:
    """A deployment that sends its calls to these units."""
    st.text_input("Name", value=one.name, key="cap_add_name", max_chars=80)
    st.text_input(
        "US dollars per unit and hour", value=one.rate.usd if one.rate else "", key="cap_add_price",
        placeholder="as AWS quoted it; empty: no price",
        help=f"{one.units} units are paid for, whether they are used or not.",
    )  # fmt: skip
    if st.button("Add", key="cap_add_now", type="primary", icon=":material/add:"):
        _save(provisioned_deployment(one, seen, _name(), _price()))
    draw_refusal(dialogs.REFUSAL)


@st.dialog("Add as deployment", on_dismiss=dialogs.close)
def endpoint(one: SageMakerEndpoint, seen: look.Seen) -> None:
    """A deployment that sends its calls to this endpoint."""
    kind = KINDS["sagemaker"]
    st.text_input("Name", value=one.name, key="cap_add_name", max_chars=80)
    st.selectbox(
        "Wire", kind.wires, key="cap_add_wire", format_func=lambda w: WIRE_WORDS.get(w, w),
        help="What the container behind the endpoint speaks: vLLM, SGLang and LMI speak chat completions.",
    )  # fmt: skip
    if one.components:
        st.selectbox(
            "Inference component", [c.name for c in one.components], key="cap_add_component",
            help="This endpoint holds several models; a call has to name one.",
        )  # fmt: skip
    elif one.components is None:
        st.text_input("Inference component", key="cap_add_component", placeholder="only if it holds several models",
                      help="The account may not list them.")  # fmt: skip
    elif len(one.variants) > 1:
        st.selectbox("Variant", [ROUTED, *(v.name for v in one.variants)], key="cap_add_variant")
    st.text_input(
        "Own price, US dollars per instance and hour", key="cap_add_price",
        placeholder=_list_price(one), help="Empty: the dated file of instance prices, where it knows the type here.",
    )  # fmt: skip
    if st.button("Add", key="cap_add_now", type="primary", icon=":material/add:"):
        _save(endpoint_deployment(
            one, seen, _name(), cast(Wire, st.session_state["cap_add_wire"]), _price(),
            component=st.session_state.get("cap_add_component") or None, variant=_variant(),
        ))  # fmt: skip
    draw_refusal(dialogs.REFUSAL)


def _list_price(one: SageMakerEndpoint) -> str:
    rates = {v.rate.usd for v in one.variants if v.rate}
    return f"{rates.pop()} by the file" if len(rates) == 1 else "not in the file; empty: no price"


def _name() -> str:
    return str(st.session_state["cap_add_name"]).strip()


def _price() -> str:
    return str(st.session_state.get("cap_add_price") or "").strip().removeprefix("$")


def _variant() -> str | None:
    chosen = st.session_state.get("cap_add_variant")
    return None if chosen in (None, ROUTED) else str(chosen)


def provisioned_deployment(one: ProvisionedThroughput, seen: look.Seen, name: str, price: str) -> Deployment:
    """The deployment of bought units; ``price`` is US dollars per unit and hour, "" when it is not known."""
    kind = KINDS["bedrock-provisioned"]
    return Deployment(
        id="", name=name, kind=kind.name, model=one.arn, base_url=_address(kind.default_base_url, seen.region),
        wire=kind.wires[0], region=seen.region, aws=Aws(profile=seen.profile, serves=one.foundation),
        price=PriceRef(per_hour=price, count=one.units) if price else PriceRef(), origin="page",
    )  # fmt: skip


def endpoint_deployment(
    one: SageMakerEndpoint, seen: look.Seen, name: str, wire: Wire, price: str, *, component: str | None,
    variant: str | None,
) -> Deployment:  # fmt: skip
    """The deployment of an endpoint; ``price`` is US dollars per instance and hour, "" for the dated file's."""
    kind = KINDS["sagemaker"]
    return Deployment(
        id="", name=name, kind=kind.name, model=one.name, base_url=_address(kind.default_base_url, seen.region),
        wire=wire, region=seen.region, aws=Aws(profile=seen.profile, component=component, variant=variant),
        price=_endpoint_price(one, variant, price), origin="page",
    )  # fmt: skip


def _endpoint_price(one: SageMakerEndpoint, variant: str | None, own: str) -> PriceRef:
    """The instances that are on: of the variant that is called, else of all variants."""
    paid: list[Variant] = [v for v in one.variants if variant in (None, v.name)]
    count = sum(v.current or v.desired or 0 for v in paid)
    if own:
        return PriceRef(per_hour=own, count=max(1, count))
    types = {v.instance for v in paid}
    if len(types) == 1 and (instance := types.pop()) and count:
        return PriceRef(instance=instance, count=count)
    return PriceRef() if one.per_hour is None else PriceRef(per_hour=format(one.per_hour, "f"))


def _address(default: str | None, region: str) -> str:
    return (default or "").replace("{region}", region)


def _save(made: Deployment) -> None:
    def save() -> None:
        if made.price.per_hour is not None:
            decimal_amount(made.price.per_hour)
        config.validate(replace(made, id=made.id or config.slug(made.name, ())), auth.sources.config())
        auth.engine().save_deployment(made)

    if attempt(dialogs.REFUSAL, save):
        dialogs.done(f"{made.name} is a deployment now: test it on the Deployments page.")
