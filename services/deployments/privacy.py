"""The [privacy] section of deployments.toml: what is kept, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from services.deployments.toml_table import Table

MOST_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class Privacy:
    """``store_text`` false: texts are never written. ``text_days`` and ``call_days``: after so many days texts, and
    whole calls, are deleted; None keeps them. Rollups are never deleted."""

    store_text: bool = True
    text_days: int | None = None
    call_days: int | None = None


def privacy(table: Table) -> Privacy:
    """The section as it is written. Raises `ConfigError` in words."""
    table.only(("store_text", "text_days", "call_days"))
    texts = table.whole("text_days", minimum=1, maximum=MOST_DAYS)
    calls = table.whole("call_days", minimum=1, maximum=MOST_DAYS)
    if texts is not None and calls is not None and calls <= texts:
        raise table.error(
            f"has call_days = {calls}: calls go with their texts, so it has to be more than text_days = {texts}.",
            "call_days",
        )
    return Privacy(table.flag("store_text", True), texts, calls)
