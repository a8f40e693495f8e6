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
from services.calculator.assumptions import ApiModel, Instance, Unit
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
            field.name: to_plain(getattr(value, field.name), whole=whole)
            for field in fields(value)
            if whole or getattr(value, field.name) != _default(field)
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_plain(element, whole=whole) for key, element in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [to_plain(element, whole=whole) for element in value]
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else value


def from_plain(cls: type[T], table: Any, place: str, errors: list[FieldError]) -> T | None:
    """An instance of a frozen dataclass from a table; what is wrong is added to ``errors``. None only where a field
    that has no default is missing or unusable."""
    if not isinstance(table, Mapping):
        errors.append(FieldError(place, f"{_name(place)} is a table of fields, not {shown(table)}."))
        return None
    fields_by_name = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]  # every caller gives a dataclass
    for key in table:
        if key not in fields_by_name:
            errors.append(FieldError(_join(place, key), unknown(key, list(fields_by_name))))
    values: dict[str, Any] = {}
    kinds = hints(cls)  # type: ignore[arg-type]  # a class is hashable
    complete = True
    for name, field in fields_by_name.items():
        value = _BAD
        if name in table:
            value = _read(kinds[name], table[name], _join(place, name), errors)
        elif _default(field) is MISSING:
            errors.append(FieldError(_join(place, name), f"{_name(name)} is needed and is not given."))
        if value is not _BAD:
            values[name] = value
        complete = complete and (value is not _BAD or _default(field) is not MISSING)
    return cls(**values) if complete else None


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


def unknown(key: Any, names: Sequence[str]) -> str:
    """The sentence for a key that nothing is called, with the nearest that is there."""
    import difflib

    near = difflib.get_close_matches(str(key), names, 1)
    advice = f"did you mean “{near[0]}”?" if near else f"known are {', '.join(names)}."
    return f"There is no field {shown(key)}; {advice}"


def _read(kind: Any, value: Any, place: str, errors: list[FieldError]) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _read_union(inner, value, place, errors)
    if kind is Spread and not isinstance(value, Mapping):
        number = _number(value, place, errors)
        return _BAD if number is _BAD else Spread(number)
    if kind is Range:
        return _read_range(value, place, errors)
    if isinstance(kind, type) and is_dataclass(kind):
        value_read = from_plain(kind, value, place, errors)
        return _BAD if value_read is None else value_read
    if origin is tuple or (origin is not None and issubclass(origin, Sequence)):
        return _read_list(inner, value, place, errors)
    if origin is not None and issubclass(origin, Mapping):
        return _read_table(inner, value, place, errors)
    return _read_one(kind, value, place, errors)


def _read_union(inner: tuple[Any, ...], value: Any, place: str, errors: list[FieldError]) -> Any:
    members = [member for member in inner if member is not type(None)]
    empty = value is None or value is False or (isinstance(value, str) and value.strip().lower() in NOTHING)
    if len(members) < len(inner) and empty and not (value is False and bool in members):
        return None
    tried: list[FieldError] = []
    for kind in members:
        tried.clear()
        value_found = _read(kind, value, place, tried)
        if not tried:
            return value_found
    errors.extend(tried)
    return _BAD


def _read_range(value: Any, place: str, errors: list[FieldError]) -> Any:
    if isinstance(value, list | tuple) and len(value) == 3:
        value = dict(zip(("low", "mid", "high"), value, strict=True))
    if not isinstance(value, Mapping):
        number = _number(value, place, errors)
        return _BAD if number is _BAD else Range(number, number, number)
    value_read = from_plain(Range, value, place, errors)
    if value_read is not None and not value_read.low <= value_read.mid <= value_read.high:
        errors.append(
            FieldError(place, f"{_name(place)} goes from low over mid to high: put its three numbers in order.")
        )
        return _BAD
    return _BAD if value_read is None else value_read


def _read_list(inner: tuple[Any, ...], value: Any, place: str, errors: list[FieldError]) -> Any:
    if not isinstance(value, list | tuple):
        errors.append(FieldError(place, f"{_name(place)} is a list, not {shown(value)}."))
        return _BAD
    if len(inner) > 1 and inner[1] is not Ellipsis and len(value) != len(inner):
        errors.append(FieldError(place, f"{_name(place)} has {len(inner)} values, not {len(value)}."))
        return _BAD
    kinds = inner if len(inner) > 1 and inner[1] is not Ellipsis else (inner[0],) * len(value)
    values_read = [
        _read(kind, element, f"{place}[{no}]", errors)
        for no, (kind, element) in enumerate(zip(kinds, value, strict=True), 1)
    ]
    return _BAD if any(element is _BAD for element in values_read) else tuple(values_read)


def _read_table(inner: tuple[Any, ...], value: Any, place: str, errors: list[FieldError]) -> Any:
    if not isinstance(value, Mapping):
        errors.append(FieldError(place, f"{_name(place)} is a table of names and values, not {shown(value)}."))
        return _BAD
    values_read = {
        _key(inner[0], key): _read(inner[1], element, _join(place, key), errors) for key, element in value.items()
    }
    if any(key is _BAD for key in values_read):
        errors.append(FieldError(place, f"The names in {_name(place)} are whole numbers."))
        return _BAD
    return _BAD if any(element is _BAD for element in values_read.values()) else values_read


def _key(kind: Any, key: Any) -> Any:
    if kind is not int:
        return str(key)
    return int(str(key)) if str(key).isascii() and str(key).isdigit() and len(str(key)) < 10 else _BAD


def _read_one(kind: Any, value: Any, place: str, errors: list[FieldError]) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        errors.append(FieldError(place, f"{_name(place)} is true or false, not {shown(value)}."))
        return _BAD
    if kind in (int, float):
        return _number(value, place, errors, whole=kind is int)
    if kind is Decimal:
        number = _number(value, place, errors)
        return _BAD if number is _BAD else Decimal(str(number))
    if isinstance(kind, type) and issubclass(kind, Enum):
        allowed = [str(member.value) for member in kind]
        if str(value) in allowed:
            return kind(value)
        errors.append(FieldError(place, f"{_name(place)} is one of {', '.join(allowed)}, not {shown(value)}."))
        return _BAD
    if kind is date:
        return _date(value, place, errors)
    if kind is str and not isinstance(value, str):
        errors.append(FieldError(place, f"{_name(place)} is a text in quotes, not {shown(value)}."))
        return _BAD
    return value


def _date(value: Any, place: str, errors: list[FieldError]) -> Any:
    try:
        return value if isinstance(value, date) else date.fromisoformat(str(value))
    except ValueError:
        errors.append(FieldError(place, f"{_name(place)} is a day like 2026-11-24, not {shown(value)}."))
        return _BAD


def _number(value: Any, place: str, errors: list[FieldError], *, whole: bool = False) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        errors.append(FieldError(place, f"{_name(place)} is a number, not {shown(value)}."))
        return _BAD
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        errors.append(FieldError(place, f"{_name(place)} is a number that can be counted with, not {shown(value)}."))
        return _BAD
    if whole and number != int(number):
        errors.append(FieldError(place, f"{_name(place)} is a whole number, not {shown(value)}."))
        return _BAD
    return int(number) if whole else number


def _default(field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else MISSING


def _join(place: str, key: Any) -> str:
    name = formatting.printable(str(key))[:60]
    return f"{place}.{name}" if place else name


def _name(place: str) -> str:
    """What a field is called in a sentence: its own name, quoted."""
    return f"“{place.rsplit('.', 1)[-1]}”"
