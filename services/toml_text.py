"""TOML whose every mistake is one kind of error, with its line; tomllib lets errors of several other kinds out."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from services.types import Json

LONGEST = 4_300  # digits of a whole number; Python neither reads nor writes a longer one as a decimal
_TOO_LARGE = 10**LONGEST
_LONG_NUMBER = re.compile(r"(?<![\w.])[0-9][0-9A-Fa-fxob_]{3000,}")
_LONG_EXPONENT = re.compile(r"(?<![\w.])[0-9][0-9_.]*[eE][+-]?[0-9_]{10,}")


class NotToml(ValueError):
    """A text is no TOML. ``what`` is the mistake without its place; it can quote the text, and with it a key.

    ``line`` is counted from 1, None where it is the end or is not known. ``deep``: it is nested too deeply.
    """

    def __init__(self, mistake: str, line: int | None = None, *, place: str = "", deep: bool = False) -> None:
        place = place or (f"at line {line}" if line else "")
        super().__init__(f"{mistake} ({place})" if place else mistake)
        self.what, self.line, self.deep = mistake, line, deep


def loads(text: str, *, parse_float: Callable[[str], Any] = float) -> Json:
    """The tables of a TOML text. Raises `NotToml`, and nothing else."""
    try:
        tables = tomllib.loads(text, parse_float=parse_float)
    except RecursionError:
        raise NotToml("it is nested too deeply", deep=True) from None
    except tomllib.TOMLDecodeError as error:
        mistake, _, place = str(error).partition(" (")
        position = re.search(r"at line (\d+), column (\d+)", str(error))
        raise NotToml(mistake, int(position[1]) if position else None, place=place.rstrip(")")) from None
    except ArithmeticError:
        raise NotToml("a number is too large or too small", _line(_LONG_EXPONENT, text)) from None
    except ValueError:
        raise _too_long(text) from None
    if any(abs(number) >= _TOO_LARGE for number in _numbers(tables)):
        raise _too_long(text)
    return tables


def _too_long(text: str) -> NotToml:
    return NotToml(f"a whole number has more than {LONGEST:,} digits", _line(_LONG_NUMBER, text))


def _line(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return text.count("\n", 0, match.start()) + 1 if match else None


def _numbers(value: Any) -> Iterator[int]:
    """Every whole number, however it is written: one in hexadecimal is read at any length, and then fails as JSON."""
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, Mapping):
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
        elif isinstance(value, int):
            yield value
