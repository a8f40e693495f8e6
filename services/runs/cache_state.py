"""Cold or warm: what a service's prompt cache did for one call. Every record carries it, and nothing averages both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from db.run_queries import WARM_SHARE

CacheState = Literal["cold", "warm"]
_INPUT = ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h")
NOT_REPORTED = "not reported"


def state(row: Mapping[str, Any]) -> CacheState | None:
    """The state of a call's row: warm when at least a twentieth of its input was read from the cache, cold when the
    service says that less or nothing was (written or not), None when it does not say.

    Two prompts that have nothing in common still share the fixed words of their chat template (llama.cpp: 3 to 8 tokens
    of 1,000), which changes nothing that can be measured.
    """
    read = row.get("cache_read")
    if read is None:
        return None
    total = sum(row.get(name) or 0 for name in _INPUT)
    return "warm" if read > 0 and read * WARM_SHARE >= total else "cold"


def counted(rows: Iterable[Mapping[str, Any]]) -> str:
    """How many calls were what: "1 cold, 4 warm prompt cache"; "" when the service said it of none."""
    found = Counter(state(row) for row in rows)
    unknown = found.pop(None, 0)
    if not found:
        return ""
    parts = [f"{found[name]:,} {name}" for name in ("cold", "warm") if found[name]]
    return ", ".join(parts) + " prompt cache" + (f", {unknown:,} {NOT_REPORTED}" if unknown else "")


def words(row: Mapping[str, Any]) -> str:
    """The state for a table: "cold", "warm" or "not reported"."""
    return state(row) or NOT_REPORTED
