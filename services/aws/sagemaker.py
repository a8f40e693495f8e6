"""SageMaker's real-time endpoints: which there are, on which instances, in which state, and what they cost an hour.

Every function blocks and raises `AwsTrouble` in one sentence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from services.aws import control
from services.aws.control import AwsTrouble, Place, explained
from services.aws.instances import HourRate, of_instance, rate_from
from services.types import JsonMapping

DESCRIBED = 100  # endpoints that are looked at closely, the newest ones; the others are only named
AT_ONCE = 8
STATUS_WORDS = {
    "OutOfService": "out of service",
    "Creating": "being created",
    "Updating": "being changed",
    "SystemUpdating": "under maintenance by AWS",
    "RollingBack": "going back to its last configuration",
    "InService": "in service",
    "Deleting": "being deleted",
    "Failed": "failed",
    "UpdateRollbackFailed": "stuck between two configurations",
}
# In these states it answers calls.
SERVING = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack"})


@dataclass(frozen=True, slots=True)
class Variant:
    """A production variant. ``instance`` None: serverless, or a mix of instance types. Counts None: not said."""

    name: str
    instance: str | None
    current: int | None
    desired: int | None
    weight: float | None
    serverless: bool = False
    rate: HourRate | None = None

    @property
    def per_hour(self) -> Decimal | None:
        """US dollars an hour of the instances that are on; None when a part of it is not known."""
        return None if self.rate is None or self.current is None else Decimal(self.rate.usd) * self.current


@dataclass(frozen=True, slots=True)
class Component:
    """An inference component: a model that shares the instances of a variant."""

    name: str
    variant: str
    status: str


@dataclass(frozen=True, slots=True)
class SageMakerEndpoint:
    """An endpoint. ``trouble``: why its details are not known; then it has no variants here.

    ``components`` None: the account may not list them, so there may be some.
    """

    name: str
    arn: str
    status: str
    failure: str | None = None
    variants: tuple[Variant, ...] = ()
    components: tuple[Component, ...] | None = ()
    created: datetime | None = None
    trouble: str | None = None
    asynchronous: bool = False

    @property
    def status_words(self) -> str:
        """The status as a person says it."""
        return STATUS_WORDS.get(self.status, self.status)

    @property
    def per_hour(self) -> Decimal | None:
        """US dollars an hour of all its instances; None when one variant's price or count is not known."""
        parts = [variant.per_hour for variant in self.variants]
        amounts = [amount for amount in parts if amount is not None]
        return sum(amounts, Decimal()) if parts and len(amounts) == len(parts) else None

    def to_json(self) -> dict[str, Any]:
        """Plain values; `endpoint_from` gives it back."""
        return {**asdict(self), "created": self.created.isoformat() if self.created else None}


def endpoint_from(row: Mapping[str, Any]) -> SageMakerEndpoint:
    """Inverse of `SageMakerEndpoint.to_json`."""
    return SageMakerEndpoint(
        **{
            **row,
            "variants": tuple(Variant(**{**v, "rate": rate_from(v.get("rate"))}) for v in row.get("variants") or ()),
            "components": None if row["components"] is None else tuple(Component(**c) for c in row["components"]),
            "created": datetime.fromisoformat(row["created"]) if row.get("created") else None,
        }
    )


def listed(place: Place) -> tuple[list[SageMakerEndpoint], bool]:
    """Those of the account in one region, newest first, and whether there are more than `control.MOST`."""

    def read(sagemaker: Any) -> tuple[list[SageMakerEndpoint], bool]:
        pages = sagemaker.get_paginator("list_endpoints").paginate(
            SortBy="CreationTime",
            SortOrder="Descending",
            PaginationConfig={"MaxItems": control.MOST, "PageSize": 100},
        )
        rows = [row for page in pages for row in page.get("Endpoints", [])]
        components = _components(sagemaker) if rows else {}
        with ThreadPoolExecutor(AT_ONCE) as threads:
            close = list(threads.map(lambda row: _looked_at(sagemaker, row, place), rows[:DESCRIBED]))
        far = [_named(row, f"only the newest {DESCRIBED} are looked at closely") for row in rows[DESCRIBED:]]
        endpoints = [
            replace(e, components=None if components is None else tuple(components.get(e.name, ())))
            for e in (*close, *far)
        ]
        return endpoints, bool(pages.resume_token)

    return control.call("sagemaker", place, read)


def fetch(place: Place, name: str) -> SageMakerEndpoint:
    """One endpoint as it is now. Raises `AwsTrouble`; "not_found" when the region has none of that name."""
    return control.call("sagemaker", place, lambda s: _described(s, s.describe_endpoint(EndpointName=name), place))


def _components(sagemaker: Any) -> dict[str, list[Component]] | None:
    """The components by endpoint; None where they cannot be listed, which the endpoints do not depend on."""
    from botocore.exceptions import BotoCoreError, ClientError

    by_endpoint: dict[str, list[Component]] = defaultdict(list)
    try:
        pages = sagemaker.get_paginator("list_inference_components").paginate(
            PaginationConfig={"MaxItems": control.MOST}
        )
        for row in (row for page in pages for row in page.get("InferenceComponents", [])):
            by_endpoint[str(row["EndpointName"])].append(
                Component(
                    str(row["InferenceComponentName"]),
                    str(row.get("VariantName", "")),
                    str(row.get("InferenceComponentStatus", "")),
                )
            )
    except (BotoCoreError, ClientError):
        return None
    return by_endpoint


def _named(row: JsonMapping, trouble: str | None = None) -> SageMakerEndpoint:
    return SageMakerEndpoint(
        name=str(row["EndpointName"]),
        arn=str(row["EndpointArn"]),
        status=str(row["EndpointStatus"]),
        failure=row.get("FailureReason"),
        created=row.get("CreationTime"),
        trouble=trouble,
        asynchronous=bool(row.get("AsyncInferenceConfig")),
    )


def _looked_at(sagemaker: Any, row: JsonMapping, place: Place) -> SageMakerEndpoint:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return _described(sagemaker, sagemaker.describe_endpoint(EndpointName=row["EndpointName"]), place)
    except (BotoCoreError, ClientError, AwsTrouble) as error:
        return _named(row, str(explained(error, "sagemaker", place)))


def _described(sagemaker: Any, row: JsonMapping, place: Place) -> SageMakerEndpoint:
    config = sagemaker.describe_endpoint_config(EndpointConfigName=row["EndpointConfigName"])
    declared = {v["VariantName"]: v for v in config.get("ProductionVariants", [])}
    running = {v["VariantName"]: v for v in row.get("ProductionVariants", [])}
    variants = [
        _variant(name, declared.get(name, {}), running.get(name), place, str(row["EndpointStatus"]))
        for name in running or declared
    ]
    return replace(_named(row), variants=tuple(variants))


def _variant(name: str, declared: JsonMapping, running: JsonMapping | None, place: Place, status: str) -> Variant:
    live = running or {}
    instance = declared.get("InstanceType")
    planned = declared.get("InitialInstanceCount")
    # One that is being created says no count yet: what it was declared with is what will be paid.
    current = live.get("CurrentInstanceCount", planned if status in SERVING else None)
    return Variant(
        name=name,
        instance=instance,
        current=current,
        desired=live.get("DesiredInstanceCount", planned),
        weight=live.get("CurrentWeight", declared.get("InitialVariantWeight")),
        serverless=bool(declared.get("ServerlessConfig") or live.get("CurrentServerlessConfig")),
        rate=of_instance(instance, place.region) if instance else None,
    )
