"""The dialog that buys model units: what it will cost is spelled out, and the order is typed to be given."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any, cast

import streamlit as st

from app.capacity import account as look
from app.capacity import dialogs
from app.capacity import text as words
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import plain
from services.aws.provisioned import Commitment, check_name
from services.aws.rates import HourRate, of_unit
from services.pricing.cost import decimal_amount

TOKEN = "cap_buy_token"  # noqa: S105 (of one order, no secret)


@st.dialog("Buy model units", width="medium", on_dismiss=dialogs.close)
def dialog(seen: look.Seen) -> None:
    """The form."""
    with st.grid(2):
        _draw_model(seen)
        st.text_input("Name", key="cap_buy_name", placeholder="chat-units", max_chars=63)
        st.number_input("Model units", key="cap_buy_units", value=1, min_value=1, step=1)
        st.selectbox(
            "Commitment", list(words.MONTHS), key="cap_buy_term", format_func=words.TERM_WORDS.__getitem__,
            help="A longer term is cheaper an hour and cannot be ended early. Not every model is sold without one.",
        )  # fmt: skip
    model, term = _model(), _term()
    rate = of_unit(model, term, seen.region) if model else None
    st.text_input(
        "Your own price, $ per unit and hour", key="cap_buy_own",
        placeholder=rate.usd if rate else "as AWS quoted it",
        help="Only for the sum below: AWS bills what it agreed with you.",
    )  # fmt: skip
    if model:
        _draw_sum(rate, term)
    name = str(st.session_state.get("cap_buy_name") or "").strip()
    if not model or not name:
        st.caption("Choose a model and a name to go on.")
        return
    st.text_input(f"Type “create {plain(name)}” to buy", key="cap_buy_typed", on_change="ignore")
    if st.button("Buy model units", key="cap_buy_now", type="primary", icon=":material/add_shopping_cart:"):
        _buy(seen, model, name, term)
    draw_refusal(dialogs.REFUSAL)


def _draw_model(seen: look.Seen) -> None:
    sold = [m for m in (seen.models or ([], []))[0] if m.provisioned]
    titles = {m.id: m.title for m in sold}
    lacking = seen.troubles.get("models")
    st.selectbox(
        "Model", list(titles), index=None, key="cap_buy_model", accept_new_options=True,
        format_func=lambda m: f"{m} · {titles[m]}" if titles.get(m) else m,
        placeholder="a model id, or the ARN of a custom model",
        help=lacking or "Listed are the models that Bedrock sells provisioned in this region; an ARN can be typed.",
    )  # fmt: skip


def _model() -> str:
    return str(st.session_state.get("cap_buy_model") or "").strip()


def _term() -> Commitment:
    return cast(Commitment, st.session_state.get("cap_buy_term") or "none")


def _draw_sum(rate: HourRate | None, term: Commitment) -> None:
    units = int(st.session_state.get("cap_buy_units") or 1)
    own = str(st.session_state.get("cap_buy_own") or "").strip().removeprefix("$")
    try:
        each = decimal_amount(own) if own else Decimal(rate.usd) if rate else None
    except ValueError as error:
        st.caption(f":red[:material/error: {plain(error)}]")
        return
    origin = "your own figure" if own else words.source(rate) if rate else ""
    said = words.bill(None if each is None else each * units, term)
    st.markdown(f"{plain(said)}" + (f"  \n:gray[{plain(origin)}]" if origin else ""))


def _token(order: tuple[Any, ...]) -> str:
    """The same for the same order until it is through: asking twice after a timeout must not buy twice."""
    known = st.session_state.get(TOKEN)
    if not known or known[0] != order:
        known = st.session_state[TOKEN] = (order, uuid.uuid4().hex)
    return str(known[1])


def _buy(seen: look.Seen, model: str, name: str, term: Commitment) -> None:
    units = int(st.session_state["cap_buy_units"])
    typed = str(st.session_state.get("cap_buy_typed") or "").strip()
    token = _token((seen.profile, seen.region, model, name, units, term))

    def order() -> None:
        check_name(name)
        if typed != f"create {name}":
            raise ValueError(f"Nothing was bought: to go on, type “create {name}” exactly.")
        look.client(seen).create(name=name, model=model, units=units, commitment=term, token=token, confirm=typed)

    with st.spinner("Asking AWS for the units …", show_time=True):
        done = attempt(dialogs.REFUSAL, order)
    if done:
        st.session_state.pop(TOKEN, None)
        look.forget()
        dialogs.done(f"{name} is bought and being created; it is paid for from now on.")
