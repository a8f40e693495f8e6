"""CSV and TSV: the standard library's strict reader, fed line by line, so that every record knows where it begins."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Literal, NoReturn

from services.batch.files.errors import MAX_COLUMNS, MAX_RECORD_BYTES, LineFault, Log, Refused, excerpt, listed, plural
from services.batch.files.json import not_text, nul, too_long
from services.batch.files.source import Source, TooLong, lines
from services.types import Json

_SEP = re.compile(r"sep=([,;\t|])\r?\n?\Z")
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


class Table:
    """A CSV or TSV file. ``header`` is there after `start`. Rows come as (line, values by column)."""

    def __init__(self, source: Source, log: Log, delimiter: str, encoding: Literal["utf-8", "cp1252"]) -> None:
        # Of the whole process: nothing else here reads CSV from outside.
        csv.field_size_limit(MAX_RECORD_BYTES)
        self.log, self.delimiter, self.encoding = log, delimiter, encoding
        self.lines = lines(source.text())
        self.line = 0  # the last one that was read
        self.size = 0  # bytes of the record as far as it was read
        self.pieces: list[str] = []  # its lines
        self.bad: LineFault | None = None
        self.header: list[str] = []

    def start(self) -> list[str]:
        """Read the header. Raises `Refused` where there is none that can be used."""
        for _first, cells in self._records():
            if self.line == 1 and (hint := _SEP.match(self.pieces[0])):
                self.delimiter = hint[1]  # Excel's own first line
                continue
            if self.bad is not None:
                location = f"Line {self.line}{f', {self.bad.position}' if self.bad.position else ''}"
                raise Refused(self.bad.code, f"{location}: {self.bad.text}", line=self.line, found=self.bad.found)
            self.header = named(cells)
            return self.header
        state = "has only blank lines" if self.log.n_blank else "is empty"
        raise Refused("empty", f"No records found. The file {state}.")

    def rows(self) -> Iterator[tuple[int, Json]]:
        """The records behind the header that have as many fields as it."""
        width, log = len(self.header), self.log
        for line, cells in self._records():
            log.n_records += 1
            if self.bad is not None:
                log.add(line, self.bad)
            elif len(cells) != width:
                log.add(line, ragged(cells, width))
            else:
                yield line, dict(zip(self.header, cells, strict=True))

    def _feed(self) -> Iterator[str]:
        for raw in self.lines:
            self.line += 1
            self.size += len(raw)
            if type(raw) is TooLong or self.size > MAX_RECORD_BYTES:
                self._too_long()
            try:
                text = raw.decode(self.encoding)
            except UnicodeDecodeError as error:
                # Told when the record it belongs to is known; its quotes still count.
                fault = not_text(raw, error.start, self.encoding)
                if self.pieces:
                    fault.position = f"byte {error.start + 1} of line {self.line}"
                self.bad = self.bad or fault
                text = raw.decode("latin-1")
            if "\0" in text:
                self.bad = self.bad or nul(text)
            self.pieces.append(text)
            yield text

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        feed = self._feed()
        delimiter = self.delimiter
        reader = csv.reader(feed, delimiter=delimiter, strict=True)
        while True:
            first = self.line + 1
            self.pieces.clear()
            self.size, self.bad = 0, None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fault = self._broken(first, str(error))
                if not self.header:
                    raise Refused(fault.code, f"Line {first}: {fault.text}", line=first) from None
                self.log.n_records += 1
                self.log.add(first, self.bad or fault)
                continue
            if not cells or (not cells[0].strip() and not "".join(cells).strip()):
                self.log.n_blank += 1
                continue
            yield first, cells
            if delimiter != self.delimiter:
                delimiter = self.delimiter
                reader = csv.reader(feed, delimiter=delimiter, strict=True)

    def _broken(self, first: int, reason: str) -> LineFault:
        """A record that the reader refused. Where it cannot be known what comes behind it, the file is refused."""
        opened = open_quote(self.pieces, first, self.delimiter)
        record = "".join(self.pieces)
        if opened is not None and "expected after" not in reason:
            self._unclosed(opened)
        if len(self.pieces) > 1:
            raise Refused(
                "bad_quote",
                f"The quote opened on line {first} is closed on line {self.line} in the middle of a text, so it cannot "
                'be known where its record ends. Write quotes inside a text twice ("").',
                line=first,
                found=excerpt(self.pieces[-1]),
            )
        if record.count('"') % 2:
            self._unclosed(first)
        return LineFault(
            "bad_quote",
            'a quote inside a quoted text is not doubled. Write "" for each quote that belongs to the text'
            + (', also where there is a backslash before it (\\").' if '\\"' in record else "."),
            found=excerpt(record.strip()),
        )

    def _unclosed(self, opened: int) -> NoReturn:
        raise Refused(
            "unclosed_quote",
            f"Quote opened on line {opened} is never closed. What follows it cannot be told apart: close it, and write "
            'quotes inside a text twice ("").',
            line=opened,
            found=excerpt(self.pieces[0].strip()),
        )

    def _too_long(self) -> NoReturn:
        first = self.line - len(self.pieces)
        opened = open_quote(self.pieces, first, self.delimiter)
        if opened is not None:
            raise Refused(
                "unclosed_quote",
                f"Quote opened on line {opened} is never closed, at least not in {MAX_RECORD_BYTES:,} bytes, which is "
                "the longest that a record may be. Close it.",
                line=opened,
                found=excerpt(self.pieces[0].strip()),
            )
        raise Refused("too_long", f"Line {first}: {too_long().text}", line=first)


def named(cells: list[str]) -> list[str]:
    """The names of the columns: without blanks around them, numbered where there is none, each once.

    Raises `Refused` for a name that stands twice, and for more columns than a file may have.
    """
    if len(cells) > MAX_COLUMNS:
        raise Refused(
            "too_many_columns",
            f"The header has {len(cells):,} columns; at most {MAX_COLUMNS:,} are read. Is the first line the header?",
        )
    names = [cell.strip() or f"column_{place}" for place, cell in enumerate(cells, 1)]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise Refused(
                "duplicate_column",
                f"The column '{excerpt(name, 40)}' stands twice in the header (places {names.index(name) + 1} and "
                f"{place + 1}). Rename one of them. Found: {listed(names)}.",
                found=excerpt(name),
            )
    return names


def ragged(cells: list[str], width: int) -> LineFault:
    """A record with other than as many fields as the header."""
    advice = "Put a text that holds the delimiter in quotes." if len(cells) > width else "Fill in what is missing."
    text = f"{plural(len(cells), 'field')}, header has {width}. {advice}"
    return LineFault("ragged", text, found=excerpt(",".join(cells)))


def open_quote(pieces: list[str], first: int, delimiter: str) -> int | None:
    """The line where the quote was opened that is open at the end of these lines; None when none is."""
    opened: int | None = None
    for line, text in enumerate(pieces, first):
        pos = 0
        while pos < len(text):
            if opened is None:
                starts = text.startswith('"', pos)
                if starts:
                    opened, pos = line, pos + 1
                    continue
                end = text.find(delimiter, pos)
                if end < 0:
                    break
                pos = end + 1
            else:
                end = text.find('"', pos)
                if end < 0:
                    break
                if text.startswith('"', end + 1):
                    pos = end + 2
                    continue
                opened, pos = None, end + 1
                # Behind a closing quote only the delimiter or the end may come.
                end = text.find(delimiter, pos)
                pos = end + 1 if end >= 0 else len(text)
    return opened
