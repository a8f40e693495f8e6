"""Opening a file in its format: its rows as (line, values), its columns, and the options it was read with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from services.batch.files import detect
from services.batch.files.csv import NAMES, Table
from services.batch.files.errors import MAX_COLUMNS, LineFault, Log, Refused, excerpt, plural
from services.batch.files.json import items, parse, too_long
from services.batch.files.source import Source, TooLong, lines
from services.batch.files.tables import Columns, Workbook
from services.batch.files.vendor_formats import Shape
from services.batch.types import Choice, Options
from services.types import Json

_SAMPLE = 20


@dataclass
class Opened:
    """A file whose rows can be read once. ``loose``: rows are JSON objects, each with its own keys; ``columns`` are
    then those of the first ones (``samples``), and more may come."""

    options: Options
    rows: Iterator[tuple[int, Json]]
    columns: dict[str, None]
    shape: Shape = "own"
    loose: bool = False
    samples: tuple[Json, ...] = ()
    table: Workbook | Columns | None = None


def open_file(source: Source, options: Options, name: str, log: Log) -> Opened:
    """Recognise and open. Raises `Refused` with a sentence and, where there are, choices."""
    kind = detect.container(source)
    if kind == "text":
        return _text(source, options, name, log)
    if options.format not in (None, kind):
        actual, requested = detect.WORDS[kind], detect.WORDS[options.format]
        again = Choice(f"Read it as {actual}", replace(options, format=kind))
        raise Refused("format", f"The file is {actual}, not {requested}. Read it as what it is.", choices=(again,))
    table: Workbook | Columns = Workbook(source, log, options) if kind == "excel" else Columns(source, log)
    try:
        columns = dict.fromkeys(table.start())
    except Refused:
        table.close()
        raise
    sheet = table.sheet if isinstance(table, Workbook) else None
    return Opened(replace(options, format=kind, sheet=sheet), table.rows(), columns, table=table)


def _text(source: Source, options: Options, name: str, log: Log) -> Opened:
    head = detect.text_head(source)
    if options.format in ("parquet", "excel"):
        again = Choice("Recognise what it is", replace(options, format=None))
        requested = detect.WORDS[options.format]
        raise Refused("format", f"The file is text, not {requested}. Read it as what it is.", choices=(again,))
    form = detect.text_format(head, name, options.format)
    if form in ("csv", "tsv"):
        delimiter = options.delimiter or ("\t" if form == "tsv" else ",")
        table = Table(source, log, delimiter, options.encoding)
        columns = dict.fromkeys(table.start())
        opened = Opened(replace(options, format=form, delimiter=table.delimiter), table.rows(), columns)
        if options.delimiter is None:
            _doubt_delimiter(table, opened.options)
        return opened
    if form == "json":
        if options.format is None:
            _offer_array(source, head, options)
        values: list[Any] = []
        with suppress(Refused, LineFault):
            for _, raw in islice(items([head]), _SAMPLE):
                values.append(parse(raw, options.encoding))
        shape = detect.shape(values)
        opened = Opened(replace(options, format="json"), _items(source, log, options), {}, shape, loose=True)
    else:
        values = detect.samples(head, options.encoding)
        shape = detect.vendor(options, values)
        settled = replace(options, format="jsonl" if shape == "own" else shape)
        opened = Opened(settled, _json_lines(source, log, options), {}, shape, loose=True)
    opened.samples = tuple(value for value in values if isinstance(value, dict))
    for value in opened.samples:
        opened.columns.update(dict.fromkeys(islice(value, MAX_COLUMNS)))
    return opened


def _doubt_delimiter(table: Table, options: Options) -> None:
    """Raises `Refused` for one column whose name holds what may be the delimiter."""
    header = table.header[0]
    likely = sorted((mark for mark in NAMES if mark in header and mark != table.delimiter), key=header.count)[::-1]
    if len(table.header) > 1 or not likely:
        return
    delimiters = " or ".join("tab" if mark == "\t" else f"'{mark}'" for mark in likely)
    raise Refused(
        "delimiter",
        f"Only one column '{excerpt(header, 60)}'. Delimiter {delimiters}?",
        line=1,
        found=excerpt(header),
        choices=[
            Choice(
                f"Read with a {NAMES[mark]} as the delimiter",
                replace(options, format="tsv" if mark == "\t" else "csv", delimiter=mark),
            )
            for mark in likely
        ],
    )


def _offer_array(source: Source, head: bytes, options: Options) -> None:
    """Raises `Refused`: a JSON array is read when the person says so, with the number of its items in the question."""
    count = 0
    for _ in items(source.text()):
        count += 1
        source.n_records = count
    if count == 0:
        raise Refused("empty", "No records found. The JSON array is empty.")
    these = "This is" if count == 1 else "These are"
    description = f"{these} {plural(count, 'JSON object')} spread over several lines"
    if head.lstrip()[:1] == b"[":
        description = f"This is one JSON array of {plural(count, 'item')}"
    choice = Choice("Convert to JSONL", replace(options, format="json"))
    raise Refused("json_array", f"{description}: convert to JSONL?", line=1, choices=(choice,))


def _json_lines(source: Source, log: Log, options: Options) -> Iterator[tuple[int, Json]]:
    encoding = options.encoding
    for line, raw in enumerate(lines(source.text()), 1):
        if raw.isspace():
            log.n_blank += 1
            continue
        log.n_records += 1
        try:
            if type(raw) is TooLong:
                raise too_long()
            yield line, parse(raw, encoding, brief=log.brief)
        except LineFault as fault:
            log.add(line, fault)


def _items(source: Source, log: Log, options: Options) -> Iterator[tuple[int, Json]]:
    for line, raw in items(source.text()):
        log.n_records += 1
        try:
            yield line, parse(raw, options.encoding, brief=log.brief)
        except LineFault as fault:
            log.add(line, fault)
