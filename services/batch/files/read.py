"""A file being read: what the options leave open is settled once, then every record comes out in order or is a fault.

`check` and `records` both read through this, so that both see the same records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from services.batch.files import detect
from services.batch.files.errors import MAX_COLUMNS, LineFault, Log, Refused, listed, shown
from services.batch.files.ids import Ids, key_of
from services.batch.files.json import no_surrogate, nul
from services.batch.files.messages import size
from services.batch.files.opening import Opened, open_file
from services.batch.files.own import Own
from services.batch.files.settling import settle
from services.batch.files.source import Source
from services.batch.files.tables import NO_RESULT, Workbook
from services.batch.types import Options, Record
from services.params import clean
from services.types import Ask

_TOGETHER = 1024  # records whose ids are looked up at once
_TOGETHER_CHARS = 1_000_000


class _One(NamedTuple):
    line: int
    record: int
    id: str
    ask: Ask
    values: dict[str, Any]


class Reading:
    """One reading of one file. After `open`, ``options`` leave nothing open; `records` can be iterated once."""

    def __init__(self, source: Source, options: Options, name: str) -> None:
        self.source, self.options, self.name = source, options, name
        self.log = Log()
        self.opened: Opened | None = None
        self._make: Callable[[Mapping[str, Any]], Ask | None] | None = None

    @property
    def columns(self) -> dict[str, None]:
        """The names of the columns, as far as they are known."""
        return {} if self.opened is None else self.opened.columns

    def close(self) -> None:
        """Give the file back."""
        if self.opened is not None and self.opened.held is not None:
            self.opened.held.close()
        self.source.close()

    def open(self) -> None:
        """Settle what the file is and how it is read. Raises `Refused`."""
        try:
            base = clean(self.options.params)
        except ValueError as error:
            raise Refused("param", str(error)) from None
        self.opened = open_file(self.source, self.options, self.name, self.log)
        form = self.opened.options.format
        promised = detect.suffix_format(self.name)
        if promised is not None and form is not None and detect.family(promised) != detect.family(form):
            what = detect.WORDS[form]
            self.log.notice(f"The file is named {shown(self.name, 60)} but is {what}; it was read as that.")
        self.options, self._make = settle(self.opened, base, self.log)

    def records(self) -> Iterator[Record]:
        """The valid records. Raises `Refused` where the file cannot be read on, `Cancelled` when stopped."""
        assert self.opened is not None
        if self._make is None:
            for _ in self.opened.rows:
                self.source.n_records = self.log.n_records
            return
        no = 0
        ids = Ids()
        asked = self._asked()
        while True:
            held: list[_One] = []
            chars = 0
            for one in asked:
                held.append(one)
                chars += size(one.ask)
                if len(held) >= _TOGETHER or chars >= _TOGETHER_CHARS:
                    break
            if not held:
                return
            for one in self._distinct(held, ids):
                no += 1
                yield Record(no, one.line, one.id, one.values, one.ask)

    def _asked(self) -> Iterator[_One]:
        """Every record of which an ask could be made, with its id; whether the id is double is not known yet."""
        opened, make = self.opened, self._make
        assert opened is not None
        assert make is not None
        log, source, id_column = self.log, self.source, self.options.id_column
        columns, loose, typed = opened.columns, opened.loose, opened.held is not None
        for line, values in opened.rows:
            source.n_records = log.n_records
            if loose and not values.keys() <= columns.keys() and len(columns) < MAX_COLUMNS:
                columns.update(dict.fromkeys(values))
            try:
                if typed:
                    _sendable(values)
                    self._computed()
                ask = make(values)
                if ask is None:
                    continue
                record_id = str(line) if id_column is None else self._id(values, id_column, line)
            except LineFault as fault:
                log.add(line, fault)
                continue
            yield _One(line, log.n_records, record_id, ask, values)

    def _computed(self) -> None:
        """Raises LineFault for a row whose prompt or id would be the result of a formula, and the file has none."""
        held = self.opened.held if self.opened is not None else None
        if not isinstance(held, Workbook) or not held.lacking:
            return
        used = self._make.columns if isinstance(self._make, Own) else frozenset[str]()
        needed = [name for name in held.lacking if name in used or name == self.options.id_column]
        if needed:
            said = "a formula" if len(needed) == 1 else "formulas"
            names = f"'{shown(needed[0], 40)}' holds" if len(needed) == 1 else f"{listed(needed)} hold"
            raise LineFault("formula", f"{names} {said} {NO_RESULT}", field=needed[0])
        self.log.not_computed += 1

    def _id(self, values: Mapping[str, Any], column: str, line: int) -> str:
        value = values.get(column)
        if isinstance(value, str):
            if value.strip():
                return value
        elif isinstance(value, int | float):
            return str(value)
        elif value is not None:
            raise LineFault(
                "id",
                f"the id is {shown(value, 40)}; it has to be a text or a number.",
                field=column,
                found=shown(value),
            )
        self.log.no_id += 1
        return f"line-{line}"

    def _distinct(self, held: list[_One], ids: Ids) -> Iterable[_One]:
        """Those whose id is new; the others are faults, or get an id of their own where that is wanted."""
        if self.options.id_column is None:
            return held
        keys = [key_of(one.id) for one in held]
        seen = ids.look(keys)
        fresh: dict[bytes, int] = {}
        found: list[_One] = []
        for one, key, before in zip(held, keys, seen, strict=True):
            line, record_id = one.line, one.id
            first = before or fresh.get(key, 0)
            if first and not self.options.suffix_ids:
                double = _double(record_id, first, line, self.log.word, self.options.id_column)
                self.log.add(line, double, one.record)
                continue
            tried = record_id
            attempt = 0
            while first:
                attempt += 1
                tried = f"{record_id.strip()}-line{line}" + (f"-{attempt}" if attempt > 1 else "")
                key = key_of(tried)
                first = fresh.get(key, 0) or ids.look([key])[0]
            self.log.suffixed += attempt > 0
            fresh[key] = line
            found.append(one._replace(id=tried) if attempt else one)
        ids.add(list(fresh), list(fresh.values()))
        return found


def _double(record_id: str, first: int, line: int, word: str, column: str) -> LineFault:
    said = shown(record_id, 40)
    return LineFault(
        "duplicate_id",
        f"id '{said}' on {word.lower()}s {first} and {line} (capitals and spaces do not make ids different). Change "
        "one, or press “Make double ids different”.",
        field=column,
        found=shown(record_id),
    )


def _sendable(values: Mapping[str, Any]) -> None:
    """Raises LineFault for a text that UTF-8 or the database could not hold, in a file whose reader lets it pass."""
    for value in values.values():
        if type(value) is str:
            no_surrogate(value)
            if "\0" in value:
                raise nul(value)
