"""SageMaker's endpoints on the capacity page, and the dialogs that make a deployment of what runs on AWS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pandas as pd
import streamlit as st

from app import auth
from app.capacity import account
from app.glossary import WIRE_WORDS
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import plain
from services.aws.provisioned import ProvisionedThroughput
from services.aws.sagemaker import SERVING, SageMakerEndpoint, Variant
from services.deployments import config
from services.pricing.cost import decimal_amount
from services.providers import KINDS
from services.types import Aws, Deployment, PriceRef, Wire

TABLE = "cap_endpoints"


def draw(seen: account.Seen, person: auth.Person) -> None:
    """The whole section."""
    st.subheader("SageMaker endpoints")
    st.caption("Own or fine-tuned models on instances that are paid by the hour, whether they are called or not.")
    if account.draw_trouble(seen, "endpoints") or seen.endpoints is None:
        return
    endpoints, truncated = seen.endpoints
    if not endpoints:
        st.caption(
            f"This account has none in {plain(seen.region)}. Endpoints are made in SageMaker; they are listed here "
            "with their status, instances and price, and become columns on the playground."
        )
        return
    event = st.dataframe(
        frame(endpoints),
        key=f"{TABLE}_{seen.profile}_{seen.region}",
        hide_index=True,
        height="content",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "name": st.column_config.TextColumn("Name", pinned=True),
            "status": st.column_config.TextColumn("Status"),
            "instances": st.column_config.TextColumn("Instances", help="Those that are on, by variant."),
            "components": st.column_config.TextColumn("Components"),
            "hour": st.column_config.TextColumn("$/hour", alignment="right", help="Of all instances that are on."),
            "month": st.column_config.TextColumn(
                "$/month", alignment="right", help="730 hours, as AWS counts a month."
            ),
        },
        alt="SageMaker endpoints with status, instances, components and price",
    )
    if truncated:
        st.caption(f"Only the newest {len(endpoints):,} are listed.")
    rows = event.selection.rows
    if rows and rows[0] < len(endpoints):
        _panel(endpoints[rows[0]], person, seen)
    else:
        st.caption("Select a line to see its variants and to add it as a deployment.")


def frame(endpoints: Sequence[SageMakerEndpoint]) -> pd.DataFrame:
    """The table's cells, one line for each endpoint."""
    return pd.DataFrame(
        {
            "name": [endpoint.name for endpoint in endpoints],
            "status": [endpoint.status_words for endpoint in endpoints],
            "instances": [", ".join(instances(v) for v in endpoint.variants) or "–" for endpoint in endpoints],
            "components": [components(endpoint) for endpoint in endpoints],
            "hour": [account.dollars(endpoint.per_hour) for endpoint in endpoints],
            "month": [account.dollars(account.month(endpoint.per_hour)) for endpoint in endpoints],
        }
    )


def components(endpoint: SageMakerEndpoint) -> str:
    """The names of its components; not known where the account may not list them."""
    return "not known" if endpoint.components is None else ", ".join(c.name for c in endpoint.components) or "–"


def instances(variant: Variant) -> str:
    """How many instances of which type are on, and how many are wanted where that differs."""
    if variant.serverless:
        return "serverless"
    count = "–" if variant.current is None else str(variant.current)
    if variant.desired is not None and variant.desired != variant.current:
        count += f" → {variant.desired}"
    return f"{count} × {variant.instance or 'several types'}"


def _panel(one: SageMakerEndpoint, person: auth.Person, seen: account.Seen) -> None:
    with st.container(border=True):
        cost = "price not known" if one.per_hour is None else f"{account.dollars(one.per_hour)} an hour"
        st.markdown(f"**{plain(one.name)}** · {one.status_words} · {plain(cost)}")
        for sentence in filter(None, (one.failure, one.trouble)):
            st.caption(f":red[:material/error: {plain(sentence)}]")
        rows = {
            "ARN": one.arn,
            "Created": f"{one.created:%Y-%m-%d %H:%M} UTC" if one.created else "–",
            **{f"Variant {v.name}": _variant(v) for v in one.variants},
            **{f"Component {c.name}": f"{c.status}, on {c.variant or '–'}" for c in one.components or ()},
        }
        st.table(
            {plain(k): plain(v) for k, v in rows.items()},
            border="horizontal",
            width="stretch",
            alt=f"What {one.name} is",
        )
        if one.asynchronous:
            st.caption("It takes asynchronous calls only, which do not stream: it cannot be a column here.")
        elif person.may("deploy"):
            account.button("Add as deployment", "add_endpoint", one.arn, icon=":material/add:", primary=True)
            if account.wanted("add_endpoint", one.arn):
                endpoint(one, seen)
            if one.status not in SERVING:
                st.caption(f"It is {one.status_words} and answers no calls until it is in service.")
        else:
            st.caption("You can look; whoever runs this server can add it as a deployment.")


def _variant(variant: Variant) -> str:
    price = "price not known" if variant.rate is None else f"${variant.rate.usd} each ({account.source(variant.rate)})"
    weight = "" if variant.weight is None else f", weight {variant.weight:g}"
    return f"{instances(variant)}{weight}" if variant.serverless else f"{instances(variant)}{weight}, {price}"


ROUTED = "as the endpoint routes"


@st.dialog("Add as deployment", on_dismiss=account.close)
def provisioned(unit: ProvisionedThroughput, seen: account.Seen) -> None:
    """A deployment that sends its calls to these units."""
    st.text_input("Name", value=unit.name, key="cap_add_name", max_chars=80)
    st.text_input(
        "US dollars per unit and hour",
        value=unit.rate.usd if unit.rate else "",
        key="cap_add_price",
        placeholder="as AWS quoted it; empty: no price",
        help=f"{unit.units} units are paid for, whether they are used or not.",
    )
    if st.button("Add", key="cap_add_now", type="primary", icon=":material/add:"):
        _save(provisioned_deployment(unit, seen, _name(), _price()))
    draw_refusal(account.DIALOG_REFUSAL)


@st.dialog("Add as deployment", on_dismiss=account.close)
def endpoint(row: SageMakerEndpoint, seen: account.Seen) -> None:
    """A deployment that sends its calls to this endpoint."""
    kind = KINDS["sagemaker"]
    st.text_input("Name", value=row.name, key="cap_add_name", max_chars=80)
    st.selectbox(
        "Wire",
        kind.wires,
        key="cap_add_wire",
        format_func=lambda w: WIRE_WORDS.get(w, w),
        help="What the container behind the endpoint speaks: vLLM, SGLang and LMI speak chat completions.",
    )
    if row.components:
        st.selectbox(
            "Inference component",
            [c.name for c in row.components],
            key="cap_add_component",
            help="This endpoint holds several models; a call has to name one.",
        )
    elif row.components is None:
        st.text_input(
            "Inference component",
            key="cap_add_component",
            placeholder="only if it holds several models",
            help="The account may not list them.",
        )
    elif len(row.variants) > 1:
        st.selectbox("Variant", [ROUTED, *(v.name for v in row.variants)], key="cap_add_variant")
    st.text_input(
        "Own price, US dollars per instance and hour",
        key="cap_add_price",
        placeholder=_list_price(row),
        help="Empty: the dated file of instance prices, where it knows the type here.",
    )
    if st.button("Add", key="cap_add_now", type="primary", icon=":material/add:"):
        _save(
            endpoint_deployment(
                row,
                seen,
                _name(),
                cast(Wire, st.session_state["cap_add_wire"]),
                _price(),
                component=st.session_state.get("cap_add_component") or None,
                variant=_chosen_variant(),
            )
        )
    draw_refusal(account.DIALOG_REFUSAL)


def _list_price(endpoint: SageMakerEndpoint) -> str:
    rates = {v.rate.usd for v in endpoint.variants if v.rate}
    return f"{rates.pop()} by the file" if len(rates) == 1 else "not in the file; empty: no price"


def _name() -> str:
    return str(st.session_state["cap_add_name"]).strip()


def _price() -> str:
    return str(st.session_state.get("cap_add_price") or "").strip().removeprefix("$")


def _chosen_variant() -> str | None:
    chosen = st.session_state.get("cap_add_variant")
    return None if chosen in (None, ROUTED) else str(chosen)


def provisioned_deployment(unit: ProvisionedThroughput, seen: account.Seen, name: str, price: str) -> Deployment:
    """The deployment of bought units; ``price`` is US dollars per unit and hour, "" when it is not known."""
    kind = KINDS["bedrock-provisioned"]
    return Deployment(
        id="",
        name=name,
        kind=kind.name,
        model=unit.arn,
        base_url=_address(kind.default_base_url, seen.region),
        wire=kind.wires[0],
        region=seen.region,
        aws=Aws(profile=seen.profile, serves=unit.foundation),
        price=PriceRef(per_hour=price, count=unit.units) if price else PriceRef(),
        origin="page",
    )


def endpoint_deployment(
    endpoint: SageMakerEndpoint,
    seen: account.Seen,
    name: str,
    wire: Wire,
    price: str,
    *,
    component: str | None,
    variant: str | None,
) -> Deployment:
    """The deployment of an endpoint; ``price`` is US dollars per instance and hour, "" for the dated file's."""
    kind = KINDS["sagemaker"]
    return Deployment(
        id="",
        name=name,
        kind=kind.name,
        model=endpoint.name,
        base_url=_address(kind.default_base_url, seen.region),
        wire=wire,
        region=seen.region,
        aws=Aws(profile=seen.profile, component=component, variant=variant),
        price=_endpoint_price(endpoint, variant, price),
        origin="page",
    )


def _endpoint_price(endpoint: SageMakerEndpoint, variant: str | None, own: str) -> PriceRef:
    """The instances that are on: of the variant that is called, else of all variants."""
    paid: list[Variant] = [v for v in endpoint.variants if variant in (None, v.name)]
    count = sum(v.current or v.desired or 0 for v in paid)
    if own:
        return PriceRef(per_hour=own, count=max(1, count))
    types = {v.instance for v in paid}
    if len(types) == 1 and (instance := types.pop()) and count:
        return PriceRef(instance=instance, count=count)
    return PriceRef() if endpoint.per_hour is None else PriceRef(per_hour=format(endpoint.per_hour, "f"))


def _address(default: str | None, region: str) -> str:
    return (default or "").replace("{region}", region)


def _save(deployment: Deployment) -> None:
    def save() -> None:
        if deployment.price.per_hour is not None:
            decimal_amount(deployment.price.per_hour)
        config.validate(
            replace(deployment, id=deployment.id or config.slug(deployment.name, ())), auth.sources.config()
        )
        auth.engine().save_deployment(deployment)

    if attempt(account.DIALOG_REFUSAL, save):
        account.done(f"{deployment.name} is a deployment now: test it on the Deployments page.")
