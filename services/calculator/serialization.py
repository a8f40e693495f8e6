"""Our frozen dataclasses ⇄ plain values (numbers, texts, lists, tables), for TOML, JSON and the page's address.

Reading never raises: whatever cannot be used is a `FieldError` in words at its field, and the field keeps its default.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from services import formatting
from services.calculator.catalog_rows import ApiModel, Instance, Unit
from services.calculator.types import Range, Spread

T = TypeVar("T")
NOTHING = ("", "none", "no limit")  # TOML and an address have no null: a field that may be empty takes these and false
_BAD = object()


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field ("workload.rpm", "points[2].batch"), in a sentence that says what to do."""

    field: str
    sentence: str


def to_plain(value: Any, *, whole: bool = False) -> Any:
    """Numbers, texts, lists and tables. Fields at their default are left out, unless ``whole``.

    A `Spread` without spread is a number. A `Range` whose ends are one is a number, else ``{low, mid, high}``; with
    ``whole`` it always is the table.
    """
    if isinstance(value, Spread) and not value.sigma and not whole:
        return value.median
    if isinstance(value, Range) and value.low == value.high and not whole:
        return value.mid
    if is_dataclass(value) and not isinstance(value, type):
        return {
            one.name: to_plain(getattr(value, one.name), whole=whole)
            for one in fields(value)
            if whole or getattr(value, one.name) != _default(one)
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_plain(one, whole=whole) for key, one in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [to_plain(one, whole=whole) for one in value]
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else value


def from_plain(cls: type[T], given: Any, at: str, errors: list[FieldError]) -> T | None:
    """An instance of a frozen dataclass from a table; what is wrong is added to ``errors``. None only where a field
    that has no default is missing or unusable."""
    if not isinstance(given, Mapping):
        errors.append(FieldError(at, f"{_name(at)} is a table of fields, not {shown(given)}."))
        return None
    known = {one.name: one for one in fields(cls)}  # type: ignore[arg-type]  # every caller gives a dataclass
    for key in given:
        if key not in known:
            errors.append(FieldError(_join(at, key), unknown(key, list(known))))
    kept: dict[str, Any] = {}
    kinds = hints(cls)  # type: ignore[arg-type]  # a class is hashable
    complete = True
    for name, one in known.items():
        value = _BAD
        if name in given:
            value = _read(kinds[name], given[name], _join(at, name), errors)
        elif _default(one) is MISSING:
            errors.append(FieldError(_join(at, name), f"{_name(name)} is needed and is not given."))
        if value is not _BAD:
            kept[name] = value
        complete = complete and (value is not _BAD or _default(one) is not MISSING)
    return cls(**kept) if complete else None


@cache
def hints(cls: Hashable) -> Mapping[str, Any]:
    """The types of a dataclass's fields."""
    # `assumptions` names the catalogue's rows only for the type checker, because the catalogue imports it.
    return typing.get_type_hints(cls, localns=_rows())


def _rows() -> dict[str, Any]:
    return {"Instance": Instance, "Unit": Unit, "ApiModel": ApiModel}


def shown(value: Any) -> str:
    """A value that was given, short enough for a sentence."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | list | tuple):
        return "a table" if isinstance(value, Mapping) else "a list"
    text = formatting.printable(str(value))
    return f"“{text if len(text) <= 40 else text[:39] + '…'}”"


def unknown(key: Any, known: Sequence[str]) -> str:
    """The sentence for a key that nothing is called, with the nearest that is there."""
    import difflib

    near = difflib.get_close_matches(str(key), known, 1)
    said = f"did you mean “{near[0]}”?" if near else f"known are {', '.join(known)}."
    return f"There is no field {shown(key)}; {said}"


def _read(kind: Any, value: Any, at: str, errors: list[FieldError]) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _read_union(inner, value, at, errors)
    if kind is Spread and not isinstance(value, Mapping):
        number = _number(value, at, errors)
        return _BAD if number is _BAD else Spread(number)
    if kind is Range:
        return _read_range(value, at, errors)
    if isinstance(kind, type) and is_dataclass(kind):
        made = from_plain(kind, value, at, errors)
        return _BAD if made is None else made
    if origin is tuple or (origin is not None and issubclass(origin, Sequence)):
        return _read_list(inner, value, at, errors)
    if origin is not None and issubclass(origin, Mapping):
        return _read_table(inner, value, at, errors)
    return _read_one(kind, value, at, errors)


def _read_union(inner: tuple[Any, ...], value: Any, at: str, errors: list[FieldError]) -> Any:
    rest = [one for one in inner if one is not type(None)]
    empty = value is None or value is False or (isinstance(value, str) and value.strip().lower() in NOTHING)
    if len(rest) < len(inner) and empty and not (value is False and bool in rest):
        return None
    tried: list[FieldError] = []
    for kind in rest:
        tried.clear()
        found = _read(kind, value, at, tried)
        if not tried:
            return found
    errors.extend(tried)
    return _BAD


def _read_range(value: Any, at: str, errors: list[FieldError]) -> Any:
    if isinstance(value, list | tuple) and len(value) == 3:
        value = dict(zip(("low", "mid", "high"), value, strict=True))
    if not isinstance(value, Mapping):
        number = _number(value, at, errors)
        return _BAD if number is _BAD else Range(number, number, number)
    made = from_plain(Range, value, at, errors)
    if made is not None and not made.low <= made.mid <= made.high:
        errors.append(FieldError(at, f"{_name(at)} goes from low over mid to high: put its three numbers in order."))
        return _BAD
    return _BAD if made is None else made


def _read_list(inner: tuple[Any, ...], value: Any, at: str, errors: list[FieldError]) -> Any:
    if not isinstance(value, list | tuple):
        errors.append(FieldError(at, f"{_name(at)} is a list, not {shown(value)}."))
        return _BAD
    if len(inner) > 1 and inner[1] is not Ellipsis and len(value) != len(inner):
        errors.append(FieldError(at, f"{_name(at)} has {len(inner)} values, not {len(value)}."))
        return _BAD
    kinds = inner if len(inner) > 1 and inner[1] is not Ellipsis else (inner[0],) * len(value)
    made = [_read(kind, one, f"{at}[{no}]", errors) for no, (kind, one) in enumerate(zip(kinds, value, strict=True), 1)]
    return _BAD if any(one is _BAD for one in made) else tuple(made)


def _read_table(inner: tuple[Any, ...], value: Any, at: str, errors: list[FieldError]) -> Any:
    if not isinstance(value, Mapping):
        errors.append(FieldError(at, f"{_name(at)} is a table of names and values, not {shown(value)}."))
        return _BAD
    made = {_key(inner[0], key): _read(inner[1], one, _join(at, key), errors) for key, one in value.items()}
    if any(key is _BAD for key in made):
        errors.append(FieldError(at, f"The names in {_name(at)} are whole numbers."))
        return _BAD
    return _BAD if any(one is _BAD for one in made.values()) else made


def _key(kind: Any, key: Any) -> Any:
    if kind is not int:
        return str(key)
    return int(str(key)) if str(key).isascii() and str(key).isdigit() and len(str(key)) < 10 else _BAD


def _read_one(kind: Any, value: Any, at: str, errors: list[FieldError]) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        errors.append(FieldError(at, f"{_name(at)} is true or false, not {shown(value)}."))
        return _BAD
    if kind in (int, float):
        return _number(value, at, errors, whole=kind is int)
    if kind is Decimal:
        number = _number(value, at, errors)
        return _BAD if number is _BAD else Decimal(str(number))
    if isinstance(kind, type) and issubclass(kind, Enum):
        allowed = [str(one.value) for one in kind]
        if str(value) in allowed:
            return kind(value)
        errors.append(FieldError(at, f"{_name(at)} is one of {', '.join(allowed)}, not {shown(value)}."))
        return _BAD
    if kind is date:
        return _date(value, at, errors)
    if kind is str and not isinstance(value, str):
        errors.append(FieldError(at, f"{_name(at)} is a text in quotes, not {shown(value)}."))
        return _BAD
    return value


def _date(value: Any, at: str, errors: list[FieldError]) -> Any:
    try:
        return value if isinstance(value, date) else date.fromisoformat(str(value))
    except ValueError:
        errors.append(FieldError(at, f"{_name(at)} is a day like 2026-11-24, not {shown(value)}."))
        return _BAD


def _number(value: Any, at: str, errors: list[FieldError], *, whole: bool = False) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        errors.append(FieldError(at, f"{_name(at)} is a number, not {shown(value)}."))
        return _BAD
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        errors.append(FieldError(at, f"{_name(at)} is a number that can be counted with, not {shown(value)}."))
        return _BAD
    if whole and number != int(number):
        errors.append(FieldError(at, f"{_name(at)} is a whole number, not {shown(value)}."))
        return _BAD
    return int(number) if whole else number


def _default(one: Any) -> Any:
    if one.default is not MISSING:
        return one.default
    return one.default_factory() if one.default_factory is not MISSING else MISSING


def _join(at: str, key: Any) -> str:
    name = formatting.printable(str(key))[:60]
    return f"{at}.{name}" if at else name


def _name(at: str) -> str:
    """What a field is called in a sentence: its own name, quoted."""
    return f"“{at.rsplit('.', 1)[-1]}”"
