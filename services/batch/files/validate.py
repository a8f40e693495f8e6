"""The check of a file: it is read once as a stream, and everything that a person has to know is in one `Checked`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from services.batch.files.errors import Log, Refused, plural
from services.batch.files.messages import size
from services.batch.files.read import Reading
from services.batch.files.source import Source
from services.batch.files.vendor_formats import TITLES
from services.batch.types import Checked, Choice, Options, Progress, Record

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
