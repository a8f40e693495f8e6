"""The words of the History page's address as options of `lab history`; they are not in its help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from services.dashboard.address import params_of, params_of_url
from services.dashboard.filters import joined

Values = Annotated[list[str] | None, Parameter(negative=(), consume_multiple=False)]


@Parameter(name="*", show=False)
@dataclass(frozen=True, slots=True)
class PageWords:
    """What the page calls differently. ``deployments`` is missing: `history_params` finds it in the file's option."""

    since: str | None = None
    until: str | None = None
    kinds: Values = None
    models: Values = None
    persons: Values = None
    teams: Values = None
    tags: Values = None
    sources: Values = None
    caches: Values = None


def history_params(
    single: Mapping[str, str | None],
    lists: Mapping[str, Sequence[str] | None],
    page: PageWords | None,
    file: Path | None,
    url: str | None,
) -> tuple[dict[str, str], Path | None]:
    """The parameters of `Filter.from_params` and the deployments file. Raises ValueError in words for a wrong ``url``
    and for two ranges.

    What is given beside an address goes before what the address says.
    """
    query: dict[str, list[str]] = {}
    for one in fields(page) if page is not None else ():
        value = getattr(page, one.name)
        if value is not None:
            query[one.name] = [value] if isinstance(value, str) else list(value)
    # Here --deployments is the file, as for every command; the page uses the word for a list of deployments.
    if file is not None and not _is_file(file):
        query["deployments"], file = [str(file)], None
    given = params_of(query)
    given |= {name: value for name, value in single.items() if value is not None}
    given |= {name: joined(values) for name, values in lists.items() if values}
    dates = [name for name in ("from", "to") if name in given]
    if dates and given.get("range", "custom") != "custom":
        raise ValueError(
            f"--range {given['range']} and --{dates[0]} are two ranges: give one of them (--from and --to go together)."
        )
    found = params_of_url(url) if url is not None else {}
    if {"from", "to"} & set(given):
        found = {name: value for name, value in found.items() if name not in ("range", "from", "to")}
    elif "range" in given:
        found = {name: value for name, value in found.items() if name not in ("from", "to")}
    return found | given, file


def _is_file(file: Path) -> bool:
    return file.exists() or file.suffix == ".toml" or len(file.parts) > 1
