"""Reading a file: what the options leave open is decided once, then every record is yielded in order or is a fault.

`check` reads a file once as a stream and tells in one `Checked` everything that a person has to know; `records` yields
the valid records. Both use `Reading`, so that both see the same records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.batch.files import detect
from services.batch.files.csv import NAMES
from services.batch.files.detect import Opened, open_file
from services.batch.files.errors import (
    MAX_COLUMNS,
    LineFault,
    Log,
    Refused,
    excerpt,
    listed,
    nearest,
    no_column,
    plural,
)
from services.batch.files.json import no_surrogate, nul
from services.batch.files.messages import size
from services.batch.files.source import Source
from services.batch.files.tables import NO_RESULT, Workbook
from services.batch.files.templates import (
    PROMPT_NAMES,
    SYSTEM_NAMES,
    OwnFormat,
    Template,
    braced,
    candidates,
    described,
    guess,
    no_prompt,
)
from services.batch.files.vendor_formats import IDS, TITLES, VendorFormat
from services.batch.types import Checked, Choice, Options, Progress, Record
from services.params import PARAMS, clean
from services.types import Ask, Json, JsonMapping

_TOGETHER = 1024  # records whose ids are looked up at once
_TOGETHER_CHARS = 1_000_000


class _ParsedRecord(NamedTuple):
    line: int
    record: int
    id: str
    ask: Ask
    values: Json


class Reading:
    """One reading of one file. After `open`, ``options`` leave nothing open; `records` can be iterated once."""

    def __init__(self, source: Source, options: Options, name: str) -> None:
        self.source, self.options, self.name = source, options, name
        self.log = Log()
        self.opened: Opened | None = None
        self._make: Callable[[JsonMapping], Ask | None] | None = None

    @property
    def columns(self) -> dict[str, None]:
        """The names of the columns, as far as they are known."""
        return {} if self.opened is None else self.opened.columns

    def close(self) -> None:
        """Give the file back."""
        if self.opened is not None and self.opened.table is not None:
            self.opened.table.close()
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
            description = detect.WORDS[form]
            self.log.notice(f"The file is named {excerpt(self.name, 60)} but is {description}; it was read as that.")
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
        records = self._parsed_records()
        while True:
            pending: list[_ParsedRecord] = []
            chars = 0
            for record in records:
                pending.append(record)
                chars += size(record.ask)
                if len(pending) >= _TOGETHER or chars >= _TOGETHER_CHARS:
                    break
            if not pending:
                return
            for record in self._distinct(pending, ids):
                no += 1
                yield Record(no, record.line, record.id, record.values, record.ask)

    def _parsed_records(self) -> Iterator[_ParsedRecord]:
        """Every record of which an ask could be made, with its id; whether the id is double is not known yet."""
        opened, make = self.opened, self._make
        assert opened is not None
        assert make is not None
        log, source, id_column = self.log, self.source, self.options.id_column
        columns, loose, typed = opened.columns, opened.loose, opened.table is not None
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
            yield _ParsedRecord(line, log.n_records, record_id, ask, values)

    def _computed(self) -> None:
        """Raises LineFault for a row whose prompt or id would be the result of a formula, and the file has none."""
        table = self.opened.table if self.opened is not None else None
        if not isinstance(table, Workbook) or not table.lacking:
            return
        used = self._make.columns if isinstance(self._make, OwnFormat) else frozenset[str]()
        needed = [name for name in table.lacking if name in used or name == self.options.id_column]
        if needed:
            noun = "a formula" if len(needed) == 1 else "formulas"
            names = f"'{excerpt(needed[0], 40)}' holds" if len(needed) == 1 else f"{listed(needed)} hold"
            raise LineFault("formula", f"{names} {noun} {NO_RESULT}", field=needed[0])
        self.log.not_computed += 1

    def _id(self, values: JsonMapping, column: str, line: int) -> str:
        value = values.get(column)
        if isinstance(value, str):
            if value.strip():
                return value
        elif isinstance(value, int | float):
            return str(value)
        elif value is not None:
            raise LineFault(
                "id",
                f"the id is {excerpt(value, 40)}; it has to be a text or a number.",
                field=column,
                found=excerpt(value),
            )
        self.log.no_id += 1
        return f"line-{line}"

    def _distinct(self, records: list[_ParsedRecord], ids: Ids) -> Iterable[_ParsedRecord]:
        """Those whose id is new; the others are faults, or get an id of their own where that is wanted."""
        if self.options.id_column is None:
            return records
        keys = [key_of(record.id) for record in records]
        seen = ids.look(keys)
        fresh: dict[bytes, int] = {}
        distinct: list[_ParsedRecord] = []
        for record, key, earlier in zip(records, keys, seen, strict=True):
            line, record_id = record.line, record.id
            first = earlier or fresh.get(key, 0)
            if first and not self.options.suffix_ids:
                double = _double(record_id, first, line, self.log.word, self.options.id_column)
                self.log.add(line, double, record.record)
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
            distinct.append(record._replace(id=tried) if attempt else record)
        ids.add(list(fresh), list(fresh.values()))
        return distinct


def _double(record_id: str, first: int, line: int, word: str, column: str) -> LineFault:
    shown_id = excerpt(record_id, 40)
    return LineFault(
        "duplicate_id",
        f"id '{shown_id}' on {word.lower()}s {first} and {line} (capitals and spaces do not make ids different). "
        "Change one, or press “Make double ids different”.",
        field=column,
        found=excerpt(record_id),
    )


def _sendable(values: JsonMapping) -> None:
    """Raises LineFault for a text that UTF-8 or the database could not hold, in a file whose reader lets it pass."""
    for value in values.values():
        if type(value) is str:
            no_surrogate(value)
            if "\0" in value:
                raise nul(value)


# --- what is made of a record, settled once for a file ---
ID_NAMES = ("id", "custom_id", "recordid")
Make = Callable[[JsonMapping], Ask | None]


def settle(opened: Opened, base: JsonMapping, log: Log) -> tuple[Options, Make | None]:
    """The options with nothing left open, and what makes an ask of a record; None where the file as a whole leaves open
    what to ask, which is then a fault in ``log``. Raises `Refused` for an id column that is not there."""
    options, columns = opened.options, list(opened.columns)
    columns_known = not opened.loose or bool(opened.samples)
    if options.id_column is None:
        names = ID_NAMES if opened.shape == "own" else (IDS[opened.shape].lower(),)
        options = replace(options, id_column=guess(columns, names))
    elif options.id_column not in columns and columns_known:
        near = nearest(options.id_column, columns)
        raise Refused(
            "unknown_column",
            f"{no_column(options.id_column, columns)} Choose the column of the ids.",
            choices=[
                Choice(f"Use “{excerpt(column, 40)}” as the id", replace(options, id_column=column)) for column in near
            ],
        )
    if opened.shape != "own":
        return options, VendorFormat(opened.shape, base, log, options.only_model)
    if options.prompt is None:
        column = guess(columns, PROMPT_NAMES)
        talks = any("messages" in sample for sample in opened.samples) or "messages" in columns
        if column is not None:
            options = replace(options, prompt=braced(column))
        elif not talks and columns_known:
            alone = len(opened.samples) == 1
            for candidate in candidates(columns, options.id_column):
                log.offer(
                    Choice(
                        f"Use column “{excerpt(candidate, 40)}” as the prompt",
                        replace(options, prompt=braced(candidate)),
                    )
                )
            sentence = no_prompt(columns)
            inside = [name for name, value in opened.samples[0].items() if isinstance(value, list)] if alone else []
            if inside:
                sentence += f" If the list '{excerpt(inside[0], 40)}' holds the records, save that list as the file."
            log.add(None, LineFault("no_prompt", sentence, field="prompt"))
            return options, None
    if options.system is None and (column := guess(columns, SYSTEM_NAMES)) is not None:
        options = replace(options, system=braced(column))
    prompt = None if options.prompt is None else Template(options.prompt, columns)
    system = Template(options.system, columns) if options.system else None
    if columns_known and not _templates_fit(opened, options, columns, log, prompt, system):
        return options, None
    if not opened.loose:
        used = {*(prompt.columns if prompt else ()), *(system.columns if system else ())}
        if unused := [name for name in columns if name in PARAMS and name not in used]:
            log.notice(described(unused))
    return options, OwnFormat(prompt, system, base, log, loose=opened.loose, own_system=options.system != "")


def _templates_fit(
    opened: Opened, options: Options, columns: list[str], log: Log, prompt: Template | None, system: Template | None
) -> bool:
    """Whether the templates can be filled from this file at all; what is missing is a fault of the whole file."""
    usable = True
    if opened.samples and all("messages" in sample for sample in opened.samples):
        return usable  # the templates are not used
    for name, template in (("prompt", prompt), ("system", system)):
        if template is None:
            continue
        text = getattr(options, name)
        if name == "prompt" and not text.strip():
            sentence = f"The template for the prompt is empty. {no_prompt(columns)}"
            log.add(None, LineFault("no_prompt", sentence, field=name))
            usable = False
        elif name == "prompt" and not template.columns:
            log.notice("The template uses no column: every record asks the same.")
        for column in template.unknown(columns):
            usable = False
            for near in nearest(column, columns):
                other = text.replace(braced(column), braced(near))
                if other != text:
                    log.offer(
                        Choice(
                            f"Use “{excerpt(near, 40)}” for {braced(excerpt(column, 40))}",
                            replace(options, **{name: other}),
                        )
                    )
            sentence = f"{no_column(column, columns)} The {name} template uses it; correct the template or the file."
            log.add(None, LineFault("unknown_column", sentence, field=name, found=braced(excerpt(column, 40))))
    return usable


# --- double ids ---
_U64 = NDArray[np.uint64]


class _Run(NamedTuple):
    first: _U64  # sorted
    second: _U64
    line: _U64


def key_of(record_id: str) -> bytes:
    """The digest under which an id is known: capitals and spaces do not make ids different."""
    same = " ".join(record_id.split()).casefold()
    return blake2b(same.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Ids:
    """The ids of a file so far, in 24 bytes for each record: a 128-bit digest of the id, and its line.

    That two different ids of a billion have one digest is less likely than 10⁻²⁰. The digests lie in a few sorted
    arrays that are merged as they grow, so that many records are looked up at once.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def look(self, keys: Sequence[bytes]) -> list[int]:
        """For each key the line it was first seen on, 0 for a new one. Nothing is added."""
        first_lines = np.zeros(len(keys), dtype=np.uint64)
        if not keys or not self._runs:
            return first_lines.tolist()
        pairs = np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(-1, 2)
        first, second = pairs[:, 0], pairs[:, 1]
        for run in self._runs:
            places = np.searchsorted(run.first, first)
            inside = places < len(run.first)
            hit = np.zeros(len(keys), dtype=bool)
            hit[inside] = run.first[places[inside]] == first[inside]
            for index in np.flatnonzero(hit):
                place = int(places[index])
                while place < len(run.first) and run.first[place] == first[index]:
                    if run.second[place] == second[index]:
                        first_lines[index] = run.line[place]
                        break
                    place += 1
        return first_lines.tolist()

    def add(self, keys: Sequence[bytes], lines: Sequence[int]) -> None:
        """Keep new keys, none of which is known yet."""
        if not keys:
            return
        pairs = np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(-1, 2)
        self._runs.append(_sorted(pairs[:, 0], pairs[:, 1], np.asarray(lines, dtype=np.uint64)))
        while len(self._runs) > 1 and len(self._runs[-2].first) < 2 * len(self._runs[-1].first):
            last, second_last = self._runs.pop(), self._runs.pop()
            self._runs.append(_sorted(*(np.concatenate(arrays) for arrays in zip(second_last, last, strict=True))))


def _sorted(first: _U64, second: _U64, line: _U64) -> _Run:
    order = np.argsort(first, kind="stable")
    return _Run(first[order], second[order], line[order])


PREVIEW = 5


def check(
    path: Path,
    options: Options,
    *,
    file_name: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Checked:
    """Read a whole file and say what is in it. Memory stays the same whatever its length (24 bytes for each id aside).

    ``file_name``: what the person calls it, where that is not the path's own name. ``on_progress`` hears at least every
    0.5 s how far it is. A file that cannot be read as a whole comes back ``refused``, with the same sentence as its one
    fault, so that its code and line can be read too. Raises `Cancelled` soon after ``stopped`` has turned true.
    """
    try:
        source = Source(path, on_progress, stopped)
    except Refused as refused:
        return _refused(refused, "", 0, options)
    reading = Reading(source, options, file_name or path.name)
    try:
        try:
            reading.open()
            checked = _measure(reading)
            return replace(checked, sha256=source.finish(), n_bytes=source.n_bytes)
        except Refused as refused:
            return _refused(refused, source.digest_if_readable(), source.n_bytes, reading.options, source.n_records)
    finally:
        reading.close()


def check_settled(
    path: Path,
    options: Options,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Checked:
    """`check`; and where the header shows another delimiter, and only one, and every record has as
    many fields with it as the header, the file is read with that."""
    checked = check(path, options, on_progress=on_progress, stopped=stopped)
    if (
        checked.refused is None
        or [fault.code for fault in checked.faults] != ["delimiter"]
        or len(checked.choices) != 1
    ):
        return checked
    other = check(path, checked.choices[0].options, on_progress=on_progress, stopped=stopped)
    if other.refused is not None or any(fault.code == "ragged" for fault in other.faults):
        return checked
    mark = NAMES.get(other.options.delimiter or "", "other sign")
    return replace(other, notices=(f"The columns are parted by a {mark}, as the header shows.", *other.notices))


def records(path: Path, options: Options) -> Iterator[Record]:
    """The valid records in the order of the file, numbered from 1; ``options`` are those that `check` gave back.

    Raises ValueError in words when the file cannot be read (any more).
    """
    try:
        source = Source(path)
        reading = Reading(source, options, path.name)
        try:
            reading.open()
            if reading.log.n_faults:
                raise ValueError(reading.log.faults[0].text)
            reading.log.quiet = True
            yield from reading.records()
        finally:
            reading.close()
    except Refused as refused:
        raise ValueError(refused.text) from None
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read any more ({error.strerror}).") from None


def _measure(reading: Reading) -> Checked:
    preview: list[Record] = []
    n_valid = chars = longest = tokens = unlimited = 0
    for record in reading.records():
        n_valid += 1
        own = size(record.ask)
        chars += own
        longest = max(longest, own)
        limit = record.ask.params.get("max_tokens")
        if limit is None:
            unlimited += 1
        else:
            tokens += limit
        if len(preview) < PREVIEW:
            preview.append(record)
    log, options = reading.log, reading.options
    if log.n_records == 0:
        content = (
            "only blank lines" if log.n_blank and reading.opened and reading.opened.loose else "a header and no rows"
        )
        raise Refused("empty", f"No records found. The file has {content}.")
    _conclude(reading, unlimited, n_valid)
    return Checked(
        sha256="",
        n_bytes=0,
        format=options.format,
        options=options,
        columns=tuple(reading.columns),
        n_records=log.n_records,
        n_valid=n_valid,
        n_blank=log.n_blank,
        faults=tuple(log.faults),
        n_faults=log.n_faults,
        notices=tuple(log.notices),
        choices=tuple(log.choices),
        preview=tuple(preview),
        chars_in=chars,
        longest=longest,
        max_tokens=tokens if n_valid and not unlimited else None,
        models=dict(log.models.most_common()),
    )


def _conclude(reading: Reading, unlimited: int, n_valid: int) -> None:
    """The sentences on what was accepted but changed or left aside, and the choices that come of the faults."""
    log, options = reading.log, reading.options
    shape = reading.opened.shape if reading.opened else "own"
    if "not_utf8" in log.codes:
        log.offer(_as_cp1252(options))
    if "duplicate_id" in log.codes:
        log.offer(Choice("Make double ids different", replace(options, suffix_ids=True)))
    if options.encoding == "cp1252":
        log.notice("The file was read as Windows-1252.")
    if log.n_blank:
        log.notice(f"{plural(log.n_blank, f'blank {log.word.lower()}')} {_were(log.n_blank)} passed over.")
    if shape != "own":
        log.notice(
            f"This is {TITLES[shape]} batch file: its lines were converted to requests to the deployment that you "
            "choose."
        )
    if log.dropped:
        names = ", ".join(f"{name} ({plural(n, 'record')})" for name, n in log.dropped.most_common())
        log.notice(f"What does not carry over: {names}.")
    _models(log, options, shape)
    if log.no_id and options.id_column is not None:
        log.notice(f"{plural(log.no_id, 'record')} without an id {_were(log.no_id)} given one of the line: “line-7”.")
    if log.suffixed:
        clause = f"{plural(log.suffixed, 'double id')} {_were(log.suffixed)} made different"
        log.notice(f"{clause}: “a1” became “a1-line90”.")
    if log.not_computed:
        log.notice(
            f"In {plural(log.not_computed, 'record')} a column that no template uses holds a formula whose result is "
            "not in the file: it counts as empty. Open the workbook in Excel and save it to have it in the results."
        )
    if log.part_empty:
        log.notice(f"In {plural(log.part_empty, 'record')} a column that the template uses is empty.")
    if unlimited and (unlimited < n_valid or shape != "own"):
        log.notice(
            f"{plural(unlimited, 'record')} set{'s' if unlimited == 1 else ''} no max_tokens: the limit of the batch, "
            "or else of the service, holds."
        )


def _models(log: Log, options: Options, shape: str) -> None:
    if len(log.urls) > 1:
        listing = ", ".join(f"{url} {plural(n, 'line')}" for url, n in log.urls.most_common())
        log.notice(f"{listing}: an OpenAI file takes one endpoint. Here both are converted, and sent alike.")
    if options.only_model is not None:
        log.notice(
            f"Only the lines for {options.only_model} were taken; {plural(log.other_model, 'line')} "
            f"{'names' if log.other_model == 1 else 'name'} another model."
        )
    elif len(log.models) == 1:
        log.notice(f"The lines name the model {next(iter(log.models))}; the deployment that you choose answers.")
    elif log.models:
        several = log.models.most_common()
        listing = ", ".join(f"{name} {plural(n, 'line')}" for name, n in several[:8])
        takes = "an OpenAI file takes one model" if shape == "openai" else "one deployment answers all lines"
        log.notice(f"{listing}: {takes}. Split into {len(several)}?")
        for name, n in several[:8]:
            log.offer(Choice(f"Only the {plural(n, 'line')} for {name}", replace(options, only_model=name)))


def _refused(refused: Refused, sha256: str, n_bytes: int, options: Options, n_records: int = 0) -> Checked:
    choices = list(refused.choices)
    if refused.code == "not_utf8":
        choices.append(_as_cp1252(options))
    return Checked(
        sha256=sha256,
        n_bytes=n_bytes,
        format=options.format,
        options=options,
        faults=(refused.fault(),),
        n_faults=1,
        choices=tuple(choices),
        refused=refused.text,
        n_records=n_records if refused.code == "json_array" else 0,
    )


def _as_cp1252(options: Options) -> Choice:
    return Choice("Read as Windows-1252", replace(options, encoding="cp1252"))


def _were(n: int) -> str:
    return "was" if n == 1 else "were"
