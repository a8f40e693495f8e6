"""A deployment as a request brings it: every field of its kind, before anything is made of it.

`serialization.from_json` reads the snapshots of other versions and takes them as they are; a request is refused in
words instead. What the fields may say is judged by `validation`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from services.deployments.serialization import from_json
from services.request_fields import Given
from services.types import Aws, Deployment, Limits

MOST_COUNT = 10**9  # `validation` and `cost.check_price` know the real limits and say them


def deployment_of(body: Given) -> Deployment:
    """The deployment of a request. Raises ValueError with one sentence."""
    row: dict[str, Any] = {name: body.text(name) for name in ("name", "kind", "model", "base_url")}
    row |= {name: body.words(name) for name in ("key_env", "region")}
    row |= {name: body.words(name) or "" for name in ("id", "note")}
    row |= {name: list(body.texts(name)) for name in ("params", "labels") if body.has(name)}
    if body.has("wire"):
        row["wire"] = body.text("wire")
    if body.has("context_tokens"):
        row["context_tokens"] = body.whole("context_tokens", 0, MOST_COUNT)
    headers, limits = body.table("headers"), body.table("limits")
    row |= {
        "enabled": body.flag("enabled", True), "color_slot": body.whole("color_slot", 0, MOST_COUNT, default=0),
        "headers": {name: headers.text(name) for name in headers.values},
        "extra_body": body.table("extra_body").values,
        "limits": {one.name: limits.number(one.name) for one in fields(Limits) if limits.has(one.name)},
        "aws": _texts(body.table("aws"), Aws) if body.has("aws") else None,
        "price": _price(body.table("price")),
    }  # fmt: skip
    return from_json(row)


def _texts(given: Given, kind: type[Aws]) -> dict[str, str | None]:
    return {one.name: given.words(one.name) for one in fields(kind)}


def _price(given: Given) -> dict[str, Any]:
    row: dict[str, Any] = {name: given.words(name) for name in ("provider", "model", "per_hour", "instance")}
    if given.has("override"):
        rates = given.table("override")
        row["override"] = {name: rates.text(name) for name in rates.values}
    if given.has("count"):
        row["count"] = given.whole("count", 0, MOST_COUNT)
    return row
