"""AWS capacity: what an account has running by the hour, what it costs, and how it becomes a deployment."""

from __future__ import annotations

import streamlit as st

from app import auth
from app.capacity import account, endpoints, provisioned
from app.widgets.status import draw_refusal
from app.widgets.text import plain

person = auth.person_and_role()

st.title("AWS capacity")
st.caption(
    "What runs by the hour in an AWS account: model units of Bedrock and endpoints of SageMaker, with their price. "
    "Credentials come from the AWS configuration where the engine runs and are never shown."
)
if said := st.session_state.pop(account.SAID, None):
    st.caption(f":green[:material/check_circle: {plain(said)}]")
seen = account.draw()
draw_refusal(account.REFUSAL)
if seen is not None:
    provisioned.draw(seen, person)
    st.subheader("Reserved tier")
    st.caption(
        "Tokens per minute of on-demand Bedrock that are reserved for a term with your account team. AWS has no "
        "interface that lists or buys them, so they are declared by hand: add a deployment of kind Amazon Bedrock (on "
        "demand) with the service tier “Reserved” and the price you agreed, per hour or per 1M tokens."
    )
    endpoints.draw(seen, person)
