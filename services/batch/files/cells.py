"""Values of typed files (Excel, Parquet) as JSON knows them, and values as text for a template."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import orjson


def plain(value: Any) -> Any:
    """A cell as JSON can hold it: dates in ISO form, decimals as texts, what is not a number as None."""
    kind = type(value)
    if kind is str or value is None or kind is bool or kind is int:
        return value
    if kind is float:
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 1e15 else value
    if isinstance(value, datetime):
        # Excel knows no date without a time.
        return value.date().isoformat() if value.time() == time() and value.tzinfo is None else value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Decimal | timedelta):
        return str(value)
    return str(value)


def text_of(value: Any) -> str:
    """A value as it stands in a prompt: a text as it is, None as nothing, everything else as JSON writes it."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a whole number beyond 64 bits inside
        import json

        return json.dumps(value, ensure_ascii=False)
