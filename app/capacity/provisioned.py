"""Bedrock's provisioned throughput on the capacity page: the table, and the dialogs that buy, rename and end it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pandas as pd
import streamlit as st

from app import auth
from app.capacity import account, endpoints
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import plain
from services.aws.instances import HourRate, of_unit
from services.aws.provisioned import Commitment, ProvisionedThroughput, check_name
from services.pricing.cost import decimal_amount

TABLE = "cap_provisioned"

EVERY_S = 10.0

UNSETTLED = frozenset({"Creating", "Updating"})


def draw(seen: account.Seen, person: auth.Person) -> None:
    """The whole section."""
    st.subheader("Provisioned throughput")
    st.caption(
        "Model units of Bedrock for one model, paid by the hour whether they are used or not. "
        "Prices are from a dated file where AWS has published them; for most models AWS quotes them."
    )
    if not account.draw_trouble(seen, "provisioned") and seen.provisioned is not None:
        units, truncated = seen.provisioned
        if units:
            _table(units, truncated, seen, person)
        else:
            st.caption(
                f"This account has none in {plain(seen.region)}. They are listed here with model, units, commitment "
                "and price; one that is bought becomes a column on the playground."
            )
    if person.may("deploy") and "provisioned" not in seen.troubles:
        account.button("Buy model units", "buy", seen.region, icon=":material/add_shopping_cart:")
        if account.wanted("buy", seen.region):
            dialog(seen)


def _table(units: Sequence[ProvisionedThroughput], truncated: bool, seen: account.Seen, person: auth.Person) -> None:
    now = datetime.now(UTC)
    event = st.dataframe(
        frame(units),
        key=f"{TABLE}_{seen.profile}_{seen.region}",
        hide_index=True,
        height="content",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "name": st.column_config.TextColumn("Name", pinned=True),
            "status": st.column_config.TextColumn("Status"),
            "model": st.column_config.TextColumn("Model"),
            "units": st.column_config.TextColumn("Units", alignment="right", width="small"),
            "commitment": st.column_config.TextColumn("Commitment"),
            "hour": st.column_config.TextColumn("$/hour", alignment="right", help="Of all its units."),
            "month": st.column_config.TextColumn(
                "$/month", alignment="right", help="730 hours, as AWS counts a month."
            ),
        },
        alt="Provisioned throughputs with model, units, status, commitment and price",
    )
    if truncated:
        st.caption(f"Only the newest {len(units):,} are listed.")
    if any(unit.status in UNSETTLED for unit in units):
        _watch(seen)
    rows = event.selection.rows
    if rows and rows[0] < len(units):
        _panel(units[rows[0]], seen, person, now)
    else:
        st.caption("Select a line to see its price's source and what can be done with it.")


def frame(units: Sequence[ProvisionedThroughput]) -> pd.DataFrame:
    """The table's cells, one line for each."""
    hours = [account.per_hour(unit.units, unit.rate) for unit in units]
    return pd.DataFrame(
        {
            "name": [unit.name for unit in units],
            "status": [unit.status_words for unit in units],
            "model": [unit.foundation for unit in units],
            "units": [
                str(unit.units) if unit.units == unit.desired_units else f"{unit.units} → {unit.desired_units}"
                for unit in units
            ],
            "commitment": [commitment(unit) for unit in units],
            "hour": [account.dollars(amount) if amount is not None else "AWS quotes it" for amount in hours],
            "month": [account.dollars(account.month(amount)) for amount in hours],
        }
    )


def commitment(unit: ProvisionedThroughput) -> str:
    """The term and its end."""
    if unit.commitment == "none" or unit.commitment_ends is None:
        return account.TERM_WORDS[unit.commitment]
    return f"{account.TERM_WORDS[unit.commitment]}, until {unit.commitment_ends:%Y-%m-%d}"


@st.fragment(run_every=EVERY_S, key="cap_watch")
def _watch(seen: account.Seen) -> None:
    """While one is being made or changed: look again, and draw the page anew when its status has changed."""
    seen_before = st.session_state.get(account.SEEN)
    previous = seen_before if isinstance(seen_before, account.Seen) else seen
    if (datetime.now(UTC) - previous.at).total_seconds() >= EVERY_S - 1:
        refreshed = account.again(previous)
        if refreshed.troubles != previous.troubles or refreshed.provisioned != previous.provisioned:
            st.rerun()
    st.caption(f":material/hourglass_top: One is not settled yet; AWS is asked again every {EVERY_S:g} s.")


def _panel(unit: ProvisionedThroughput, seen: account.Seen, person: auth.Person, now: datetime) -> None:
    with st.container(border=True):
        st.markdown(f"**{plain(unit.name)}** · {unit.status_words} · {plain(account.running(unit))}")
        if unit.failure:
            st.caption(f":red[:material/error: {plain(unit.failure)}]")
        rows = {
            "ARN": unit.arn,
            "Model": unit.model,
            "Created": f"{unit.created:%Y-%m-%d %H:%M} UTC" if unit.created else "–",
            "Commitment": commitment(unit),
            "Price of a unit": _unit_price(unit),
        }
        st.table(
            {k: plain(v) for k, v in rows.items()}, border="horizontal", width="stretch", alt=f"What {unit.name} is"
        )
        if not person.may("deploy"):
            st.caption("You can look; whoever runs this server can add, rename and delete.")
            return
        bound = unit.committed(now)
        with st.container(horizontal=True):
            account.button("Add as deployment", "add", unit.arn, icon=":material/add:", primary=True)
            account.button("Rename", "rename", unit.arn, icon=":material/edit:")
            account.button("Delete", "delete", unit.arn, icon=":material/delete:", disabled=bound)
        if bound:
            end = f"its term ends on {unit.commitment_ends:%Y-%m-%d}" if unit.commitment_ends else "its term is over"
            st.caption(f"It is committed: AWS refuses to delete it before {end}, and until then it is paid for.")
    for action, dialog in (("add", endpoints.provisioned), ("rename", rename), ("delete", delete)):
        if account.wanted(action, unit.arn):
            dialog(unit, seen)


def _unit_price(unit: ProvisionedThroughput) -> str:
    if unit.rate is None:
        return "AWS quotes it; a figure of your own can be given when it is added as a deployment"
    return f"${unit.rate.usd} an hour ({account.source(unit.rate)})"


@st.dialog("Rename", on_dismiss=account.close)
def rename(unit: ProvisionedThroughput, seen: account.Seen) -> None:
    """Ask for another name."""
    st.markdown("The ARN stays, so deployments that use it go on working. It costs what it did.")
    st.text_input("New name", value=unit.name, key="cap_new_name", max_chars=63)
    if st.button("Rename", key="cap_rename_now", type="primary"):
        name = str(st.session_state["cap_new_name"]).strip()
        with st.spinner("Asking AWS …", show_time=True):
            done = attempt(account.DIALOG_REFUSAL, lambda: account.client(seen).rename(unit.arn, name))
        if done:
            account.forget()
            account.done(f"{unit.name} is called {name} now.")
    draw_refusal(account.DIALOG_REFUSAL)


@st.dialog("Delete this provisioned throughput?", on_dismiss=account.close)
def delete(unit: ProvisionedThroughput, seen: account.Seen) -> None:
    """Say what ends and what it costs, and ask for its name."""
    units = f"{unit.units} model unit{'' if unit.units == 1 else 's'}"
    st.markdown(
        f"{plain(unit.name)} has {units} and {plain(account.running(unit))}. Deleting gives them back, and nothing "
        "more is "
        "paid. Deployments that use it stop answering; what was recorded stays. Units can only be bought again where "
        "AWS has some left."
    )
    st.text_input(f"Type “{plain(unit.name)}” to delete it", key="cap_delete_typed")
    if st.button("Delete it", key="cap_delete_now", type="primary", icon=":material/delete:"):
        typed = str(st.session_state["cap_delete_typed"])
        with st.spinner("Asking AWS …", show_time=True):
            done = attempt(account.DIALOG_REFUSAL, lambda: account.client(seen).delete(unit.arn, typed))
        if done:
            account.forget()
            account.done(f"{unit.name} is deleted; it costs nothing from now on.")
    draw_refusal(account.DIALOG_REFUSAL)


TOKEN = "cap_buy_token"  # noqa: S105 (of one order, no secret)


@st.dialog("Buy model units", width="medium", on_dismiss=account.close)
def dialog(seen: account.Seen) -> None:
    """The form."""
    with st.grid(2):
        _draw_model(seen)
        st.text_input("Name", key="cap_buy_name", placeholder="chat-units", max_chars=63)
        st.number_input("Model units", key="cap_buy_units", value=1, min_value=1, step=1)
        st.selectbox(
            "Commitment",
            list(account.MONTHS),
            key="cap_buy_term",
            format_func=account.TERM_WORDS.__getitem__,
            help="A longer term is cheaper an hour and cannot be ended early. Not every model is sold without one.",
        )
    model, term = _model(), _term()
    rate = of_unit(model, term, seen.region) if model else None
    st.text_input(
        "Your own price, $ per unit and hour",
        key="cap_buy_own",
        placeholder=rate.usd if rate else "as AWS quoted it",
        help="Only for the sum below: AWS bills what it agreed with you.",
    )
    if model:
        _draw_sum(rate, term)
    name = str(st.session_state.get("cap_buy_name") or "").strip()
    if not model or not name:
        st.caption("Choose a model and a name to go on.")
        return
    st.text_input(f"Type “create {plain(name)}” to buy", key="cap_buy_typed", on_change="ignore")
    if st.button("Buy model units", key="cap_buy_now", type="primary", icon=":material/add_shopping_cart:"):
        _buy(seen, model, name, term)
    draw_refusal(account.DIALOG_REFUSAL)


def _draw_model(seen: account.Seen) -> None:
    sold = [m for m in (seen.models or ([], []))[0] if m.provisioned]
    titles = {m.id: m.title for m in sold}
    lacking = seen.troubles.get("models")
    st.selectbox(
        "Model",
        list(titles),
        index=None,
        key="cap_buy_model",
        accept_new_options=True,
        format_func=lambda m: f"{m} · {titles[m]}" if titles.get(m) else m,
        placeholder="a model id, or the ARN of a custom model",
        help=lacking or "Listed are the models that Bedrock sells provisioned in this region; an ARN can be typed.",
    )


def _model() -> str:
    return str(st.session_state.get("cap_buy_model") or "").strip()


def _term() -> Commitment:
    return cast(Commitment, st.session_state.get("cap_buy_term") or "none")


def _draw_sum(rate: HourRate | None, term: Commitment) -> None:
    units = int(st.session_state.get("cap_buy_units") or 1)
    own = str(st.session_state.get("cap_buy_own") or "").strip().removeprefix("$")
    try:
        per_unit = decimal_amount(own) if own else Decimal(rate.usd) if rate else None
    except ValueError as error:
        st.caption(f":red[:material/error: {plain(error)}]")
        return
    origin = "your own figure" if own else account.source(rate) if rate else ""
    bill = account.bill(None if per_unit is None else per_unit * units, term)
    st.markdown(f"{plain(bill)}" + (f"  \n:gray[{plain(origin)}]" if origin else ""))


def _token(order: tuple[Any, ...]) -> str:
    """The same for the same order until it is through: asking twice after a timeout must not buy twice."""
    token = st.session_state.get(TOKEN)
    if not token or token[0] != order:
        token = st.session_state[TOKEN] = (order, uuid.uuid4().hex)
    return str(token[1])


def _buy(seen: account.Seen, model: str, name: str, term: Commitment) -> None:
    units = int(st.session_state["cap_buy_units"])
    typed = str(st.session_state.get("cap_buy_typed") or "").strip()
    token = _token((seen.profile, seen.region, model, name, units, term))

    def order() -> None:
        check_name(name)
        if typed != f"create {name}":
            raise ValueError(f"Nothing was bought: to go on, type “create {name}” exactly.")
        account.client(seen).create(name=name, model=model, units=units, commitment=term, token=token, confirm=typed)

    with st.spinner("Asking AWS for the units …", show_time=True):
        done = attempt(account.DIALOG_REFUSAL, order)
    if done:
        st.session_state.pop(TOKEN, None)
        account.forget()
        account.done(f"{name} is bought and being created; it is paid for from now on.")
