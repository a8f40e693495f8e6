"""The monthly budget: how it is typed, kept and written."""

from __future__ import annotations

import re
from decimal import Decimal

from sqlalchemy import Engine
from sqlmodel import Session

from db import small_tables
from services.pricing.cost import MOST_DOLLARS

BUDGET = "budget"


# Commas may only stand between thousands and a point only before cents: in "1.000,50" and in "1.000" nobody can tell
# what is meant. Digits are those of ASCII.
AMOUNT = re.compile(r"\$?\s?((?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.[0-9]{1,2})?)")


def monthly(engine: Engine) -> Decimal | None:
    """US dollars a month; None where no budget was set."""
    value = small_tables.read(engine, BUDGET)
    return Decimal(value["monthly_usd"]) if value else None


def set_monthly(*, session: Session, usd: str | None) -> None:
    """Set the monthly budget; None or "" removes it. Raises ValueError in words unless it is more than 0 dollars."""
    text = (usd or "").strip()
    if not text:
        small_tables.write(session=session, key=BUDGET, value=None)
        return
    small_tables.write(session=session, key=BUDGET, value={"monthly_usd": format(_amount(text), "f")})


def _amount(text: str) -> Decimal:
    match = AMOUNT.fullmatch(text)
    amount = Decimal(match[1].replace(",", "")) if match else Decimal(0)
    if not 0 < amount <= MOST_DOLLARS:
        raise ValueError(
            f"This budget cannot be kept: it must be a number of US dollars above 0 and at most {MOST_DOLLARS:,}, "
            f"written like 1000, 1,000 or 1,000.50, not {text!r}. Leave it empty for no budget."
        )
    return amount


def typed(amount: Decimal) -> str:
    """A budget as somebody could type it, to the cent: "1,000.50"."""
    return f"{amount:,.2f}".removesuffix(".00")
