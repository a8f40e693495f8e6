"""A deployment as JSON (the snapshot stored with a call) and as TOML (what a reader pastes into deployments.toml)."""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from services.types import Aws, Deployment, Limits, PriceRef

TEXT_FIELDS = (
    "id",
    "name",
    "kind",
    "model",
    "base_url",
    "wire",
    "key_env",
    "region",
    "proxy",
    "proxy_env",
    "ca_file",
)


def slug(name: str, taken: Collection[str]) -> str:
    """A short identifier made from ``name`` (a–z, 0–9, "-") that is not in ``taken``."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:48].strip("-") or "deployment"
    candidate, number = base, 1
    while candidate in taken:
        number += 1
        candidate = f"{base}-{number}"
    return candidate


def to_json(deployment: Deployment) -> dict[str, Any]:
    """The deployment as plain JSON values; `from_json` gives it back unchanged. It holds no key."""
    row = {field.name: getattr(deployment, field.name) for field in dataclasses.fields(deployment)}
    price = deployment.price
    row["params"] = None if deployment.params is None else list(deployment.params)
    row["labels"] = list(deployment.labels)
    row["headers"] = dict(deployment.headers)
    row["extra_body"] = json.loads(json.dumps(dict(deployment.extra_body)))
    row["limits"] = dataclasses.asdict(deployment.limits)
    row["aws"] = None if deployment.aws is None else dataclasses.asdict(deployment.aws)
    row["price"] = {
        "provider": price.provider,
        "model": price.model,
        "override": None if price.override is None else dict(price.override),
        "per_hour": price.per_hour,
        "instance": price.instance,
        "count": price.count,
    }
    return row


def from_json(row: Mapping[str, Any]) -> Deployment:
    """Inverse of `to_json`. Fields it does not know are ignored and missing ones take their defaults, so that snapshots
    of other versions can be read. Raises KeyError without id, name, kind, model or base_url."""
    known = {field.name for field in dataclasses.fields(Deployment)}
    values = {name: value for name, value in row.items() if name in known}
    for name in ("id", "name", "kind", "model", "base_url"):
        values[name] = row[name]
    values["params"] = None if row.get("params") is None else tuple(row["params"])
    values["labels"] = tuple(row.get("labels") or ())
    values["headers"] = dict(row.get("headers") or {})
    values["extra_body"] = dict(row.get("extra_body") or {})
    values["limits"] = Limits(**_only(Limits, row.get("limits") or {}))
    values["aws"] = None if row.get("aws") is None else Aws(**_only(Aws, row["aws"]))
    values["price"] = PriceRef(**_only(PriceRef, row.get("price") or {}))
    return Deployment(**values)


def _only(kind: type[Limits] | type[PriceRef] | type[Aws], row: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: row[field.name] for field in dataclasses.fields(kind) if field.name in row}


def to_toml(deployment: Deployment) -> str:
    """The ``[[deployment]]`` table that declares this deployment in deployments.toml; defaults are left out.

    Raises ValueError in words when ``extra_body`` holds a null, which TOML cannot say.
    """
    plain = Deployment(id="", name="", kind="", model="", base_url="")
    lines = ["[[deployment]]"]
    for name in (*TEXT_FIELDS, "params", "labels", "context_tokens", "enabled", "note", "headers", "extra_body"):
        value = getattr(deployment, name)
        if value != getattr(plain, name) or name == "wire":
            lines.append(f"{name} = {_toml(value)}")
    limits = {
        name: value
        for name, value in dataclasses.asdict(deployment.limits).items()
        if value != getattr(plain.limits, name)
    }
    if deployment.aws is not None:
        given = {name: value for name, value in dataclasses.asdict(deployment.aws).items() if value is not None}
        lines.append(f"aws = {_toml(given)}")
    price = _price_table(deployment.price)
    lines += [f"limits = {_toml(limits)}"] if limits else []
    lines += [f"price = {_toml(price)}"] if price else []
    return "\n".join(lines) + "\n"


def _price_table(price: PriceRef) -> dict[str, Any]:
    if price.override is not None:
        return {name: Decimal(value) for name, value in price.override.items()}
    many = {"count": price.count} if price.count != 1 else {}
    if price.per_hour is not None:
        return {"per_hour": Decimal(price.per_hour), **many}
    if price.instance is not None:
        return {"instance": price.instance, **many}
    return {name: value for name in ("provider", "model") if (value := getattr(price, name)) is not None}


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(name)} = {_toml(one)}" for name, one in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    raise ValueError(f"TOML cannot hold {value!r}")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)
