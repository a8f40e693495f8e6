"""SageMaker's endpoints on the capacity page: the table, and one of them as a deployment."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app import auth
from app.capacity import account as look
from app.capacity import add_deployment as add
from app.capacity import dialogs
from app.capacity import region as place
from app.capacity import text as words
from app.widgets.text import plain
from services.aws.sagemaker import SERVING, SageMakerEndpoint, Variant

TABLE = "cap_endpoints"


def draw(seen: look.Seen, person: auth.Person) -> None:
    """The whole section."""
    st.subheader("SageMaker endpoints")
    st.caption("Own or fine-tuned models on instances that are paid by the hour, whether they are called or not.")
    if place.draw_trouble(seen, "endpoints") or seen.endpoints is None:
        return
    found, more = seen.endpoints
    if not found:
        st.caption(
            f"This account has none in {plain(seen.region)}. Endpoints are made in SageMaker; they are listed here "
            "with their status, instances and price, and become columns on the playground."
        )
        return
    event = st.dataframe(
        frame(found),
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
    if more:
        st.caption(f"Only the newest {len(found):,} are listed.")
    rows = event.selection.rows
    if rows and rows[0] < len(found):
        _panel(found[rows[0]], person, seen)
    else:
        st.caption("Select a line to see its variants and to add it as a deployment.")


def frame(found: Sequence[SageMakerEndpoint]) -> pd.DataFrame:
    """The table's cells, one line for each endpoint."""
    return pd.DataFrame(
        {
            "name": [one.name for one in found],
            "status": [one.status_words for one in found],
            "instances": [", ".join(instances(v) for v in one.variants) or "–" for one in found],
            "components": [components(one) for one in found],
            "hour": [words.dollars(one.per_hour) for one in found],
            "month": [words.dollars(words.month(one.per_hour)) for one in found],
        }
    )


def components(one: SageMakerEndpoint) -> str:
    """The names of its components; not known where the account may not list them."""
    return "not known" if one.components is None else ", ".join(c.name for c in one.components) or "–"


def instances(variant: Variant) -> str:
    """How many instances of which type are on, and how many are wanted where that differs."""
    if variant.serverless:
        return "serverless"
    count = "–" if variant.current is None else str(variant.current)
    if variant.desired is not None and variant.desired != variant.current:
        count += f" → {variant.desired}"
    return f"{count} × {variant.instance or 'several types'}"


def _panel(one: SageMakerEndpoint, person: auth.Person, seen: look.Seen) -> None:
    with st.container(border=True):
        cost = "price not known" if one.per_hour is None else f"{words.dollars(one.per_hour)} an hour"
        st.markdown(f"**{plain(one.name)}** · {one.status_words} · {plain(cost)}")
        for said in filter(None, (one.failure, one.trouble)):
            st.caption(f":red[:material/error: {plain(said)}]")
        rows = {
            "ARN": one.arn, "Created": f"{one.created:%Y-%m-%d %H:%M} UTC" if one.created else "–",
            **{f"Variant {v.name}": _variant(v) for v in one.variants},
            **{f"Component {c.name}": f"{c.status}, on {c.variant or '–'}" for c in one.components or ()},
        }  # fmt: skip
        st.table({plain(k): plain(v) for k, v in rows.items()}, border="horizontal", width="stretch",
                 alt=f"What {one.name} is")  # fmt: skip
        if one.asynchronous:
            st.caption("It takes asynchronous calls only, which do not stream: it cannot be a column here.")
        elif person.may("deploy"):
            dialogs.button("Add as deployment", "add_endpoint", one.arn, icon=":material/add:", primary=True)
            if dialogs.wanted("add_endpoint", one.arn):
                add.endpoint(one, seen)
            if one.status not in SERVING:
                st.caption(f"It is {one.status_words} and answers no calls until it is in service.")
        else:
            st.caption("You can look; whoever runs this server can add it as a deployment.")


def _variant(variant: Variant) -> str:
    price = "price not known" if variant.rate is None else f"${variant.rate.usd} each ({words.source(variant.rate)})"
    weight = "" if variant.weight is None else f", weight {variant.weight:g}"
    return f"{instances(variant)}{weight}" if variant.serverless else f"{instances(variant)}{weight}, {price}"
