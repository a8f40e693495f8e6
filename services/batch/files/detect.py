"""The format of a file, from its first bytes and lines; its name only decides where those leave it open.

`open_file` opens it in that format: its rows as (line, values), its columns, and the options it was read with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePath
from typing import Any, Literal

import orjson

from services.batch.files.csv import NAMES, Table
from services.batch.files.errors import MAX_COLUMNS, LineFault, Log, Refused, excerpt, plural
from services.batch.files.json import items, parse, too_long
from services.batch.files.source import GZIP, HEAD, Source, TooLong, lines
from services.batch.files.tables import Columns, Workbook, inside
from services.batch.files.vendor_formats import Shape, shape_of
from services.batch.types import Choice, Format, Options
from services.types import Json

_CSV = "Save it as CSV UTF-8 and upload that."
_MARKS: tuple[tuple[bytes, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", f"an Excel 97 workbook (.xls), or one with a password. {_CSV}"),
    (b"%PDF", "a PDF. Save the table in it as CSV UTF-8."),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd. Unpack it, or pack the text with gzip."),
    (b"BZh", "compressed with bzip2. Unpack it, or pack the text with gzip."),
    (b"\xfd7zXZ\x00", "compressed with xz. Unpack it, or pack the text with gzip."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive. Unpack it and upload the text."),
    (b"Rar!", "a RAR archive. Unpack it and upload the text."),
    (b"SQLite format 3\x00", "an SQLite database. Export the table as CSV UTF-8."),
    (b"\x89PNG", "a picture. Only texts can be sent."),
    (b"\xff\xd8\xff", "a picture. Only texts can be sent."),
    (b"GIF8", "a picture. Only texts can be sent."),
    (b"{\\rtf", f"a text document (RTF). {_CSV}"),
)
_ZIPS = {
    "xlsb": f"a binary Excel workbook (.xlsb). {_CSV}",
    "ods": f"an OpenDocument file. {_CSV}",
    "word": f"a Word document. {_CSV}",
    "zip": "a zip archive. Unpack it and upload the file inside, or save the table as CSV UTF-8.",
    "broken": "a damaged zip or Excel file. Upload it again, or save the table as CSV UTF-8.",
}
_WIDE = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_SUFFIXES: Mapping[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xlsx": "excel",
    ".xlsm": "excel",
}
WORDS: Mapping[Format, str] = {
    "csv": "a CSV file",
    "tsv": "a tab-separated file",
    "jsonl": "JSON Lines",
    "json": "a JSON array",
    "openai": "an OpenAI batch file",
    "anthropic": "an Anthropic batch file",
    "bedrock": "a Bedrock batch file",
    "parquet": "a Parquet file",
    "excel": "an Excel workbook",
}
_JSONS = ("jsonl", "json", "openai", "anthropic", "bedrock")
_SAMPLE = 20
_ARRAY = re.compile(rb"\s*\[\s*(?:\{|\Z)")


def suffix_format(name: str) -> Format | None:
    """The format that a file's name promises."""
    path = PurePath(name.lower())
    return _SUFFIXES.get(PurePath(path.stem).suffix if path.suffix == ".gz" else path.suffix)


def container(source: Source) -> Literal["text", "parquet", "excel"]:
    """Whether a file is text, by its first bytes. Raises `Refused` for what is none of the three."""
    magic = source.magic()
    if not magic:
        raise Refused("empty", "No records found. The file is empty.")
    if magic.startswith(b"PAR1"):
        return "parquet"
    if magic.startswith(b"PK\x03\x04") or magic.startswith(b"PK\x05\x06"):
        kind = inside(source.path)
        if kind == "excel":
            return "excel"
        raise Refused("binary", f"The file is {_ZIPS[kind]}")
    refuse_binary(magic, "The file is")
    return "text"


def refuse_binary(start: bytes, subject: str) -> None:
    """Raises `Refused` for what begins like something that is no UTF-8 text."""
    for mark, name in _WIDE:
        if start.startswith(mark):
            mark_bytes = " ".join(f"{byte:02X}" for byte in mark)
            raise Refused(
                "utf16", f"File looks like {name} (first bytes {mark_bytes}). Save as UTF-8.", found=mark_bytes
            )
    for mark, description in _MARKS:
        if start.startswith(mark):
            raise Refused("binary", f"{subject} {description}")


def text_head(source: Source) -> bytes:
    """The beginning of a text, without a byte order mark. Raises `Refused` for what is not text at all."""
    head = source.head()
    if source.magic().startswith(GZIP):
        if head[:2] == GZIP:
            raise Refused("gzip", "The file is packed with gzip twice. Unpack it once and upload that.")
        refuse_binary(head, "The file in the gzip is")
        if head[:4] in (b"PK\x03\x04", b"PAR1"):
            raise Refused("gzip", "Only texts can be packed with gzip; upload the workbook or Parquet file as it is.")
    head = head.removeprefix(b"\xef\xbb\xbf")
    if not head:
        raise Refused("empty", "No records found. The file is empty.")
    start = head[:4096]
    if start.count(0) > len(start) // 4:
        even, odd = start[::2].count(0), start[1::2].count(0)
        if max(even, odd) > len(start) // 3 and min(even, odd) < len(start) // 20 + 1:
            raise Refused("utf16", "File looks like UTF-16 (every other byte is 00). Save as UTF-8.")
    strange = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in start)
    if strange > len(start) // 3 or (strange > len(start) // 20 and not _utf8(start)):
        raise Refused("binary", f"The file is binary, not text. {_CSV}")
    return head


def _utf8(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4  # a letter that the cut went through
    return True


def samples(head: bytes, encoding: str = "utf-8") -> list[Any]:
    """The first lines of a text that are JSON, parsed; the last, cut one only if it is whole."""
    if encoding != "utf-8":
        head = head.decode(encoding, "replace").encode()
    parsed: list[Any] = []
    for line in head.splitlines()[:200]:
        if not line.strip():
            continue
        try:
            parsed.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            continue
        if len(parsed) == _SAMPLE:
            break
    return parsed


def text_format(head: bytes, name: str, requested: Format | None) -> Format:
    """Which format of text it is; "jsonl" stands for the vendors' too, which `vendor` tells apart."""
    if requested is not None:
        return "jsonl" if requested in _JSONS[2:] else requested
    promised = suffix_format(name)
    first = head.lstrip()[:1]
    if first == b"[" and not (promised in ("csv", "tsv") and not _ARRAY.match(head)):
        parsed = samples(head[:HEAD])
        one_line = [line for line in head.splitlines() if line.strip()]
        lists = len(parsed) > 1 and all(isinstance(value, list) for value in parsed) and len(one_line) > 1
        return "jsonl" if lists else "json"
    if first == b"{":
        lines = [line.strip() for line in head.splitlines() if line.strip()]
        # {"a": 1, and its end on a later line: an object for people.
        if not any(isinstance(value, dict) for value in samples(head)) and len(lines) > 1 and _spread(lines):
            return "json"
        return "jsonl"
    begins = sum(line.lstrip()[:1] == b"{" for line in head.splitlines()[:_SAMPLE])
    if begins or promised in ("jsonl", "json"):
        # A file named .jsonl that holds a table is a table.
        if not begins and _tabular(head):
            return "tsv" if b"\t" in head.split(b"\n", 1)[0] else "csv"
        if begins * 2 >= min(_SAMPLE, len(head.splitlines()[:_SAMPLE])) or promised in ("jsonl", "json"):
            return "jsonl"
    header = head.splitlines()[0] if head.splitlines() else b""
    if promised == "tsv" or (promised != "csv" and b"\t" in header and b"," not in header):
        return "tsv"
    return "csv"


def _spread(lines: list[bytes]) -> bool:
    return lines[0] in (b"{", b"{}") or lines[0].endswith((b"{", b"[", b",")) or lines[1].startswith((b"}", b'"'))


def _tabular(head: bytes) -> bool:
    lines = [line for line in head.splitlines()[:_SAMPLE] if line.strip()]
    return len(lines) > 1 and any(
        lines[0].count(mark) and lines[0].count(mark) == lines[1].count(mark) for mark in (b",", b"\t", b";")
    )


def common_shape(values: list[Any]) -> Shape:
    """Whose format most of the first records are in."""
    shapes = [shape_of(value) for value in values if isinstance(value, dict)]
    return max(set(shapes), key=lambda shape_name: (shapes.count(shape_name), shape_name != "own"), default="own")


def vendor(options: Options, values: list[Any]) -> Shape:
    """Our own format, or that of the vendor whose lines are converted. Raises `Refused` with a choice where another
    vendor's was asked for."""
    seen = common_shape(values)
    if options.format not in ("openai", "anthropic", "bedrock"):
        return "own" if options.format == "jsonl" else seen
    if seen != "own" and seen != options.format:
        description = WORDS[seen]
        raise Refused(
            "wrong_vendor",
            f"This is {description}, not {WORDS[options.format]}; convert? Its lines become requests to any "
            "deployment; what does not carry over is listed.",
            choices=(Choice(f"Convert it from {description}", replace(options, format=seen)),),
        )
    return options.format


def family(form: Format) -> str:
    """Formats that a name does not tell apart."""
    return "json" if form in _JSONS else form


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
    kind = container(source)
    if kind == "text":
        return _text(source, options, name, log)
    if options.format not in (None, kind):
        actual, requested = WORDS[kind], WORDS[options.format]
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
    head = text_head(source)
    if options.format in ("parquet", "excel"):
        again = Choice("Recognise what it is", replace(options, format=None))
        requested = WORDS[options.format]
        raise Refused("format", f"The file is text, not {requested}. Read it as what it is.", choices=(again,))
    form = text_format(head, name, options.format)
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
        shape = common_shape(values)
        opened = Opened(replace(options, format="json"), _items(source, log, options), {}, shape, loose=True)
    else:
        values = samples(head, options.encoding)
        shape = vendor(options, values)
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
