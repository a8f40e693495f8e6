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
        found, more = seen.provisioned
        if found:
            _table(found, more, seen, person)
        else:
            st.caption(
                f"This account has none in {plain(seen.region)}. They are listed here with model, units, commitment "
                "and price; one that is bought becomes a column on the playground."
            )
    if person.may("deploy") and "provisioned" not in seen.troubles:
        account.button("Buy model units", "buy", seen.region, icon=":material/add_shopping_cart:")
        if account.wanted("buy", seen.region):
            dialog(seen)


def _table(found: Sequence[ProvisionedThroughput], more: bool, seen: account.Seen, person: auth.Person) -> None:
    now = datetime.now(UTC)
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
    if more:
        st.caption(f"Only the newest {len(found):,} are listed.")
    if any(one.status in UNSETTLED for one in found):
        _watch(seen)
    rows = event.selection.rows
    if rows and rows[0] < len(found):
        _panel(found[rows[0]], seen, person, now)
    else:
        st.caption("Select a line to see its price's source and what can be done with it.")


def frame(found: Sequence[ProvisionedThroughput]) -> pd.DataFrame:
    """The table's cells, one line for each."""
    hours = [account.per_hour(one.units, one.rate) for one in found]
    return pd.DataFrame(
        {
            "name": [one.name for one in found],
            "status": [one.status_words for one in found],
            "model": [one.foundation for one in found],
            "units": [
                str(one.units) if one.units == one.desired_units else f"{one.units} → {one.desired_units}"
                for one in found
            ],
            "commitment": [commitment(one) for one in found],
            "hour": [account.dollars(amount) if amount is not None else "AWS quotes it" for amount in hours],
            "month": [account.dollars(account.month(amount)) for amount in hours],
        }
    )


def commitment(one: ProvisionedThroughput) -> str:
    """The term and its end."""
    if one.commitment == "none" or one.commitment_ends is None:
        return account.TERM_WORDS[one.commitment]
    return f"{account.TERM_WORDS[one.commitment]}, until {one.commitment_ends:%Y-%m-%d}"


@st.fragment(run_every=EVERY_S, key="cap_watch")
def _watch(seen: account.Seen) -> None:
    """While one is being made or changed: look again, and draw the page anew when its status has changed."""
    known = st.session_state.get(account.SEEN)
    before = known if isinstance(known, account.Seen) else seen
    if (datetime.now(UTC) - before.at).total_seconds() >= EVERY_S - 1:
        after = account.again(before)
        if after.troubles != before.troubles or after.provisioned != before.provisioned:
            st.rerun()
    st.caption(f":material/hourglass_top: One is not settled yet; AWS is asked again every {EVERY_S:g} s.")


def _panel(one: ProvisionedThroughput, seen: account.Seen, person: auth.Person, now: datetime) -> None:
    with st.container(border=True):
        st.markdown(f"**{plain(one.name)}** · {one.status_words} · {plain(account.running(one))}")
        if one.failure:
            st.caption(f":red[:material/error: {plain(one.failure)}]")
        rows = {
            "ARN": one.arn,
            "Model": one.model,
            "Created": f"{one.created:%Y-%m-%d %H:%M} UTC" if one.created else "–",
            "Commitment": commitment(one),
            "Price of a unit": _unit_price(one),
        }
        st.table(
            {k: plain(v) for k, v in rows.items()}, border="horizontal", width="stretch", alt=f"What {one.name} is"
        )
        if not person.may("deploy"):
            st.caption("You can look; whoever runs this server can add, rename and delete.")
            return
        held = one.committed(now)
        with st.container(horizontal=True):
            account.button("Add as deployment", "add", one.arn, icon=":material/add:", primary=True)
            account.button("Rename", "rename", one.arn, icon=":material/edit:")
            account.button("Delete", "delete", one.arn, icon=":material/delete:", disabled=held)
        if held:
            end = f"its term ends on {one.commitment_ends:%Y-%m-%d}" if one.commitment_ends else "its term is over"
            st.caption(f"It is committed: AWS refuses to delete it before {end}, and until then it is paid for.")
    for what, dialog in (("add", endpoints.provisioned), ("rename", rename), ("delete", delete)):
        if account.wanted(what, one.arn):
            dialog(one, seen)


def _unit_price(one: ProvisionedThroughput) -> str:
    if one.rate is None:
        return "AWS quotes it; a figure of your own can be given when it is added as a deployment"
    return f"${one.rate.usd} an hour ({account.source(one.rate)})"


@st.dialog("Rename", on_dismiss=account.close)
def rename(one: ProvisionedThroughput, seen: account.Seen) -> None:
    """Ask for another name."""
    st.markdown("The ARN stays, so deployments that use it go on working. It costs what it did.")
    st.text_input("New name", value=one.name, key="cap_new_name", max_chars=63)
    if st.button("Rename", key="cap_rename_now", type="primary"):
        name = str(st.session_state["cap_new_name"]).strip()
        with st.spinner("Asking AWS …", show_time=True):
            done = attempt(account.DIALOG_REFUSAL, lambda: account.client(seen).rename(one.arn, name))
        if done:
            account.forget()
            account.done(f"{one.name} is called {name} now.")
    draw_refusal(account.DIALOG_REFUSAL)


@st.dialog("Delete this provisioned throughput?", on_dismiss=account.close)
def delete(one: ProvisionedThroughput, seen: account.Seen) -> None:
    """Say what ends and what it costs, and ask for its name."""
    units = f"{one.units} model unit{'' if one.units == 1 else 's'}"
    st.markdown(
        f"{plain(one.name)} has {units} and {plain(account.running(one))}. Deleting gives them back, and nothing more "
        "is "
        "paid. Deployments that use it stop answering; what was recorded stays. Units can only be bought again where "
        "AWS has some left."
    )
    st.text_input(f"Type “{plain(one.name)}” to delete it", key="cap_delete_typed")
    if st.button("Delete it", key="cap_delete_now", type="primary", icon=":material/delete:"):
        typed = str(st.session_state["cap_delete_typed"])
        with st.spinner("Asking AWS …", show_time=True):
            done = attempt(account.DIALOG_REFUSAL, lambda: account.client(seen).delete(one.arn, typed))
        if done:
            account.forget()
            account.done(f"{one.name} is deleted; it costs nothing from now on.")
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
        each = decimal_amount(own) if own else Decimal(rate.usd) if rate else None
    except ValueError as error:
        st.caption(f":red[:material/error: {plain(error)}]")
        return
    origin = "your own figure" if own else account.source(rate) if rate else ""
    said = account.bill(None if each is None else each * units, term)
    st.markdown(f"{plain(said)}" + (f"  \n:gray[{plain(origin)}]" if origin else ""))


def _token(order: tuple[Any, ...]) -> str:
    """The same for the same order until it is through: asking twice after a timeout must not buy twice."""
    known = st.session_state.get(TOKEN)
    if not known or known[0] != order:
        known = st.session_state[TOKEN] = (order, uuid.uuid4().hex)
    return str(known[1])


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
