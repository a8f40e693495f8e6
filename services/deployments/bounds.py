"""The sections [batch] and [limits] of deployments.toml: folders of prompts on the server, and how much at once."""

from __future__ import annotations

import os
from pathlib import Path

from services.deployments.toml_table import Table
from services.runs.spec import MAX_COLUMNS, MAX_REPETITIONS

MOST_CALLS = 100_000
CALLS_PER_PERSON = 2 * MAX_COLUMNS * MAX_REPETITIONS  # the largest run fits, and another beside it


def batch_folders(table: Table) -> tuple[str, ...]:
    """The folders whose files may be named on the Batch page. Raises `ConfigError` in words."""
    table.only(("folders",))
    folders = tuple(one.strip() for one in table.texts("folders") or ())
    for one in folders:
        if not Path(one).is_absolute() or os.path.normpath(one) == "/" or "\0" in one:
            raise table.error(
                f"has {one!r} in 'folders': write the whole path of a folder, like \"/data/prompts\".", "folders"
            )
    return folders


def calls_per_person(table: Table) -> int:
    """How many calls one person may have under way or waiting in runs. Raises `ConfigError` in words."""
    table.only(("calls_per_person",))
    return table.whole("calls_per_person", minimum=1, maximum=MOST_CALLS) or CALLS_PER_PERSON
