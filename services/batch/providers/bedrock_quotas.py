"""What one Bedrock batch job may hold: the account's own quotas where they can be read, else AWS's dated defaults.

Service Quotas has a row for every model and limit and names the models in words ("Minimum number of records per batch
inference job for Claude Haiku 4.5"), so the row is found by the words of the model's id. Nothing is guessed: a row that
does not name exactly this model is not taken, and what was not read is said in `RouteLimits.source`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from services.aws import control
from services.aws.explain import AwsTrouble, Place
from services.batch.types import RouteLimits
from services.providers import bedrock_ids

GB = 1_000_000_000  # the smaller reading of AWS's "GB"
FRESH_S = 600.0
_NAMES = (
    ("min_records", re.compile(r"minimum number of records per batch inference job for (.+)\Z", re.I)),
    ("job_records", re.compile(r"records per batch inference job for (.+)\Z", re.I)),
    ("file_records", re.compile(r"records per input file per batch inference job for (.+)\Z", re.I)),
    ("file_gb", re.compile(r"batch inference input file size \(in GB\) for (.+)\Z", re.I)),
    ("job_gb", re.compile(r"batch inference job size \(in GB\) for (.+)\Z", re.I)),
)
_NOISE = frozenset({"anthropic", "amazon", "meta", "openai", "ai", "model", "base", "the"})
_read: dict[tuple[str | None, str], tuple[float, list[tuple[str, float]]]] = {}
_lock = threading.Lock()


def limits(usual: RouteLimits, where: Place, model: str) -> RouteLimits:
    """``usual`` with what the account's quotas say of ``model`` (an id or an ARN of Bedrock's)."""
    try:
        rows = _quotas(where)
    except AwsTrouble as error:
        return replace(usual, source=f"{usual.source}; the account's own quotas were not read: {error}")
    found = of_model(rows, model)
    if not found:
        return replace(usual, source=f"{usual.source}; the account's quotas name no limits for {model}")
    records = [int(found[name]) for name in ("job_records", "file_records") if name in found]
    sizes = [int(found[name] * GB) for name in ("job_gb", "file_gb") if name in found]
    return replace(
        usual,
        min_records=int(found.get("min_records", usual.min_records)),
        max_records=min(records) if records else usual.max_records,
        max_bytes=min(sizes) if sizes else usual.max_bytes,
        source=f"Service Quotas of the account in {where.region}, read just now",
    )


def of_model(rows: list[tuple[str, float]], model: str) -> dict[str, float]:
    """The limits among ``rows`` (name, value) that are for exactly this model."""
    known = bedrock_ids.parsed(model)
    wanted = words(known.model.partition(".")[2]) if known is not None else None
    found: dict[str, float] = {}
    for name, value in rows:
        for limit, pattern in _NAMES:
            said = pattern.match(name.strip())
            if said and words(said[1]) == wanted:
                found[limit] = value
    return found


def words(name: str) -> tuple[str, ...] | None:
    """What a model's name consists of, whether written as an id or in words; None for nothing.

    Dates and the first version say nothing: "claude-3-5-sonnet-20241022-v2:0" is "Claude 3.5 Sonnet v2".
    """
    plain = re.sub(r"-?20\d{6}", "", name.lower()).partition(":")[0]
    plain = re.sub(r"\bv1\b", "", plain)
    parts = re.findall(r"v\d+|[a-z]+|\d+", plain)
    return tuple(sorted(part for part in parts if part not in _NOISE)) or None


def _quotas(where: Place) -> list[tuple[str, float]]:
    key = (where.profile, where.region)
    with _lock:
        known = _read.get(key)
    if known is not None and time.monotonic() - known[0] < FRESH_S:
        return known[1]

    def read(quotas: Any) -> list[Mapping[str, Any]]:
        pages = quotas.get_paginator("list_service_quotas").paginate(ServiceCode="bedrock")
        return [row for page in pages for row in page.get("Quotas", [])]

    rows = control.call("service-quotas", where, read)
    found = [(str(row["QuotaName"]), float(row["Value"])) for row in rows
             if "Value" in row and "batch inference" in str(row.get("QuotaName", "")).lower()]  # fmt: skip
    with _lock:
        _read[key] = time.monotonic(), found
    return found


def forget() -> None:
    """Read the quotas anew the next time."""
    with _lock:
        _read.clear()
