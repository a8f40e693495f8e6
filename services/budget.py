"""The budget of the installation: US dollars a month, a line on the spending and never a wall."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import Engine
from sqlmodel import Session

from db import settings
from services.pricing import MOST_DOLLARS, decimal_amount

BUDGET = "budget"


def monthly(engine: Engine) -> Decimal | None:
    """US dollars a month; None where no budget was set."""
    value = settings.read(engine, BUDGET)
    return Decimal(value["monthly_usd"]) if value else None


def keep(*, session: Session, usd: str | None) -> None:
    """Set the monthly budget; None or "" removes it. Raises ValueError in words unless it is more than 0 dollars."""
    text = (usd or "").strip()
    if not text:
        settings.write(session=session, key=BUDGET, value=None)
        return
    settings.write(session=session, key=BUDGET, value={"monthly_usd": format(_amount(text), "f")})


def _amount(text: str) -> Decimal:
    try:
        amount = decimal_amount(text)
    except ValueError:
        amount = Decimal(0)  # what it says is about a price
    if not amount:
        raise ValueError(
            f"This budget cannot be kept: it must be a number of US dollars above 0 and at most {MOST_DOLLARS:,}, not "
            f"{text!r}. Leave it empty for no budget."
        )
    return amount
