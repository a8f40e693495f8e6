"""Formulas of a workbook whose results are not in the file: Excel writes them when it saves, programs that make
workbooks seldom do, and then the cell reads as empty."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_FORMULA = re.compile(rb"<(?:\w{1,40}:)?f[ />]")
_SHEETS = "xl/worksheets/"
_STEP = 1_000_000
_OVERLAP = 64


def any_formula(path: Path) -> bool:
    """Whether any sheet of a workbook holds a formula; much quicker than reading it. False for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [one for one in archive.namelist() if one.startswith(_SHEETS) and one.endswith(".xml")]
            return any(_in_part(archive, name) for name in names)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        return False


def _in_part(archive: zipfile.ZipFile, name: str) -> bool:
    with archive.open(name) as part:
        tail = b""
        while chunk := part.read(_STEP):
            if _FORMULA.search(tail + chunk):
                return True
            tail = chunk[-_OVERLAP:]
    return False


class Formulas:
    """A sheet read a second time, for its formulas beside their results. Give it every row in turn."""

    def __init__(self, path: Path, sheet: str) -> None:
        import openpyxl

        self._file = path.open("rb")
        self._rows: Iterator[Sequence[Any]] = iter(())
        try:
            self._book = openpyxl.load_workbook(self._file, read_only=True, keep_links=False)
            made: Any = self._book[sheet]
            made.reset_dimensions()
            self._rows = made.iter_rows()
        except Exception:  # the first reading says what is wrong with a workbook
            self._file.close()

    def lacking(self, cells: Sequence[Any]) -> tuple[int, ...]:
        """Which of the cells of the next row (as they were read for their results) hold a formula without a result."""
        try:
            row = next(self._rows, ())
        except Exception:  # a formula that the reader cannot follow: what is not found stays as it was
            self._rows = iter(())
            return ()
        # A result that is an empty text has its type, "str"; no result has none.
        return tuple(
            at
            for at, (cell, formula) in enumerate(zip(cells, row, strict=False))
            if cell.value is None and cell.data_type != "str" and formula.data_type == "f"
        )

    def close(self) -> None:
        """Give the file back."""
        self._rows = iter(())
        self._file.close()
