"""The section [teams] of deployments.toml: who belongs together when the history is looked at by team."""

from __future__ import annotations

from collections.abc import Mapping

from services.deployments.toml_table import Table
from services.security.access import folded


def teams(table: Table) -> Mapping[str, tuple[str, ...]]:
    """Team → its people (e-mail addresses, or names where nobody signs in), as they are recorded."""
    found: dict[str, tuple[str, ...]] = {}
    for name in table.values:
        if not name.strip():
            raise table.error("has a team without a name.", name)
        found[name] = tuple(dict.fromkeys(folded(one) if "@" in one else one for one in table.texts(name) or ()))
    return found
