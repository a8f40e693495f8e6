"""Excel workbooks, row by row, and Parquet, a few rows at a time."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from services.batch.files.csv import named
from services.batch.files.errors import LineFault, Log, Refused, excerpt, listed, plural
from services.batch.files.source import MAX_RATIO, Source
from services.batch.files.templates import plain
from services.batch.types import Choice, Options
from services.types import Json

MAX_GROUP_BYTES = 4_000_000_000

MAX_ROWS = 20_000_000

_ROWS = 256  # of one reading


class Columns:
    """A Parquet file: rows come as (row, values by column); the row counts from 1."""

    def __init__(self, source: Source, log: Log) -> None:
        pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")  # 0.2 s
        log.word = "Row"
        self.source, self.log = source, log
        self._trouble = (pa.ArrowException, OSError, ValueError, KeyError, UnicodeDecodeError)
        try:
            # Without a buffer in advance a row group of any size is read page by page.
            self.file = pq.ParquetFile(
                source.path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
            )
            meta = self.file.metadata
        except self._trouble as error:
            raise _damaged_parquet(error) from None
        largest = max((meta.row_group(i).total_byte_size for i in range(meta.num_row_groups)), default=0)
        if largest > MAX_GROUP_BYTES or meta.num_rows > MAX_ROWS:
            self.close()
            raise Refused(
                "too_large",
                f"The Parquet file holds {plural(meta.num_rows, 'row')} and up to {largest / 1e9:,.1f} GB in one row "
                f"group; at most {MAX_ROWS:,} rows and {MAX_GROUP_BYTES / 1e9:,.0f} GB are read. Split it.",
            )

    def close(self) -> None:
        """Give the file back."""
        self.file.close()

    def start(self) -> list[str]:
        """The names of the columns. Raises `Refused` for a name that stands twice."""
        header = named(list(self.file.schema_arrow.names))
        if self.file.metadata.num_rows == 0:
            raise Refused("empty", "No records found. The Parquet file has columns and no rows.")
        return header

    def rows(self) -> Iterator[tuple[int, Json]]:
        """Every row."""
        row, size, log = 0, self.source.n_bytes, self.log
        all_rows = max(1, self.file.metadata.num_rows)
        names = named(list(self.file.schema_arrow.names))
        try:
            for batch in self.file.iter_batches(batch_size=_ROWS, use_threads=False):
                columns = [column.to_pylist() for column in batch.columns]
                for values in zip(*columns, strict=True):
                    row += 1
                    log.n_records += 1
                    yield row, {name: plain(value) for name, value in zip(names, values, strict=True)}
                self.source.done = size * row // all_rows
                self.source.n_records = log.n_records
                self.source.tick()
        except self._trouble as error:
            raise _damaged_parquet(error) from None


def _damaged_parquet(error: Exception) -> Refused:
    reason = excerpt(str(error), 60)
    return Refused("damaged", f"The Parquet file is damaged or cut short ({reason}). Write or upload it again.")


MAX_SHEETS_BYTES = 2_000_000_000  # streamed

MAX_PART_BYTES = 256_000_000  # what openpyxl keeps in memory: the table of shared texts

_RATIO_FROM = 16_000_000

_AS_CSV = "Save it as CSV UTF-8 and upload that."

NO_RESULT = "whose result is not in the file. Open the workbook in Excel, save it, and upload it again."

_CUT_AT = 32_767  # characters that an Excel cell can hold


def inside(path: Path) -> str:
    """What a zip holds: "excel", "xlsb", "ods", "word", "zip" or "broken". Nothing is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "broken"
    if "xl/workbook.xml" in names:
        return "excel"
    if "xl/workbook.bin" in names:
        return "xlsb"
    if "word/document.xml" in names:
        return "word"
    return "ods" if "content.xml" in names and "mimetype" in names else "zip"


def check_sizes(path: Path) -> None:
    """Raises `Refused` for a workbook that declares more than a workbook of prompts needs (a zip bomb). Python's reader
    gives no more than what is declared, so a lie ends in a damaged file, not in a full memory."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    total = sum(member.file_size for member in parts)
    packed = sum(member.compress_size for member in parts)
    if total > _RATIO_FROM and total > MAX_RATIO * max(1, packed):
        raise Refused(
            "bomb",
            f"The workbook unpacks to {total / 1e6:,.0f} MB, more than {MAX_RATIO} times its size; it was not opened. "
            f"If it is right: {_AS_CSV[0].lower()}{_AS_CSV[1:]}",
        )
    largest = max((member.file_size for member in parts if not member.filename.startswith("xl/worksheets/")), default=0)
    if total > MAX_SHEETS_BYTES or largest > MAX_PART_BYTES:
        raise Refused("too_large", f"The workbook unpacks to {total / 1e6:,.0f} MB, too much to read. {_AS_CSV}")


class Workbook:
    """One sheet of a workbook: the first row that is not empty is the header, formulas count by their last value.

    ``lacking``: the columns of the row that came last which hold a formula without a value.
    """

    def __init__(self, source: Source, log: Log, options: Options) -> None:
        import openpyxl  # 0.3 s

        log.word = "Row"
        self.source, self.log = source, log
        self.formulas: Formulas | None = None
        check_sizes(source.path)
        self.file = source.path.open("rb")  # by its path, openpyxl would go by the name
        try:
            self.book = openpyxl.load_workbook(self.file, read_only=True, data_only=True, keep_links=False)
        except Exception as error:  # openpyxl raises whatever its XML reader does
            self.file.close()
            raise _damaged(error) from None
        names = [sheet.title for sheet in self.book.worksheets]
        if not names:
            self.close()
            raise Refused("empty", "No records found. The workbook has no sheet with cells.")
        self.sheet = names[0] if options.sheet is None else options.sheet
        sheet_choices = [
            Choice(f"Read the sheet “{excerpt(n, 40)}”", _with_sheet(options, n)) for n in names if n != self.sheet
        ]
        if self.sheet not in names:
            self.close()
            raise Refused(
                "no_sheet", f"No sheet '{excerpt(self.sheet, 40)}'. Found: {listed(names)}.", choices=sheet_choices[:10]
            )
        self.formulas = Formulas(source.path, self.sheet) if any_formula(source.path) else None
        self.lacking: tuple[str, ...] = ()
        for choice in sheet_choices[:10]:
            log.offer(choice)
        if sheet_choices:
            log.notice(f"The workbook has {len(names)} sheets; “{excerpt(self.sheet, 40)}” was read.")
        self.cells = self._cells()
        self.header: list[str] = []

    def close(self) -> None:
        """Give the file back."""
        if self.formulas is not None:
            self.formulas.close()
        self.book.close()
        self.file.close()

    def start(self) -> list[str]:
        """Read the header. Raises `Refused` where there is none that can be used."""
        for row, values, lacking in self.cells:
            if lacking:
                raise Refused("formula", f"Row {row}: the names of the columns hold a formula {NO_RESULT}", line=row)
            texts = [value if isinstance(value, str) else "" if value is None else str(value) for value in values]
            while texts and not texts[-1].strip():
                texts.pop()
            self.header = named(texts)
            return self.header
        raise Refused("empty", f"No records found. The sheet “{excerpt(self.sheet, 40)}” is empty.")

    def rows(self) -> Iterator[tuple[int, Json]]:
        """The rows below the header; empty cells are None."""
        width, log = len(self.header), self.log
        cut = 0
        for row, values, lacking in self.cells:
            log.n_records += 1
            beyond = [value for value in values[width:] if value is not None]
            if beyond:
                text = f"{plural(len(values), 'field')}, header has {width}. Give every column a name in the header."
                log.add(row, LineFault("ragged", text, found=excerpt(beyond[0])))
                continue
            padded = values[:width] + [None] * (width - len(values))
            cut += any(isinstance(value, str) and len(value) >= _CUT_AT for value in padded)
            self.lacking = tuple(self.header[index] for index in lacking if index < width)
            yield row, dict(zip(self.header, padded, strict=True))
        if cut:
            log.notice(
                f"{plural(cut, 'record')} hold a text of {_CUT_AT:,} characters, the most that Excel keeps in a cell: "
                "the rest may be missing."
            )

    def _cells(self) -> Iterator[tuple[int, list[Any], tuple[int, ...]]]:
        """(row, values, places of formulas without a value) of the rows that are not empty."""
        sheet: Any = self.book[self.sheet]
        sheet.reset_dimensions()  # what the file says of its size can be wrong
        size, formulas = self.source.n_bytes, self.formulas
        rows = max(sheet.max_row or 0, 1)
        lacking: tuple[int, ...] = ()
        try:
            for row, cells in enumerate(sheet.iter_rows(values_only=formulas is None), 1):
                if row % 64 == 0:
                    self.source.done = min(size, size * row // max(rows, row + 1))
                    self.source.n_records = self.log.n_records
                    self.source.tick()
                if formulas is None:
                    values = [plain(value) for value in cells]
                else:
                    values, lacking = [plain(cell.value) for cell in cells], formulas.lacking(cells)
                while values and values[-1] is None:
                    values.pop()
                filled = any(value is not None and (not isinstance(value, str) or value.strip()) for value in values)
                if filled or lacking:
                    yield row, values, lacking
                elif self.header:
                    self.log.n_blank += 1
        except Refused:
            raise
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, KeyError, SyntaxError) as error:
            raise _damaged(error) from None


def _damaged(error: Exception) -> Refused:
    reason = excerpt(str(error), 60)
    return Refused("damaged", f"The Excel workbook is damaged and cannot be read ({reason}). Open and save it again.")


def _with_sheet(options: Options, sheet: str) -> Options:
    return replace(options, format="excel", sheet=sheet)


_FORMULA = re.compile(rb"<(?:\w{1,40}:)?f[ />]")

_SHEETS = "xl/worksheets/"

_STEP = 1_000_000

_OVERLAP = 64


def any_formula(path: Path) -> bool:
    """Whether any sheet of a workbook holds a formula; much quicker than reading it. False for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [member for member in archive.namelist() if member.startswith(_SHEETS) and member.endswith(".xml")]
            return any(_member_has_formula(archive, name) for name in names)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        return False


def _member_has_formula(archive: zipfile.ZipFile, name: str) -> bool:
    with archive.open(name) as file:
        tail = b""
        while chunk := file.read(_STEP):
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
            worksheet: Any = self._book[sheet]
            worksheet.reset_dimensions()
            self._rows = worksheet.iter_rows()
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
            index
            for index, (cell, formula) in enumerate(zip(cells, row, strict=False))
            if cell.value is None and cell.data_type != "str" and formula.data_type == "f"
        )

    def close(self) -> None:
        """Give the file back."""
        self._rows = iter(())
        self._file.close()
