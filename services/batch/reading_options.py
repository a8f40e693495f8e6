"""The check of a file for the page and the command line, with a delimiter that is plain from the header, and the flags
of the options."""

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
    on_progress: Callable[[Progress], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Checked:
    """`services.batch.files.check`; and where the header shows another delimiter, and only one, and every record has as
    many fields with it as the header, the file is read with that."""
    checked = check_file(path, options, on_progress=on_progress, stopped=stopped)
    if (
        checked.refused is None
        or [fault.code for fault in checked.faults] != ["delimiter"]
        or len(checked.choices) != 1
    ):
        return checked
    other = check_file(path, checked.choices[0].options, on_progress=on_progress, stopped=stopped)
    if other.refused is not None or any(fault.code == "ragged" for fault in other.faults):
        return checked
    mark = DELIMITERS.get(other.options.delimiter or "", "other sign")
    return replace(other, notices=(f"The columns are parted by a {mark}, as the header shows.", *other.notices))


def flags(current: Options, wanted_options: Options) -> str | None:
    """The options of `lab batch` that turn one way of reading into another; None where it has none for that."""
    flag_list = []
    for name in Options.__slots__:
        value = getattr(wanted_options, name)
        if value == getattr(current, name):
            continue
        if name not in FLAGS or value is None:
            return None
        flag_list.append(FLAGS[name] if value is True else f"{FLAGS[name]} {shlex.quote(str(value))}")
    return " ".join(flag_list) or None
