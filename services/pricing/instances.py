"""What an instance costs by the hour: typed access to ``data/instances.csv``, a dated file with a source for each row.

"g5.xlarge" is EC2's price on demand (Linux), "ml.g5.xlarge" SageMaker's for hosting a real-time endpoint. The prices
are those of the US regions named in the file, which charge alike; other regions cost more, so there an instance has no
price here and takes ``per_hour`` of one's own (which is also where savings plans and spot prices go).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files

from services.providers.bedrock_ids import US_REGIONS

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
        row["instance"], Decimal(row["usd_per_hour"]), row["gpu"], int(row["gpu_count"]), row["region"], row["source"],
        row["date"], row["evidence"], row["note"],
    )  # fmt: skip


def price(instance: str, region: str | None = None) -> InstancePrice | None:
    """The price of an instance type in a region (None: not stated); None when the file does not know it there."""
    if region is not None and region not in US_REGIONS:
        return None
    return prices().get(instance.strip().lower())
