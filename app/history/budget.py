"""The monthly budget: the line that the spending of the History page is told against."""

from __future__ import annotations

from decimal import Decimal

import streamlit as st
from sqlalchemy import Engine

from app import auth
from app.widgets.status import attempt, draw_refusal
from services.pricing import budget
from services.pricing.cost import NANO, money

REFUSED = "hx_budget_refused"


def manage(database: Engine, person: auth.Person, *, demo: bool = False) -> None:
    """The popover "Budget": US dollars a month, for those who may change it; the others see it."""
    amount = budget.monthly(database)
    with st.popover("Budget", icon=":material/savings:"):
        said = f"{_dollars(amount)} a month." if amount is not None else "No budget is set."
        st.caption(f"{said} It is a line on the spending; nothing is stopped when it is crossed.")
        if not person.may("deploy") or demo:
            return
        with st.form("hx_budget", border=False):
            shown = budget.written(amount) if amount is not None else ""
            st.text_input("US dollars a month", key="hx_budget_usd", value=shown, placeholder="none", max_chars=16,
                          help="Written like 1000, 1,000 or 1,000.50; empty for no budget.")  # fmt: skip
            st.form_submit_button("Set budget", icon=":material/check:", on_click=_set)
        draw_refusal(REFUSED)


def _set() -> None:
    text = str(st.session_state.get("hx_budget_usd") or "").strip()
    attempt(REFUSED, lambda: _keep(text or None))


def _keep(text: str | None) -> None:
    auth.engine().history.set_budget(text)
    # What is kept stands in the field, and not what was typed.
    kept = budget.monthly(auth.database())
    st.session_state["hx_budget_usd"] = budget.written(kept) if kept is not None else ""


def _dollars(amount: Decimal) -> str:
    return money(int(amount * NANO))
