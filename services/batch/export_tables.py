"""Results as Parquet and as Excel: the two kinds of file that want to know more than one line at a time."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, BinaryIO

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from db.types import REPLACEMENT, storable
from services.batch.export import RESULTS, Sheet, beyond, cells, flat
from services.runs.export import safe_cell

Portion = list[tuple[Mapping[str, Any], list[Any]]]
EXCEL_ROWS = 1_048_575  # without the line of names
EXCEL_COLUMNS = 16_384
EXCEL_TEXT = 32_767
EXCEL_EXACT = 10**15  # Excel keeps 15 digits of a number
FLOAT_EXACT = 2**53
INT64 = 2**63 - 1
GROUP = 10_000


# --- Excel ---------------------------------------------------------------------------------------------------------


def excel(
    portions: Iterable[Portion], head: Sheet, target: BinaryIO, escape: bool, n: int | None
) -> tuple[int, list[str]]:
    """One sheet, written to a file of openpyxl's own and copied to ``target`` at the end."""
    if len(head.names) > EXCEL_COLUMNS:
        raise ValueError(
            f"Excel holds {EXCEL_COLUMNS:,} columns and these results have {len(head.names):,}: take JSONL or Parquet."
        )
    if n is not None and n > EXCEL_ROWS:
        raise ValueError(_too_many())
    book = Workbook(write_only=True)
    try:
        made = book.create_sheet("results")
        writer = _Cells(made, escape)
        made.append([writer.cell(name) for name in head.names])
        done = odd = 0
        known = frozenset(head.columns)
        for portion in portions:
            done += len(portion)
            if done > EXCEL_ROWS:
                raise ValueError(_too_many())
            for original, results in portion:
                odd += not known.issuperset(original)
                made.append([writer.cell(one) for one in (*cells(original, head), *_as_numbers(results))])
        book.save(target)
    except BaseException:
        _forget(book)
        raise
    return done, [*writer.notes(), *beyond(odd)]


def _forget(book: Workbook) -> None:
    """Take away the temporary files of sheets that were never saved: openpyxl would keep them until the end of the
    process."""
    for one in book.worksheets:
        writer = getattr(one, "_writer", None)
        if writer is not None:
            with suppress(Exception):
                one.close()
            with suppress(OSError):
                writer.cleanup()


def _too_many() -> str:
    return f"A sheet of Excel holds {EXCEL_ROWS:,} lines and this batch has more: take CSV, JSONL or Parquet."


def _as_numbers(results: Sequence[Any]) -> list[Any]:
    """Ours with the cost as a number."""
    return [
        float(value) if column.name == "cost_usd" and value is not None else value
        for column, value in zip(RESULTS, results, strict=True)
    ]


class _Cells:
    """Makes cells that are what they are: a text is never a formula, a number never loses digits."""

    def __init__(self, made: Any, escape: bool) -> None:
        self.sheet, self.escape = made, escape
        self.cut = self.replaced = 0

    def cell(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            if math.isfinite(value) and abs(value) < EXCEL_EXACT:
                return value
            return self._text(str(value))
        return self._text(str(safe_cell(value) if self.escape else value))

    def _text(self, value: str) -> Any:
        text = ILLEGAL_CHARACTERS_RE.sub(REPLACEMENT, storable(value))
        text = text.replace("\ufffe", REPLACEMENT).replace("\uffff", REPLACEMENT)
        self.replaced += text != value
        # XML knows one end of line only, which is also Excel's.
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if len(text.encode("utf-16-le")) // 2 > EXCEL_TEXT:
            self.cut += 1
            text = text.encode("utf-16-le")[: 2 * (EXCEL_TEXT - 1)].decode("utf-16-le", "ignore") + "…"
        found = WriteOnlyCell(self.sheet, value=text)
        found.data_type = "s"  # openpyxl would make a formula of "=…" and an error of "#N/A"
        return found

    def notes(self) -> list[str]:
        found = []
        if self.cut:
            what = "text is" if self.cut == 1 else "texts are"
            found.append(f"{self.cut:,} {what} longer than Excel's {EXCEL_TEXT:,} characters a cell and end in “…”.")
        if self.replaced:
            what = "cell" if self.replaced == 1 else "cells"
            found.append(f"{self.replaced:,} {what} had control characters that Excel refuses, replaced by “�”.")
        return found


# --- Parquet -------------------------------------------------------------------------------------------------------


def parquet(portions: Iterable[Portion], head: Sheet, target: BinaryIO) -> tuple[int, list[str]]:
    """A Parquet file with typed columns: what a column holds is known only at its end, so the lines are laid down in
    a temporary file first."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, set[str]] = {name: set() for name in head.columns}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass", newline="\n") as laid:
        done, odd = _lay(portions, head, laid, kinds)
        types = {name: _type(found) for name, found in kinds.items()}
        arrow = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
        own = {str: "str", int: "int", float: "float"}
        results = ["float" if one.name == "cost_usd" else own[one.holds] for one in RESULTS]
        fields = [*types.values(), *results]
        schema = pa.schema([(name, arrow[kind]) for name, kind in zip(head.names, fields, strict=True)])
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            while lines := laid.readlines(8_000_000):
                columns = zip(*(json.loads(line) for line in lines), strict=True)
                arrays = [
                    pa.array([_as(value, kind) for value in column], type=arrow[kind])
                    for column, kind in zip(columns, fields, strict=True)
                ]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=GROUP)
    mixed = [name for name, found in kinds.items() if types[name] == "str" and not found <= {"str", "none", "json"}]
    notes = [f"“{name}” holds values of different kinds and is written as text." for name in mixed]
    return done, [*notes, *beyond(odd)]


def _lay(portions: Iterable[Portion], head: Sheet, laid: IO[str], kinds: dict[str, set[str]]) -> tuple[int, int]:
    done = odd = 0
    known = frozenset(head.columns)
    for portion in portions:
        for original, results in portion:
            row = [original.get(name) for name in head.columns]
            for name, value in zip(head.columns, row, strict=True):
                kinds[name].add(_kind(value))
            odd += not known.issuperset(original)
            # ASCII: no line of the temporary file is cut by a character that only some take for an end of line.
            laid.write(json.dumps([*row, *_as_numbers(results)], default=str) + "\n")
        done += len(portion)
    laid.seek(0)
    return done, odd


def _kind(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if abs(value) <= FLOAT_EXACT else "long" if -INT64 <= value <= INT64 else "huge"
    return "float" if isinstance(value, float) else "str" if isinstance(value, str) else "json"


def _type(kinds: set[str]) -> str:
    """The type of a column; "str" for what no other can hold exactly."""
    found = kinds - {"none"}
    if found and found <= {"int", "long"}:
        return "int"
    if found and found <= {"int", "float"}:
        return "float"
    return "bool" if found == {"bool"} else "str"


def _as(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "str":
        return storable(str(flat(value)))
    return float(value) if kind == "float" else value
