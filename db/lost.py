"""What a call has cost whose end nobody saw: not known, unless its price tells it whatever it counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import ColumnElement, Table, update
from sqlmodel import Session

from db.models import Call

CALL: Table = Call.__table__  # type: ignore[attr-defined]  # SQLModel adds __table__ at run time
FREE: dict[str, Any] = {"cost_state": "free", "cost_nanousd": 0, "cost_high_nanousd": 0, "cost_drivers": {}}
FOR_NOTHING = FREE | {"plain_nanousd": 0}  # an hour has no plain price (`services.pricing.plain_price`), rates have
HOURLY: dict[str, Any] = {"cost_state": "by_the_hour"}
PART = 500  # ids in one statement


def lose(*, session: Session, where: ColumnElement[bool], message: str) -> list[str]:
    """Running calls become *lost*; their ids. What they cost is not known, but a call of a deployment that charges
    nothing costs nothing, and one that is paid by the hour has no cost of its own."""
    done = session.execute(
        update(CALL)
        .where(CALL.c.state == "running", where)
        .values(state="lost", outcome="lost", message=message, ended_at=datetime.now(UTC), cost_state="unknown")
        .returning(CALL.c.id, CALL.c.price)
    )
    found = {str(call_id): of_price(price) for call_id, price in done}
    for values in (FREE, FOR_NOTHING, HOURLY):
        for ids in _parts([call_id for call_id, told in found.items() if told is values]):
            session.execute(update(CALL).where(CALL.c.id.in_(ids)).values(values))
    return sorted(found)


def of_price(price: object) -> dict[str, Any] | None:
    """The columns of the cost of any call at a price (`services.pricing.price.Price.to_json`); None where it depends on
    what the call counted, or where there is no price."""
    if not isinstance(price, Mapping):
        return None
    if (per_hour := price.get("per_hour")) is not None:
        return FREE if _is_zero(per_hour) else HOURLY if _is_amount(per_hour) else None
    tiers = [tier.get("rates") for tier in price.get("tiers") or () if isinstance(tier, Mapping)]
    rates = [one for one in (price.get("rates"), *tiers) if isinstance(one, Mapping)]
    # Rates of nothing that leave one out charge for it at a rate that is not known.
    whole = bool(rates) and len(rates) == 1 + len(tiers) and all({"input", "output"} <= set(one) for one in rates)
    return FOR_NOTHING if whole and all(_is_zero(rate) for one in rates for rate in one.values()) else None


def _is_zero(amount: object) -> bool:
    return _is_amount(amount) and Decimal(str(amount)) == 0


def _is_amount(amount: object) -> bool:
    try:
        return Decimal(str(amount)).is_finite()
    except InvalidOperation:
        return False


def _parts(ids: list[str]) -> Iterator[list[str]]:
    return (ids[start : start + PART] for start in range(0, len(ids), PART))
