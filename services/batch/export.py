"""A batch's results beside the columns that it was made from, in the file's order, as CSV, JSONL, Parquet or Excel.

Written line by line: memory does not grow with the batch. JSONL holds every value as it was; in CSV and Excel a text
that a spreadsheet would run is preceded by an apostrophe, unless a machine reads it (``escape=False``). No key leaves.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, Literal

from db.types import storable
from services.batch.export_cells import scrubbed
from services.runs import view
from services.runs.export import safe_cell
from services.runs.record import usd

Row = Mapping[str, Any]
Kind = Literal["csv", "jsonl", "parquet", "excel"]
ENDINGS: Mapping[Kind, str] = {"csv": "csv", "jsonl": "jsonl", "parquet": "parquet", "excel": "xlsx"}
TYPES: Mapping[Kind, str] = {
    "csv": "text/csv", "jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet",
    "excel": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}  # fmt: skip
AT_ONCE = 500
PREFIX = "lab_"


@dataclass(frozen=True, slots=True)
class Column:
    """One result column: its name without the prefix, how it is read from a line, and what it holds."""

    name: str
    read: Callable[[Row], Any]
    holds: type[str] | type[int] | type[float]


def _usd(row: Row) -> str | None:
    cost = row.get("cost_nanousd")
    return None if cost is None else usd(int(cost))


def _error(row: Row) -> Any:
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
    Column("input_tokens", view.input_tokens, int),
    Column("cached_input_tokens", lambda row: row.get("cache_read"), int),
    Column("output_tokens", view.output_tokens, int),
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
    own = tuple(dict.fromkeys(storable(str(one)) for one in columns))
    taken, results, renamed = {one.casefold() for one in own}, [], {}
    for column in RESULTS:
        usual = PREFIX + column.name
        name = _free(usual, taken)
        if name != usual:
            renamed[usual] = name
        taken.add(name.casefold())
        results.append(name)
    return Sheet(own, tuple(results), renamed)


def write(
    rows: Iterable[Row], columns: Sequence[str], kind: Kind, target: BinaryIO, *, escape: bool = True,
    n: int | None = None,
) -> Written:  # fmt: skip
    """Write lines (`db.batches.each_line`) with the file's ``columns`` in front of ours; ``target`` stays open.

    ``n``: how many there will be, where that is known, so that Excel can refuse before any is read. Raises ValueError
    in words for more than a sheet of Excel holds; nothing has been written to ``target`` then.
    """
    head, again = sheet(columns), Again()
    rows = again.counted(rows)
    if kind == "csv":
        done, notes = _csv(rows, head, target, escape)
    elif kind == "jsonl":
        done, notes = _jsonl(rows, head, target)
    else:
        # Both are slow to import and seldom needed.
        from services.batch import export_tables

        if kind == "parquet":
            done, notes = export_tables.parquet(chunks(rows), head, target)
        else:
            done, notes = export_tables.excel(chunks(rows), head, target, escape, n)
    said = [f"“{usual}” is a column of the file already: ours is called “{name}”." for usual, name in
            head.renamed.items()]  # fmt: skip
    return Written(done, head.names, (*said, *notes, *again.said(head)))


class Again:
    """Counts the lines that were sent more than once: only their costs are of all attempts."""

    n = 0

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The same rows."""
        for row in rows:
            self.n += (row.get("attempts") or 0) > 1
            yield row

    def said(self, head: Sheet) -> list[str]:
        """The sentence on them."""
        if not self.n:
            return []
        lines = "1 line was" if self.n == 1 else f"{self.n:,} lines were"
        name = head.results[[one.name for one in RESULTS].index("cost_usd")]
        return [f"{lines} sent more than once: “{name}” is what all attempts cost, the rest is of the last one."]


def chunks(rows: Iterable[Row]) -> Iterator[list[tuple[Mapping[str, Any], list[Any]]]]:
    """Lines in portions: of each its original values by name and our values in the order of `RESULTS`; without keys."""
    left = iter(rows)
    while portion := list(islice(left, AT_ONCE)):
        yield scrubbed([(row.get("original") or {}, [one.read(row) for one in RESULTS]) for row in portion])


def cells(original: Mapping[str, Any], head: Sheet) -> list[Any]:
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


def _csv(rows: Iterable[Row], head: Sheet, target: BinaryIO, escape: bool) -> tuple[int, list[str]]:
    out, n, odd = io.StringIO(newline=""), 0, 0
    writer = csv.writer(out)
    safe: Callable[[Any], Any] = _safe if escape else lambda value: value
    known = frozenset(head.columns)
    writer.writerow([safe(name) for name in head.names])
    for portion in chunks(rows):
        for original, results in portion:
            writer.writerow([safe(one) for one in (*cells(original, head), *results)])
            odd += not known.issuperset(original)
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


def _jsonl(rows: Iterable[Row], head: Sheet, target: BinaryIO) -> tuple[int, list[str]]:
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
