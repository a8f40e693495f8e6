"""AWS as the pages see it: asked of the engine, which holds the credentials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from services.aws.control import Identity, Model
from services.aws.provisioned import Commitment, ProvisionedThroughput, provisioned_from
from services.aws.sagemaker import SageMakerEndpoint, endpoint_from

PATIENCE_S = 90.0  # more than the engine waits for AWS, twice: it looks before it deletes


@dataclass(frozen=True, slots=True)
class Places:
    """The profiles of the AWS configuration, the regions known, and the one that holds without a choice."""

    profiles: tuple[str, ...]
    regions: tuple[str, ...]
    region: str | None


class AwsClient:
    """The control planes for one profile (None: the default chain) and region (None: the profile's own).

    Every method raises `EngineError`, whose text is a sentence.
    """

    def __init__(self, engine: Callable[..., Any], profile: str | None, region: str | None) -> None:
        self._engine = engine
        self._where = {"profile": profile, "region": region}

    def _get(self, path: str) -> Any:
        query = urlencode({name: value for name, value in self._where.items() if value})
        return self._engine("GET", f"/aws/{path}?{query}", timeout=PATIENCE_S)

    def _post(self, path: str, **body: Any) -> Any:
        return self._engine("POST", f"/aws/{path}", {**self._where, **body}, timeout=PATIENCE_S)

    def places(self) -> Places:
        """What can be chosen; asks nothing of AWS."""
        row: Mapping[str, Any] = self._get("places")
        return Places(tuple(row["profiles"]), tuple(row["regions"]), row["region"])

    def who(self) -> Identity:
        """Whose credentials the engine uses here."""
        row = self._get("who")
        return Identity(row["account"], row["arn"])

    def models(self) -> tuple[list[Model], list[Model]]:
        """Bedrock's text models and inference profiles of the region."""
        row = self._get("models")
        return [Model(**m) for m in row["models"]], [Model(**m) for m in row["profiles"]]

    def endpoints(self) -> tuple[list[SageMakerEndpoint], bool]:
        """SageMaker's endpoints, and whether there are more than are listed."""
        row = self._get("endpoints")
        return [endpoint_from(e) for e in row["items"]], bool(row["more"])

    def provisioned(self) -> tuple[list[ProvisionedThroughput], bool]:
        """Bedrock's provisioned throughputs, and whether there are more than are listed."""
        row = self._get("provisioned")
        return [provisioned_from(p) for p in row["items"]], bool(row["more"])

    def create(
        self, *, name: str, model: str, units: int, commitment: Commitment, token: str, confirm: str
    ) -> ProvisionedThroughput:
        """Buy model units. ``confirm`` is "create NAME" as the person typed it; ``token`` makes a repeat harmless."""
        row = self._post(
            "provisioned", name=name, model=model, units=units, commitment=commitment, token=token, confirm=confirm
        )
        return provisioned_from(row)

    def rename(self, arn: str, name: str) -> ProvisionedThroughput:
        """Give a provisioned throughput another name."""
        return provisioned_from(self._post("provisioned/rename", arn=arn, name=name))

    def delete(self, arn: str, confirm: str) -> None:
        """Give the units back. ``confirm`` is the name as the person typed it."""
        self._post("provisioned/delete", arn=arn, confirm=confirm)

    def refresh(self) -> None:
        """Read credentials and configuration anew: somebody signed in meanwhile."""
        self._post("refresh")
