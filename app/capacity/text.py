"""What capacity costs, in words: an hour, a month, a whole term. Unknown stays unknown."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from decimal import Decimal

from services.aws.provisioned import Commitment, ProvisionedThroughput
from services.aws.rates import HOURS_A_MONTH, HourRate, a_month

MONTHS: dict[Commitment, int] = {"none": 0, "1-month": 1, "6-month": 6}
TERM_WORDS: dict[Commitment, str] = {"none": "no commitment", "1-month": "1 month", "6-month": "6 months"}
QUOTE = "price unknown: AWS quotes it"


def dollars(amount: Decimal | None) -> str:
    """An amount in US dollars, with cents below 1,000; None as a dash."""
    if amount is None:
        return "–"
    return f"${amount:,.2f}" if amount < 1000 else f"${amount:,.0f}"


def per_hour(units: int, rate: HourRate | None) -> Decimal | None:
    """US dollars an hour of so many units."""
    return None if rate is None else Decimal(rate.usd) * units


def month(amount: Decimal | None) -> Decimal | None:
    """US dollars a month of something that costs ``amount`` an hour."""
    return None if amount is None else a_month(amount)


def ends(commitment: Commitment, start: datetime) -> datetime | None:
    """When a term that starts then is over: the same day of a later month, or that month's last."""
    months = MONTHS[commitment]
    if not months:
        return None
    year, index = divmod(start.month - 1 + months, 12)
    year, number = start.year + year, index + 1
    return start.replace(year=year, month=number, day=min(start.day, calendar.monthrange(year, number)[1]))


def bill(amount: Decimal | None, commitment: Commitment, start: datetime | None = None) -> str:
    """What buying this means, in one sentence; ``amount`` is US dollars an hour of all its units."""
    begin = start or datetime.now(UTC)
    until = ends(commitment, begin)
    if amount is None:
        term = f"; committed until {until:%Y-%m-%d}" if until else ""
        return f"{QUOTE[0].upper()}{QUOTE[1:]}; enter your own figure to see the sum{term}."
    said = f"{dollars(amount)} an hour, about {dollars(a_month(amount))} a month ({HOURS_A_MONTH} h)"
    if until is None:
        return f"{said}, until it is deleted."
    hours = Decimal((until - begin).days * 24)
    return f"{said}, committed until {until:%Y-%m-%d}: {dollars(amount * hours)} in all."


def running(one: ProvisionedThroughput) -> str:
    """What a provisioned throughput costs now, as the rest of a sentence."""
    amount = per_hour(one.units, one.rate)
    if amount is None:
        return "costs what AWS quoted for it (no public price is known)"
    return f"costs {dollars(amount)} an hour, about {dollars(a_month(amount))} a month"


def source(rate: HourRate | None) -> str:
    """Where a rate is from and of which day."""
    return "AWS quotes it" if rate is None else f"{rate.source}, {rate.date}"
