"""The options that commands share: their types, what their help says, and how their values are read.

Every start of `lab` imports this to build its help, so it imports nothing heavy.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from services.batch.types import Format

_location = Group("Where", sort_key=9)
DataOption = Annotated[Path | None, Parameter(name="--data", group=_location, help="Data directory (else LAB_DATA).")]
FileOption = Annotated[
    Path | None,
    Parameter(name="--deployments", group=_location, help="deployments.toml to use (else LAB_DEPLOYMENTS)."),
]
JsonOption = Annotated[bool, Parameter(name="--json", negative=(), help="One JSON object per line.")]
Flag = Annotated[bool, Parameter(negative=())]
Values = Annotated[list[str] | None, Parameter(negative=(), consume_multiple=False)]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How the file is read and what is asked.

    Parameters
    ----------
    template
        The prompt of each line, with {{column}} for a column's value.
    system
        The system prompt of each line, with columns too.
    param
        A parameter as name=value, for instance --param max_tokens=100; may be given again. A line's own win.
    format
        What the file is; it is recognised without this.
    encoding
        cp1252 for a file that Windows wrote.
    delimiter
        What parts the columns of a CSV file; it is recognised where the header shows it.
    id_column
        Which column you know a line by.
    sheet
        Of an Excel file.
    suffix_ids
        Number double ids instead of refusing them.
    leave_out
        Send the valid lines although others are not.
    """

    template: str | None = None
    system: str | None = None
    param: Values = None
    format: Format | None = None
    encoding: Literal["utf-8", "cp1252"] = "utf-8"
    delimiter: str | None = None
    id_column: str | None = None
    sheet: str | None = None
    suffix_ids: Flag = False
    leave_out: Flag = False


@Parameter(name="*", show=False)
@dataclass(frozen=True, slots=True)
class PageOptions:
    """What the page calls differently. ``deployments`` is missing: it is read from the option of the file."""

    since: str | None = None
    until: str | None = None
    kinds: Values = None
    models: Values = None
    persons: Values = None
    teams: Values = None
    tags: Values = None
    sources: Values = None
    caches: Values = None


def name_value_pairs(texts: list[str]) -> dict[str, Any]:
    """Parameters as they were written, name=value. Raises ValueError in words."""
    values: dict[str, Any] = {}
    for pair in texts:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"A parameter is given as name=value; “{pair}” has no “=”.")
        try:
            values[name.strip()] = json.loads(value)
        except (ValueError, RecursionError):  # no JSON, a number too long for one, or nested without end
            values[name.strip()] = value
    return values


def local_user() -> str:
    """Who runs the command, by the name that the system has."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local"
