"""Export of a batch: its results beside the columns of its file, in the file's order; CSV, JSONL, Parquet, Excel.

Written line by line: memory does not grow with the batch. JSONL holds every value as it was; in CSV and Excel a text
that a spreadsheet would run is preceded by an apostrophe, unless a machine reads it (``escape=False``). No key leaves.
"""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, BinaryIO, Literal

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from db.batch_rows import CalledLine
from db.types import REPLACEMENT, storable
from services.call_record import usage_of
from services.formatting import safe_cell
from services.runs.record import usd
from services.security import keys
from services.types import JsonMapping

Kind = Literal["csv", "jsonl", "parquet", "excel"]

ENDINGS: Mapping[Kind, str] = {"csv": "csv", "jsonl": "jsonl", "parquet": "parquet", "excel": "xlsx"}

TYPES: Mapping[Kind, str] = {
    "csv": "text/csv",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "excel": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}

AT_ONCE = 500

PREFIX = "lab_"

# Of each line its original values by name and our values in the order of `RESULTS`.
Portion = list[tuple[JsonMapping, list[Any]]]


@dataclass(frozen=True, slots=True)
class Column:
    """One result column: its name without the prefix, how it is read from a line, and what it holds."""

    name: str
    read: Callable[[CalledLine], Any]
    holds: type[str] | type[int] | type[float]


def _usd(row: CalledLine) -> str | None:
    cost = row.get("cost_nanousd")
    return None if cost is None else usd(int(cost))


def _error(row: CalledLine) -> str | None:
    return None if row.get("state") == "succeeded" else row.get("message")


RESULTS: tuple[Column, ...] = (
    Column("line", lambda row: row.get("line"), int),
    Column("id", lambda row: row.get("record_id"), str),
    Column("state", lambda row: row.get("state"), str),
    Column("answer", lambda row: row.get("answer"), str),
    Column("error", _error, str),
    Column("outcome", lambda row: row.get("outcome"), str),
    Column("attempts", lambda row: row.get("attempts"), int),
    Column("model", lambda row: row.get("model_reported") or row.get("model"), str),
    Column("input_tokens", lambda row: usage_of(row).input_total, int),
    Column("cached_input_tokens", lambda row: row.get("cache_read"), int),
    Column("output_tokens", lambda row: usage_of(row).output_total, int),
    Column("reasoning_tokens", lambda row: row.get("reasoning_output"), int),
    Column("ttft_ms", lambda row: row.get("ttft_ms"), float),
    Column("ttlt_ms", lambda row: row.get("ttlt_ms"), float),
    Column("cost_usd", _usd, str),
    Column("cost_state", lambda row: row.get("cost_state"), str),
)


@dataclass(frozen=True, slots=True)
class Written:
    """What was written. ``notes``: what is different from what one would expect, each a sentence."""

    n: int
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """The head of a file: the original columns and the names of ours, none of them twice."""

    columns: tuple[str, ...]
    results: tuple[str, ...]
    renamed: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in order."""
        return (*self.columns, *self.results)


def sheet(columns: Sequence[str]) -> Sheet:
    """Where a name of ours is one of the file's (whatever its case), ours gets a number behind it."""
    own = tuple(dict.fromkeys(storable(str(column)) for column in columns))
    taken, results, renamed = {name.casefold() for name in own}, [], {}
    for column in RESULTS:
        usual = PREFIX + column.name
        name = _free(usual, taken)
        if name != usual:
            renamed[usual] = name
        taken.add(name.casefold())
        results.append(name)
    return Sheet(own, tuple(results), renamed)


def write(
    rows: Iterable[CalledLine],
    columns: Sequence[str],
    kind: Kind,
    target: BinaryIO,
    *,
    escape: bool = True,
    n: int | None = None,
) -> Written:
    """Write lines (`db.batches.each_line`) with the file's ``columns`` in front of ours; ``target`` stays open.

    ``n``: how many there will be, where that is known, so that Excel can refuse before any is read. Raises ValueError
    in words for more than a sheet of Excel holds; nothing has been written to ``target`` then.
    """
    head, resent = sheet(columns), ResentLines()
    rows = resent.counted(rows)
    if kind == "csv":
        done, notes = _csv(rows, head, target, escape)
    elif kind == "jsonl":
        done, notes = _jsonl(rows, head, target)
    elif kind == "parquet":
        done, notes = parquet(chunks(rows), head, target)
    else:
        done, notes = excel(chunks(rows), head, target, escape, n)
    notices = [
        f"“{usual}” is a column of the file already: ours is called “{name}”." for usual, name in head.renamed.items()
    ]
    return Written(done, head.names, (*notices, *notes, *resent.notices(head)))


class ResentLines:
    """Counts the lines that were sent more than once: only their costs are of all attempts."""

    n = 0

    def counted(self, rows: Iterable[CalledLine]) -> Iterator[CalledLine]:
        """The same rows."""
        for row in rows:
            self.n += (row.get("attempts") or 0) > 1
            yield row

    def notices(self, head: Sheet) -> list[str]:
        """The sentence on them."""
        if not self.n:
            return []
        lines = "1 line was" if self.n == 1 else f"{self.n:,} lines were"
        name = head.results[[column.name for column in RESULTS].index("cost_usd")]
        return [f"{lines} sent more than once: “{name}” is what all attempts cost, the rest is of the last one."]


def chunks(rows: Iterable[CalledLine]) -> Iterator[Portion]:
    """Lines in portions: of each its original values by name and our values in the order of `RESULTS`; without keys."""
    remaining = iter(rows)
    while portion := list(islice(remaining, AT_ONCE)):
        yield scrubbed([(row.get("original") or {}, [column.read(row) for column in RESULTS]) for row in portion])


def cells(original: JsonMapping, head: Sheet) -> list[Any]:
    """The original values of one line in the order of the file's columns; nested ones as JSON."""
    return [flat(original.get(name)) for name in head.columns]


def flat(value: Any) -> Any:
    """A value that fits into one cell."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def beyond(n: int) -> list[str]:
    """The sentence for lines with fields that are no column of the file."""
    if not n:
        return []
    lines = "line has fields" if n == 1 else "lines have fields"
    return [f"{n:,} {lines} that are no column of the file: JSONL has them."]


def _free(usual: str, taken: set[str]) -> str:
    name, number = usual, 1
    while name.casefold() in taken:
        number += 1
        name = f"{usual}_{number}"
    return name


def _csv(rows: Iterable[CalledLine], head: Sheet, target: BinaryIO, escape: bool) -> tuple[int, list[str]]:
    out, n, odd = io.StringIO(newline=""), 0, 0
    writer = csv.writer(out)
    safe: Callable[[Any], Any] = _safe if escape else lambda value: value
    columns = frozenset(head.columns)
    writer.writerow([safe(name) for name in head.names])
    for portion in chunks(rows):
        for original, results in portion:
            writer.writerow([safe(cell) for cell in (*cells(original, head), *results)])
            odd += not columns.issuperset(original)
        n += len(portion)
        _drain(out, target)
    _drain(out, target)
    return n, beyond(odd)


def _safe(value: Any) -> Any:
    # Most texts begin with a letter, and looking closer takes most of the time of an export.
    return value if isinstance(value, str) and value[:1].isascii() and value[:1].isalpha() else safe_cell(value)


def _drain(out: io.StringIO, target: BinaryIO) -> None:
    target.write(storable_bytes(out.getvalue()))
    out.seek(0)
    out.truncate()


def storable_bytes(text: str) -> bytes:
    """UTF-8; a lone surrogate, which no UTF-8 can hold, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _jsonl(rows: Iterable[CalledLine], head: Sheet, target: BinaryIO) -> tuple[int, list[str]]:
    n = 0
    for portion in chunks(rows):
        lines = []
        for original, results in portion:
            line = dict(original)
            taken = {str(name).casefold() for name in line}
            for name, value in zip(head.results, results, strict=True):
                line[_free(name, taken)] = value
            lines.append(json.dumps(line, ensure_ascii=False, default=str))
        n += len(portion)
        target.write(storable_bytes("\n".join(lines) + "\n"))
    return n, []


EXCEL_ROWS = 1_048_575  # without the line of names

EXCEL_COLUMNS = 16_384

EXCEL_TEXT = 32_767

EXCEL_EXACT = 10**15  # Excel keeps 15 digits of a number

FLOAT_EXACT = 2**53

INT64 = 2**63

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
        worksheet = book.create_sheet("results")
        writer = _Cells(worksheet, escape)
        worksheet.append([writer.cell(name) for name in head.names])
        done = odd = 0
        columns = frozenset(head.columns)
        for portion in portions:
            done += len(portion)
            if done > EXCEL_ROWS:
                raise ValueError(_too_many())
            for original, results in portion:
                odd += not columns.issuperset(original)
                worksheet.append([writer.cell(cell) for cell in (*cells(original, head), *_as_numbers(results))])
        book.save(target)
    except BaseException:
        _forget(book)
        raise
    return done, [*writer.notes(), *beyond(odd)]


def _forget(book: Workbook) -> None:
    """Take away the temporary files of sheets that were never saved: openpyxl would keep them until the end of the
    process."""
    for worksheet in book.worksheets:
        writer = getattr(worksheet, "_writer", None)
        if writer is not None:
            with suppress(Exception):
                worksheet.close()
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

    def __init__(self, worksheet: Any, escape: bool) -> None:
        self.sheet, self.escape = worksheet, escape
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
        cell = WriteOnlyCell(self.sheet, value=text)
        cell.data_type = "s"  # openpyxl would make a formula of "=…" and an error of "#N/A"
        return cell

    def notes(self) -> list[str]:
        notices = []
        if self.cut:
            subject = "text is" if self.cut == 1 else "texts are"
            notices.append(
                f"{self.cut:,} {subject} longer than Excel's {EXCEL_TEXT:,} characters a cell and end in “…”."
            )
        if self.replaced:
            subject = "cell" if self.replaced == 1 else "cells"
            notices.append(f"{self.replaced:,} {subject} had control characters that Excel refuses, replaced by “�”.")
        return notices


# --- Parquet -------------------------------------------------------------------------------------------------------
def parquet(portions: Iterable[Portion], head: Sheet, target: BinaryIO) -> tuple[int, list[str]]:
    """A Parquet file with typed columns: what a column holds is known only at its end, so the lines are laid down in
    a temporary file first."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, set[str]] = {name: set() for name in head.columns}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass", newline="\n") as laid:
        done, odd = _lay(portions, head, laid, kinds)
        types = {name: _type(kind_names) for name, kind_names in kinds.items()}
        arrow = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
        own = {str: "str", int: "int", float: "float"}
        results = ["float" if column.name == "cost_usd" else own[column.holds] for column in RESULTS]
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
    mixed = [
        name for name, kind_names in kinds.items() if types[name] == "str" and not kind_names <= {"str", "none", "json"}
    ]
    notes = [f"“{name}” holds values of different kinds and is written as text." for name in mixed]
    return done, [*notes, *beyond(odd)]


def _lay(portions: Iterable[Portion], head: Sheet, laid: IO[str], kinds: dict[str, set[str]]) -> tuple[int, int]:
    done = odd = 0
    columns = frozenset(head.columns)
    for portion in portions:
        for original, results in portion:
            row = [original.get(name) for name in head.columns]
            for name, value in zip(head.columns, row, strict=True):
                kinds[name].add(_kind(value))
            odd += not columns.issuperset(original)
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
        return "int" if abs(value) <= FLOAT_EXACT else "long" if -INT64 <= value < INT64 else "huge"
    return "float" if isinstance(value, float) else "str" if isinstance(value, str) else "json"


def _type(kinds: set[str]) -> str:
    """The type of a column; "str" for what no other can hold exactly."""
    present = kinds - {"none"}
    if present and present <= {"int", "long"}:
        return "int"
    if present and present <= {"int", "float"}:
        return "float"
    return "bool" if present == {"bool"} else "str"


def _as(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "str":
        return storable(str(flat(value)))
    return float(value) if kind == "float" else value


# A quote between two NULs: no pattern of `keys` reaches over it, and no cell holds it (the database keeps no NUL).
BETWEEN = '\0"\0'


def scrubbed(lines: Portion) -> Portion:
    """The same lines; where a text in them holds a key, with ``[hidden]`` in its place. Other values are untouched."""
    texts = [text for original, results in lines for value in (original, results) for text in _texts(value)]
    joined = BETWEEN.join(texts)
    scrubbed_text = keys.scrub(joined)
    if scrubbed_text == joined:
        return lines
    parts = scrubbed_text.split(BETWEEN)
    if len(parts) != len(texts):
        parts = [keys.scrub(text) for text in texts]
    remaining = iter(parts)
    return [(_rebuilt(original, remaining), _rebuilt(results, remaining)) for original, results in lines]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)


def _rebuilt(value: Any, texts: Iterator[str]) -> Any:
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, Mapping):
        return {name: _rebuilt(entry, texts) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rebuilt(entry, texts) for entry in value]
    return value
