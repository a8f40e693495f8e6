"""What an instance or a unit of provisioned throughput costs by the hour, from dated files with a source for each row.

"g5.xlarge" is EC2's price on demand (Linux), "ml.g5.xlarge" SageMaker's for hosting a real-time endpoint. The prices
are those of the US regions named in the file, which charge alike; other regions cost more, so there an instance has no
price here and takes ``per_hour`` of one's own (which is also where savings plans and spot prices go).

AWS publishes few of these prices, and none for current models: what is not in the file needs a quote from AWS, which
then goes into the deployment as ``per_hour``. A row without a price is one whose capacity is published and whose price
is not.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from services.aws.bedrock_ids import US_REGIONS, parsed

UNITS_FILE = "provisioned_throughput.csv"

QUOTE_NEEDED = "quote needed"

HOURS_A_MONTH = 730  # as AWS counts a month


# What the API calls a commitment → what the file does. AWS leaves the field out when there is none.
COMMITMENTS: Mapping[str, str] = {"onemonth": "1-month", "sixmonths": "6-month", "": "none"}


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """US dollars per hour of one unit (None: published nowhere, a quote is needed), with what one unit carries.

    ``commitment``: "none", "1-month", "6-month" … ``region``: "*" everywhere, "us" the US regions.
    Tokens per minute are None where the service does not publish them (Bedrock never does).
    """

    provider: str
    model: str
    commitment: str
    usd_per_unit_hour: Decimal | None
    unit: str
    region: str
    input_tpm: int | None
    output_tpm: int | None
    source: str
    date: str
    note: str = ""


@cache
def unit_prices() -> Sequence[UnitPrice]:
    """Every row of the file."""
    text = (files("services.data") / UNITS_FILE).read_text(encoding="utf-8")
    return tuple(_unit_price(row) for row in csv.DictReader(text.splitlines()))


def _unit_price(row: Mapping[str, str]) -> UnitPrice:
    usd, tpm_in, tpm_out = row["usd_per_unit_hour"], row["input_tpm_per_unit"], row["output_tpm_per_unit"]
    return UnitPrice(
        row["provider"],
        row["model"],
        row["commitment"],
        Decimal(usd) if usd else None,
        row["unit"],
        row["region"],
        int(tpm_in) if tpm_in else None,
        int(tpm_out) if tpm_out else None,
        row["source"],
        row["date"],
        row["note"],
    )


def unit_price(
    model: str, commitment: str | None, region: str | None = None, *, provider: str = "bedrock"
) -> UnitPrice | None:
    """The row of a model, a commitment and a region, or None: a quote is needed (`QUOTE_NEEDED`).

    ``model``: Bedrock's identifier or the ARN of a foundation model. ``commitment``: "1-month" or the API's own
    "OneMonth"; None or "" = no commitment. ``region`` None: not stated, the price of the US regions.
    """
    name, region = _name(model, region, provider)
    term = COMMITMENTS.get((commitment or "").lower(), commitment)
    for row in unit_prices():
        if (row.provider, row.model, row.commitment) == (provider, name, term) and _holds(row.region, region):
            return row
    return None


def _name(model: str, region: str | None, provider: str) -> tuple[str, str | None]:
    bedrock_model = parsed(model, region) if provider == "bedrock" else None
    return (model.strip().lower(), region) if bedrock_model is None else (bedrock_model.model, bedrock_model.region)


def _holds(listed: str, region: str | None) -> bool:
    if listed in ("*", "global"):
        return True
    if region is None or region in US_REGIONS:
        return listed in ("us", region or "us-east-1")
    return listed == region


FILE = "instances.csv"


@dataclass(frozen=True, slots=True)
class InstancePrice:
    """US dollars per hour of one instance. ``date`` (ISO, or its beginning): how recent ``source`` is, which
    ``evidence`` says where it was read and checked."""

    instance: str
    usd_per_hour: Decimal
    gpu: str
    gpu_count: int
    region: str
    source: str
    date: str
    evidence: str
    note: str = ""


@cache
def prices() -> Mapping[str, InstancePrice]:
    """Every priced instance type by its name."""
    text = (files("services.data") / FILE).read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row["instance"]: _typed(row) for row in rows}


def _typed(row: Mapping[str, str]) -> InstancePrice:
    return InstancePrice(
        row["instance"],
        Decimal(row["usd_per_hour"]),
        row["gpu"],
        int(row["gpu_count"]),
        row["region"],
        row["source"],
        row["date"],
        row["evidence"],
        row["note"],
    )


def price(instance: str, region: str | None = None) -> InstancePrice | None:
    """The price of an instance type in a region (None: not stated); None when the file does not know it there."""
    if region is not None and region not in US_REGIONS:
        return None
    return prices().get(instance.strip().lower())


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
    listed = price(instance, region)
    return None if listed is None else HourRate(format(listed.usd_per_hour, "f"), listed.source, listed.date)


def of_unit(model: str, commitment: str, region: str) -> HourRate | None:
    """The price of one model unit of Bedrock's in a region; ``commitment`` is none, 1-month or 6-month."""
    listed = unit_price(model, commitment, region)
    if listed is None or listed.usd_per_unit_hour is None:
        return None
    return HourRate(format(listed.usd_per_unit_hour, "f"), listed.source, listed.date)


def a_month(per_hour: Decimal) -> Decimal:
    """US dollars for a month of being on."""
    return per_hour * HOURS_A_MONTH
