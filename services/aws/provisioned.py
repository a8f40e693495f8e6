"""Bedrock's provisioned throughput: model units that are paid by the hour whether used or not.

Listing, creating, renaming and deleting. Every function blocks and raises `AwsTrouble` in one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from services.aws import control
from services.aws.control import AwsTrouble, Place
from services.aws.instances import HourRate, of_unit, rate_from
from services.types import JsonMapping

Commitment = Literal["none", "1-month", "6-month"]

COMMITMENTS: Mapping[Commitment, str | None] = {"none": None, "1-month": "OneMonth", "6-month": "SixMonths"}

STATUS_WORDS = {
    "Creating": "being created",
    "InService": "in service",
    "Updating": "being changed",
    "Failed": "failed",
}

NAME = re.compile(r"(?:[0-9a-zA-Z][_-]?){1,63}\Z")


@dataclass(frozen=True, slots=True)
class ProvisionedThroughput:
    """One provisioned throughput. ``rate`` is per model unit and hour; None: AWS quotes it, the price is not public.

    ``desired_model`` differs from ``model`` while an update runs. ``failure`` only for those that failed.
    """

    name: str
    arn: str
    model: str
    units: int
    desired_units: int
    status: str
    commitment: Commitment
    commitment_ends: datetime | None
    created: datetime | None
    foundation: str
    rate: HourRate | None = None
    failure: str | None = None

    @property
    def status_words(self) -> str:
        """The status as a person says it."""
        return STATUS_WORDS.get(self.status, self.status)

    def committed(self, now: datetime) -> bool:
        """Whether AWS would refuse to delete it now."""
        return self.commitment != "none" and (self.commitment_ends is None or self.commitment_ends > now)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `provisioned_from` gives it back."""
        row = asdict(self)
        for name in ("commitment_ends", "created"):
            row[name] = row[name].isoformat() if row[name] else None
        return row


def provisioned_from(row: Mapping[str, Any]) -> ProvisionedThroughput:
    """Inverse of `ProvisionedThroughput.to_json`."""
    values = dict(row)
    for name in ("commitment_ends", "created"):
        values[name] = datetime.fromisoformat(row[name]) if row.get(name) else None
    values["rate"] = rate_from(row.get("rate"))
    return ProvisionedThroughput(**values)


def listed(place: Place) -> tuple[list[ProvisionedThroughput], bool]:
    """Those of the account in one region, newest first, and whether there are more than `control.MOST`."""

    def read(bedrock: Any) -> tuple[list[ProvisionedThroughput], bool]:
        pages = bedrock.get_paginator("list_provisioned_model_throughputs").paginate(
            sortBy="CreationTime",
            sortOrder="Descending",
            PaginationConfig={"MaxItems": control.MOST, "PageSize": 100},
        )
        rows = [row for page in pages for row in page.get("provisionedModelSummaries", [])]
        return [_read(row, place) for row in rows], bool(pages.resume_token)

    return control.call("bedrock", place, read)


def fetch(place: Place, arn: str) -> ProvisionedThroughput:
    """One of them as it is now, with the reason where it failed."""
    return control.call(
        "bedrock", place, lambda b: _read(b.get_provisioned_model_throughput(provisionedModelId=arn), place)
    )


def create(
    place: Place, *, name: str, model: str, units: int, commitment: Commitment, token: str
) -> ProvisionedThroughput:
    """Buy model units. ``token`` makes asking twice harmless: AWS gives the first one's answer again.

    From then on they are paid by the hour; with a commitment until the end of its term.
    """
    check_name(name)
    if commitment not in COMMITMENTS:
        raise AwsTrouble("invalid", f"A commitment can be {', '.join(COMMITMENTS)}.")
    if units < 1:
        raise AwsTrouble("invalid", "At least 1 model unit is needed.")
    term = COMMITMENTS[commitment]
    arn = control.call(
        "bedrock",
        place,
        lambda b: b.create_provisioned_model_throughput(
            modelUnits=units,
            provisionedModelName=name,
            modelId=model,
            clientRequestToken=token,
            **({"commitmentDuration": term} if term else {}),
        )["provisionedModelArn"],
    )
    return fetch(place, arn)


def rename(place: Place, arn: str, name: str) -> ProvisionedThroughput:
    """Give another name; the ARN and what it costs stay."""
    check_name(name)
    control.call(
        "bedrock",
        place,
        lambda b: b.update_provisioned_model_throughput(provisionedModelId=arn, desiredProvisionedModelName=name),
    )
    return fetch(place, arn)


def delete(place: Place, arn: str) -> None:
    """Give the units back. AWS refuses it for a committed one before its term ends."""
    try:
        control.call("bedrock", place, lambda b: b.delete_provisioned_model_throughput(provisionedModelId=arn))
    except AwsTrouble as error:
        if error.what != "conflict":
            raise
        raise AwsTrouble("conflict", _why_not(place, arn, str(error))) from error


def _why_not(place: Place, arn: str, refusal: str) -> str:
    try:
        throughput = fetch(place, arn)
    except AwsTrouble:
        return refusal
    if throughput.commitment == "none" or throughput.commitment_ends is None:
        return refusal
    return (
        f"{throughput.name} was not deleted: it is committed, and AWS deletes a committed one only after its term ends "
        f"on {throughput.commitment_ends:%Y-%m-%d}; until then it is paid for."
    )


def check_name(name: str) -> None:
    """Raises `AwsTrouble` when AWS would not take the name."""
    if not NAME.match(name) or len(name) > 63:
        raise AwsTrouble("invalid", "The name is made of letters, digits and single - or _ between them, at most 63.")


def _read(row: JsonMapping, place: Place) -> ProvisionedThroughput:
    terms: dict[str, Commitment] = {term: name for name, term in COMMITMENTS.items() if term}
    commitment = terms.get(str(row.get("commitmentDuration")), "none")
    foundation = str(row.get("foundationModelArn") or row["modelArn"]).rpartition("/")[2]
    return ProvisionedThroughput(
        name=str(row["provisionedModelName"]),
        arn=str(row["provisionedModelArn"]),
        model=str(row["modelArn"]),
        units=int(row["modelUnits"]),
        desired_units=int(row["desiredModelUnits"]),
        status=str(row["status"]),
        commitment=commitment,
        commitment_ends=row.get("commitmentExpirationTime"),
        created=row.get("creationTime"),
        foundation=foundation,
        rate=of_unit(foundation, commitment, place.region),
        failure=row.get("failureMessage"),
    )
