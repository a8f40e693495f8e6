"""The JSON object of a request, read field by field: what is missing or of the wrong kind is one sentence.

Python would turn much into what was wanted (`bool("false")`, `str(None)`, `list("abc")`), and what it cannot turn it
refuses in its own words. Both end here: a field is of its kind or the request is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from services.types import JsonMapping

LONGEST = 1_000  # characters of a text that is a name, an address or a note
DEEPEST = 20  # levels of an object that is kept as it is; JSON readers and databases end somewhere above it
# Between these years no zone can push a moment out of the calendar.
FIRST_YEAR, LAST_YEAR = 2000, 2200


class Refused(ValueError):
    """A request that cannot be read; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class RequestFields:
    """An object of somebody else's making. Every method raises `Refused`; ``path`` is the way to it from the top."""

    values: JsonMapping
    path: str = ""

    def has(self, name: str) -> bool:
        """Whether a field is there and is not null."""
        return self.values.get(name) is not None

    def need(self, *names: str) -> None:
        """Refuse a request without one of these fields."""
        for name in names:
            if name not in self.values:
                raise Refused(f"{self._called(name)} is missing from the request.")

    def text(self, name: str, *, longest: int = LONGEST) -> str:
        """A text that has to be there."""
        self.need(name)
        return _text(self.values[name], self._called(name), longest)

    def words(self, name: str, *, longest: int = LONGEST) -> str | None:
        """A text, or None where there is none."""
        return self.text(name, longest=longest) if self.has(name) else None

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True or false; without ``default`` it has to be there."""
        if default is not None and not self.has(name):
            return default
        self.need(name)
        value = self.values[name]
        if not isinstance(value, bool):
            raise Refused(f"{self._called(name)} has to be true or false.")
        return value

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from ``low`` to ``high``; without ``default`` it has to be there."""
        if default is not None and not self.has(name):
            return default
        self.need(name)
        value = self.values[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Refused(f"{self._called(name)} has to be a whole number from {low:,} to {high:,}.")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number; without ``default`` it has to be there."""
        if default is not None and not self.has(name):
            return default
        self.need(name)
        value = self.values[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Refused(f"{self._called(name)} has to be a number.")
        return float(value)

    def texts(self, name: str, *, longest: int = LONGEST) -> tuple[str, ...]:
        """A list of texts; empty where there is none."""
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise Refused(f"{self._called(name)} has to be a list of texts.")
        return tuple(_text(entry, f"What is in {self._called(name)}", longest) for entry in value)

    def table(self, name: str) -> RequestFields:
        """An object; empty where there is none."""
        value = self.values.get(name)
        if value is None:
            return RequestFields({}, self._path(name))
        if not isinstance(value, dict):
            raise Refused(f"{self._called(name)} has to be an object with fields.")
        if _depth_above(value, DEEPEST):
            raise Refused(f"{self._called(name)} is nested deeper than {DEEPEST} levels.")
        return RequestFields(value, self._path(name))

    def tables(self, name: str) -> tuple[RequestFields, ...]:
        """A list of objects; empty where there is none."""
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise Refused(f"{self._called(name)} has to be a list of objects.")
        return tuple(RequestFields(entry, f"{self._path(name)}[{index}]") for index, entry in enumerate(value))

    def moment(self, name: str) -> datetime:
        """A date and a time with its zone, as UTC."""
        try:
            moment = datetime.fromisoformat(self.text(name))
        except Refused:
            raise
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise Refused(
                f"{self._called(name)} has to be a date and a time with its zone, like 2026-11-24T12:00:00+00:00."
            )
        if not FIRST_YEAR <= moment.year <= LAST_YEAR:
            raise Refused(f"{self._called(name)} has to lie between the years {FIRST_YEAR} and {LAST_YEAR}.")
        return moment.astimezone(UTC)

    def _path(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def _called(self, name: str) -> str:
        return f"“{self._path(name)[:100]}”"


def _text(value: object, called: str, longest: int) -> str:
    if not isinstance(value, str):
        raise Refused(f"{called} has to be text.")
    if len(value) > longest:
        raise Refused(f"{called} is longer than {longest:,} characters.")
    return value


def _depth_above(value: object, limit: int) -> bool:
    """Whether lists and objects lie more than ``limit`` deep. Level by level: no nesting can exhaust the stack."""
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    return any(isinstance(value, dict | list) for value in level)
