"""What a SageMaker endpoint is made of, as far as its batches need it: model, instances, and where it answers later."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.aws import control
from services.aws.explain import AwsTrouble
from services.batch.providers import aws as providers_aws
from services.providers import kind_of
from services.types import Deployment

FRESH_S = 60.0
WAIT_S = 2.0  # a page that asks why a deployment is not offered does not wait longer for AWS


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint. ``model`` None: its variant names none. ``instance`` None: serverless, or a mix of types.

    ``answers`` and ``failures``: S3 places of asynchronous inference; ``answers`` None: it is not asynchronous.
    """

    name: str
    status: str
    variant: str
    model: str | None
    instance: str | None
    instances: int | None
    answers: str | None = None
    failures: str | None = None


def described(deployment: Deployment) -> Endpoint:
    """The endpoint as it is now. Raises `AwsTrouble`."""
    where, aws = providers_aws.place_of(deployment), providers_aws.settings(deployment)
    name = deployment.model.strip()

    def read(sagemaker: Any) -> Endpoint:
        row = sagemaker.describe_endpoint(EndpointName=name)
        config = sagemaker.describe_endpoint_config(EndpointConfigName=row["EndpointConfigName"])
        variants = config.get("ProductionVariants") or [{}]
        one = next((v for v in variants if v.get("VariantName") == aws.variant), variants[0])
        model = one.get("ModelName")
        if aws.component:
            part = sagemaker.describe_inference_component(InferenceComponentName=aws.component)
            model = (part.get("Specification") or {}).get("ModelName")
        places = _places(row) or _places(config)
        return Endpoint(
            name, str(row.get("EndpointStatus", "")), str(one.get("VariantName", "")), model, one.get("InstanceType"),
            one.get("InitialInstanceCount"), places.get("S3OutputPath"), places.get("S3FailurePath"),
        )  # fmt: skip

    return control.call("sagemaker", where, read)


def _places(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return (row.get("AsyncInferenceConfig") or {}).get("OutputConfig") or {}


def plain_body(deployment: Deployment, ask: Any) -> dict[str, Any]:
    """The body of one call that does not stream. Raises ValueError in words."""
    body = dict(kind_of(deployment).request(deployment, ask).body)
    return {name: value for name, value in body.items() if name not in ("stream", "stream_options")}


# --- without waiting -------------------------------------------------------------------------------------------------


@dataclass
class _Seen:
    endpoint: Endpoint | None = None
    trouble: str | None = None
    at: float = float("-inf")
    asking: threading.Thread | None = None


_seen: dict[tuple[str | None, str | None, str], _Seen] = {}
_lock = threading.Lock()


def known(deployment: Deployment, wait_s: float = WAIT_S) -> tuple[Endpoint | None, str | None]:
    """The endpoint as last seen, or why it is not known; looks again in the background when that is old."""
    key = (providers_aws.settings(deployment).profile, deployment.region, deployment.model.strip())
    with _lock:
        seen = _seen.setdefault(key, _Seen())
        fresh = time.monotonic() - seen.at < FRESH_S
        if not fresh and (seen.asking is None or not seen.asking.is_alive()):
            seen.asking = threading.Thread(
                target=_look, args=(deployment, seen), name="sagemaker-endpoint", daemon=True
            )
            seen.asking.start()
        asking = seen.asking
    if not fresh and asking is not None and seen.at == float("-inf"):
        asking.join(wait_s)
    if seen.endpoint is None and seen.trouble is None:
        return None, f"SageMaker has not said yet what kind of endpoint {deployment.model} is: look again in a moment."
    return seen.endpoint, seen.trouble


def _look(deployment: Deployment, seen: _Seen) -> None:
    try:
        seen.endpoint, seen.trouble = described(deployment), None
    except AwsTrouble as error:
        seen.endpoint, seen.trouble = None, str(error)
    seen.at = time.monotonic()


def forget() -> None:
    """Look again the next time."""
    with _lock:
        _seen.clear()
