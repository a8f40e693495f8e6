"""A file checked as the page and the command line both do it: what has one plain answer is not asked."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from services.batch.files import check as check_file
from services.batch.types import Checked, Options, Progress

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
FLAGS = {
    "format": "--format",
    "encoding": "--encoding",
    "delimiter": "--delimiter",
    "id_column": "--id-column",
    "prompt": "--template",
    "system": "--system",
    "sheet": "--sheet",
    "suffix_ids": "--suffix-ids",
    "leave_out": "--leave-out",
}


def check(
    path: Path,
    options: Options,
    *,
    told: Callable[[Progress], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Checked:
    """`services.batch.files.check`; and where the header shows another delimiter, and only one, and every record has as
    many fields with it as the header, the file is read with that."""
    found = check_file(path, options, told=told, stopped=stopped)
    if found.refused is None or [fault.code for fault in found.faults] != ["delimiter"] or len(found.choices) != 1:
        return found
    other = check_file(path, found.choices[0].options, told=told, stopped=stopped)
    if other.refused is not None or any(fault.code == "ragged" for fault in other.faults):
        return found
    mark = DELIMITERS.get(other.options.delimiter or "", "other sign")
    return replace(other, notices=(f"The columns are parted by a {mark}, as the header shows.", *other.notices))


def flags(before: Options, after: Options) -> str | None:
    """The options of `lab batch` that turn one way of reading into another; None where it has none for that."""
    found = []
    for name in Options.__slots__:
        value = getattr(after, name)
        if value == getattr(before, name):
            continue
        if name not in FLAGS or value is None:
            return None
        found.append(FLAGS[name] if value is True else f"{FLAGS[name]} {shlex.quote(str(value))}")
    return " ".join(found) or None
