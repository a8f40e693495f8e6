"""Bedrock's provisioned throughput on the capacity page: the table, and what can be done with one of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pandas as pd
import streamlit as st

from app import auth
from app.capacity import account as look
from app.capacity import add_deployment as add
from app.capacity import buy, change, dialogs
from app.capacity import region as place
from app.capacity import text as words
from app.widgets.text import plain
from services.aws.provisioned import ProvisionedThroughput

TABLE = "cap_provisioned"
EVERY_S = 10.0
UNSETTLED = frozenset({"Creating", "Updating"})


def draw(seen: look.Seen, person: auth.Person) -> None:
    """The whole section."""
    st.subheader("Provisioned throughput")
    st.caption(
        "Model units of Bedrock for one model, paid by the hour whether they are used or not. "
        "Prices are from a dated file where AWS has published them; for most models AWS quotes them."
    )
    if not place.draw_trouble(seen, "provisioned") and seen.provisioned is not None:
        found, more = seen.provisioned
        if found:
            _table(found, more, seen, person)
        else:
            st.caption(
                f"This account has none in {plain(seen.region)}. They are listed here with model, units, commitment "
                "and price; one that is bought becomes a column on the playground."
            )
    if person.may("deploy") and "provisioned" not in seen.troubles:
        dialogs.button("Buy model units", "buy", seen.region, icon=":material/add_shopping_cart:")
        if dialogs.wanted("buy", seen.region):
            buy.dialog(seen)


def _table(found: Sequence[ProvisionedThroughput], more: bool, seen: look.Seen, person: auth.Person) -> None:
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
    hours = [words.per_hour(one.units, one.rate) for one in found]
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
            "hour": [words.dollars(amount) if amount is not None else "AWS quotes it" for amount in hours],
            "month": [words.dollars(words.month(amount)) for amount in hours],
        }
    )


def commitment(one: ProvisionedThroughput) -> str:
    """The term and its end."""
    if one.commitment == "none" or one.commitment_ends is None:
        return words.TERM_WORDS[one.commitment]
    return f"{words.TERM_WORDS[one.commitment]}, until {one.commitment_ends:%Y-%m-%d}"


@st.fragment(run_every=EVERY_S, key="cap_watch")
def _watch(seen: look.Seen) -> None:
    """While one is being made or changed: look again, and draw the page anew when its status has changed."""
    known = st.session_state.get(look.SEEN)
    before = known if isinstance(known, look.Seen) else seen
    if (datetime.now(UTC) - before.at).total_seconds() >= EVERY_S - 1:
        after = look.again(before)
        if after.troubles != before.troubles or after.provisioned != before.provisioned:
            st.rerun()
    st.caption(f":material/hourglass_top: One is not settled yet; AWS is asked again every {EVERY_S:g} s.")


def _panel(one: ProvisionedThroughput, seen: look.Seen, person: auth.Person, now: datetime) -> None:
    with st.container(border=True):
        st.markdown(f"**{plain(one.name)}** · {one.status_words} · {plain(words.running(one))}")
        if one.failure:
            st.caption(f":red[:material/error: {plain(one.failure)}]")
        rows = {
            "ARN": one.arn, "Model": one.model, "Created": f"{one.created:%Y-%m-%d %H:%M} UTC" if one.created else "–",
            "Commitment": commitment(one), "Price of a unit": _unit_price(one),
        }  # fmt: skip
        st.table(
            {k: plain(v) for k, v in rows.items()}, border="horizontal", width="stretch", alt=f"What {one.name} is"
        )
        if not person.may("deploy"):
            st.caption("You can look; whoever runs this server can add, rename and delete.")
            return
        held = one.committed(now)
        with st.container(horizontal=True):
            dialogs.button("Add as deployment", "add", one.arn, icon=":material/add:", primary=True)
            dialogs.button("Rename", "rename", one.arn, icon=":material/edit:")
            dialogs.button("Delete", "delete", one.arn, icon=":material/delete:", disabled=held)
        if held:
            end = f"its term ends on {one.commitment_ends:%Y-%m-%d}" if one.commitment_ends else "its term is over"
            st.caption(f"It is committed: AWS refuses to delete it before {end}, and until then it is paid for.")
    for what, dialog in (("add", add.provisioned), ("rename", change.rename), ("delete", change.delete)):
        if dialogs.wanted(what, one.arn):
            dialog(one, seen)


def _unit_price(one: ProvisionedThroughput) -> str:
    if one.rate is None:
        return "AWS quotes it; a figure of your own can be given when it is added as a deployment"
    return f"${one.rate.usd} an hour ({words.source(one.rate)})"
