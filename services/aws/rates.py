"""What an instance or a model unit costs an hour, from the dated files of prices; None where no price is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from services.pricing import instances, provisioned

HOURS_A_MONTH = 730  # as AWS counts a month


@dataclass(frozen=True, slots=True)
class HourRate:
    """US dollars an hour of one instance or unit (a decimal string), where that is from and of which day."""

    usd: str
    source: str
    date: str


def rate_from(row: Mapping[str, Any] | None) -> HourRate | None:
    """A rate out of its plain values."""
    return None if row is None else HourRate(**row)


def of_instance(instance: str, region: str) -> HourRate | None:
    """The price of one instance of a type ("ml.g5.xlarge": SageMaker's, "g5.xlarge": EC2's) in a region."""
    found = instances.price(instance, region)
    return None if found is None else HourRate(format(found.usd_per_hour, "f"), found.source, found.date)


def of_unit(model: str, commitment: str, region: str) -> HourRate | None:
    """The price of one model unit of Bedrock's in a region; ``commitment`` is none, 1-month or 6-month."""
    found = provisioned.price(model, commitment, region)
    if found is None or found.usd_per_unit_hour is None:
        return None
    return HourRate(format(found.usd_per_unit_hour, "f"), found.source, found.date)


def a_month(per_hour: Decimal) -> Decimal:
    """US dollars for a month of being on."""
    return per_hour * HOURS_A_MONTH
