"""What is wrong with a file: the fault of one record, the refusal of the whole file, and the log that counts them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from services.batch.types import Choice, Fault
from services.security.keys import scrub

# The largest body that any service here takes is SageMaker's: 6,291,456 bytes.
MAX_RECORD_BYTES = 6 * 1024 * 1024
MAX_COLUMNS = 1000
MAX_FAULTS = 20
_MAX_FOUND = 80
_MAX_NAMES = 100
_CUT_WORD = re.compile(r"[\w+/=.-]{20,}\Z")


class Cancelled(Exception):
    """The person stopped a check before the file had been read."""


class LineFault(Exception):
    """What is wrong with one record. ``position``: where in its line, such as "column 17"; ``text``: sentences without
    the line, which the log puts before them."""

    def __init__(self, code: str, text: str, *, field: str = "", found: str = "", position: str = "") -> None:
        super().__init__(text)
        self.code, self.text, self.field, self.found, self.position = code, text, field, found, position


class Refused(Exception):
    """The file as a whole cannot be read like this: one sentence, and ways out. ``line``: where it was noticed."""

    def __init__(
        self, code: str, text: str, *, line: int | None = None, found: str = "", choices: Sequence[Choice] = ()
    ) -> None:
        super().__init__(text)
        self.code, self.text, self.line, self.choices = code, scrub(text), line, tuple(choices)
        self.found = scrub(found)

    def fault(self) -> Fault:
        """The same as a fault, for whoever reads codes."""
        return Fault(self.line, self.code, self.text, found=self.found)


def excerpt(value: object, limit: int = _MAX_FOUND) -> str:
    """What was found, on one line: what cannot be printed as an escape, at most ``limit`` characters.

    Whole keys in it are hidden by whoever keeps it (`Log.add`, `Refused`); of a long word that is cut only the start
    stays, so that no part of a key does.
    """
    text = value if isinstance(value, str) else _json(value)
    text_line = text[: limit + 1]
    if not text_line.isprintable():
        text_line = "".join(
            c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text_line
        )
    if len(text_line) <= limit:
        return text_line
    text_line = text_line[: limit - 1]
    word = _CUT_WORD.search(text_line)
    return (text_line if word is None else text_line[: word.start() + 4]) + "…"


def _json(value: object) -> str:
    """A value in the words of the file, which has null and true where Python has None and True."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Names as a list for people, cut after ``limit``."""
    every = [excerpt(name, 40) for name in names]
    further = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + further


def plural(n: int, noun: str, nouns: str | None = None) -> str:
    """A count with its noun: "1 record", "2,000 records"."""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def nearest(name: str, names: Iterable[str], n: int = 3) -> list[str]:
    """The names that look most like this one, best first; capitals do not count."""
    folded: dict[str, str] = {}
    for candidate in names:
        folded.setdefault(candidate.casefold().strip(), candidate)
    return [folded[hit] for hit in get_close_matches(name.casefold().strip(), list(folded), n=n, cutoff=0.6)]


def no_column(name: str, columns: Sequence[str]) -> str:
    """Sentences for a column that is not there: what is, and what may be meant."""
    near = nearest(name, columns)
    meant = f" Did you mean {' or '.join(excerpt(column, 40) for column in near)}?" if near else ""
    return f"No column '{excerpt(name, 40)}'. Found: {listed(columns) or 'none'}.{meant}"


@dataclass
class Log:
    """What was noticed while a file was read. Everything in it is bounded, however long the file is."""

    word: str = "Line"  # "Row" where the file has no lines
    quiet: bool = False  # nobody will read the faults
    n_records: int = 0
    n_blank: int = 0
    faults: list[Fault] = field(default_factory=list)
    n_faults: int = 0
    choices: list[Choice] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)  # what does not carry over: in how many records
    models: Counter[str] = field(default_factory=Counter)
    urls: Counter[str] = field(default_factory=Counter)
    codes: set[str] = field(default_factory=set)
    suffixed: int = 0
    other_model: int = 0
    part_empty: int = 0
    no_id: int = 0
    not_computed: int = 0  # records with a formula that has no result, where none is needed

    @property
    def brief(self) -> bool:
        """Whether a fault more is only counted, so that its words need not be found."""
        return self.quiet or self.n_faults >= MAX_FAULTS

    def add(self, line: int | None, fault: LineFault, record: int | None = None) -> None:
        """Count one record's fault, and keep it if it is among the first. ``record``: its number where that is not the
        one that was read last."""
        self.n_faults += 1
        self.codes.add(fault.code)
        if len(self.faults) < MAX_FAULTS and not self.quiet:
            prefix = "" if line is None else f"{self.word} {line}{f', {fault.position}' if fault.position else ''}: "
            number = None if line is None else record or self.n_records
            text, found = scrub(prefix + fault.text), scrub(fault.found)
            self.faults.append(Fault(line, fault.code, text, fault.field, found, number))

    def offer(self, choice: Choice) -> None:
        """A way out, offered once."""
        if choice not in self.choices:
            self.choices.append(choice)

    def notice(self, text: str) -> None:
        """A sentence on what was accepted but changed or left aside, said once."""
        if text not in self.notices and len(self.notices) < _MAX_NAMES:
            self.notices.append(text)

    def drop(self, names: Iterable[str]) -> None:
        """These parts of a record do not carry over."""
        _count(self.dropped, {excerpt(name, 40) for name in names})

    def named(self, model: str) -> None:
        """A record names this model."""
        _count(self.models, (excerpt(model),))


def _count(counter: Counter[str], names: Iterable[str]) -> None:
    for name in names:
        counter[name if name in counter or len(counter) < _MAX_NAMES else "others"] += 1
