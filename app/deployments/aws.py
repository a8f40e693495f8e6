"""How a deployment on AWS reads: where it is, whose credentials it takes, what it asks for."""

from __future__ import annotations

from urllib.parse import urlsplit

from services.security.network import on_amazon
from services.types import Aws, Deployment, PriceRef

LABELS = {
    "service_tier": "Service tier", "latency": "Latency", "guardrail": "Guardrail", "component": "Inference component",
    "variant": "Variant", "serves": "Model behind it", "batch_s3": "S3 for batches", "batch_role": "Role for batches",
}  # fmt: skip


def place(d: Deployment) -> str:
    """Its region; with the host where that is not AWS's own."""
    host = urlsplit(d.base_url).hostname or "–"
    return f"AWS {d.region}" if on_amazon(d.base_url) else f"AWS {d.region}, {host}"


def facts(d: Deployment) -> dict[str, str]:
    """What a table says of it beyond what every deployment has; nothing for one that is not on AWS."""
    if d.aws is None:
        return {}
    rows = {"Region": d.region or "–", "Credentials": credentials(d)}
    return rows | {label: value for name, label in LABELS.items() if (value := getattr(d.aws, name))}


def credentials(d: Deployment) -> str:
    """Whose credentials its calls are signed with, by name."""
    if d.key_env:
        return f"the key in {d.key_env}, no signature"
    profile = (d.aws or Aws()).profile
    return f"AWS profile {profile}" if profile else "the ordinary AWS chain"


def hourly(price: PriceRef) -> str | None:
    """A price by the hour in words; None for another form of price."""
    many = "" if price.count == 1 else f"{price.count} × "
    if price.instance is not None:
        return f"{many}{price.instance}, by the hour of being on (dated file of instance prices)"
    if price.per_hour is None:
        return None
    return "free" if price.per_hour == "0" else f"{many}${price.per_hour} per hour of being on"
