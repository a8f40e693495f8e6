"""The budget of the installation: US dollars a month, a line on the spending and never a wall."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import Engine
from sqlmodel import Session

from db import settings
from services.pricing import decimal_amount

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
    amount = decimal_amount(text)
    if amount == 0:
        raise ValueError("A budget is more than 0 US dollars; leave it empty for none.")
    settings.write(session=session, key=BUDGET, value={"monthly_usd": format(amount, "f")})
