"""What the command line says otherwise than the page: it has commands and options where that has buttons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services import formatting
from services.batch import text as batch_text

Row = Mapping[str, Any]
# What the check of a file says for a person before a page → the same for one at a command line.
_SAID = {
    "convert the file, or press “Read as Windows-1252”": "convert the file, or give --encoding cp1252",
    "or press “Make double ids different”": "or give --suffix-ids",
    "Choose the column of the ids.": "Name the column of the ids with --id-column.",
    "Choose the column that holds the prompt.": "Name the column that holds the prompt, as in --template '{{text}}'.",
    "or choose to send the": "or give --leave-out to send the",
    "set “Max output tokens” to bound": "give --param max_tokens=… to bound",
    "the deployment that you choose": "the deployment that you name",
}


def as_command(text: str) -> str:
    """A sentence of the page with what to type in place of what to press."""
    for page, command in _SAID.items():
        text = text.replace(page, command)
    return text


def shown(text: str) -> str:
    """The same, fit for a terminal."""
    return formatting.printable(as_command(text))


def next_step(row: Row, counts: Mapping[str, int]) -> str | None:
    """The command that goes on with a batch that has stopped, or sends again what has no answer; None for none."""
    ident = row["id"]
    if row["state"] == "paused":
        dearer = " (with --budget for a larger one)" if row.get("budget_nanousd") else ""
        return f"`lab batch resume {ident}`{dearer} goes on, `lab batch cancel {ident}` ends it."
    left = (row["n_lines"] or 0) - counts.get("succeeded", 0)
    if not batch_text.over(row) or left <= 0 or not counts:
        return None
    return f"`lab batch resend {ident}` sends the {left:,} {'line' if left == 1 else 'lines'} without an answer again."
